package solver

import (
	"context"
	"fmt"
	"time"

	"github.com/moby/buildkit/client"
)

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
// which joins the VertexError of each failed vertex, the first first, or is
// the context's.
func (s *Solver) Solve(ctx context.Context, req Request) (*Outcome, error) {
	return &Outcome{Report: &Report{}}, ctx.Err()
}
