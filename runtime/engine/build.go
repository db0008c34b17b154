package engine

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/solver/pb"
	digest "github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/strata-build/strata/runtime/exporter"
	"github.com/strata-build/strata/runtime/gitsource"
	"github.com/strata-build/strata/runtime/httpsource"
	"github.com/strata-build/strata/runtime/worker"
	"github.com/strata-build/strata/solver"
)

// Target is one image for one platform.
type Target struct {
	// Name is what `why` knows the target by; it tells platforms apart.
	Name string
	// Image joins the platforms of one image: targets with the same Image are
	// exported together.
	Image      string
	Platform   ocispec.Platform
	Definition *pb.Definition
	// Config and BaseConfig are as the front end made them.
	Config, BaseConfig []byte
	// Names are the names under which the image is exported.
	Names       []string
	Annotations exporter.Annotations
	// Index makes an index of a single platform, too.
	Index bool
}

// Request is one build.
type Request struct {
	Targets []Target
	Outputs []exporter.Output
	// Locals and Layouts are the directories behind the names that the
	// definitions use.
	Locals, Layouts map[string]string
	Meta            llb.ImageMetaResolver
	Secrets         worker.Secrets
	Agents          worker.Agents

	AllowInsecure, AllowHostNetwork bool
	AllowDevices                    []string

	Jobs    int
	NoCache func(*solver.Vertex) bool
	// Epoch is SOURCE_DATE_EPOCH.
	Epoch time.Time
	// Status takes the progress; Build closes it.
	Status chan *client.SolveStatus
	// Failed, when set, is called with the first step that failed and the
	// build's error, after Status is closed, unless the build was cancelled.
	// While it runs, the step can be entered.
	Failed func(*worker.FailedStep, error) error
}

// Built is one exported image.
type Built struct {
	Image string
	exporter.Result
}

// Result is what a build leaves. It is returned with an error too, as far as
// the build came.
type Result struct {
	Images []Built
	Report *solver.Report
}

// Build solves all targets as one graph and exports the images.
func (e *Engine) Build(ctx context.Context, req Request) (Result, error) {
	b, err := e.newBuild(ctx, req)
	if err != nil {
		req.closeStatus()
		return Result{}, err
	}
	res, err := b.run(ctx)
	req.closeStatus()
	return res, errors.Join(err, b.showFailed(ctx, err), b.close())
}

func (r *Request) closeStatus() {
	if r.Status != nil {
		close(r.Status)
	}
}

// build is one build under way.
type build struct {
	e       *Engine
	req     Request
	graph   *solver.Graph
	edges   []solver.Edge
	worker  *worker.Worker
	packer  *packer
	failed  atomic.Pointer[worker.FailedStep] // the first, if anybody wants it
	release func() error
}

func (e *Engine) newBuild(ctx context.Context, req Request) (*build, error) {
	defs := make([]*pb.Definition, len(req.Targets))
	for i, t := range req.Targets {
		defs[i] = t.Definition
	}
	graph, edges, err := solver.Load(defs...)
	if err != nil {
		return nil, err
	}
	b := &build{e: e, req: req, graph: graph, edges: edges}
	b.packer = newPacker(ctx, e.Layers.WithEpoch(exporter.Epoch(req.Epoch)), req.Outputs, edges)
	lease, err := e.Store.NewLease(ctx)
	if err != nil {
		return nil, err
	}
	opt, err := e.workerOptions(req)
	if err != nil {
		return nil, errors.Join(err, lease.Close())
	}
	opt.Lease = lease
	opt.Made = b.packer.made
	if req.Failed != nil {
		opt.Failed = func(step *worker.FailedStep) { b.failed.CompareAndSwap(nil, step) }
	}
	b.worker = worker.New(opt)
	b.release = func() error { return errors.Join(b.worker.Close(), lease.Close(), e.Store.ReleaseMade()) }
	return b, nil
}

func (b *build) close() error { return errors.Join(b.packer.wait(), b.release()) }

// showFailed gives a step that failed to who wants it, and has not ended the
// build since.
func (b *build) showFailed(ctx context.Context, err error) error {
	if step := b.failed.Load(); step != nil && ctx.Err() == nil {
		return b.req.Failed(step, err)
	}
	return nil
}

// run solves and exports.
func (b *build) run(ctx context.Context) (Result, error) {
	targets := make([]solver.Target, len(b.edges))
	for i, edge := range b.edges {
		targets[i] = solver.Target{Name: b.req.Targets[i].Name, Edge: edge}
	}
	out, err := solver.New(b.worker, b.e.Records()).Solve(ctx, solver.Request{
		Graph: b.graph, Targets: targets, Jobs: b.req.Jobs, NoCache: b.req.NoCache, Status: b.req.Status,
	})
	var res Result
	if out != nil {
		res.Report = out.Report
	}
	if err != nil {
		return res, err
	}
	if err := b.packer.wait(); err != nil {
		return res, err
	}
	res.Images, err = b.export(ctx, out.Results)
	return res, err
}

// export writes each image to the outputs.
func (b *build) export(ctx context.Context, results []solver.Result) ([]Built, error) {
	images, order, err := b.images(ctx, results)
	if err != nil {
		return nil, err
	}
	var built []Built
	for _, name := range order {
		p := newExportProgress(b.req.Status, name, images[name], b.req.Outputs)
		r, err := b.e.Exporter.Export(ctx, images[name], b.req.Outputs, p)
		p.end(err)
		if err != nil {
			return built, fmt.Errorf("export %s: %w", displayName(name), err)
		}
		built = append(built, Built{Image: name, Result: r})
	}
	return built, nil
}

func displayName(image string) string {
	if image == "" {
		return "image"
	}
	return image
}

// images groups the targets by image, in the order of the request.
func (b *build) images(ctx context.Context, results []solver.Result) (map[string]exporter.Image, []string, error) {
	images := map[string]exporter.Image{}
	var order []string
	for i, t := range b.req.Targets {
		layers, err := b.worker.Layers(ctx, results[i])
		if err != nil {
			return nil, nil, err
		}
		img, seen := images[t.Image]
		if !seen {
			order = append(order, t.Image)
			img = exporter.Image{Names: t.Names, Annotations: t.Annotations, Index: t.Index, Epoch: b.req.Epoch}
		}
		img.Platforms = append(img.Platforms, exporter.PlatformImage{
			Platform: t.Platform, Config: t.Config, BaseConfig: t.BaseConfig, Layers: layers,
			Descriptions: descriptions(b.edges[i], len(layers)),
		})
		images[t.Image] = img
	}
	return images, order, nil
}

// workerOptions gathers what the worker of one build works with.
func (e *Engine) workerOptions(req Request) (worker.Options, error) {
	var errs []error
	dir := func(name string) string {
		d, err := e.directory(name)
		errs = append(errs, err)
		return d
	}
	opt := worker.Options{
		Store: e.Store, Snapshots: e.Snapshots, Layers: e.Layers.WithEpoch(exporter.Epoch(req.Epoch)), Images: e.Images,
		Meta: req.Meta, Executor: e.Executor, Network: e.Network, Cgroups: e.Cgroups,
		ContextDir: dir("contexts"), LogDir: dir("logs"), CacheDir: dir("caches"),
		SingleID: e.opt.SingleID, Platform: e.Platform(), EmulatorDir: binfmt,
		Locals: req.Locals, Layouts: req.Layouts, Secrets: req.Secrets, Agents: req.Agents,
		AllowInsecure: req.AllowInsecure, AllowHostNetwork: req.AllowHostNetwork,
		AllowDevices: req.AllowDevices, DeviceDirs: e.opt.DeviceDirs,
	}
	opt.Git = gitsource.New(gitsource.Options{
		Dir: dir("git"), Lock: e.Records().Lock, Secret: worker.SecretFunc(req.Secrets, gitsource.ErrNoSecret), Env: e.opt.Env,
		SSHAgent: e.agentSocket(req.Agents),
	})
	download := e.httpOptions()
	download.Secret = worker.SecretFunc(req.Secrets, httpsource.ErrNoSecret)
	opt.HTTP = httpsource.New(download)
	return opt, errors.Join(errs...)
}

// httpOptions are those of every download.
func (e *Engine) httpOptions() httpsource.Options {
	return httpsource.Options{
		Blobs: httpBlobs{e.Store}, Records: httpRecords{e.Store}, Transport: e.opt.Transport,
		UserAgent: e.opt.Registry.UserAgent, SingleID: e.opt.SingleID,
	}
}

// ImageVertices returns the vertices whose own layers end up in the results of
// edges.
func imageVertices(edges []solver.Edge) map[digest.Digest]bool {
	seen := map[digest.Digest]bool{}
	var visit func(solver.Edge)
	visit = func(edge solver.Edge) {
		if edge.Scratch() || seen[edge.Vertex.Digest] {
			return
		}
		v := edge.Vertex
		seen[v.Digest] = true
		for _, i := range baseInputs(v.Op) {
			if i >= 0 && int(i) < len(v.Inputs) {
				visit(v.Inputs[i])
			}
		}
	}
	for _, edge := range edges {
		visit(edge)
	}
	return seen
}

// baseInputs are the inputs whose layers an op passes on.
func baseInputs(op *pb.Op) []int64 {
	var inputs []int64
	switch o := op.Op.(type) {
	case *pb.Op_Exec:
		for _, m := range o.Exec.Mounts {
			if m.Output >= 0 && m.MountType == pb.MountType_BIND {
				inputs = append(inputs, m.Input)
			}
		}
	case *pb.Op_File:
		for _, a := range o.File.Actions {
			inputs = append(inputs, a.Input)
		}
	case *pb.Op_Merge:
		for _, in := range o.Merge.Inputs {
			inputs = append(inputs, in.Input)
		}
	case *pb.Op_Diff:
		inputs = append(inputs, o.Diff.GetUpper().GetInput())
	}
	return inputs
}
