package schema

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
)

// LoadOptions say what to load.
type LoadOptions struct {
	// Args are .cue files, package directories ("./api", "./api:pkg") and
	// patterns ("./..."); none is the package in Dir. Files are unified, as
	// with the cue command.
	Args []string
	// Dir is the working directory: Args and the file names in messages are
	// relative to it. "" is the process's.
	Dir string
	// Tags set @tag fields: "name=value"; a bare "name" is for @if files and
	// short forms.
	Tags []string
	// BuildArgs are values of those @tag fields that there are, and that Tags
	// do not set. A name that no field has is no mistake.
	BuildArgs map[string]string
	// Targets are the images to decode; none is every image. A target is
	//   api                     an image's name
	//   ./services/api:api      the image of one package, for a name that
	//                           several packages have
	//   api.stages.build        a stage, by the CUE path below the image
	Targets []string
	// Overlay gives the contents of files by absolute path, in place of
	// those on the disk or besides them.
	Overlay map[string][]byte
	// Env is the environment in which CUE looks for its module registry; nil
	// is the process's.
	Env []string
}

// Load evaluates the CUE that opts name and decodes the requested images.
// A user's mistake is an *Error or Errors; both have Render.
func Load(ctx context.Context, opts LoadOptions) (_ *Spec, err error) {
	defer recoverPanic(&err)
	s, err := newSession(opts)
	if err != nil {
		return nil, err
	}
	s.takeBuildArgs()
	fast, err := s.evaluate(ctx, hollowSchema)
	if err == nil {
		spec, err := s.spec(ctx, fast)
		if err == nil || fast.schema == realSchema || !fast.importsSchema() || ctx.Err() != nil {
			return spec, err
		}
		return s.retry(ctx, err)
	}
	return nil, err
}

// retry loads with the real schema after the hollow one gave cause. When
// that fails as well, cause is the better message: it is about the user's
// files alone.
func (s *session) retry(ctx context.Context, cause error) (*Spec, error) {
	p, err := s.evaluate(ctx, realSchema)
	if err != nil {
		return nil, cause
	}
	spec, err := s.spec(ctx, p)
	if err != nil {
		return nil, cause
	}
	return spec, nil
}

// spec decodes the requested images of an evaluated program.
func (s *session) spec(ctx context.Context, p *program) (*Spec, error) {
	wanted, err := p.selectTargets(ctx, s.opts.Targets)
	if err != nil {
		return nil, err
	}
	return s.decode(ctx, p, wanted)
}

// decode decodes targets, and checks what is beside them in their packages.
func (s *session) decode(ctx context.Context, p *program, wanted []target) (*Spec, error) {
	d := newDecoder(p)
	spec := &Spec{}
	for _, w := range wanted {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if img := d.requested(w); img != nil && !slices.Contains(spec.Images, img) {
			spec.Images = append(spec.Images, img)
		}
	}
	d.assertions(wanted)
	if err := d.errs.sorted(); err != nil {
		return nil, err
	}
	spec.inputs = p.inputs(d)
	return spec, nil
}

// Names lists the targets that opts name without decoding them, as Targets
// takes them: qualified where several packages have the name.
func Names(ctx context.Context, opts LoadOptions) (names []string, err error) {
	defer recoverPanic(&err)
	s, err := newSession(opts)
	if err != nil {
		return nil, err
	}
	p, err := s.evaluate(ctx, hollowSchema)
	if err != nil {
		return nil, err
	}
	all, err := p.declared(ctx, nil)
	if err != nil {
		return nil, err
	}
	for _, t := range all {
		names = append(names, p.shortest(t, all))
	}
	return names, nil
}

// errInternal marks a panic of the evaluator.
var errInternal = errors.New("evaluate CUE")

// recoverPanic makes an error of a panic: CUE's evaluator has them for some
// invalid input, and a user's file must never crash the tool.
func recoverPanic(err *error) {
	if r := recover(); r != nil {
		*err = fmt.Errorf("%w: the evaluator panicked: %v", errInternal, r)
	}
}

// session is one load: its options, with the arguments resolved.
type session struct {
	opts   LoadOptions
	dir    string // absolute
	groups []*group
}

func newSession(opts LoadOptions) (*session, error) {
	dir := opts.Dir
	if dir == "" {
		dir = "."
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("resolve directory %s: %w", opts.Dir, err)
	}
	s := &session{opts: opts, dir: dir}
	args := opts.Args
	if len(args) == 0 {
		args = []string{"."}
	}
	for _, arg := range args {
		if err := s.addArgument(arg); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// readFile reads a file through the overlay.
func (s *session) readFile(name string) ([]byte, error) {
	if data, ok := s.opts.Overlay[name]; ok {
		return data, nil
	}
	return os.ReadFile(name)
}

// fileName is a file's name in messages: relative to the working directory
// where it is below it or near it.
func (s *session) fileName(abs string) string {
	rel, err := filepath.Rel(s.dir, abs)
	if err != nil || len(rel) >= len(abs) {
		return abs
	}
	return rel
}
