package worker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/containerd/platforms"
	"github.com/distribution/reference"
	"github.com/moby/buildkit/client/llb/sourceresolver"
	"github.com/moby/buildkit/solver/pb"
	digest "github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/strata-build/strata/runtime/gitsource"
	"github.com/strata-build/strata/runtime/httpsource"
	"github.com/strata-build/strata/runtime/image"
	"github.com/strata-build/strata/runtime/localsource"
	"github.com/strata-build/strata/runtime/rootfs"
	"github.com/strata-build/strata/solver"
)

// newSourceOp picks the op of a source by its scheme.
func newSourceOp(w *Worker, v *solver.Vertex, op *pb.SourceOp) (solver.Op, error) {
	scheme, rest, ok := strings.Cut(op.Identifier, "://")
	if !ok {
		return nil, fmt.Errorf("source %q has no scheme", op.Identifier)
	}
	switch scheme {
	case "docker-image", "oci-layout":
		return newImageOp(w, v, scheme, rest, op.Attrs)
	case "local":
		return newLocalOp(w, rest, op.Attrs)
	case "git":
		src, err := gitsource.Parse(op.Identifier, op.Attrs)
		return &gitOp{w: w, src: src}, err
	case "http", "https":
		src, err := httpsource.Parse(op.Identifier, op.Attrs)
		return &httpOp{w: w, src: src}, err
	}
	return nil, fmt.Errorf("sources of kind %q are not supported (docker-image, oci-layout, local, git, http and https are)", scheme)
}

// noInputs is the part of a source's op that is never asked.
type noInputs struct{}

// InputKey implements solver.Op.
func (noInputs) InputKey(context.Context, int, solver.Result) (digest.Digest, error) {
	return "", errors.New("a source has no inputs")
}

// imageOp is a base image, from a registry or an OCI layout.
type imageOp struct {
	noInputs
	w        *Worker
	ref      reference.Named
	platform ocispec.Platform
	layout   string // store id of an OCI layout, or ""
	maxLayer int    // layers to take; 0: all
}

func newImageOp(w *Worker, v *solver.Vertex, scheme, rest string, attrs map[string]string) (solver.Op, error) {
	ref, err := reference.ParseNormalizedNamed(rest)
	if err != nil {
		return nil, fmt.Errorf("image reference %q: %w", rest, err)
	}
	o := &imageOp{w: w, ref: reference.TagNameOnly(ref), platform: w.opt.Platform}
	if p := v.Op.Platform; p != nil {
		o.platform = platforms.Normalize(p.Spec())
	}
	for name, value := range attrs {
		switch name {
		case pb.AttrOCILayoutStoreID:
			o.layout = value
		case pb.AttrImageLayerLimit, pb.AttrOCILayoutLayerLimit:
			if o.maxLayer, err = strconv.Atoi(value); err != nil || o.maxLayer < 1 {
				return nil, fmt.Errorf("layer limit %q of %s is no positive number", value, rest)
			}
		case pb.AttrImageResolveMode, pb.AttrImageRecordType, pb.AttrOCILayoutSessionID:
			// How to look, and how to file: the resolver has its own policy.
		case pb.AttrImageChecksum:
			want, err := digest.Parse(value)
			if err != nil {
				return nil, fmt.Errorf("checksum of %s: %w", rest, err)
			}
			if o.ref, err = reference.WithDigest(o.ref, want); err != nil {
				return nil, fmt.Errorf("checksum of %s: %w", rest, err)
			}
		default:
			return nil, unknownAttribute(scheme, name)
		}
	}
	if scheme == "oci-layout" && o.layout == "" {
		o.layout = reference.Path(ref)
	}
	return o, nil
}

func unknownAttribute(scheme, name string) error {
	return fmt.Errorf("attribute %q of a %s source is not supported", name, scheme)
}

// Key implements solver.Op: the image's digest, found in the reference, the
// image store or the registry.
func (o *imageOp) Key(ctx context.Context) (solver.Key, error) {
	desc, err := o.resolve(ctx)
	if err != nil {
		return solver.Key{}, err
	}
	platform := platforms.FormatAll(o.platform)
	return solver.Key{
		Digest: keyOf("image", desc.Digest.String(), platform, strconv.Itoa(o.maxLayer)),
		Facts: []solver.Fact{
			{Name: "base", Value: reference.FamiliarName(o.ref) + "@" + desc.Digest.String()},
			{Name: "platform", Value: platform},
		},
	}, nil
}

// resolve pins the reference.
func (o *imageOp) resolve(ctx context.Context) (ocispec.Descriptor, error) {
	if pinned, ok := o.ref.(reference.Digested); ok {
		return ocispec.Descriptor{Digest: pinned.Digest()}, nil
	}
	opt := sourceresolver.Opt{ImageOpt: &sourceresolver.ResolveImageOpt{Platform: &o.platform}}
	if o.layout != "" {
		opt = sourceresolver.Opt{OCILayoutOpt: &sourceresolver.ResolveOCILayoutOpt{
			Store: sourceresolver.ResolveImageConfigOptStore{StoreID: o.layout}, Platform: &o.platform,
		}}
	}
	_, d, _, err := o.w.opt.Meta.ResolveImageConfig(ctx, o.ref.String(), opt)
	if err != nil {
		return ocispec.Descriptor{}, fmt.Errorf("resolve %s: %w", reference.FamiliarString(o.ref), err)
	}
	return ocispec.Descriptor{Digest: d}, nil
}

// Run implements solver.Op: it unpacks the layers that are not there yet.
func (o *imageOp) Run(ctx context.Context, _ []solver.Result, p solver.Progress) ([]solver.Result, error) {
	desc, err := o.resolve(ctx)
	if err != nil {
		return nil, err
	}
	src, err := o.blobs()
	if err != nil {
		return nil, err
	}
	m, err := o.w.opt.Images.Load(ctx, desc, &o.platform, src)
	if err != nil {
		return nil, err
	}
	if n := o.maxLayer; n > 0 && n < len(m.Layers) {
		m.Layers = m.Layers[:n]
		m.Config.RootFS.DiffIDs = m.Config.RootFS.DiffIDs[:n]
	}
	layers, err := o.w.opt.Images.Unpack(ctx, image.UnpackRequest{
		Manifest: m, Source: src,
		Progress: func(d ocispec.Descriptor, offset int64) {
			p.Status(d.Digest.String(), offset, d.Size, offset >= d.Size)
		},
	})
	if err != nil {
		return nil, err
	}
	return []solver.Result{&Result{Layers: layers}}, o.w.lease(layers...)
}

func (o *imageOp) blobs() (image.Source, error) {
	if o.layout == "" {
		return o.w.opt.Images.RegistrySource(o.ref), nil
	}
	dir, ok := o.w.opt.Layouts[o.layout]
	if !ok {
		return nil, fmt.Errorf("no OCI layout is given for %q", o.layout)
	}
	if info, err := os.Stat(dir); err == nil && info.Mode().IsRegular() {
		return nil, nil // an archive, which was read into the store to compile
	}
	return image.LayoutSource(dir), nil
}

// localOp is a directory of the user's.
type localOp struct {
	noInputs
	w        *Worker
	name     string
	sel      localsource.Options
	manifest *localsource.Manifest
}

func newLocalOp(w *Worker, name string, attrs map[string]string) (solver.Op, error) {
	o := &localOp{w: w, name: name, sel: localsource.Options{CacheDir: w.opt.ContextDir}}
	for attr, value := range attrs {
		var list *[]string
		switch attr {
		case pb.AttrIncludePatterns:
			list = &o.sel.Include
		case pb.AttrExcludePatterns:
			list = &o.sel.Exclude
		case pb.AttrFollowPaths:
			list = &o.sel.FollowPaths
		case pb.AttrLocalSessionID, pb.AttrLocalUniqueID, pb.AttrSharedKeyHint, pb.AttrLocalDiffer:
			continue // how a daemon would transfer the files
		default:
			return nil, unknownAttribute("local", attr)
		}
		if err := json.Unmarshal([]byte(value), list); err != nil {
			return nil, fmt.Errorf("attribute %s of local source %q: %w", attr, name, err)
		}
	}
	if _, ok := w.opt.Locals[name]; !ok {
		return nil, fmt.Errorf("no directory is given for the local source %q", name)
	}
	return o, nil
}

// contextFact names the fact that stands for the files of a local source.
const contextFact = "context"

// Key implements solver.Op: the content of the selected files.
func (o *localOp) Key(ctx context.Context) (solver.Key, error) {
	m, err := localsource.Scan(ctx, o.w.opt.Locals[o.name], o.sel)
	if err != nil {
		return solver.Key{}, err
	}
	if err := m.Save(o.w.opt.ContextDir); err != nil {
		return solver.Key{}, fmt.Errorf("keep the list of files: %w", err)
	}
	o.manifest = m
	d := m.Digest()
	return solver.Key{
		Digest: keyOf("local", d.String()),
		Facts:  []solver.Fact{{Name: contextFact, Value: d.String()}},
	}, nil
}

// Explain implements solver.Explainer: the files that differ.
func (o *localOp) Explain(_ context.Context, fact, before, after string) ([]string, error) {
	if fact != contextFact {
		return nil, nil
	}
	old, err := localsource.Load(o.w.opt.ContextDir, digest.Digest(before))
	if err != nil {
		return nil, nil // not known any more
	}
	cur, err := localsource.Load(o.w.opt.ContextDir, digest.Digest(after))
	if err != nil {
		return nil, nil
	}
	var details []string
	for _, c := range localsource.Diff(old, cur) {
		line := fmt.Sprintf("file %s %s", c.Path, c.Kind)
		if c.What != "" {
			line += " (" + c.What + ")"
		}
		details = append(details, line)
	}
	return details, nil
}

// Run implements solver.Op: nothing is read until a step needs it.
func (o *localOp) Run(context.Context, []solver.Result, solver.Progress) ([]solver.Result, error) {
	return []solver.Result{&Result{files: o.manifest, unnamed: o.w.opt.Store.IsTemp(o.manifest.Dir())}}, nil
}

// gitOp is a commit of a git repository.
type gitOp struct {
	noInputs
	w        *Worker
	src      *gitsource.Source
	resolved gitsource.Resolved
}

// Key implements solver.Op.
func (o *gitOp) Key(ctx context.Context) (solver.Key, error) {
	r, err := o.w.opt.Git.Resolve(ctx, o.src)
	if err != nil {
		return solver.Key{}, err
	}
	o.resolved = r
	return solver.Key{
		Digest: keyOf("git", o.src.Key(r)),
		Facts:  []solver.Fact{{Name: "commit", Value: r.Commit}, {Name: "repository", Value: o.src.String()}},
	}, nil
}

// Run implements solver.Op.
func (o *gitOp) Run(ctx context.Context, _ []solver.Result, _ solver.Progress) ([]solver.Result, error) {
	id, err := o.w.rawLayer(ctx, func(dir string) error {
		return o.w.opt.Git.Fetch(ctx, o.src, o.resolved, dir)
	})
	if err != nil {
		return nil, err
	}
	return []solver.Result{&Result{Layers: []string{id}}}, nil
}

// httpOp is a file behind a URL.
type httpOp struct {
	noInputs
	w        *Worker
	src      *httpsource.Source
	resolved httpsource.Resolved
}

// Key implements solver.Op.
func (o *httpOp) Key(ctx context.Context) (solver.Key, error) {
	r, err := o.w.opt.HTTP.Resolve(ctx, o.src)
	if err != nil {
		return solver.Key{}, err
	}
	o.resolved = r
	return solver.Key{
		Digest: keyOf("http", o.src.Key(r).String()),
		Facts:  []solver.Fact{{Name: "content", Value: r.Digest.String()}, {Name: "url", Value: o.src.String()}},
	}, nil
}

// Run implements solver.Op.
func (o *httpOp) Run(ctx context.Context, _ []solver.Result, _ solver.Progress) ([]solver.Result, error) {
	id, err := o.w.rawLayer(ctx, func(dir string) error {
		return fillDirectory(dir, func(root *rootfs.Root) error {
			return o.w.opt.HTTP.Fetch(ctx, o.src, o.resolved, root)
		})
	})
	if err != nil {
		return nil, err
	}
	return []solver.Result{&Result{Layers: []string{id}}}, nil
}
