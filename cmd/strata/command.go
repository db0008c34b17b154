package main

import (
	"github.com/spf13/cobra"

	"github.com/strata-build/strata/cmd/strata/buildcmd"
	"github.com/strata-build/strata/cmd/strata/cli"
	"github.com/strata-build/strata/cmd/strata/containercmd"
	"github.com/strata-build/strata/cmd/strata/imagecmd"
)

// rootCommand is the command line.
func rootCommand(a *cli.App) *cobra.Command {
	root := &cobra.Command{
		Use:   "strata",
		Short: "Build container images from CUE and from Dockerfiles, without a daemon",
		Long: "Strata builds container images from CUE and from Dockerfiles, on one Linux machine,\n" +
			"without a daemon and without root. `strata build ./app.cue` is all it takes.",
		Version:                    cli.Version(),
		SilenceErrors:              true,
		SilenceUsage:               true,
		SuggestionsMinimumDistance: 2,
		Args:                       cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return unknownCommand(cmd, args[0])
			}
			return cmd.Help()
		},
	}
	root.PersistentPreRunE = func(*cobra.Command, []string) error {
		return a.CheckFlags()
	}
	root.SetVersionTemplate(versionLine() + "\n")
	root.SetOut(a.Stdout)
	root.SetErr(a.Stderr)
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return cli.Misuse("%v; see `%s --help`", cli.FlagError(cmd, err), cmd.CommandPath())
	})
	a.AddFlags(root.PersistentFlags())
	root.AddGroup(
		&cobra.Group{ID: "build", Title: "Build:"},
		&cobra.Group{ID: "images", Title: "Images:"},
		&cobra.Group{ID: "containers", Title: "Containers:"},
	)
	addCommands(a, root)
	checkHelp(root)
	completeNames(a, root)
	return root
}

// addCommands adds the commands by group.
func addCommands(a *cli.App, root *cobra.Command) {
	add := func(group string, cmds ...*cobra.Command) {
		for _, c := range cmds {
			c.GroupID = group
			root.AddCommand(c)
		}
	}
	add("build", buildcmd.Commands(a)...)
	add("images", imagecmd.Commands(a)...)
	add("containers", containercmd.Commands(a)...)
	add("", versionCommand(a), infoCommand(a))
}

// checkHelp makes `strata help` refuse what is no command: cobra shows the help
// of all there is.
func checkHelp(root *cobra.Command) {
	root.InitDefaultHelpCmd()
	for _, help := range root.Commands() {
		if help.Name() != "help" {
			continue
		}
		help.Args = func(_ *cobra.Command, args []string) error {
			of, rest, err := root.Find(args)
			if err == nil && len(rest) > 0 {
				err = unknownCommand(of, rest[0])
			}
			return err
		}
	}
}

// unknownCommand says what was probably meant.
func unknownCommand(cmd *cobra.Command, name string) error {
	hint := "see `strata --help`"
	if near := cmd.SuggestionsFor(name); len(near) > 0 {
		hint = "did you mean `strata " + near[0] + "`?"
	}
	return cli.Misuse("unknown command %q; %s", name, hint)
}
