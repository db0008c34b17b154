package buildcmd

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/containerd/platforms"
	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/solver/pb"
	"github.com/spf13/pflag"

	"github.com/strata-build/strata/cmd/strata/cli"
	"github.com/strata-build/strata/compiler"
	"github.com/strata-build/strata/runtime/engine"
	"github.com/strata-build/strata/runtime/image"
	"github.com/strata-build/strata/schema"
)

// inputOptions are the flags that decide what is built, shared by build, plan
// and vet.
type inputOptions struct {
	paths []string

	file           string
	targets        []string
	set            []string
	buildArgs      []string
	labels         []string
	platforms      []string
	contexts       []string
	network        string
	addHosts       []string
	shmSize        cli.ByteSize
	ulimits        []string
	noCache        bool
	noCacheFilters []string
	pull           bool
	imageMetadata  string
	secrets        []string
	ssh            []string
	devices        []string
}

func (o *inputOptions) register(f *pflag.FlagSet) {
	f.StringVarP(&o.file, "file", "f", "", "the build description: a .cue file, or a Dockerfile (- is standard input)")
	f.StringArrayVar(&o.targets, "target", nil, "image or stage to build (several allowed)")
	f.StringArrayVar(&o.set, "set", nil, "NAME=VALUE: set a @tag field of the CUE")
	f.StringArrayVar(&o.buildArgs, "build-arg", nil, "NAME=VALUE: set an argument; NAME alone takes the environment's")
	f.StringArrayVar(&o.labels, "label", nil, "NAME=VALUE: add a label")
	f.StringSliceVar(&o.platforms, "platform", nil, "platforms to build for, such as linux/arm64")
	f.StringArrayVar(&o.contexts, "build-context", nil, "NAME=SOURCE: a further context: a directory, docker-image://…, oci-layout://…, a URL, target:STAGE")
	f.StringVar(&o.network, "network", "default", "network of the steps: default, none or host")
	f.StringArrayVar(&o.addHosts, "add-host", nil, "NAME:ADDRESS: a host that steps know")
	f.Var(&o.shmSize, "shm-size", "size of /dev/shm in the steps, such as 128m")
	f.StringArrayVar(&o.ulimits, "ulimit", nil, "NAME=SOFT[:HARD]: a limit of the steps")
	f.StringArrayVar(&o.devices, "device", nil, "vendor.com/class=NAME: a CDI device for all steps")
	f.BoolVar(&o.noCache, "no-cache", false, "run every step again")
	f.StringSliceVar(&o.noCacheFilters, "no-cache-filter", nil, "run the steps of these images or stages again")
	f.BoolVar(&o.pull, "pull", false, "look for newer base images in their registries")
	o.registerMetadata(f)
	f.StringArrayVar(&o.secrets, "secret", nil, "id=NAME[,src=FILE|,env=VARIABLE]: a secret for the steps")
	f.StringArrayVar(&o.ssh, "ssh", nil, "default|ID[=SOCKET|KEY]…: an SSH agent or keys for the steps")
}

func (o *inputOptions) registerMetadata(f *pflag.FlagSet) {
	f.StringVar(&o.imageMetadata, "image-metadata", "", "JSON `FILE` of image references and their configs, instead of registries")
}

// withMetadata runs fn with an open engine, or with none where
// --image-metadata answers for registries and nothing has to be fetched: then
// no store is touched.
func (a *app) withMetadata(ctx context.Context, o *inputOptions, fn func(*engine.Engine) error) error {
	if o.imageMetadata == "" {
		return a.WithEngine(ctx, fn)
	}
	remote, err := a.remote(o)
	if err != nil {
		return err
	}
	if remote {
		return a.WithEngine(ctx, fn)
	}
	return fn(nil)
}

// input is what was read and compiled. It is to be closed after the build.
type input struct {
	plan  *compiler.Plan
	meta  llb.ImageMetaResolver
	close func() error
}

// compile reads the build description and compiles it. e may be nil: base
// images are then known from --image-metadata only.
func (a *app) compile(ctx context.Context, e *engine.Engine, o *inputOptions) (*input, error) {
	src, err := o.locate()
	if err != nil {
		return nil, err
	}
	meta, err := a.metaResolver(e, o)
	if err != nil {
		return nil, err
	}
	opts, err := a.compilerOptions(o, meta)
	if err != nil {
		return nil, err
	}
	if src.dockerfile {
		opts.Layouts = layouts{e, &recorder{}}
		in, err := a.openDockerfile(ctx, e, o, opts)
		if err != nil {
			return nil, err
		}
		plan, err := a.compileDockerfile(ctx, in, o.targets)
		if err != nil {
			return nil, errors.Join(err, in.close())
		}
		return &input{plan: plan, meta: sources(e, o), close: in.close}, nil
	}
	plan, err := a.compileCUE(ctx, e, o, src.args, opts)
	return &input{plan: plan, meta: sources(e, o), close: func() error { return nil }}, err
}

// sources resolves what is built from: images have digests there, which
// --image-metadata does not know.
func sources(e *engine.Engine, o *inputOptions) llb.ImageMetaResolver {
	if e == nil {
		return nil
	}
	return e.Images.MetaResolver(image.ResolverOptions{Pull: o.pull})
}

// compileCUE loads and compiles CUE, unless the plan is known.
func (a *app) compileCUE(ctx context.Context, e *engine.Engine, o *inputOptions, args []string, opts compiler.Options) (*compiler.Plan, error) {
	var cache *planCache
	var err error
	if e != nil && o.imageMetadata == "" && !o.pull {
		if cache, err = a.newPlanCache(e, o, args); err != nil {
			return nil, err
		}
		if plan, ok, err := cache.load(ctx, opts.Meta); ok || err != nil {
			return plan, err
		}
	}
	if opts.NamedContexts, err = namedContexts(o.contexts); err != nil {
		return nil, err
	}
	rec := &recorder{meta: opts.Meta, ignores: map[string]string{}}
	opts.Meta, opts.Ignore = rec, rec.ignore
	opts.Dockerfiles = volatileFrontend{rec}
	opts.Layouts = layouts{e, rec}
	spec, err := schema.Load(ctx, schema.LoadOptions{
		Args: args, Tags: o.set, BuildArgs: opts.Args, Targets: o.targets, Env: a.Environ,
	})
	if err != nil {
		return nil, err
	}
	plan, err := compiler.Compile(ctx, spec, opts)
	if err != nil {
		return nil, err
	}
	if cache != nil && !rec.volatile {
		err = cache.save(spec, plan, rec)
	}
	return plan, err
}

// located is where the build description is and of which kind.
type located struct {
	args       []string // of CUE
	dockerfile bool
}

// locate decides between CUE and a Dockerfile.
func (o *inputOptions) locate() (located, error) {
	if o.file != "" {
		if filepath.Ext(o.file) != ".cue" {
			if len(o.paths) > 1 {
				return located{}, cli.Misuse("a Dockerfile has one build context, and here are %q", o.paths)
			}
			return located{dockerfile: true}, nil
		}
		if len(o.paths) > 0 {
			return located{}, cli.Misuse("-f %s names the CUE file, so there is no place for %q", o.file, o.paths[0])
		}
		return located{args: []string{o.file}}, nil
	}
	paths := o.paths
	if len(paths) == 0 {
		paths = []string{"."}
	}
	if len(paths) == 1 && (paths[0] == "-" || isURL(paths[0]) && !exists(paths[0])) {
		return located{dockerfile: true}, nil
	}
	if len(paths) == 1 && isDockerfile(paths[0]) {
		o.file, o.paths = paths[0], []string{filepath.Dir(paths[0])}
		return located{dockerfile: true}, nil
	}
	for _, p := range paths {
		if isCUE(p) {
			continue
		}
		if len(paths) > 1 {
			return located{}, cli.Misuse("%s is no CUE: several paths can be given for CUE packages only", p)
		}
		return located{dockerfile: true}, nil
	}
	return located{args: paths}, nil
}

// isCUE tells CUE from a Dockerfile's context: a .cue file, a package
// pattern, or a directory with .cue files.
func isCUE(p string) bool {
	if filepath.Ext(p) == ".cue" || strings.HasSuffix(p, "...") {
		return true
	}
	dir, _, _ := strings.Cut(p, ":") // ./api:pkg
	entries, err := os.ReadDir(dir)
	if err != nil {
		return false
	}
	return slices.ContainsFunc(entries, func(e os.DirEntry) bool { return filepath.Ext(e.Name()) == ".cue" })
}

// isDockerfile tells a Dockerfile that is given in place of a context, by its
// name: Dockerfile, Dockerfile.prod, prod.Dockerfile.
func isDockerfile(p string) bool {
	info, err := os.Stat(p)
	if err != nil || !info.Mode().IsRegular() {
		return false
	}
	base := strings.ToLower(filepath.Base(p))
	return strings.HasPrefix(base, "dockerfile") || strings.HasSuffix(base, ".dockerfile")
}

// metaResolver answers for base images.
func (a *app) metaResolver(e *engine.Engine, o *inputOptions) (llb.ImageMetaResolver, error) {
	var static image.StaticResolver
	if o.imageMetadata != "" {
		data, err := os.ReadFile(o.imageMetadata)
		if err != nil {
			return nil, fmt.Errorf("--image-metadata: %w", err)
		}
		if static, err = image.ParseStatic(data); err != nil {
			return nil, fmt.Errorf("--image-metadata %s: %w", o.imageMetadata, err)
		}
		for _, name := range static.Empty() {
			fmt.Fprintf(a.Stderr, "warning: --image-metadata %s: %s has no rootfs.diff_ids, so it counts as an image without files\n",
				o.imageMetadata, familiar(name))
		}
	}
	if e == nil {
		return static, nil
	}
	return e.Images.MetaResolver(image.ResolverOptions{Pull: o.pull, Static: static}), nil
}

// compilerOptions turns flags into options.
func (a *app) compilerOptions(o *inputOptions, meta llb.ImageMetaResolver) (compiler.Options, error) {
	opts := compiler.Options{
		BuildPlatform: platforms.Normalize(platforms.DefaultSpec()),
		Meta:          meta,
		NoCache:       o.noCache, NoCacheFilter: o.noCacheFilters,
		ShmSize: int64(o.shmSize),
	}
	var err error
	if opts.Platforms, err = cli.ParsePlatforms(o.platforms); err != nil {
		return opts, err
	}
	for _, name := range o.devices {
		opts.Devices = append(opts.Devices, &pb.CDIDevice{Name: name})
	}
	for _, spec := range o.buildArgs {
		if name, _, _ := strings.Cut(spec, "="); name == "" {
			return opts, cli.Misuse("--build-arg %q: it has no name", spec)
		}
	}
	opts.Args = a.arguments(o.buildArgs)
	if opts.Labels, err = pairs("--label", o.labels); err != nil {
		return opts, err
	}
	if opts.Network, err = networkMode(o.network); err != nil {
		return opts, err
	}
	if opts.ExtraHosts, err = cli.ParseHosts(o.addHosts); err != nil {
		return opts, err
	}
	opts.Ulimits, err = cli.ParseUlimits(o.ulimits)
	return opts, err
}

// arguments reads --build-arg; a name alone takes the environment's value.
func (a *app) arguments(specs []string) map[string]string {
	args := map[string]string{}
	for _, spec := range specs {
		name, value, ok := strings.Cut(spec, "=")
		if !ok {
			if value, ok = a.Env[name]; !ok {
				continue
			}
		}
		args[name] = value
	}
	a.addProxies(args)
	// As docker does, so that image dates follow the environment's.
	if _, given := args["SOURCE_DATE_EPOCH"]; !given && a.Env["SOURCE_DATE_EPOCH"] != "" {
		args["SOURCE_DATE_EPOCH"] = a.Env["SOURCE_DATE_EPOCH"]
	}
	return args
}

func pairs(flag string, specs []string) (map[string]string, error) {
	m := map[string]string{}
	for _, spec := range specs {
		name, value, _ := strings.Cut(spec, "=")
		if name == "" {
			return nil, cli.Misuse("%s %s: it has no name", flag, spec)
		}
		m[name] = value
	}
	return m, nil
}

func networkMode(name string) (pb.NetMode, error) {
	switch name {
	case "", "default":
		return pb.NetMode_UNSET, nil
	case "none":
		return pb.NetMode_NONE, nil
	case "host":
		return pb.NetMode_HOST, nil
	}
	return 0, cli.Misuse("--network %s is not known: it takes default, none or host", name)
}
