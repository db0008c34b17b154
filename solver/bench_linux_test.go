package solver_test

import (
	"context"
	"encoding/json"
	"fmt"
	"syscall"
	"testing"

	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/solver/pb"
	digest "github.com/opencontainers/go-digest"
	"github.com/strata-build/strata/solver"
	"github.com/strata-build/strata/solver/solvertest"
)

// cheap is a Worker whose ops do nothing, so that what is measured is the
// solver.
type cheap struct{}

type cheapOp struct{ v *solver.Vertex }

func (cheap) Op(v *solver.Vertex) (solver.Op, error) { return cheapOp{v}, nil }

func (cheap) Encode(_ context.Context, results []solver.Result) ([]byte, []string, error) {
	data, err := json.Marshal(results)
	return data, nil, err
}

func (cheap) Decode(_ context.Context, data []byte) ([]solver.Result, bool, error) {
	return []solver.Result{string(data), string(data)}, true, nil
}

func (o cheapOp) Key(context.Context) (solver.Key, error) {
	return solver.Key{Digest: o.v.Digest, Facts: []solver.Fact{
		{Name: "command", Value: o.v.Name},
		{Name: "env PATH", Value: "/usr/bin:/bin"},
	}}, nil
}

func (o cheapOp) InputKey(_ context.Context, i int, _ solver.Result) (digest.Digest, error) {
	return o.v.Inputs[i].Vertex.Digest, nil
}

func (o cheapOp) Run(context.Context, []solver.Result, solver.Progress) ([]solver.Result, error) {
	return []solver.Result{o.v.Name, o.v.Name}, nil
}

// lattice is a graph of n vertices, w side by side, each with two inputs.
func lattice(n, w int) *pb.Definition {
	g := &llbWriter{}
	row := make([]ref, w)
	for i := range row {
		row[i] = g.source(fmt.Sprint("source", i))
	}
	for made := w; made < n-1; made += w {
		next := make([]ref, w)
		for i := range next {
			next[i] = g.exec(fmt.Sprint("step", made+i), row[i], row[(i+1)%w])
		}
		row = next
	}
	return g.target(g.exec("top", row...))
}

var sizes = []int{1000, 10000, 40000}

// measure runs fn and reports what it costs per vertex: the time that passed,
// and that of processors, which a busy machine does not blur.
func measure(b *testing.B, vertices int, fn func()) {
	before := processorTime(b)
	for b.Loop() {
		fn()
	}
	total := float64(b.N) * float64(vertices)
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/total, "ns/vertex")
	b.ReportMetric(float64(processorTime(b)-before)/total, "cpu-ns/vertex")
}

func processorTime(b *testing.B) int64 {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		b.Fatal(err)
	}
	return usage.Utime.Nano() + usage.Stime.Nano()
}

func BenchmarkLoad(b *testing.B) {
	for _, n := range sizes {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			def := lattice(n, 100)
			measure(b, n, func() {
				if _, _, err := solver.Load(def); err != nil {
					b.Fatal(err)
				}
			})
		})
	}
}

// BenchmarkSolve builds everything, everything with progress, nothing, and
// everything that has a changed source below it.
func BenchmarkSolve(b *testing.B) {
	for _, n := range sizes {
		b.Run(fmt.Sprint("cold/", n), func(b *testing.B) {
			req := request(b, n)
			measure(b, n, func() { solve(b, &solvertest.Records{}, req) })
		})
		b.Run(fmt.Sprint("shown/", n), func(b *testing.B) {
			req := request(b, n)
			status := make(chan *client.SolveStatus, 16)
			req.Status = status
			go func() {
				for range status {
				}
			}()
			measure(b, n, func() { solve(b, &solvertest.Records{}, req) })
			close(status)
		})
		b.Run(fmt.Sprint("cached/", n), func(b *testing.B) {
			req, records := request(b, n), &solvertest.Records{}
			solve(b, records, req)
			measure(b, n, func() { solve(b, records, req) })
		})
		b.Run(fmt.Sprint("forced/", n), func(b *testing.B) {
			req, records := request(b, n), &solvertest.Records{}
			solve(b, records, req)
			req.NoCache = func(v *solver.Vertex) bool { return v.Op.GetSource() != nil }
			measure(b, n, func() { solve(b, records, req) })
		})
	}
}

func request(b *testing.B, n int) solver.Request {
	g, edges, err := solver.Load(lattice(n, 100))
	if err != nil {
		b.Fatal(err)
	}
	return solver.Request{Graph: g, Jobs: 4, Targets: []solver.Target{{Name: "app", Edge: edges[0]}}}
}

func solve(b *testing.B, records solver.Records, req solver.Request) {
	if _, err := solver.New(cheap{}, records).Solve(b.Context(), req); err != nil {
		b.Fatal(err)
	}
}
