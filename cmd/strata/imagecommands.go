package main

import "github.com/spf13/cobra"

// imageCommands are the commands of the life of an image.
func imageCommands(a *app) []*cobra.Command {
	named := []*cobra.Command{
		a.imagesCommand(), a.historyCommand(), a.inspectCommand(), a.tagCommand(), a.rmiCommand(), a.saveCommand(),
		a.pushCommand(), a.mountCommand(), a.sbomCommand(), a.scanCommand(),
	}
	for _, cmd := range named {
		cmd.ValidArgsFunction = completeImages(a)
	}
	return append(named,
		a.pullCommand(), a.loadCommand(), a.importCommand(), a.loginCommand(), a.logoutCommand(), a.searchCommand(),
		a.umountCommand(), a.pruneCommand(), a.duCommand(), a.fsckCommand(),
	)
}
