package buildcmd

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/strata-build/strata/cmd/strata/cli"
	"github.com/strata-build/strata/schema"
)

// vetOptions are the flags of `strata vet`.
type vetOptions struct {
	inputOptions
	strict bool
}

func (a *app) vetCommand() *cobra.Command {
	var o vetOptions
	cmd := &cobra.Command{
		Use:   "vet [PATH|FILE]...",
		Short: "Check build descriptions",
		Long: "Check everything in the given CUE files or packages against the schema, used or not, and warn\n" +
			"of what is mostly a mistake: secrets in env, bases without a version, caches left in layers,\n" +
			"relative workdirs. Or check a Dockerfile (-f, or a directory that holds one) against BuildKit's\n" +
			"rules, where a warning fails as in `docker build --check`.",
		RunE: func(cmd *cobra.Command, args []string) error {
			o.paths = args
			if len(args) == 1 && o.file == "" && isOtherFile(args[0]) {
				o.file, o.paths = args[0], []string{filepath.Dir(args[0])}
			}
			src, err := o.locate()
			if err != nil {
				return err
			}
			for _, name := range []string{"target", "platform", "build-context"} {
				if !src.dockerfile && cmd.Flags().Changed(name) {
					return cli.Misuse("--%s is for Dockerfiles: all that the CUE has is checked", name)
				}
			}
			return a.vet(cmd.Context(), &o)
		},
	}
	f := cmd.Flags()
	f.StringVarP(&o.file, "file", "f", "", "the build description")
	f.BoolVar(&o.strict, "strict", false, "fail for warnings about CUE as well")
	f.StringArrayVar(&o.set, "set", nil, "NAME=VALUE: set a @tag field of the CUE")
	f.StringArrayVar(&o.buildArgs, "build-arg", nil, "NAME=VALUE: set an argument of the Dockerfile")
	f.StringArrayVar(&o.targets, "target", nil, "stage of the Dockerfile to check, with those that it needs (default: all)")
	f.StringSliceVar(&o.platforms, "platform", nil, "platform to check the Dockerfile for")
	f.StringArrayVar(&o.contexts, "build-context", nil, "NAME=SOURCE: a further context of the Dockerfile")
	o.registerMetadata(f)
	return cmd
}

// isOtherFile tells a file that is no CUE. There is no context to be checked,
// so it is a Dockerfile whatever its name.
func isOtherFile(p string) bool {
	info, err := os.Stat(p)
	return err == nil && !info.IsDir() && filepath.Ext(p) != ".cue"
}

func (a *app) vet(ctx context.Context, o *vetOptions) error {
	src, err := o.locate()
	if err != nil {
		return err
	}
	if src.dockerfile {
		return a.lint(ctx, &o.inputOptions)
	}
	found, err := schema.Lint(ctx, schema.LoadOptions{Args: src.args, Tags: o.set, Env: a.Environ})
	if err != nil {
		return err
	}
	var list findings
	for _, f := range found {
		list.add("warning: " + f.Render())
	}
	if !o.strict {
		fmt.Fprint(a.Stderr, list.text())
		return nil
	}
	return a.reportFindings(&list)
}
