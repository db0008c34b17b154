package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/strata-build/strata/compiler"
	"github.com/strata-build/strata/runtime/engine"
	"github.com/strata-build/strata/schema"
	"github.com/strata-build/strata/solver"
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
					return misuse("--%s is for Dockerfiles: all that the CUE has is checked", name)
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
	found, err := schema.Lint(ctx, schema.LoadOptions{Args: src.args, Tags: o.set, Env: a.environ})
	if err != nil {
		return err
	}
	var list findings
	for _, f := range found {
		list.add("warning: " + f.Render())
	}
	if !o.strict {
		fmt.Fprint(a.stderr, list.text())
		return nil
	}
	return a.reportFindings(&list)
}

func (a *app) fmtCommand() *cobra.Command {
	var check bool
	cmd := &cobra.Command{
		Use:   "fmt [FILE|DIR]...",
		Short: "Format CUE files",
		Long:  "Format CUE files in place; `-` formats standard input. The names of changed files are printed.",
		RunE: func(_ *cobra.Command, args []string) error {
			return a.format(args, check)
		},
	}
	cmd.Flags().BoolVar(&check, "check", false, "change nothing, and fail if a file is not formatted")
	return cmd
}

// format formats files, and the .cue files of directories.
func (a *app) format(args []string, check bool) error {
	if len(args) == 0 {
		args = []string{"."}
	}
	changed := 0
	for _, arg := range args {
		if arg == "-" {
			if err := a.formatStream(); err != nil {
				return err
			}
			continue
		}
		files, err := cueFiles(arg)
		if err != nil {
			return err
		}
		for _, name := range files {
			different, err := a.formatFile(name, check)
			if err != nil {
				return err
			}
			if different {
				changed++
			}
		}
	}
	if check && changed > 0 {
		return &exitError{exitFailed, fmt.Errorf("%d files are not formatted: run `strata fmt`", changed)}
	}
	return nil
}

func (a *app) formatStream() error {
	src, err := io.ReadAll(a.stdin)
	if err != nil {
		return err
	}
	out, err := schema.Format(src)
	if err != nil {
		return err
	}
	_, err = a.stdout.Write(out)
	return err
}

func (a *app) formatFile(name string, check bool) (different bool, err error) {
	src, err := os.ReadFile(name)
	if err != nil {
		return false, err
	}
	out, err := schema.Format(src)
	if err != nil {
		return false, fmt.Errorf("%s: %w", name, err)
	}
	if string(out) == string(src) {
		return false, nil
	}
	fmt.Fprintln(a.stdout, name)
	if check {
		return true, nil
	}
	return true, writeFile(name, out)
}

// cueFiles lists the .cue files of a directory, or the file itself.
func cueFiles(name string) ([]string, error) {
	info, err := os.Stat(name)
	if err != nil {
		return nil, err
	}
	if !info.IsDir() {
		return []string{name}, nil
	}
	return filepath.Glob(filepath.Join(name, "*.cue"))
}

func (a *app) initCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "init [DIR]",
		Short: "Start a build description",
		Long: "Write a first build.cue, and make the schema known to the cue command and to editors by\n" +
			"vendoring it under cue.mod. Files that are there stay as they are.",
		Args: between(0, 1),
		RunE: func(_ *cobra.Command, args []string) error {
			dir := "."
			if len(args) > 0 {
				dir = args[0]
			}
			written, err := schema.Init(dir, schema.InitOptions{})
			for _, name := range written {
				fmt.Fprintln(a.stdout, name)
			}
			return err
		},
	}
}

func (a *app) planCommand() *cobra.Command {
	var o inputOptions
	var form string
	cmd := &cobra.Command{
		Use:   "plan [PATH|FILE]...",
		Short: "Print what would be built",
		Long: "Compile the build description and print the graph: as text, JSON, dot (for Graphviz), or as\n" +
			"the raw LLB that `buildctl debug dump-llb` reads.",
		RunE: func(cmd *cobra.Command, args []string) error {
			o.paths = args
			return a.plan(cmd.Context(), &o, form)
		},
	}
	o.register(cmd.Flags())
	cmd.Flags().StringVar(&form, "format", "text", "text, json, dot or llb")
	return cmd
}

func (a *app) plan(ctx context.Context, o *inputOptions, form string) error {
	forms := map[string]func(*compiler.Plan, io.Writer) error{
		"text": (*compiler.Plan).Text, "json": (*compiler.Plan).JSON, "dot": (*compiler.Plan).Dot, "llb": (*compiler.Plan).LLB,
	}
	show, ok := forms[form]
	if !ok {
		return misuse("--format %s is not known: it takes text, json, dot or llb", form)
	}
	return a.withMetadata(ctx, o, func(e *engine.Engine) (err error) {
		in, err := a.compile(ctx, e, o)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, in.close()) }()
		if err := reproducible(in.plan); err != nil {
			return err
		}
		return show(in.plan, a.stdout)
	})
}

// reproducible makes a plan the same each time, and that of a Dockerfile the
// one of its CUE.
func reproducible(plan *compiler.Plan) error {
	for i := range plan.Targets {
		def, err := compiler.Reproducible(plan.Targets[i].Definition)
		if err != nil {
			return fmt.Errorf("make the plan reproducible: %w", err)
		}
		plan.Targets[i].Definition = def
	}
	return nil
}

func (a *app) whyCommand() *cobra.Command {
	var form string
	cmd := &cobra.Command{
		Use:   "why TARGET",
		Short: "Say why each step of the last build was cached or ran",
		Long:  "Compare the last build of a target with the one before it, and name for each step the first\nthing that differs.",
		Args:  exactly(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withEngine(cmd.Context(), func(e *engine.Engine) error {
				return a.why(cmd.Context(), e, args[0], form)
			})
		},
	}
	cmd.Flags().StringVar(&form, "format", "text", "text or json")
	return cmd
}

func (a *app) why(ctx context.Context, e *engine.Engine, target, form string) error {
	why, err := solver.Why(ctx, e.Records(), target)
	if err != nil {
		return err
	}
	switch form {
	case "text":
		_, err := fmt.Fprint(a.stdout, why)
		return err
	case "json":
		return json.NewEncoder(a.stdout).Encode(why)
	}
	return misuse("--format %s is not known: it takes text or json", form)
}
