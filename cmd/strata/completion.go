package main

import (
	"strings"

	"github.com/spf13/cobra"
)

// completeNames makes the commands around containers complete what they take
// by name. `cp` takes files too.
func completeNames(a *app, cmd *cobra.Command) {
	for _, c := range cmd.Commands() {
		takes := func(what string) bool { return strings.Contains(c.Use, " "+what) || strings.Contains(c.Use, "["+what) }
		switch {
		case c.ValidArgsFunction != nil || c.Name() == "cp":
		case takes("CONTAINER"):
			c.ValidArgsFunction = completeContainers(a)
		case takes("VOLUME"):
			c.ValidArgsFunction = completeVolumes(a)
		case takes("IMAGE"):
			c.ValidArgsFunction = completeImages(a)
		}
		completeNames(a, c)
	}
}
