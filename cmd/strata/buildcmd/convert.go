package buildcmd

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/strata-build/strata/cmd/strata/cli"
	"github.com/strata-build/strata/cmd/strata/output"
	"github.com/strata-build/strata/compiler"
	dockerfilecompat "github.com/strata-build/strata/dockerfile-compat"
	"github.com/strata-build/strata/runtime/engine"
)

// convertOptions are the flags of `strata convert`.
type convertOptions struct {
	inputOptions
	output  string
	name    string
	pkg     string
	context string
	images  []string
}

func (a *app) convertCommand() *cobra.Command {
	var o convertOptions
	cmd := &cobra.Command{
		Use:   "convert [DOCKERFILE|DIR|DIR/...]",
		Short: "Turn Dockerfiles into CUE, and prove that it means the same",
		Long: "Convert a Dockerfile (by default ./Dockerfile) to CUE. The result is compiled and compared\n" +
			"with the Dockerfile: LLB and image config of every stage. What has no native form stays a\n" +
			"Dockerfile inside of the CUE. If the two differ, nothing is written.\n\n" +
			"DIR/... converts all Dockerfiles below a directory to one CUE file, in which images that\n" +
			"build on one another refer to each other.",
		Example: "  strata convert Dockerfile -o app.cue\n" +
			"  strata convert ./... -o app.cue --image registry.example.com/shop/base=base",
		Args: cli.Between(0, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			arg := dockerfileName
			if len(args) > 0 {
				arg = args[0]
			}
			return a.convert(cmd.Context(), &o, arg)
		},
	}
	f := cmd.Flags()
	f.StringVarP(&o.output, "output", "o", "", "the CUE file to write; - or nothing is standard output")
	f.StringVar(&o.name, "name", "", "name of the image (default: the directory's)")
	f.StringVar(&o.pkg, "package", "", "name of the CUE package (default: build)")
	f.StringVar(&o.context, "context", "", "the build context (default: the Dockerfile's directory)")
	f.StringArrayVar(&o.images, "image", nil, "NAME=DIR: the name by which Dockerfiles of a tree use the image of another")
	f.StringArrayVar(&o.buildArgs, "build-arg", nil, "NAME=VALUE: an argument that the two are compared with as well")
	f.StringSliceVar(&o.platforms, "platform", nil, "platforms that the two are compared for as well")
	o.registerMetadata(f)
	return cmd
}

// convert converts what the argument names: a Dockerfile, that of a
// directory, or a tree of them.
func (a *app) convert(ctx context.Context, o *convertOptions, arg string) error {
	if o.output != "-" && occupied(o.output) {
		return cli.Misuse("%s is there already: remove it, or choose another -o", o.output)
	}
	convert := a.convertFile
	if dir, ok := strings.CutSuffix(arg, "..."); ok {
		convert, arg = a.convertTree, filepath.Clean("./"+dir)
		if filepath.IsAbs(dir) {
			arg = filepath.Clean(dir)
		}
	} else if len(o.images) > 0 {
		return cli.Misuse("--image is for a tree of Dockerfiles, such as ./...")
	}
	return a.withMetadata(ctx, &o.inputOptions, func(e *engine.Engine) error {
		opts, err := a.frontOptions(e, &o.inputOptions)
		if err != nil {
			return err
		}
		cue, err := convert(ctx, o, opts, arg)
		if err != nil {
			return err
		}
		if o.output == "" || o.output == "-" {
			_, err := a.Stdout.Write(cue)
			return err
		}
		return cli.WriteFile(o.output, cue)
	})
}

// occupied reports whether there is a file that would be lost: one without
// content, as mktemp makes, is none.
func occupied(name string) bool {
	info, err := os.Stat(name)
	return err == nil && (!info.Mode().IsRegular() || info.Size() > 0)
}

// frontOptions are those of a compilation that nothing is built after.
func (a *app) frontOptions(e *engine.Engine, o *inputOptions) (compiler.Options, error) {
	meta, err := a.metaResolver(e, o)
	if err != nil {
		return compiler.Options{}, err
	}
	opts, err := a.compilerOptions(o, meta)
	opts.Layouts = layouts{e, &recorder{}}
	return opts, err
}

// convertFile converts one Dockerfile.
func (a *app) convertFile(ctx context.Context, o *convertOptions, opts compiler.Options, file string) ([]byte, error) {
	if info, err := os.Stat(file); err == nil && info.IsDir() {
		file = filepath.Join(file, dockerfileName)
	}
	abs, err := filepath.Abs(file)
	if err != nil {
		return nil, err
	}
	req := dockerfilecompat.ConvertRequest{Name: o.name, Package: o.pkg, Request: dockerfilecompat.Request{
		Filename: file, Dir: filepath.Dir(abs), Context: o.context, Platforms: opts.Platforms, Options: opts,
	}}
	if req.Context == "" {
		req.Context = req.Dir
	}
	if req.File, err = o.file(); err != nil {
		return nil, err
	}
	c, err := dockerfilecompat.Convert(ctx, req)
	if err != nil {
		return nil, err
	}
	a.reportConversion(file, c)
	return c.CUE, nil
}

// file is the CUE file that will be written, or "".
func (o *convertOptions) file() (string, error) {
	if o.output == "" || o.output == "-" {
		return "", nil
	}
	return filepath.Abs(o.output)
}

// convertTree converts the Dockerfiles below a directory.
func (a *app) convertTree(ctx context.Context, o *convertOptions, opts compiler.Options, dir string) ([]byte, error) {
	if o.name != "" || o.context != "" {
		return nil, cli.Misuse("--name and --context are for one Dockerfile; the images of a tree are called after their directories, which are their contexts")
	}
	names, err := pairs("--image", o.images)
	if err != nil {
		return nil, err
	}
	req := dockerfilecompat.TreeRequest{Dir: dir, Package: o.pkg, Names: names, Platforms: opts.Platforms, Options: opts}
	if req.File, err = o.file(); err != nil {
		return nil, err
	}
	c, err := dockerfilecompat.ConvertTree(ctx, req)
	if err != nil {
		return nil, err
	}
	for _, img := range c.Images {
		a.reportConversion(filepath.Join(dir, img.Dockerfile), &img.Conversion)
		for _, ref := range img.References {
			fmt.Fprintf(a.Stderr, "%s: the image %s is a reference now\n", filepath.Join(dir, img.Dockerfile), ref)
		}
	}
	return c.CUE, nil
}

// reportConversion says of each stage whether it was lifted or kept, and why.
func (a *app) reportConversion(file string, c *dockerfilecompat.Conversion) {
	native := 0
	for _, s := range c.Stages {
		line, what := s.Line, fmt.Sprintf("became native steps (%s)", output.Plural(s.Instructions, "instruction"))
		switch {
		case s.Left:
			what = "is left out: " + s.Reason
		case !s.Native:
			line, what = max(s.KeptLine, s.Line), "stays a Dockerfile: "+s.Reason
		default:
			native++
		}
		fmt.Fprintf(a.Stderr, "%s:%d: stage %s %s\n", file, line, s.Name, what)
	}
	fmt.Fprintf(a.Stderr, "%s: %d of %d stages are native steps; %d builds were compared, and all are the same\n",
		file, native, len(c.Stages), c.Compared)
}
