package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"sync"

	"github.com/containerd/platforms"
	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/exporter/containerimage/exptypes"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/strata-build/strata/runtime/exporter"
	"github.com/strata-build/strata/runtime/fleet"
	"github.com/strata-build/strata/runtime/image"
	"github.com/strata-build/strata/runtime/snapshot"
	"github.com/strata-build/strata/runtime/store"
	"github.com/strata-build/strata/runtime/worker"
	"github.com/strata-build/strata/solver"
)

// Daemon is a BuildKit daemon that builds in the place of this machine.
type Daemon struct {
	*fleet.Client
	// CacheFrom and CacheTo are where it reads and writes its cache.
	CacheFrom, CacheTo []client.CacheOptionsEntry
}

// BuildOn is Build by a BuildKit daemon. Images come here as archives and are
// exported as always, but those that are only pushed go from the daemon to
// their registry.
func (e *Engine) BuildOn(ctx context.Context, d Daemon, req Request) (Result, error) {
	defer req.closeStatus()
	if err := req.checkPermissions(); err != nil {
		return Result{}, err
	}
	r := &remote{e: e, d: d, req: req, seen: observer{to: req.Status, steps: map[string]solver.Verdict{}}}
	var res Result
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(remoteJobs)
	images := r.images()
	built := make([]Built, len(images))
	for i, targets := range images {
		group.Go(func() (err error) {
			built[i], err = r.image(ctx, targets)
			return err
		})
	}
	err := group.Wait()
	for _, b := range built {
		if b.Desc.Digest != "" || err == nil {
			res.Images = append(res.Images, b)
		}
	}
	res.Report = r.seen.report()
	return res, err
}

// checkPermissions refuses what a daemon would, at its line.
func (r *Request) checkPermissions() error {
	for _, t := range r.Targets {
		graph, _, err := solver.Load(t.Definition)
		if err != nil {
			return err
		}
		for v := range graph.Vertices() {
			if err := worker.CheckPermissions(v.Op.GetExec(), r.AllowInsecure, r.AllowHostNetwork); err != nil {
				return &solver.VertexError{Vertex: v, Err: err}
			}
		}
	}
	return nil
}

// remoteJobs is how many images a daemon builds at once; it has its own limit
// of steps.
const remoteJobs = 16

// remote is one build by a daemon.
type remote struct {
	e    *Engine
	d    Daemon
	req  Request
	seen observer
}

// images groups the targets by image, in their order.
func (r *remote) images() [][]Target {
	at := map[string]int{}
	var images [][]Target
	for _, t := range r.req.Targets {
		i, ok := at[t.Image]
		if !ok {
			i = len(images)
			at[t.Image] = i
			images = append(images, nil)
		}
		images[i] = append(images[i], t)
	}
	return images
}

// image builds and exports one image.
func (r *remote) image(ctx context.Context, targets []Target) (Built, error) {
	req := fleet.Request{
		Index: targets[0].Index, Locals: r.req.Locals, Layouts: r.req.Layouts,
		Secrets: r.req.Secrets, Agents: r.req.Agents, Login: r.login, Allow: r.allow(),
		CacheFrom: r.d.CacheFrom, CacheTo: r.d.CacheTo,
	}
	for _, t := range targets {
		req.Targets = append(req.Targets, fleet.Target{
			Platform: t.Platform, Definition: t.Definition, Config: t.Config, BaseConfig: t.BaseConfig,
		})
	}
	built := Built{Image: targets[0].Image}
	var here []exporter.Output
	for _, out := range r.req.Outputs {
		switch {
		case out.Type == exporter.CacheOnly:
		case out.Type == exporter.RegistryPush || out.Push:
			p, err := r.push(out, targets)
			if err != nil {
				return built, err
			}
			req.Pushes = append(req.Pushes, p)
			built.Names = append(built.Names, p.Names...)
		default:
			// See fetch: what came uncompressed does not stay that.
			out.Compression.Force = true
			here = append(here, out)
		}
	}
	status, done := r.seen.watch()
	req.Status = status
	defer done()
	if len(here) == 0 {
		pushed, err := r.d.Build(ctx, req)
		built.Desc, built.ConfigDigest = pushed.Desc, pushed.ConfigDigest
		return built, err
	}
	desc, pushed, err := r.fetch(ctx, req)
	if err != nil {
		return built, err
	}
	res, err := r.export(ctx, desc, targets, here)
	if res.Desc.Digest == "" { // no output here makes an image
		res = exporter.Result{Desc: pushed.Desc, ConfigDigest: pushed.ConfigDigest, Names: built.Names}
	}
	built.Result = res
	return built, err
}

// login is the user's for a registry. A token without a user is what BuildKit
// gets its own tokens with.
func (r *remote) login(host string) (user, password string) {
	if token := r.e.Registry.IdentityToken(host); token != "" {
		return "", token
	}
	c, _ := r.e.Registry.StoredCredentials(host)
	return c.User, c.Password
}

// allow are the permissions in BuildKit's words.
func (r *remote) allow() []string {
	var list []string
	if r.req.AllowInsecure {
		list = append(list, "security.insecure")
	}
	if r.req.AllowHostNetwork {
		list = append(list, "network.host")
	}
	for _, name := range r.req.AllowDevices {
		if name == worker.AllDevices {
			list = append(list, "device")
		} else {
			list = append(list, "device="+name)
		}
	}
	return list
}

// push says in BuildKit's words how an output is pushed.
func (r *remote) push(out exporter.Output, targets []Target) (fleet.Push, error) {
	p := fleet.Push{Names: out.Names, Attrs: r.times()}
	if len(p.Names) == 0 {
		p.Names = targets[0].Names
	}
	if len(p.Names) == 0 {
		return p, errors.New("the image to push has no name: give one with -t")
	}
	c := out.Compression
	for name, value := range map[string]string{"compression": string(c.Type), "compression-level": strconv.Itoa(c.Level)} {
		if value != "" && value != "0" {
			p.Attrs[name] = value
		}
	}
	p.Attrs["force-compression"] = strconv.FormatBool(c.Force)
	p.Attrs["push-by-digest"] = strconv.FormatBool(out.PushByDigest)
	p.Attrs["oci-mediatypes"] = strconv.FormatBool(out.OCITypes == nil || *out.OCITypes)
	addAnnotations(p.Attrs, nil, targets[0].Annotations)
	for text, notes := range out.Annotations {
		platform, err := annotatedPlatform(text)
		if err != nil {
			return p, err
		}
		addAnnotations(p.Attrs, platform, notes)
	}
	return p, nil
}

// annotatedPlatform is a platform that annotations are for; nil means all.
func annotatedPlatform(text string) (*ocispec.Platform, error) {
	if text == "" {
		return nil, nil
	}
	p, err := platforms.Parse(text)
	return &p, err
}

// addAnnotations writes annotations as options of BuildKit's exporter.
func addAnnotations(attrs map[string]string, platform *ocispec.Platform, notes exporter.Annotations) {
	for name, value := range notes.Manifest {
		attrs[exptypes.AnnotationManifestKey(platform, name)] = value
	}
	for name, value := range notes.ManifestDescriptor {
		attrs[exptypes.AnnotationManifestDescriptorKey(platform, name)] = value
	}
	for name, value := range notes.Index {
		attrs[exptypes.AnnotationIndexKey(name)] = value
	}
	for name, value := range notes.IndexDescriptor {
		attrs[exptypes.AnnotationIndexDescriptorKey(name)] = value
	}
}

// times cut what the daemon writes at the build's epoch, as it is done here.
func (r *remote) times() map[string]string {
	return map[string]string{
		"source-date-epoch": strconv.FormatInt(exporter.Epoch(r.req.Epoch).Unix(), 10), "rewrite-timestamp": "true",
	}
}

// fetch builds an image, and takes it into the store on the way.
func (r *remote) fetch(ctx context.Context, req fleet.Request) (desc ocispec.Descriptor, pushed fleet.Pushed, err error) {
	req.ArchiveAttrs = r.times()
	// What the daemon made is compressed here, so that it has the digest that
	// it would have if it were made here.
	req.ArchiveAttrs["compression"] = "uncompressed"
	var images []image.Imported
	err = pipe(func(archive io.Writer) (err error) {
		req.Archive = archive
		pushed, err = r.d.Build(ctx, req)
		return err
	}, func(archive io.Reader) (err error) {
		images, err = r.e.Images.Import(ctx, archive)
		return err
	})
	if err == nil && len(images) != 1 {
		err = fmt.Errorf("the daemon's archive holds %d images, and not one", len(images))
	}
	if err != nil {
		return desc, pushed, err
	}
	return images[0].Desc, pushed, nil
}

// pipe has read read what write writes. The end of the pipe is that of write,
// so that nothing is read to its end that is not whole. Of two errors it
// returns the one that brought the other about.
func pipe(write func(io.Writer) error, read func(io.Reader) error) error {
	out, in := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		err := read(out)
		if err == nil { // there may be more than was of use
			_, err = io.Copy(io.Discard, out)
		}
		_ = out.CloseWithError(err) // it always succeeds
		ended <- err
	}()
	err := write(in)
	_ = in.CloseWithError(err) // as above
	if readErr := <-ended; readErr != nil && !errors.Is(readErr, err) {
		return readErr
	}
	return err
}

// export writes a fetched image to the outputs.
func (r *remote) export(ctx context.Context, desc ocispec.Descriptor, targets []Target, outputs []exporter.Output) (exporter.Result, error) {
	lease, err := r.e.Store.NewLease(ctx)
	if err != nil {
		return exporter.Result{}, err
	}
	img := exporter.Image{Names: targets[0].Names, Annotations: targets[0].Annotations, Index: targets[0].Index, Epoch: r.req.Epoch}
	for _, t := range targets {
		p, err := r.platform(ctx, desc, t, lease)
		if err != nil {
			return exporter.Result{}, errors.Join(err, lease.Close())
		}
		img.Platforms = append(img.Platforms, p)
	}
	status, done := r.seen.watch()
	p := newExportProgress(status, targets[0].Image, img, outputs)
	res, err := r.e.Exporter.Export(ctx, img, outputs, p)
	p.end(err)
	done()
	return res, errors.Join(err, lease.Close())
}

// platform unpacks the layers of one platform.
func (r *remote) platform(ctx context.Context, desc ocispec.Descriptor, t Target, lease *store.Lease) (exporter.PlatformImage, error) {
	p := exporter.PlatformImage{Platform: t.Platform, Config: t.Config, BaseConfig: t.BaseConfig}
	m, err := r.e.Images.Load(ctx, desc, &t.Platform, nil)
	if err == nil {
		err = m.RunsOn(t.Platform)
	}
	if err != nil {
		return p, fmt.Errorf("read what the daemon built for %s: %w", platforms.FormatAll(t.Platform), err)
	}
	if p.Layers, err = r.e.Images.Unpack(ctx, image.UnpackRequest{Manifest: m}); err != nil {
		return p, err
	}
	for _, id := range p.Layers {
		if err := lease.Add(snapshot.Ref(id)); err != nil {
			return p, err
		}
	}
	_, edges, err := solver.Load(t.Definition)
	if err == nil {
		p.Descriptions = descriptions(edges[0], len(p.Layers))
	}
	return p, err
}

// observer passes the progress of several builds on, and remembers how steps
// ended.
type observer struct {
	to chan<- *client.SolveStatus

	mu    sync.Mutex
	steps map[string]solver.Verdict
}

// watch returns where one build sends its progress. done waits until all of it
// is passed on.
func (o *observer) watch() (status chan *client.SolveStatus, done func()) {
	status = make(chan *client.SolveStatus)
	passed := make(chan struct{})
	go func() {
		defer close(passed)
		steps := map[string]solver.Verdict{}
		for s := range status {
			note(steps, s)
			if o.to != nil {
				o.to <- s
			}
		}
		o.add(steps)
	}()
	return status, func() { close(status); <-passed }
}

// note takes down how steps ended: the last word counts.
func note(steps map[string]solver.Verdict, s *client.SolveStatus) {
	for _, v := range s.Vertexes {
		switch {
		case v.Completed == nil:
		case v.Error != "":
			steps[v.Digest.String()] = solver.Failed
		case v.Cached:
			steps[v.Digest.String()] = solver.Cached
		default:
			steps[v.Digest.String()] = solver.Ran
		}
	}
}

// add adds the steps of one build. What it found in the cache may have run for
// another.
func (o *observer) add(steps map[string]solver.Verdict) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for id, verdict := range steps {
		if _, known := o.steps[id]; !known || verdict != solver.Cached {
			o.steps[id] = verdict
		}
	}
}

// report is as much as is known here of what the daemon did.
func (o *observer) report() *solver.Report {
	rep := &solver.Report{}
	for _, verdict := range o.steps {
		rep.Steps = append(rep.Steps, solver.Step{Verdict: verdict})
	}
	return rep
}
