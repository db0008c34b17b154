// Package buildcmd has the commands around what is built: they read flags,
// build descriptions, contexts, secrets and agents, have packages schema,
// dockerfile-compat, compiler and engine do the work, and show how it goes.
package buildcmd

import (
	"github.com/spf13/cobra"

	"github.com/strata-build/strata/cmd/strata/cli"
)

// app is an invocation that builds.
type app struct{ *cli.App }

// Commands are build, debug, vet, fmt, init, convert, plan and why.
func Commands(invocation *cli.App) []*cobra.Command {
	a := &app{invocation}
	return []*cobra.Command{
		a.buildCommand(), a.debugCommand(), a.vetCommand(), a.fmtCommand(), a.initCommand(), a.convertCommand(), a.planCommand(),
		a.whyCommand(),
	}
}
