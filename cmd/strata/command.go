package main

import (
	"github.com/spf13/cobra"
)

// rootCommand is the command line.
func rootCommand(a *app) *cobra.Command {
	root := &cobra.Command{
		Use:   "strata",
		Short: "Build container images from CUE and from Dockerfiles, without a daemon",
		Long: "Strata builds container images from CUE and from Dockerfiles, on one Linux machine,\n" +
			"without a daemon and without root. `strata build ./app.cue` is all it takes.",
		Version:                    version(),
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
		return a.checkFlags()
	}
	root.SetVersionTemplate(versionLine() + "\n")
	root.SetOut(a.stdout)
	root.SetErr(a.stderr)
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return misuse("%v; see `%s --help`", flagError(cmd, err), cmd.CommandPath())
	})
	a.addFlags(root.PersistentFlags())
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
func addCommands(a *app, root *cobra.Command) {
	add := func(group string, cmds ...*cobra.Command) {
		for _, c := range cmds {
			c.GroupID = group
			root.AddCommand(c)
		}
	}
	add("build", buildCommands(a)...)
	add("images", imageCommands(a)...)
	add("containers", containerCommands(a)...)
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
	return misuse("unknown command %q; %s", name, hint)
}
