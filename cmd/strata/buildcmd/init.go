package buildcmd

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/strata-build/strata/cmd/strata/cli"
	"github.com/strata-build/strata/schema"
)

func (a *app) initCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "init [DIR]",
		Short: "Start a build description",
		Long: "Write a first build.cue, and make the schema known to the cue command and to editors by\n" +
			"vendoring it under cue.mod. Files that are there stay as they are.",
		Args: cli.Between(0, 1),
		RunE: func(_ *cobra.Command, args []string) error {
			dir := "."
			if len(args) > 0 {
				dir = args[0]
			}
			written, err := schema.Init(dir, schema.InitOptions{})
			for _, name := range written {
				fmt.Fprintln(a.Stdout, name)
			}
			return err
		},
	}
}
