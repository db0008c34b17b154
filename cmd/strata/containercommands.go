package main

import "github.com/spf13/cobra"

// containerCommands are the commands of containers and volumes, and the hidden ones
// that stay with a container.
func containerCommands(a *app) []*cobra.Command {
	return []*cobra.Command{
		a.runCommand(), a.createCommand(), a.startCommand(), a.stopCommand(), a.restartCommand(), a.killCommand(),
		a.pauseCommand(), a.unpauseCommand(), a.execCommand(), a.psCommand(), a.logsCommand(), a.waitCommand(), a.rmCommand(),
		a.renameCommand(), a.portCommand(), a.commitCommand(), a.diffCommand(), a.monitorCommand(), a.execMonitorCommand(), a.cpCommand(),
		a.statsCommand(), a.topCommand(), a.updateCommand(), a.volumeCommand(), a.containerCommand(),
	}
}
