// Package imagecmd has the commands of the life of an image, and of the store
// that images are in. Three of these look at containers as well: inspect
// describes them, du lists them, and neither rmi nor prune removes an image that
// a container needs.
package imagecmd

import (
	"github.com/spf13/cobra"

	"github.com/strata-build/strata/cmd/strata/cli"
)

// app is an invocation that deals with images.
type app struct{ *cli.App }

// Commands are those of images, from pull to rmi, of registries and of the store.
func Commands(invocation *cli.App) []*cobra.Command {
	a := &app{invocation}
	named := []*cobra.Command{
		a.imagesCommand(), a.historyCommand(), a.inspectCommand(), a.tagCommand(), a.rmiCommand(), a.saveCommand(),
		a.pushCommand(), a.mountCommand(), a.sbomCommand(), a.scanCommand(),
	}
	for _, cmd := range named {
		cmd.ValidArgsFunction = CompleteImages(invocation)
	}
	return append(named,
		a.pullCommand(), a.loadCommand(), a.importCommand(), a.loginCommand(), a.logoutCommand(), a.searchCommand(),
		a.umountCommand(), a.pruneCommand(), a.duCommand(), a.fsckCommand(),
	)
}
