package dockerfilecompat

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
	"sync"
	"syscall"

	"github.com/containerd/platforms"
	"github.com/distribution/reference"
	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/client/llb/sourceresolver"
	"github.com/moby/buildkit/frontend/dockerui"
	"github.com/moby/buildkit/frontend/gateway/client"
	gwpb "github.com/moby/buildkit/frontend/gateway/pb"
	"github.com/moby/buildkit/solver/pb"
	"github.com/moby/buildkit/util/apicaps"
	digest "github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"
	fstypes "github.com/tonistiigi/fsutil/types"

	"github.com/strata-build/strata/compiler"
)

// Remote reads files of contexts that are not on this machine.
type Remote interface {
	// Make makes what a definition (a git or http source) describes, if that
	// is not done.
	Make(ctx context.Context, def *pb.Definition) error
	// ReadFile returns a file of it; fs.ErrNotExist when there is none.
	ReadFile(ctx context.Context, def *pb.Definition, name string) ([]byte, error)
}

// gateway answers what BuildKit's Dockerfile packages ask of their daemon.
type gateway struct {
	opts    map[string]string
	meta    llb.ImageMetaResolver
	layouts compiler.Layouts
	build   ocispecs.Platform
	locals  map[string]string    // directories by the name of the local source
	texts   map[string][]byte    // files that are given in place, by name
	stores  map[string]string    // OCI layouts by the name of the store
	targets map[string]string    // stages by the name of the context that they are
	inputs  map[string]llb.State // the same, compiled
	remote  Remote

	mu       sync.Mutex
	warnings []Warning
}

var _ client.Client = (*gateway)(nil)

// maxFile bounds what is read of a Dockerfile or an ignore file.
const maxFile = 16 << 20

// BuildOpts implements client.Client.
func (g *gateway) BuildOpts() client.BuildOpts {
	all := pb.Caps.CapSet(pb.Caps.All())
	worker := client.WorkerInfo{Platforms: []ocispecs.Platform{g.buildPlatform()}}
	var caps []*apicaps.PBCap
	if _, ok := g.inputs[dockerui.DefaultLocalNameContext]; ok {
		caps = gwpb.Caps.All() // that of inputs is the only one that is asked for
	}
	return client.BuildOpts{
		Opts: g.opts, LLBCaps: all, Caps: gwpb.Caps.CapSet(caps), Product: "strata",
		Workers: []client.WorkerInfo{worker},
	}
}

// buildPlatform is where the steps of the build run.
func (g *gateway) buildPlatform() ocispecs.Platform {
	if g.build.OS == "" {
		return platforms.Normalize(platforms.DefaultSpec())
	}
	return platforms.Normalize(g.build)
}

// Solve implements client.Client for the only kind of request that the
// Dockerfile packages make: the files of one source.
func (g *gateway) Solve(_ context.Context, req client.SolveRequest) (*client.Result, error) {
	if req.Definition == nil {
		return nil, errors.New("a front end other than the built-in one is not supported")
	}
	name, err := localName(req.Definition)
	if err != nil {
		return nil, err
	}
	res := client.NewResult()
	res.SetRef(&sourceFiles{g: g, def: req.Definition, local: name})
	return res, nil
}

// localName returns the name of the local source that a definition is, or ""
// for a definition of another kind.
func localName(def *pb.Definition) (string, error) {
	name := ""
	for _, data := range def.Def {
		var op pb.Op
		if err := op.UnmarshalVT(data); err != nil {
			return "", fmt.Errorf("read definition: %w", err)
		}
		if op.Op == nil {
			continue // the last one, which names the result
		}
		local, ok := strings.CutPrefix(op.GetSource().GetIdentifier(), "local://")
		if !ok {
			return "", nil
		}
		name = local
	}
	return name, nil
}

// ResolveImageConfig implements client.Client.
func (g *gateway) ResolveImageConfig(ctx context.Context, ref string, opt sourceresolver.Opt) (string, digest.Digest, []byte, error) {
	if layout := opt.OCILayoutOpt; layout != nil {
		return g.resolveLayout(ctx, ref, layout)
	}
	if g.meta == nil {
		return "", "", nil, fmt.Errorf("the image %s cannot be looked up here", ref)
	}
	return g.meta.ResolveImageConfig(ctx, ref, opt)
}

// contextGateway is the gateway for images that are named contexts. Of a FROM
// dockerfile2llb says which image an error is about; of these, nobody else does.
type contextGateway struct{ *gateway }

// ResolveImageConfig implements client.Client.
func (g contextGateway) ResolveImageConfig(ctx context.Context, ref string, opt sourceresolver.Opt) (string, digest.Digest, []byte, error) {
	found, dgst, config, err := g.gateway.ResolveImageConfig(ctx, ref, opt)
	if named, parseErr := reference.ParseNormalizedNamed(ref); err != nil && parseErr == nil && opt.OCILayoutOpt == nil {
		err = fmt.Errorf("resolve %s: %w", reference.FamiliarString(named), err)
	}
	return found, dgst, config, err
}

// resolveLayout reads the config of an image in an OCI layout.
func (g *gateway) resolveLayout(ctx context.Context, ref string, opt *sourceresolver.ResolveOCILayoutOpt) (string, digest.Digest, []byte, error) {
	named, err := reference.ParseNormalizedNamed(ref)
	if err != nil {
		return "", "", nil, err
	}
	want, ok := named.(reference.Digested)
	store := path.Base(opt.Store.StoreID)
	if !ok || g.layouts == nil || g.stores[store] == "" {
		return "", "", nil, fmt.Errorf("the OCI layout of %s cannot be read here", ref)
	}
	platform := g.buildPlatform()
	if opt.Platform != nil {
		platform = *opt.Platform
	}
	dgst, config, err := g.layouts.Image(ctx, g.stores[store], want.Digest().String(), platform)
	return ref, dgst, config, err
}

// ResolveSourceMetadata implements sourceresolver.MetaResolver.
func (g *gateway) ResolveSourceMetadata(_ context.Context, op *pb.SourceOp, _ sourceresolver.Opt) (*sourceresolver.MetaResponse, error) {
	return nil, fmt.Errorf("the date of the source %s cannot be asked for: give SOURCE_DATE_EPOCH as a number", op.Identifier)
}

// Inputs implements client.Client.
func (g *gateway) Inputs(context.Context) (map[string]llb.State, error) { return g.inputs, nil }

// NewContainer implements client.Client.
func (g *gateway) NewContainer(context.Context, client.NewContainerRequest) (client.Container, error) {
	return nil, errors.New("containers of a front end are not supported")
}

// Warn implements client.Client.
func (g *gateway) Warn(_ context.Context, _ digest.Digest, message string, opts client.WarnOpts) error {
	w := Warning{Message: message, URL: opts.URL}
	if opts.SourceInfo != nil {
		w.File = opts.SourceInfo.Filename
	}
	if len(opts.Range) > 0 {
		w.Line = int(opts.Range[0].Start.Line)
	}
	for _, d := range opts.Detail {
		w.Detail = append(w.Detail, string(d))
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.warnings = append(g.warnings, w)
	return nil
}

// sourceFiles is the files of one source.
type sourceFiles struct {
	g     *gateway
	def   *pb.Definition
	local string
}

var _ client.Reference = (*sourceFiles)(nil)

// ToState implements client.Reference.
func (r *sourceFiles) ToState() (llb.State, error) {
	op, err := llb.NewDefinitionOp(r.def)
	if err != nil {
		return llb.State{}, err
	}
	return llb.NewState(op), nil
}

// Evaluate implements client.Reference: nothing has to run for a file.
func (r *sourceFiles) Evaluate(context.Context) error { return nil }

// ReadFile implements client.Reference.
func (r *sourceFiles) ReadFile(ctx context.Context, req client.ReadRequest) ([]byte, error) {
	data, err := r.read(ctx, req.Filename)
	if err != nil || req.Range == nil {
		return data, err
	}
	start := min(max(req.Range.Offset, 0), len(data))
	end := len(data)
	if req.Range.Length > 0 {
		end = min(start+req.Range.Length, len(data))
	}
	return data[start:end], nil
}

func (r *sourceFiles) read(ctx context.Context, name string) ([]byte, error) {
	if r.local == "" {
		if r.g.remote == nil {
			return nil, errors.New("a context that is not on this machine cannot be read here")
		}
		if err := r.g.remote.Make(ctx, r.def); err != nil {
			return nil, &contextError{err}
		}
		return r.g.remote.ReadFile(ctx, r.def, name)
	}
	if text, ok := r.g.texts[r.local+"/"+name]; ok {
		return text, nil
	}
	dir, ok := r.g.locals[r.local]
	if !ok {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	data, err := readBelow(dir, name)
	if err != nil {
		err = &readError{err}
	}
	return data, err
}

// BuildKit's packages put words around errors of files that add nothing for
// whoever named the file. These types find the beginning again.
type (
	// contextError is trouble with a context as a whole.
	contextError struct{ error }
	// readError is trouble with one file.
	readError struct{ error }
)

// Unwrap returns the cause.
func (e *contextError) Unwrap() error { return e.error }

// Unwrap returns the cause.
func (e *readError) Unwrap() error { return e.error }

// ownIgnoreFile reports whether the Dockerfile has an ignore file of its own,
// <Dockerfile>.dockerignore.
func (g *gateway) ownIgnoreFile() bool {
	dir, ok := g.locals[dockerui.DefaultLocalNameDockerfile]
	if !ok {
		return false
	}
	_, err := readBelow(dir, g.opts["filename"]+".dockerignore")
	return err == nil
}

// readBelow reads a file below a directory, which no link leaves: to links the
// directory is the root, as it is to BuildKit.
func readBelow(dir, name string) ([]byte, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	inside, err := followBelow(root, name)
	if err != nil {
		return nil, err
	}
	f, err := root.OpenFile(inside, os.O_RDONLY|syscall.O_NONBLOCK, 0) // a pipe is no reason to wait
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is no regular file", name)
	}
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(data) > maxFile {
		return nil, fmt.Errorf("%s is larger than %d bytes", name, maxFile)
	}
	return data, err
}

// maxLinks is how many links one path may lead through, as in the kernel.
const maxLinks = 40

// followBelow follows the links of a path. A race with who changes them ends
// in an error: the result is opened below root.
func followBelow(root *os.Root, name string) (string, error) {
	done, rest := ".", strings.Split(path.Join("/", name), "/")
	for links := 0; len(rest) > 0; {
		next := strings.TrimPrefix(path.Join("/", done, rest[0]), "/")
		next, rest = cmp.Or(next, "."), rest[1:]
		info, err := root.Lstat(next)
		if err != nil {
			return "", err
		}
		if info.Mode()&fs.ModeSymlink == 0 {
			done = next
			continue
		}
		if links++; links > maxLinks {
			return "", &fs.PathError{Op: "open", Path: name, Err: syscall.ELOOP}
		}
		target, err := root.Readlink(next)
		if err != nil {
			return "", err
		}
		if path.IsAbs(target) {
			done = "."
		}
		rest = append(strings.Split(target, "/"), rest...)
	}
	return done, nil
}

// StatFile implements client.Reference.
func (r *sourceFiles) StatFile(ctx context.Context, req client.StatRequest) (*fstypes.Stat, error) {
	data, err := r.read(ctx, req.Path)
	if err != nil {
		return nil, err
	}
	return &fstypes.Stat{Path: req.Path, Size: int64(len(data)), Mode: 0o644}, nil
}

// ReadDir implements client.Reference.
func (r *sourceFiles) ReadDir(context.Context, client.ReadDirRequest) ([]*fstypes.Stat, error) {
	return nil, errors.New("directories of a context are not listed")
}
