package dockerfilecompat

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"

	"github.com/containerd/platforms"
	"github.com/moby/buildkit/frontend/dockerfile/dockerfile2llb"
	"github.com/moby/buildkit/frontend/dockerui"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/strata-build/strata/compiler"
)

// Request is a Dockerfile with its surroundings.
type Request struct {
	// Filename is the Dockerfile as the user named it, for messages. Dir is
	// the directory that holds it; Text is its content where it is no file.
	// Without both it is a file of the context.
	Filename string
	Dir      string
	Text     []byte
	// Context is the directory of the build context. URL is set instead where
	// it is a git repository, or an archive or a Dockerfile behind http;
	// Archive where it is a file of this machine to be unpacked.
	Context string
	URL     string
	Archive string
	// Contexts are further build contexts by name, as docker writes them:
	// a directory, docker-image://…, oci-layout://…, a URL, and target:… for
	// another stage of the same Dockerfile.
	Contexts map[string]string

	Target    string
	Platforms []ocispecs.Platform
	// Options are those of the compilation: arguments, labels, limits.
	Options compiler.Options
	Remote  Remote
}

// Result is a compiled Dockerfile.
type Result struct {
	Targets  []compiler.Target
	Warnings []Warning
}

// Compile turns a Dockerfile into LLB and image configs, one per platform. The
// warnings up to there come with an error too, if the Dockerfile was read:
// `# check=error=true` makes one of them.
func Compile(ctx context.Context, req Request) (*Result, error) {
	s, err := open(ctx, req)
	if err != nil {
		return nil, err
	}
	targets, err := s.compile(ctx, req.Target)
	return &Result{Targets: targets, Warnings: s.g.warnings}, err
}

// session is a Dockerfile that was read, and what is needed to compile it.
type session struct {
	req Request
	g   *gateway
	bc  *dockerui.Client
	src *dockerui.Source
}

// open reads the Dockerfile of a request.
func open(ctx context.Context, req Request) (*session, error) {
	if req.Filename == "" {
		req.Filename = dockerui.DefaultDockerfileName
	}
	g, err := newGateway(req)
	if err != nil {
		return nil, err
	}
	bc, err := dockerui.NewClient(contextGateway{g})
	if err != nil {
		return nil, err
	}
	src, err := bc.ReadEntrypoint(ctx, "Dockerfile")
	if err != nil {
		return nil, openError(req, err)
	}
	src.SourceMap.Filename = req.Filename
	if err := checkSyntax(src.Data, req.Filename, bc.BuildArgs); err != nil {
		return nil, err
	}
	return &session{req: req, g: g, bc: bc, src: src}, nil
}

// openError says why the Dockerfile cannot be read.
func openError(req Request, err error) error {
	elsewhere := req.Dir == "" && req.Text == nil
	where := cmp.Or(req.URL, "-")
	var whole *contextError
	if errors.As(err, &whole) {
		return fmt.Errorf("build context %s: %w", where, whole.error)
	}
	if errors.Is(err, fs.ErrNotExist) && elsewhere {
		return fmt.Errorf("the build context %s has no file %s: name the Dockerfile with -f (%w)", where, req.Filename, fs.ErrNotExist)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("there is no file %s: name the Dockerfile with -f (%w)", req.Filename, fs.ErrNotExist)
	}
	var file *readError
	if errors.As(err, &file) {
		err = file.error
	}
	return fmt.Errorf("read %s: %w", req.Filename, err)
}

// compile compiles one stage, "" being the last, for each platform.
func (s *session) compile(ctx context.Context, target string) ([]compiler.Target, error) {
	wanted := s.bc.TargetPlatforms
	if len(wanted) == 0 {
		wanted = []ocispecs.Platform{{}}
	}
	var list []compiler.Target
	for i, p := range wanted {
		platform := &p
		if p.OS == "" {
			platform = nil
		}
		if err := s.resolveTargets(ctx, platform); err != nil {
			return nil, err
		}
		opt := s.options(target, platform)
		if i == 0 {
			opt.Warn = s.g.lint(s.req.Filename)
		}
		t, err := s.convert(ctx, opt)
		if err != nil {
			return nil, sourceError(s.req.Filename, s.src.Data, err)
		}
		t.Name, t.Pos.File = target, s.req.Filename
		t.Locals, t.Stores = s.g.sources()
		list = append(list, t)
	}
	return list, nil
}

// options are those of one call of dockerfile2llb, which changes the
// arguments that it is given.
func (s *session) options(target string, platform *ocispecs.Platform) dockerfile2llb.ConvertOpt {
	opt := dockerfile2llb.ConvertOpt{
		Config: s.bc.Config, Client: s.bc, SourceMap: s.src.SourceMap, MetaResolver: s.g, TargetPlatform: platform,
	}
	opt.Target = target
	opt.BuildArgs = maps.Clone(opt.BuildArgs)
	opt.Devices, opt.LinuxResources = s.req.Options.Devices, s.req.Options.Resources
	return opt
}

// convert runs dockerfile2llb once. It panics at a trigger of a base image
// that has a `# check=` comment above it (v0.33.1), which is bad input.
func (s *session) convert(ctx context.Context, opt dockerfile2llb.ConvertOpt) (t compiler.Target, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("the Dockerfile front end cannot read this: %v", r)
		}
	}()
	df, err := dockerfile2llb.Dockerfile2LLB(ctx, s.src.Data, opt)
	if err != nil {
		return compiler.Target{}, err
	}
	def, err := df.State.Marshal(ctx)
	if err != nil {
		return compiler.Target{}, fmt.Errorf("marshal definition: %w", err)
	}
	t = compiler.Target{Definition: def.ToPB()}
	if t.Config, err = json.Marshal(df.Image); err != nil {
		return compiler.Target{}, fmt.Errorf("marshal image config: %w", err)
	}
	if df.BaseImage != nil {
		if t.BaseConfig, err = json.Marshal(df.BaseImage); err != nil {
			return compiler.Target{}, fmt.Errorf("marshal base image config: %w", err)
		}
	}
	t.Platform = platforms.Normalize(ocispecs.Platform{OS: df.Image.OS, Architecture: df.Image.Architecture, Variant: df.Image.Variant})
	return t, nil
}
