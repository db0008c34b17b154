package main

import (
	"strings"

	"github.com/spf13/cobra"

	"github.com/strata-build/strata/cmd/strata/cli"
	"github.com/strata-build/strata/cmd/strata/containercmd"
	"github.com/strata-build/strata/cmd/strata/imagecmd"
)

// completeNames makes commands complete what they take by name, where they have
// not said so themselves. `cp` takes files too.
func completeNames(a *cli.App, cmd *cobra.Command) {
	for _, c := range cmd.Commands() {
		takes := func(what string) bool { return strings.Contains(c.Use, " "+what) || strings.Contains(c.Use, "["+what) }
		switch {
		case c.ValidArgsFunction != nil || c.Name() == "cp":
		case takes("CONTAINER"):
			c.ValidArgsFunction = containercmd.CompleteContainers(a)
		case takes("VOLUME"):
			c.ValidArgsFunction = containercmd.CompleteVolumes(a)
		case takes("IMAGE"):
			c.ValidArgsFunction = imagecmd.CompleteImages(a)
		}
		completeNames(a, c)
	}
}
