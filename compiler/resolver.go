package compiler

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"

	"github.com/containerd/platforms"
	"github.com/distribution/reference"
	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/client/llb/sourceresolver"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/strata-build/strata/schema"
)

// resolveJobs bounds the references that are resolved at a time.
const resolveJobs = 16

// resolver finds digest and config of registry images, each once. Prefetch
// asks for all of them before the translation, which needs them one by one.
type resolver struct {
	meta llb.ImageMetaResolver
	mode llb.ResolveMode
	mu   sync.Mutex
	memo map[resolveKey]*resolution
}

type resolveKey struct{ ref, platform string }

// resolution is a result that is there once done is closed.
type resolution struct {
	done chan struct{}
	img  *registryImage
	err  error
}

// registryImage is a pinned reference with its config; empty tells that it
// has no layers.
type registryImage struct {
	ref    string
	config dockerspec.DockerOCIImage
	empty  bool
}

func newResolver(meta llb.ImageMetaResolver, mode llb.ResolveMode) *resolver {
	return &resolver{meta: meta, mode: mode, memo: map[resolveKey]*resolution{}}
}

// resolve returns the image, from memory where it was asked for before.
func (r *resolver) resolve(ctx context.Context, name string, p ocispecs.Platform) (*registryImage, error) {
	key := resolveKey{name, platforms.FormatAll(p)}
	r.mu.Lock()
	res, ok := r.memo[key]
	if !ok {
		res = &resolution{done: make(chan struct{})}
		r.memo[key] = res
	}
	r.mu.Unlock()
	if !ok {
		res.img, res.err = r.ask(ctx, name, p)
		close(res.done)
	}
	<-res.done
	return res.img, res.err
}

// ask resolves one reference to one with a digest.
func (r *resolver) ask(ctx context.Context, name string, p ocispecs.Platform) (*registryImage, error) {
	ref, err := reference.ParseNormalizedNamed(name)
	if err != nil {
		return nil, fmt.Errorf("parse reference: %w", err)
	}
	if r.meta == nil {
		return nil, errors.New("no registry can be asked here")
	}
	ref = reference.TagNameOnly(ref)
	found, dgst, dt, err := r.meta.ResolveImageConfig(ctx, ref.String(), sourceresolver.Opt{
		LogName:  "[internal] load metadata for " + ref.String(),
		ImageOpt: &sourceresolver.ResolveImageOpt{Platform: &p, ResolveMode: r.mode.String()},
	})
	if err != nil {
		return nil, err
	}
	if found != ref.String() {
		if ref, err = reference.ParseNormalizedNamed(found); err != nil {
			return nil, fmt.Errorf("parse resolved reference: %w", err)
		}
	}
	if dgst != "" {
		if ref, err = reference.WithDigest(ref, dgst); err != nil {
			return nil, fmt.Errorf("pin %s to %s: %w", ref, dgst, err)
		}
	}
	img := &registryImage{ref: ref.String()}
	if err := json.Unmarshal(dt, &img.config); err != nil {
		return nil, fmt.Errorf("parse image config: %w", err)
	}
	img.empty = withoutLayers(&img.config)
	return img, nil
}

// withoutLayers reports whether an image has no layers. Configs of schema 1
// have no diff IDs, so the history is asked too.
func withoutLayers(img *dockerspec.DockerOCIImage) bool {
	for _, h := range img.History {
		if !h.EmptyLayer {
			return false
		}
	}
	return len(img.RootFS.DiffIDs) == 0
}

// prefetch resolves every reference that the jobs need at the same time.
// Failures are kept for the stage that needs the reference.
func (c *compilation) prefetch(ctx context.Context, jobs []job) {
	if c.opts.Meta == nil {
		return
	}
	var group errgroup.Group
	group.SetLimit(resolveJobs)
	w := &walker{c: c, seen: map[stageKey]bool{}, asked: map[resolveKey]bool{}}
	w.found = func(ref string, p ocispecs.Platform) {
		group.Go(func() error {
			_, err := c.resolver.resolve(ctx, ref, p)
			return err
		})
	}
	for _, j := range jobs {
		w.image(j.image, place{target: j.platform, platform: j.platform, implicit: j.implicit})
	}
	// The errors are in the memo.
	_ = group.Wait()
}

// walker visits everything that images refer to.
type walker struct {
	c     *compilation
	seen  map[stageKey]bool
	asked map[resolveKey]bool
	found func(ref string, p ocispecs.Platform)
}

func (w *walker) image(img *schema.Image, at place) {
	key := at.key(img)
	if w.seen[key] {
		return
	}
	w.seen[key] = true
	base := at
	if img.Platform != "" {
		p, err := w.c.parsePlatform(img, img.Platform, at.target)
		if err != nil {
			return // the stage reports it
		}
		base.platform = p
	}
	if from := w.c.override(img.Name); from != nil {
		w.open(img, from, base)
		return
	}
	w.from(img, img.From, base)
	other := place{target: at.target, platform: at.target, implicit: at.implicit}
	for _, step := range img.Steps {
		w.from(img, step.From, other)
		for _, m := range step.Mounts {
			w.from(img, m.From, other)
		}
	}
}

func (w *walker) from(img *schema.Image, from *schema.From, at place) {
	from, err := w.c.decide(img, from, at.target)
	if err != nil {
		return // the stage reports it
	}
	if from != nil {
		if other := w.c.override(from.Ref); other != nil {
			from = other
		}
	}
	w.open(img, from, at)
}

func (w *walker) open(img *schema.Image, from *schema.From, at place) {
	switch {
	case from == nil || from.Source != nil || from.Ref == scratch:
	case from.Image != nil:
		w.image(from.Image, at)
	default:
		w.ref(img, from.Ref, at)
	}
}

func (w *walker) ref(img *schema.Image, ref string, at place) {
	name, err := w.c.expandGlobal(img, ref, at.target)
	if err != nil {
		return // the stage reports it
	}
	key := resolveKey{name, platforms.FormatAll(at.platform)}
	if !w.asked[key] {
		w.asked[key] = true
		w.found(name, at.platform)
	}
}
