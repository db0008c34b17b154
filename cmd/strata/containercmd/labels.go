package containercmd

import (
	"slices"
	"strings"

	"github.com/strata-build/strata/cmd/strata/cli"
	"github.com/strata-build/strata/internal/printable"
)

// parseLabels reads labels as --label takes them. The value may be missing.
func parseLabels(specs []string) (map[string]string, error) {
	if len(specs) == 0 {
		return nil, nil
	}
	labels := map[string]string{}
	for _, spec := range specs {
		name, value, _ := strings.Cut(spec, "=")
		if name == "" {
			return nil, cli.Misuse("--label %q: it is NAME=VALUE", spec)
		}
		labels[name] = value
	}
	return labels, nil
}

// labelList is a column of a table: an image's maker decides what is in it.
func labelList(labels map[string]string) string {
	var list []string
	for name, value := range labels {
		list = append(list, printable.Quoted(name+"="+value))
	}
	slices.Sort(list)
	return strings.Join(list, ",")
}
