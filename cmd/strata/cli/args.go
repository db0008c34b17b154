package cli

import (
	"fmt"

	"github.com/spf13/cobra"
)

// NoArgs refuses arguments.
func NoArgs(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return Misuse("`%s` takes no arguments, but got %q", cmd.CommandPath(), args[0])
	}
	return nil
}

// Exactly wants n arguments.
func Exactly(n int) cobra.PositionalArgs { return Between(n, n) }

// AtLeast refuses fewer than n arguments.
func AtLeast(n int) cobra.PositionalArgs { return Between(n, -1) }

// AtMost refuses more than n arguments.
func AtMost(n int) cobra.PositionalArgs { return Between(0, n) }

// Between wants from least to most arguments; -1 is no limit.
func Between(least, most int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) >= least && (most < 0 || len(args) <= most) {
			return nil
		}
		got := fmt.Sprintf("%d arguments", len(args))
		if len(args) == 1 {
			got = "1 argument"
		}
		return Misuse("`%s` got %s: use it as `%s`", cmd.CommandPath(), got, cmd.UseLine())
	}
}
