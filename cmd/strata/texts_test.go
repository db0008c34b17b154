package main

import (
	"io"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/strata-build/strata/cmd/strata/cli"
)

// A text in backticks is taken for the name of a flag's value, which is one word.
func TestFlagTexts(t *testing.T) {
	var check func(*cobra.Command)
	check = func(cmd *cobra.Command) {
		cmd.Flags().VisitAll(func(f *pflag.Flag) {
			if name, _ := pflag.UnquoteUsage(f); strings.ContainsAny(name, " -") {
				t.Errorf("%s --%s: the help calls its value %q", cmd.CommandPath(), f.Name, name)
			}
		})
		for _, c := range cmd.Commands() {
			check(c)
		}
	}
	check(rootCommand(cli.New(nil, io.Discard, io.Discard, nil)))
}
