package containercmd

import (
	"io"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/pflag"

	"github.com/strata-build/strata/cmd/strata/cli"
)

// TestContainerFlags compares the tables of docs/containers.md with the flags
// that `run` has.
func TestContainerFlags(t *testing.T) {
	page, err := os.ReadFile("../../../docs/containers.md")
	if err != nil {
		t.Fatal(err)
	}
	_, tables, ok := strings.Cut(string(page), "\n## docker's flags\n")
	known, unknown, both := strings.Cut(tables, "\nWhat they do not:\n")
	if !ok || !both {
		t.Fatal("the page has no tables of flags")
	}
	a := &app{cli.New(strings.NewReader(""), io.Discard, io.Discard, nil)}
	flags := map[string]bool{}
	a.runCommand().Flags().VisitAll(func(f *pflag.Flag) {
		if !f.Hidden && f.Name != "help" {
			flags[f.Name] = true
		}
	})
	listed := flagsOf(known)
	for name := range flags {
		if !slices.Contains(listed, name) {
			t.Errorf("the page does not list --%s", name)
		}
	}
	for _, name := range listed {
		if !flags[name] {
			t.Errorf("the page lists --%s, which `run` does not have", name)
		}
	}
	for _, name := range flagsOf(unknown) {
		if flags[name] {
			t.Errorf("the page says that `run` does not have --%s", name)
		}
	}
}

// flagsOf are the flags in the first column of a table.
func flagsOf(table string) []string {
	var all []string
	for line := range strings.Lines(table) {
		column, _, _ := strings.Cut(strings.TrimPrefix(line, "|"), "|")
		if !strings.HasPrefix(line, "| `--") {
			continue
		}
		for _, m := range regexp.MustCompile("`--([a-z0-9-]+)`").FindAllStringSubmatch(column, -1) {
			all = append(all, m[1])
		}
	}
	return all
}
