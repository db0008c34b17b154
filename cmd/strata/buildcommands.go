package main

import "github.com/spf13/cobra"

// buildCommands are the commands around what is built.
func buildCommands(a *app) []*cobra.Command {
	return []*cobra.Command{
		a.buildCommand(), a.vetCommand(), a.fmtCommand(), a.initCommand(), a.convertCommand(), a.planCommand(), a.whyCommand(),
	}
}
