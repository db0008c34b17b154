package main

import "github.com/spf13/cobra"

// noArgs refuses arguments.
func noArgs(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return misuse("`%s` takes no arguments, but got %q", cmd.CommandPath(), args[0])
	}
	return nil
}

// exactly wants n arguments.
func exactly(n int) cobra.PositionalArgs { return between(n, n) }

// atLeast refuses fewer than n arguments.
func atLeast(n int) cobra.PositionalArgs { return between(n, -1) }

// atMost refuses more than n arguments.
func atMost(n int) cobra.PositionalArgs { return between(0, n) }

// between wants from least to most arguments; -1 is no limit.
func between(least, most int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) >= least && (most < 0 || len(args) <= most) {
			return nil
		}
		return misuse("`%s` got %d arguments: use it as `%s`", cmd.CommandPath(), len(args), cmd.UseLine())
	}
}
