package solver_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/moby/buildkit/solver/pb"
	"github.com/strata-build/strata/solver"
)

// stack is the usual graph: top is made of mid, which is made of the sources
// base and src.
func stack() *pb.Definition {
	g := &llbWriter{}
	return g.target(g.exec("top", g.exec("mid", g.source("base"), g.source("src"))))
}

func TestHitByDefinition(t *testing.T) {
	b := newBench(t)
	out := b.build(stack(), "base", "mid", "src", "top")
	if out.Results[0] != "top[mid[base src]]" {
		t.Fatalf("result %q", out.Results[0])
	}
	out = b.build(stack())
	if out.Results[0] != "top[mid[base src]]" {
		t.Fatalf("result %q", out.Results[0])
	}
	reason(t, out, "top", solver.Cached, "unchanged")
	for _, name := range []string{"mid", "base", "src"} {
		reason(t, out, name, solver.Cached, "not needed, as what uses it was found")
	}
}

func TestHitBelowTheTopNeedsNoInput(t *testing.T) {
	b := newBench(t)
	b.build(stack(), "base", "mid", "src", "top")
	b.world.facts["top"] = []solver.Fact{{Name: "env A", Value: "1"}}
	out := b.build(stack(), "top")
	reason(t, out, "mid", solver.Cached, "unchanged")
	reason(t, out, "src", solver.Cached, "not needed, as what uses it was found")
}

func TestEarlyCutOff(t *testing.T) {
	b := newBench(t)
	g := &llbWriter{}
	def := g.target(g.exec("image", g.exec("last", g.exec("stage", g.source("src")))))
	b.world.makes["stage"] = "same bytes"
	b.build(def, "image", "last", "src", "stage")

	b.world.facts["src"] = []solver.Fact{{Name: "context", Value: "new"}}
	out := b.build(def, "src", "stage")
	reason(t, out, "last", solver.Cached, "its inputs changed, but not what it sees of them")
	reason(t, out, "image", solver.Cached, "its inputs changed, but not what it sees of them")

	// What was found by content is found by definition from then on.
	out = b.build(def)
	reason(t, out, "image", solver.Cached, "unchanged")
}

func TestContentIsWhatTheOpSees(t *testing.T) {
	b := newBench(t)
	b.world.sees["mid/src"] = "only src/go.mod"
	b.build(stack(), "base", "mid", "src", "top")
	b.world.facts["src"] = []solver.Fact{{Name: "context", Value: "new"}}
	b.build(stack(), "src")
}

func TestNoHashingWithoutRecordsOfTheOp(t *testing.T) {
	b := newBench(t)
	b.build(stack(), "base", "mid", "src", "top")

	// Both ops are new: nothing may be hashed before they have run.
	var ran atomic.Int32
	note := func(context.Context, solver.Progress) error { ran.Add(1); return nil }
	b.world.run["mid"], b.world.run["top"] = note, note
	b.world.hash = func(_ context.Context, what string) error {
		if name, _, _ := strings.Cut(what, "/"); name == "top" && ran.Load() < 2 || ran.Load() < 1 {
			return errors.New("hashed too early")
		}
		return nil
	}
	b.records.Fail = func(op, bucket, _ string) error {
		if op == "get" && bucket == solver.BucketContent {
			return errors.New("searched by content")
		}
		return nil
	}
	b.world.facts["mid"] = []solver.Fact{{Name: "env A", Value: "1"}}
	b.world.facts["top"] = []solver.Fact{{Name: "env A", Value: "1"}}
	b.build(stack(), "mid", "top")
}

func TestNoContentKey(t *testing.T) {
	b := newBench(t)
	b.world.sees["mid/src"] = "none"
	b.build(stack(), "base", "mid", "src", "top")
	if keys := b.records.Keys(solver.BucketContent); len(keys) != 1 {
		t.Errorf("%d content records, want that of top only", len(keys))
	}
	b.world.facts["src"] = []solver.Fact{{Name: "context", Value: "new"}}
	b.world.makes["src"] = "src"
	out := b.build(stack(), "mid", "src")
	reason(t, out, "mid", solver.Ran, `input "local://src" changed`)
	reason(t, out, "base", solver.Cached, "unchanged")
	reason(t, out, "top", solver.Cached, "its inputs changed, but not what it sees of them")
}

func TestResultsNotWorthARecord(t *testing.T) {
	b := newBench(t)
	b.world.plain["src"] = true
	b.build(stack(), "base", "mid", "src", "top")
	b.build(stack())
	b.world.facts["mid"] = []solver.Fact{{Name: "env A", Value: "1"}}
	b.build(stack(), "mid", "src", "top")
}

func TestOutputsAreKeptApart(t *testing.T) {
	b := newBench(t)
	g := &llbWriter{}
	stage := g.exec("stage", g.source("src"))
	out := b.build(g.target(g.exec("top", stage.out(1), stage)), "src", "stage", "top")
	if out.Results[0] != "top[stage[src].1 stage[src]]" {
		t.Fatalf("result %q", out.Results[0])
	}
	out = b.build(g.target(stage.out(1)))
	if out.Results[0] != "stage[src].1" {
		t.Fatalf("result %q", out.Results[0])
	}
}

func TestScratch(t *testing.T) {
	b := newBench(t)
	out := b.build(&pb.Definition{})
	if len(out.Results) != 1 || out.Results[0] != nil {
		t.Fatalf("results %v", out.Results)
	}
	if _, err := solver.New(b.world, b.records).Solve(t.Context(), solver.Request{}); err != nil {
		t.Fatal(err)
	}
}

func TestTargetsShareVertices(t *testing.T) {
	b := newBench(t)
	g := &llbWriter{}
	mid := g.exec("mid", g.source("base"))
	out, err := solver.New(b.world, b.records).Solve(t.Context(), b.graph(map[string]*pb.Definition{
		"a": g.target(g.exec("a", mid)),
		"b": g.target(g.exec("b", mid)),
		"c": g.target(mid),
	}))
	if err != nil {
		t.Fatal(err)
	}
	b.ran("a", "b", "base", "mid")
	if want := []solver.Result{"a[mid[base]]", "b[mid[base]]", "mid[base]"}; !slices.Equal(out.Results, want) {
		t.Errorf("results %v", out.Results)
	}
}

// Two definitions of one context differ in local.unique, so their vertices
// have different digests all the way up, and yet are the same work.
func TestEqualKeysAreOneVertex(t *testing.T) {
	b := newBench(t)
	b.world.names["src#1"], b.world.names["src#2"] = "src", "src"
	g := &llbWriter{}
	one, two := g.exec("mid", g.source("src#1")), g.exec("mid", g.source("src#2"))
	out, err := solver.New(b.world, b.records).Solve(t.Context(), b.graph(map[string]*pb.Definition{
		"a": g.target(g.exec("a", one)),
		"b": g.target(g.exec("b", two)),
		"c": g.target(two),
	}))
	if err != nil {
		t.Fatal(err)
	}
	if ran := b.world.take(); len(ran) != 4 || !slices.Contains(ran, "mid") {
		t.Errorf("ran %q, want a, b, mid and one src", ran)
	}
	if out.Results[2] == nil || out.Results[1] == nil {
		t.Errorf("results %v", out.Results)
	}
	same := 0
	for _, s := range out.Report.Steps {
		if s.Reason.Kind == solver.HitSame {
			same++
		}
	}
	if same != 2 {
		t.Errorf("%d steps are reported as the same work, want src and mid", same)
	}
}

func TestSourcesAreKeyedInParallelAndUpFront(t *testing.T) {
	b := newBench(t)
	b.request.Jobs = 1
	var keyed atomic.Int32
	all := make(chan struct{})
	g := &llbWriter{}
	var sources []ref
	for _, name := range []string{"a", "b", "c", "d"} {
		sources = append(sources, g.source(name))
		b.world.key[name] = func(ctx context.Context) error {
			if keyed.Add(1) == 4 {
				close(all)
			}
			select {
			case <-all:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	}
	b.build(g.target(g.exec("top", sources...)), "a", "b", "c", "d", "top")
}

// A target does not wait for the sources of others.
func TestTargetsStartOnTheirOwn(t *testing.T) {
	b := newBench(t)
	built := make(chan struct{})
	b.world.run["quick"] = func(context.Context, solver.Progress) error { close(built); return nil }
	b.world.key["slow source"] = func(ctx context.Context) error {
		select {
		case <-built:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	g := &llbWriter{}
	_, err := solver.New(b.world, b.records).Solve(t.Context(), b.graph(map[string]*pb.Definition{
		"a": g.target(g.exec("quick", g.source("quick source"))),
		"b": g.target(g.exec("slow", g.source("slow source"))),
	}))
	if err != nil {
		t.Fatal(err)
	}
}

func TestIndependentStepsRunInParallel(t *testing.T) {
	b := newBench(t)
	b.request.Jobs = 2
	meet := make(chan struct{})
	b.world.run["left"] = func(ctx context.Context, _ solver.Progress) error {
		select {
		case meet <- struct{}{}:
		case <-ctx.Done():
		}
		return ctx.Err()
	}
	b.world.run["right"] = func(ctx context.Context, _ solver.Progress) error {
		select {
		case <-meet:
		case <-ctx.Done():
		}
		return ctx.Err()
	}
	g := &llbWriter{}
	b.build(g.target(g.exec("top", g.exec("left"), g.exec("right"))), "left", "right", "top")
}

func TestJobsBoundWhatRuns(t *testing.T) {
	b := newBench(t)
	b.request.Jobs = 2
	var running, most atomic.Int32
	pair := make(chan struct{})
	g := &llbWriter{}
	var inputs []ref
	for _, name := range []string{"a", "b", "c", "d", "e", "f"} {
		inputs = append(inputs, g.exec(name))
		b.world.run[name] = func(ctx context.Context, _ solver.Progress) error {
			n := running.Add(1)
			defer running.Add(-1)
			if n > most.Load() {
				most.Store(n)
			}
			// Each waits for a partner, so that the bound is reached.
			select {
			case pair <- struct{}{}:
			case <-pair:
			case <-ctx.Done():
			}
			return ctx.Err()
		}
	}
	b.build(g.target(g.exec("top", inputs...)), "a", "b", "c", "d", "e", "f", "top")
	if most.Load() != 2 {
		t.Errorf("%d ran at the same time, want 2", most.Load())
	}
}

// What is in the graph, but no target's, is nobody's business.
func TestOtherVerticesOfTheGraph(t *testing.T) {
	b := newBench(t)
	b.world.refuse["other"] = true
	g := &llbWriter{}
	base := g.source("base")
	req := b.graph(map[string]*pb.Definition{"app": g.target(g.exec("app", base)), "other": g.target(g.exec("other", base))})
	req.Targets = req.Targets[:1]
	out, err := solver.New(b.world, b.records).Solve(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	b.ran("app", "base")
	if n := len(out.Report.Steps); n != 2 {
		t.Errorf("%d steps in the report, want 2", n)
	}
}

func TestUnsupportedOpsAreRefusedFirst(t *testing.T) {
	b := newBench(t)
	b.world.refuse["top"], b.world.refuse["src"] = true, true
	_, err := b.try(t.Context(), stack())
	var ve *solver.VertexError
	if !errors.As(err, &ve) || !strings.Contains(err.Error(), `operation "top" is not supported`) ||
		!strings.Contains(err.Error(), `operation "src" is not supported`) {
		t.Fatalf("error %v", err)
	}
	b.ran()
}

func TestTargetOfAnotherGraph(t *testing.T) {
	b := newBench(t)
	req := b.graph(map[string]*pb.Definition{"app": stack()})
	req.Targets[0].Edge.Vertex = &solver.Vertex{}
	if _, err := solver.New(b.world, b.records).Solve(t.Context(), req); err == nil {
		t.Fatal("no error")
	}
}

func TestContentIsRecordedBehindTheBuild(t *testing.T) {
	b := newBench(t)
	b.request.Jobs = 1
	topRan := make(chan struct{})
	b.world.run["top"] = func(context.Context, solver.Progress) error { close(topRan); return nil }
	// Hashing the input of mid takes until after top has run.
	b.world.hash = func(ctx context.Context, what string) error {
		if what == "mid/base" {
			select {
			case <-topRan:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		return nil
	}
	b.build(stack(), "base", "mid", "src", "top")
	if keys := b.records.Keys(solver.BucketContent); len(keys) != 2 {
		t.Errorf("%d content records when the build has ended, want 2", len(keys))
	}
	if keys := b.records.Keys(solver.BucketOps); len(keys) != 2 {
		t.Errorf("%d op records when the build has ended, want 2", len(keys))
	}
}

// A job does not wait until the one before is recorded, but neither do jobs run
// away from a slow disk.
func TestRecordingIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.request.Jobs = 1
		disk := make(chan struct{})
		b.records.Fail = func(op, bucket, _ string) error {
			if op == "put" && bucket == solver.BucketResults {
				<-disk
			}
			return nil
		}
		g := &llbWriter{}
		done := b.start(t.Context(), b.world, g.target(g.exec("top", g.exec("a"), g.exec("b"), g.exec("c"), g.exec("d"))))
		synctest.Wait()
		if ran := b.world.take(); len(ran) != 2 {
			t.Errorf("ran %q while nothing could be recorded, want two", ran)
		}
		close(disk)
		if res := <-done; res.err != nil {
			t.Fatal(res.err)
		}
		b.ran("c", "d", "top")
	})
}

func TestRecordsKeepReferences(t *testing.T) {
	b := newBench(t)
	out := b.build(stack(), "base", "mid", "src", "top")
	refs := b.records.Refs(solver.BucketResults, string(step(t, out, "mid").Definition))
	if want := []string{"layer:mid[base src]", "layer:mid[base src].1"}; !slices.Equal(refs, want) {
		t.Errorf("refs %q", refs)
	}
	refs = b.records.Refs(solver.BucketContent, string(step(t, out, "mid").Content))
	if len(refs) != 2 {
		t.Errorf("content refs %q", refs)
	}
}

func TestCoveredRecordsAreTouched(t *testing.T) {
	b := newBench(t)
	b.build(stack(), "base", "mid", "src", "top")
	b.build(stack())
	if n := b.records.Count("touch", solver.BucketResults); n != 3 {
		t.Errorf("%d records touched, want those of mid, base and src", n)
	}
}
