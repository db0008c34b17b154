package main

import "github.com/spf13/cobra"

// imageCommands are the commands of the life of an image.
func (a *app) imageCommands() []*cobra.Command {
	named := a.withImages(
		a.imagesCommand(), a.historyCommand(), a.inspectCommand(), a.tagCommand(), a.rmiCommand(), a.saveCommand(),
		a.pushCommand(), a.mountCommand(), a.sbomCommand(), a.scanCommand(),
	)
	return append(named,
		a.pullCommand(), a.loadCommand(), a.importCommand(), a.loginCommand(), a.logoutCommand(), a.searchCommand(),
		a.umountCommand(), a.pruneCommand(), a.duCommand(), a.fsckCommand(),
	)
}
