package solver

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"time"

	"github.com/moby/buildkit/client"
)

// eventsAhead is how many events may wait for the loop before work waits too.
const eventsAhead = 128

// Solver builds graphs with one worker and one set of records. It has no state
// of its own: any number of solvers, in any number of processes, share records.
type Solver struct {
	worker  Worker
	records Records
}

// New returns a Solver.
func New(w Worker, r Records) *Solver {
	return &Solver{worker: w, records: r}
}

// Request is one build.
type Request struct {
	Graph   *Graph
	Targets []Target
	// Jobs is how many ops run at the same time; below 1: as many as the
	// process may use processors.
	Jobs int
	// NoCache forces a vertex to run, as IgnoreCache in its metadata does.
	NoCache func(*Vertex) bool
	// Cost estimates how long a vertex takes. Without it the durations of the
	// targets' last builds are used.
	Cost func(*Vertex) time.Duration
	// Status takes the progress, for BuildKit's progressui. Solve neither
	// closes it nor sends on it after it returned. Nil: no progress.
	Status chan<- *client.SolveStatus
}

// Target is an edge whose result is wanted.
type Target struct {
	// Name is the name under which `why` finds the build; it tells platforms
	// apart. An empty name leaves no build record.
	Name string
	Edge Edge
}

// Outcome is what Solve leaves.
type Outcome struct {
	// Results has one entry per target, in order: nil when the target is
	// scratch or could not be built.
	Results []Result
	// Report tells of every vertex what became of it, and why.
	Report *Report
}

// VertexError is a failure of one vertex.
type VertexError struct {
	Vertex *Vertex
	Err    error
}

// Error names the vertex and what went wrong.
func (e *VertexError) Error() string { return fmt.Sprintf("%s: %v", e.Vertex.Name, e.Err) }

// Unwrap returns the cause.
func (e *VertexError) Unwrap() error { return e.Err }

// Solve builds the targets. The outcome is there even when there is an error,
// which joins the VertexError of each failed vertex, the first first, and the
// cause of the context's end.
func (s *Solver) Solve(ctx context.Context, req Request) (*Outcome, error) {
	p, err := s.plan(ctx, req)
	if err != nil {
		return &Outcome{Results: make([]Result, len(req.Targets)), Report: &Report{}}, err
	}
	defer p.display.close()
	p.announce()
	p.open()
	p.loop()
	outcome := p.outcome()
	if err := context.Cause(ctx); err != nil {
		return outcome, errors.Join(append(p.errs, err)...)
	}
	p.errs = append(p.errs, p.recordBuilds()...)
	return outcome, errors.Join(p.errs...)
}

// plan prepares a build, or refuses it before anything of it ran.
func (s *Solver) plan(ctx context.Context, req Request) (*plan, error) {
	if req.Graph == nil {
		req.Graph = &Graph{}
	}
	jobs := req.Jobs
	if jobs < 1 {
		jobs = runtime.GOMAXPROCS(0)
	}
	p := &plan{
		Solver:    s,
		ctx:       ctx,
		keep:      context.WithoutCancel(ctx),
		req:       req,
		nodes:     make([]node, req.Graph.Len()),
		byKey:     map[identity]*node{},
		slots:     jobs,
		saveable:  jobs + 1, // so that a single job goes on, too
		events:    make(chan func(), eventsAhead),
		recorders: max(1, jobs/2),
	}
	for _, t := range req.Targets {
		if !t.Edge.Scratch() && (!req.Graph.has(t.Edge.Vertex) || t.Edge.Output < 0) {
			return nil, fmt.Errorf("target %q is not in the graph", t.Name)
		}
		p.addTarget(t)
	}
	if err := p.ops(); err != nil {
		return nil, err
	}
	p.display = newDisplay(ctx, req.Status)
	return p, nil
}

// ops gets the op of every vertex, which refuses what is not supported.
func (p *plan) ops() error {
	var errs []error
	for i := range p.nodes {
		n := &p.nodes[i]
		if n.v == nil {
			continue
		}
		op, err := p.worker.Op(n.v)
		if err != nil {
			errs = append(errs, &VertexError{Vertex: n.v, Err: err})
		}
		n.op = op
		n.forced = n.v.Meta.IgnoreCache || p.req.NoCache != nil && p.req.NoCache(n.v)
	}
	return errors.Join(errs...)
}

// outcome collects the results of the targets, and the report.
func (p *plan) outcome() *Outcome {
	out := &Outcome{Results: make([]Result, len(p.targets))}
	for i, t := range p.targets {
		if t.node == nil {
			continue
		}
		if t.node.actual().state != done {
			continue
		}
		result, err := t.node.output(t.Edge.Output)
		if err != nil {
			p.errs = append(p.errs, fmt.Errorf("target %q: %w", t.Name, err))
		}
		out.Results[i] = result
	}
	out.Report = p.report()
	return out
}
