package cli

import "strings"

// HasLabels reports whether labels have each NAME or NAME=VALUE.
func HasLabels(labels map[string]string, wanted []string) bool {
	for _, want := range wanted {
		name, value, exact := strings.Cut(want, "=")
		have, ok := labels[name]
		if !ok || exact && have != value {
			return false
		}
	}
	return true
}
