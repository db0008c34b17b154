package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	dockerfilecompat "github.com/strata-build/strata/dockerfile-compat"
	"github.com/strata-build/strata/runtime/engine"
)

// convertOptions are the flags of `strata convert`.
type convertOptions struct {
	inputOptions
	output string
	name   string
}

func (a *app) convertCommand() *cobra.Command {
	var o convertOptions
	cmd := &cobra.Command{
		Use:   "convert [DOCKERFILE]",
		Short: "Turn a Dockerfile into CUE, and prove that it means the same",
		Long: "Convert a Dockerfile (by default ./Dockerfile) to CUE. The result is compiled and compared\n" +
			"with the Dockerfile: LLB and image config of every stage. What has no native form stays a\n" +
			"Dockerfile inside of the CUE. If the two differ, nothing is written.",
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.file = "Dockerfile"
			if len(args) > 0 {
				o.file = args[0]
			}
			return a.convert(cmd.Context(), &o)
		},
	}
	f := cmd.Flags()
	f.StringVarP(&o.output, "output", "o", "", "the CUE file to write; `-` or nothing is standard output")
	f.StringVar(&o.name, "name", "", "name of the image (default: the directory's)")
	f.StringVar(&o.imageMetadata, "image-metadata", "", "JSON file of image references and their configs, instead of registries")
	return cmd
}

func (a *app) convert(ctx context.Context, o *convertOptions) error {
	run := func(e *engine.Engine) error {
		conversion, err := a.convertFile(ctx, e, o)
		if err != nil {
			return err
		}
		a.reportConversion(o.file, conversion)
		if o.output == "" || o.output == "-" {
			_, err := a.stdout.Write(conversion.CUE)
			return err
		}
		if _, err := os.Stat(o.output); err == nil {
			return misuse("%s is there already: remove it, or choose another -o", o.output)
		}
		return writeFile(o.output, conversion.CUE)
	}
	if o.imageMetadata != "" {
		return run(nil)
	}
	return a.withEngine(ctx, run)
}

func (a *app) convertFile(ctx context.Context, e *engine.Engine, o *convertOptions) (*dockerfilecompat.Conversion, error) {
	meta, err := a.metaResolver(e, &o.inputOptions)
	if err != nil {
		return nil, err
	}
	opts, err := a.compilerOptions(&o.inputOptions, meta)
	if err != nil {
		return nil, err
	}
	o.paths = []string{filepath.Dir(o.file)}
	req, err := a.dockerfileRequest(&o.inputOptions, opts)
	if err != nil {
		return nil, err
	}
	file := ""
	if o.output != "" && o.output != "-" {
		if file, err = filepath.Abs(o.output); err != nil {
			return nil, err
		}
	}
	return dockerfilecompat.Convert(ctx, dockerfilecompat.ConvertRequest{Request: req, File: file, Name: o.name})
}

// reportConversion says what was lifted and what was kept, and why.
func (a *app) reportConversion(file string, c *dockerfilecompat.Conversion) {
	native := 0
	for _, s := range c.Stages {
		switch {
		case s.Left:
			fmt.Fprintf(a.stderr, "%s:%d: stage %s is left out: %s\n", file, s.Line, s.Name, s.Reason)
		case !s.Native:
			fmt.Fprintf(a.stderr, "%s:%d: stage %s stays a Dockerfile: %s\n", file, max(s.KeptLine, s.Line), s.Name, s.Reason)
		default:
			native++
		}
	}
	fmt.Fprintf(a.stderr, "%s: %d of %d stages are native steps; %d builds were compared, and all are the same\n",
		file, native, len(c.Stages), c.Compared)
}

// lint is `strata vet` and `--check` for a Dockerfile: BuildKit's rules.
func (a *app) lint(ctx context.Context, o *inputOptions) error {
	run := func(e *engine.Engine) error {
		meta, err := a.metaResolver(e, o)
		if err != nil {
			return err
		}
		opts, err := a.compilerOptions(o, meta)
		if err != nil {
			return err
		}
		req, err := a.dockerfileRequest(o, opts)
		if err != nil {
			return err
		}
		warnings, err := dockerfilecompat.Lint(ctx, req)
		for _, w := range warnings {
			fmt.Fprint(a.stderr, w.Render())
		}
		if err != nil {
			return err
		}
		if len(warnings) > 0 {
			return &exitError{exitFailed, errors.New(plural(len(warnings), "warning"))}
		}
		return nil
	}
	if o.imageMetadata != "" {
		return run(nil)
	}
	return a.withEngine(ctx, run)
}

func plural(n int, word string) string {
	if n == 1 {
		return "1 " + word
	}
	return fmt.Sprintf("%d %ss", n, word)
}
