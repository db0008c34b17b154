// Package containercmd has the commands of containers and volumes, on package
// runtime/container. Two hidden ones are not for people: a monitor stays with a
// container that runs in the background, another one with a process of `exec`.
package containercmd

import (
	"github.com/spf13/cobra"

	"github.com/strata-build/strata/cmd/strata/cli"
)

// app is an invocation that deals with containers.
type app struct{ *cli.App }

// Commands are those of containers, from run to rm, and of volumes.
func Commands(invocation *cli.App) []*cobra.Command {
	a := &app{invocation}
	return []*cobra.Command{
		a.runCommand(), a.createCommand(), a.startCommand(), a.stopCommand(), a.restartCommand(), a.killCommand(),
		a.pauseCommand(), a.unpauseCommand(), a.execCommand(), a.psCommand(), a.logsCommand(), a.waitCommand(), a.rmCommand(),
		a.renameCommand(), a.portCommand(), a.commitCommand(), a.diffCommand(), a.monitorCommand(), a.execMonitorCommand(), a.cpCommand(),
		a.statsCommand(), a.topCommand(), a.updateCommand(), a.volumeCommand(), a.containerCommand(),
	}
}
