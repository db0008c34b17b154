package buildcmd

import (
	"context"
	"errors"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/moby/buildkit/client"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/strata-build/strata/cmd/strata/cli"
	"github.com/strata-build/strata/compiler"
	"github.com/strata-build/strata/runtime/engine"
	"github.com/strata-build/strata/runtime/exporter"
	"github.com/strata-build/strata/runtime/worker"
	"github.com/strata-build/strata/solver"
)

// buildOptions are the flags of `strata build`.
type buildOptions struct {
	inputOptions
	engineOptions

	tags         []string
	outputs      []string
	push, load   bool
	iidFile      string
	metadataFile string
	progress     string
	quiet        bool
	jobs         int
	allow        []string
	annotations  []string
	dryRun       bool
	check        bool
	call         string
}

func (a *app) buildCommand() *cobra.Command {
	var o buildOptions
	cmd := &cobra.Command{
		Use:   "build [PATH|FILE|URL|-]...",
		Short: "Build images from CUE or from a Dockerfile",
		Long: "Build images. A .cue file, a CUE package directory or ./... builds the images that it\n" +
			"describes. A directory with a Dockerfile, or -f, builds that, as docker build does; so does\n" +
			"a git repository (https://host/repo.git#ref:dir), a tar archive or a Dockerfile behind a\n" +
			"URL, and `-`: a tar archive or a Dockerfile on standard input. Without -o the image goes to\n" +
			"the image store of this machine.",
		Example: "  strata build ./app.cue\n" +
			"  strata build -t shop/api:1.2 --set version=1.2 ./services/api\n" +
			"  strata build ./... -o type=oci,dest=images.tar\n" +
			"  strata build -t app -f Dockerfile.prod --build-arg VERSION=1.2 .\n" +
			"  strata build https://example.com/app.git#v1.2:service\n" +
			"  strata build - < Dockerfile",
		RunE: func(cmd *cobra.Command, args []string) error {
			o.paths = args
			return a.build(cmd.Context(), &o)
		},
	}
	explainFlags(cmd, dockerFlag)
	f := cmd.Flags()
	o.inputOptions.register(f)
	o.registerSteps(f)
	o.engineOptions.register(f)
	f.StringArrayVarP(&o.tags, "tag", "t", nil, "name of the image, as name[:tag] (several allowed)")
	f.StringArrayVarP(&o.outputs, "output", "o", nil, "where the result goes: type=oci|docker|tar|local|image|registry|cacheonly[,dest=PATH]…")
	f.BoolVar(&o.push, "push", false, "push the image to its registry")
	f.BoolVar(&o.load, "load", false, "load the image into a docker daemon")
	f.StringVar(&o.iidFile, "iidfile", "", "write the image's id to a file")
	f.StringVar(&o.metadataFile, "metadata-file", "", "write the build's metadata to a file, as JSON")
	f.BoolVarP(&o.quiet, "quiet", "q", false, "print the image's id only")
	f.BoolVar(&o.dryRun, "dry-run", false, "say what would be built, and build nothing")
	f.BoolVar(&o.check, "check", false, "check the build description, and build nothing (--call check)")
	f.StringVar(&o.call, "call", "build", "build, or instead `METHOD`[,format=json]: check, outline (what a Dockerfile takes) or targets (its stages)")
	f.StringArrayVar(&o.annotations, "annotation", nil, "[manifest|index|manifest-descriptor|index-descriptor[[PLATFORM]]:]NAME=VALUE: annotate the image")
	return cmd
}

// registerSteps adds the flags of how steps are run.
func (o *buildOptions) registerSteps(f *pflag.FlagSet) {
	f.StringVar(&o.progress, "progress", "auto", "auto, plain, tty, rawjson or quiet")
	f.IntVar(&o.jobs, "jobs", defaultJobs(), "steps to run at once")
	f.StringArrayVar(&o.allow, "allow", nil, "permit network.host, security.insecure, device or device=NAME")
}

func (o *buildOptions) checkJobs() error {
	if o.jobs < 1 {
		return cli.Misuse("--jobs %d: it takes a number from 1 on", o.jobs)
	}
	return nil
}

// defaultJobs is how many steps run at once: more than there are processors,
// because steps wait for networks and disks.
func defaultJobs() int { return max(16, 4*runtime.GOMAXPROCS(0)) }

// build is `strata build`.
func (a *app) build(ctx context.Context, o *buildOptions) error {
	started := time.Now()
	if err := o.checkJobs(); err != nil {
		return err
	}
	for _, tag := range o.tags {
		if err := cli.CheckImageName(tag); err != nil {
			return err
		}
	}
	outputs, err := o.parseOutputs()
	if err != nil {
		return err
	}
	if err := annotate(o.annotations, outputs); err != nil {
		return err
	}
	if err := o.engineOptions.check(); err != nil {
		return err
	}
	// A daemon has none of the images of this machine's store.
	o.pull = o.pull || o.engine == engineBuildKit
	show, err := a.newDisplay(o.progressMode())
	if err != nil {
		return err
	}
	if call, err := o.parseCall(); call.method != "build" || err != nil {
		return errors.Join(err, a.call(ctx, o, call))
	}
	return a.WithEngine(ctx, func(e *engine.Engine) error {
		in, err := a.compile(ctx, e, &o.inputOptions)
		if err != nil {
			return err
		}
		if o.dryRun {
			return errors.Join(in.plan.Text(a.Stdout), in.close())
		}
		req, err := a.request(o, in, outputs)
		if err == nil {
			err = o.checkBuild(imageCount(in.plan))
		}
		if err != nil {
			return errors.Join(err, in.close())
		}
		err = a.runBuild(ctx, e, o, req, show, started)
		return errors.Join(err, in.close())
	})
}

// runBuild builds with progress, and reports.
func (a *app) runBuild(ctx context.Context, e *engine.Engine, o *buildOptions, req engine.Request, show *display, started time.Time) error {
	build, end, err := a.builder(ctx, e, &o.engineOptions)
	if err != nil {
		return err
	}
	req.Status = make(chan *client.SolveStatus, 64)
	show.start(req.Status)
	res, err := build(ctx, req)
	err = errors.Join(err, end())
	shown := show.wait(err == nil)
	if err != nil {
		return buildError(err, shown)
	}
	if err := o.writeFiles(res); err != nil {
		return err
	}
	return a.summary(o, req, res, time.Since(started))
}

// progressMode is the display that the flags ask for.
func (o *buildOptions) progressMode() string {
	if o.quiet {
		return "quiet"
	}
	return o.progress
}

// parseOutputs reads -o, --push and --load.
func (o *buildOptions) parseOutputs() ([]exporter.Output, error) {
	var outputs []exporter.Output
	for _, text := range o.outputs {
		out, err := exporter.ParseOutput(text)
		if err != nil {
			return nil, cli.Misuse("-o %s: %v", text, err)
		}
		if err := checkNames(out); err != nil {
			return nil, err
		}
		outputs = append(outputs, out)
	}
	if o.load {
		outputs = append(outputs, exporter.Output{Type: exporter.Docker})
	}
	if o.push {
		pushed := false
		for i := range outputs {
			if outputs[i].Type == exporter.ImageStore {
				outputs[i].Push, pushed = true, true
			}
		}
		if !pushed {
			outputs = append(outputs, exporter.Output{Type: exporter.ImageStore, Push: true})
		}
	}
	if len(outputs) == 0 {
		outputs = []exporter.Output{{Type: exporter.ImageStore}}
	}
	return outputs, nil
}

// checkNames looks at the names of an output that an image is kept or pushed
// under; in archives they may be anything.
func checkNames(out exporter.Output) error {
	if out.Type != exporter.ImageStore && out.Type != exporter.RegistryPush {
		return nil
	}
	for _, name := range out.Names {
		if err := cli.CheckImageName(name); err != nil {
			return err
		}
	}
	return nil
}

// request turns what was compiled into a request for the engine.
func (a *app) request(o *buildOptions, in *input, outputs []exporter.Output) (engine.Request, error) {
	allow, err := o.allowed()
	if err != nil {
		return engine.Request{}, err
	}
	secrets, err := a.parseSecrets(o.secrets)
	if err != nil {
		return engine.Request{}, err
	}
	agents, err := a.parseAgents(o.ssh)
	if err != nil {
		return engine.Request{}, err
	}
	epoch, err := a.Epoch(o.buildArgs)
	if err != nil {
		return engine.Request{}, err
	}
	req := engine.Request{
		Outputs: outputs, Meta: in.meta, Secrets: secrets, Agents: agents,
		AllowInsecure: allow["security.insecure"], AllowHostNetwork: allow["network.host"] || o.network == "host",
		AllowDevices: o.allowedDevices(), Jobs: o.jobs, Epoch: epoch, Locals: map[string]string{}, Layouts: map[string]string{},
	}
	if o.noCache {
		req.NoCache = func(*solver.Vertex) bool { return true }
	}
	if err := o.addTargets(&req, in.plan); err != nil {
		return engine.Request{}, err
	}
	return req, a.setIndex(o, req.Targets)
}

// setIndex asks for indexes of single platforms where the build argument of
// BuildKit does.
func (a *app) setIndex(o *buildOptions, targets []engine.Target) error {
	text := a.arguments(o.buildArgs)["BUILDKIT_MULTI_PLATFORM"]
	if text == "" {
		return nil
	}
	index, err := strconv.ParseBool(text)
	if err != nil {
		return cli.Misuse("--build-arg BUILDKIT_MULTI_PLATFORM=%s: it is true or false", text)
	}
	for i := range targets {
		targets[i].Index = index
	}
	return nil
}

// addTargets adds the plan's targets with their names.
func (o *buildOptions) addTargets(req *engine.Request, plan *compiler.Plan) error {
	if images := imageCount(plan); images > 1 && len(o.tags) > 0 {
		return cli.Misuse("-t names one image, but there are %d: choose one with --target, or give them `tags` in CUE", images)
	}
	several := map[string]int{}
	for _, t := range plan.Targets {
		several[t.Path]++
	}
	for _, t := range plan.Targets {
		target := engine.Target{
			Name: targetName(t, several[t.Path] > 1), Image: imageKey(t), Platform: t.Platform,
			Definition: t.Definition, Config: t.Config, BaseConfig: t.BaseConfig,
			Names:       o.namesOf(t),
			Annotations: exporter.Annotations{Manifest: t.Annotations},
		}
		req.Targets = append(req.Targets, target)
		for name, local := range t.Locals {
			req.Locals[name] = local.Dir
		}
		for name, st := range t.Stores {
			req.Layouts[name] = st.Path
		}
	}
	return nil
}

// imageKey tells images apart, whatever their platform.
func imageKey(t compiler.Target) string {
	if t.Path != "" {
		return t.Path
	}
	return t.Name
}

func imageCount(plan *compiler.Plan) int {
	seen := map[string]bool{}
	for _, t := range plan.Targets {
		seen[imageKey(t)] = true
	}
	return len(seen)
}

// targetName is the name that `strata why` takes.
func targetName(t compiler.Target, several bool) string {
	name := t.Name
	if name == "" {
		name = "default"
	}
	if several {
		name += "@" + t.Platform.OS + "/" + t.Platform.Architecture + strings.TrimSuffix("/"+t.Platform.Variant, "/")
	}
	return name
}

// namesOf are the names of an image: -t, its own tags, or its label in CUE.
func (o *buildOptions) namesOf(t compiler.Target) []string {
	switch {
	case len(o.tags) > 0:
		return o.tags
	case len(t.Tags) > 0:
		return t.Tags
	case t.Path != "" && t.Name != "":
		return []string{strings.ToLower(t.Name) + ":latest"}
	}
	return nil
}

// allowed reads --allow.
func (o *buildOptions) allowed() (map[string]bool, error) {
	known := []string{"network.host", "security.insecure", "device", "device=NAME"}
	set := map[string]bool{}
	for _, what := range o.allow {
		if !slices.Contains(known, what) && !strings.HasPrefix(what, "device=") {
			return nil, cli.Misuse("--allow %s is not known: it takes %s", what, strings.Join(known, ", "))
		}
		set[what] = true
	}
	return set, nil
}

// allowedDevices are the devices of --allow, and those that all steps get.
func (o *buildOptions) allowedDevices() []string {
	list := slices.Clone(o.devices)
	for _, what := range o.allow {
		if name, ok := strings.CutPrefix(what, "device="); ok {
			list = append(list, name)
		} else if what == "device" {
			list = append(list, worker.AllDevices)
		}
	}
	return list
}

// writeFiles writes --iidfile and --metadata-file.
func (o *buildOptions) writeFiles(res engine.Result) error {
	if len(res.Images) == 0 {
		return nil
	}
	if o.iidFile != "" {
		if len(res.Images) > 1 {
			return cli.Misuse("--iidfile takes one image, but %d were built", len(res.Images))
		}
		if err := cli.WriteFile(o.iidFile, []byte(res.Images[0].IDFile())); err != nil {
			return err
		}
	}
	if o.metadataFile == "" {
		return nil
	}
	data, err := metadata(res)
	if err != nil {
		return err
	}
	return cli.WriteFile(o.metadataFile, data)
}
