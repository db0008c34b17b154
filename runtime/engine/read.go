package engine

import (
	"context"
	"errors"
	"sync"

	"github.com/moby/buildkit/solver/pb"
	digest "github.com/opencontainers/go-digest"

	"github.com/strata-build/strata/solver"
)

// Reader reads files of what definitions make: the Dockerfile of a context
// that is a git repository, an archive, or a download. Each definition is
// solved once, and what it made is kept from collection until Close, so that
// the build finds it.
type Reader struct {
	e   *Engine
	req Request

	mu     sync.Mutex
	solved map[digest.Digest]*solved
}

// solved is a definition with what it made.
type solved struct {
	*build
	result solver.Result
}

// NewReader returns a reader. Of the request it takes the sources (Locals,
// Layouts, Meta) and what gives access to them (Secrets, Agents).
func (e *Engine) NewReader(req Request) *Reader {
	req.Outputs, req.Status, req.NoCache = nil, nil, nil
	return &Reader{e: e, req: req, solved: map[digest.Digest]*solved{}}
}

// AddLocal gives a directory to the local sources of definitions.
func (r *Reader) AddLocal(name, dir string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.req.Locals == nil {
		r.req.Locals = map[string]string{}
	}
	r.req.Locals[name] = dir
}

// maxRead bounds a file that is read: that of a Dockerfile's front end.
const maxRead = 16 << 20

// Make makes what a definition describes, if that is not done.
func (r *Reader) Make(ctx context.Context, def *pb.Definition) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	_, err := r.solve(ctx, def)
	return err
}

// ReadFile reads a file of what a definition makes; fs.ErrNotExist when there
// is none.
func (r *Reader) ReadFile(ctx context.Context, def *pb.Definition, name string) ([]byte, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s, err := r.solve(ctx, def)
	if err != nil {
		return nil, err
	}
	return s.worker.ReadFile(ctx, s.result, name, maxRead)
}

func (r *Reader) solve(ctx context.Context, def *pb.Definition) (*solved, error) {
	if len(def.GetDef()) == 0 {
		return nil, errors.New("read a file of nothing")
	}
	key := digest.FromBytes(def.Def[len(def.Def)-1])
	if s, ok := r.solved[key]; ok {
		return s, nil
	}
	req := r.req
	req.Targets = []Target{{Definition: def}}
	b, err := r.e.newBuild(ctx, req)
	if err != nil {
		return nil, err
	}
	out, err := solver.New(b.worker, r.e.Records()).Solve(ctx, solver.Request{
		Graph: b.graph, Targets: []solver.Target{{Edge: b.edges[0]}}, Jobs: req.Jobs,
	})
	if err != nil {
		// The sources say themselves what they were to fetch.
		var failed *solver.VertexError
		if errors.As(err, &failed) {
			err = failed.Err
		}
		return nil, errors.Join(err, b.close())
	}
	s := &solved{build: b, result: out.Results[0]}
	r.solved[key] = s
	return s, nil
}

// Close lets what was read be collected.
func (r *Reader) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	var errs []error
	for _, s := range r.solved {
		errs = append(errs, s.close())
	}
	r.solved = nil
	return errors.Join(errs...)
}
