package solver_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/moby/buildkit/solver/pb"
	"github.com/strata-build/strata/solver"
)

var errBroken = errors.New("exit code 1")

// fork is two targets: a is made of bad, and b of good; both of base.
func fork() map[string]*pb.Definition {
	g := &llbWriter{}
	base := g.source("base")
	return map[string]*pb.Definition{
		"a": g.target(g.exec("a", g.exec("bad", base))),
		"b": g.target(g.exec("b", g.exec("good", base))),
	}
}

func TestFailureCancelsOnlyWhatNeedsIt(t *testing.T) {
	b := newBench(t)
	b.request.Jobs = 2
	failed := make(chan struct{})
	b.world.run["bad"] = func(context.Context, solver.Progress) error { close(failed); return errBroken }
	b.world.run["good"] = func(ctx context.Context, _ solver.Progress) error {
		select {
		case <-failed:
		case <-ctx.Done():
		}
		return ctx.Err()
	}
	out, err := solver.New(b.world, b.records).Solve(t.Context(), b.graph(fork()))
	var ve *solver.VertexError
	if !errors.As(err, &ve) || opName(ve.Vertex) != "bad" || !errors.Is(err, errBroken) {
		t.Fatalf("error %v", err)
	}
	if out.Results[0] != nil || out.Results[1] != "b[good[base]]" {
		t.Errorf("results %v", out.Results)
	}
	b.ran("b", "bad", "base", "good")
	reason(t, out, "bad", solver.Failed, "never built before")
	reason(t, out, "a", solver.Cancelled, `needs "bad", which failed`)

	// What ended well is not built again.
	b.world.run = map[string]func(context.Context, solver.Progress) error{}
	out, err = solver.New(b.world, b.records).Solve(t.Context(), b.graph(fork()))
	if err != nil {
		t.Fatal(err)
	}
	b.ran("a", "bad")
	reason(t, out, "bad", solver.Ran, "the last build did not finish it")
	reason(t, out, "a", solver.Ran, "the last build did not finish it")
}

func TestAllFailuresAreJoinedFirstFirst(t *testing.T) {
	b := newBench(t)
	first := make(chan struct{})
	errFirst, errSecond := errors.New("first failure"), errors.New("second failure")
	b.world.run["bad"] = func(context.Context, solver.Progress) error { close(first); return errFirst }
	b.world.run["b"] = func(context.Context, solver.Progress) error { <-first; return errSecond }
	_, err := solver.New(b.world, b.records).Solve(t.Context(), b.graph(fork()))
	if !errors.Is(err, errFirst) || !errors.Is(err, errSecond) {
		t.Fatalf("error %v", err)
	}
	if text := err.Error(); text != "bad: first failure\nb: second failure" {
		t.Errorf("error %q", text)
	}
}

func TestFailureOfAKey(t *testing.T) {
	b := newBench(t)
	b.world.key["src"] = func(context.Context) error { return errBroken }
	out, err := b.try(t.Context(), stack())
	if err == nil || err.Error() != "local://src: exit code 1" {
		t.Fatalf("error %v", err)
	}
	b.ran()
	reason(t, out, "top", solver.Cancelled, `needs "local://src", which failed`)
	reason(t, out, "base", solver.Cancelled, "nothing that could still be built needs it")
	if n := b.records.Count("put", solver.BucketBuilds); n != 0 {
		t.Errorf("a build without keys was recorded")
	}
}

// A vertex that failed for one target is not tried again for another one that
// comes to need it later.
func TestFailureReachesWhatComesLate(t *testing.T) {
	b := newBench(t)
	failed := make(chan struct{})
	b.world.run["bad"] = func(context.Context, solver.Progress) error { return errBroken }
	b.world.key["late"] = func(context.Context) error { <-failed; return nil }
	status, wait := b.watch(func(e event) {
		if e.failed("bad") {
			close(failed)
		}
	})
	b.request.Status = status
	g := &llbWriter{}
	bad := g.exec("bad", g.source("base"))
	out, err := solver.New(b.world, b.records).Solve(t.Context(), b.graph(map[string]*pb.Definition{
		"a": g.target(g.exec("a", bad)),
		"b": g.target(g.exec("b", g.exec("b2", bad, g.source("late")), g.source("late"))),
	}))
	wait()
	if err == nil || err.Error() != "bad: exit code 1" {
		t.Fatalf("error %v", err)
	}
	b.ran("bad", "base", "late") // late needs nothing that failed
	reason(t, out, "b", solver.Cancelled, `needs "bad", which failed`)
}

func TestFailureOfASharedVertex(t *testing.T) {
	b := newBench(t)
	b.world.names["bad#1"], b.world.names["bad#2"] = "bad", "bad"
	b.world.run["bad#1"] = func(context.Context, solver.Progress) error { return errBroken }
	b.world.run["bad#2"] = b.world.run["bad#1"]
	g := &llbWriter{}
	base := g.source("base")
	_, err := solver.New(b.world, b.records).Solve(t.Context(), b.graph(map[string]*pb.Definition{
		"a": g.target(g.exec("a", g.exec("bad#1", base))),
		"b": g.target(g.exec("b", g.exec("bad#2", base))),
	}))
	if err == nil || strings.Count(err.Error(), "\n") != 0 || !errors.Is(err, errBroken) {
		t.Fatalf("error %v, want one failure", err)
	}
}

func TestTooFewResults(t *testing.T) {
	b := newBench(t)
	b.world.short = "mid"
	_, err := b.try(t.Context(), stack())
	if err == nil || err.Error() != "mid: the op made 1 results of 2" {
		t.Fatalf("error %v", err)
	}
}

// How many outputs an operation of an unknown kind has is known when it ran.
func TestMissingOutput(t *testing.T) {
	b := newBench(t)
	g := &llbWriter{}
	odd := g.add(&pb.Op{}, g.source("base"))
	_, err := b.try(t.Context(), g.target(g.exec("top", odd.out(2))))
	if err == nil || err.Error() != `top: "unknown operation" has no output 2` {
		t.Fatalf("error %v", err)
	}
	_, err = b.try(t.Context(), g.target(odd.out(2)))
	if err == nil || err.Error() != `target "app": "unknown operation" has no output 2` {
		t.Fatalf("error %v", err)
	}
	req := b.graph(map[string]*pb.Definition{"app": g.target(odd)})
	req.Targets[0].Edge.Output = -1
	if _, err := solver.New(b.world, b.records).Solve(t.Context(), req); err == nil {
		t.Fatal("no error for a negative output")
	}
}

func TestOpWithoutKey(t *testing.T) {
	b := newBench(t)
	b.world.keyless = "mid"
	_, err := b.try(t.Context(), stack())
	if err == nil || err.Error() != "mid: the op has no key" {
		t.Fatalf("error %v", err)
	}
}

func TestCancel(t *testing.T) {
	b := newBench(t)
	ctx, cancel := context.WithCancelCause(t.Context())
	stop := errors.New("interrupted")
	b.world.run["mid"] = func(ctx context.Context, _ solver.Progress) error {
		cancel(stop)
		<-ctx.Done()
		return errors.New("killed")
	}
	out, err := b.try(ctx, stack())
	if !errors.Is(err, stop) || strings.Contains(err.Error(), "killed") {
		t.Fatalf("error %v", err)
	}
	b.ran("base", "mid", "src")
	reason(t, out, "mid", solver.Cancelled, "the build was cancelled")
	reason(t, out, "top", solver.Cancelled, "the build was cancelled")
	if n := b.records.Count("put", solver.BucketBuilds); n != 0 {
		t.Errorf("a cancelled build was recorded")
	}
}

func TestCancelBeforeAnything(t *testing.T) {
	b := newBench(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	b.world.key["src"] = func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
	b.world.key["base"] = b.world.key["src"]
	if _, err := b.try(ctx, stack()); !errors.Is(err, context.Canceled) {
		t.Fatalf("error %v", err)
	}
	b.ran()
}

func TestCancelDuringHashing(t *testing.T) {
	b := newBench(t)
	ctx, cancel := context.WithCancel(t.Context())
	b.world.hash = func(ctx context.Context, _ string) error {
		cancel()
		<-ctx.Done()
		return ctx.Err()
	}
	if _, err := b.try(ctx, stack()); !errors.Is(err, context.Canceled) || err.Error() != "context canceled" {
		t.Fatalf("error %v", err)
	}
	if n := len(b.records.Keys(solver.BucketResults)); n < 3 {
		t.Errorf("%d results recorded, want all that were there", n)
	}
}

func TestRecordErrorsAreReturned(t *testing.T) {
	disk := errors.New("no space left on device")
	for _, tc := range []struct {
		op, bucket, want string
		again            bool // in a second build
	}{
		{"get", solver.BucketResults, "look up result: no space", false},
		{"put", solver.BucketResults, "record result: no space", false},
		{"get", solver.BucketOps, "no space", false},
		{"put", solver.BucketOps, "record op: no space", false},
		{"put", solver.BucketContent, "record result by content: no space", false},
		{"get", solver.BucketBuilds, `read last build of "app": no space`, false},
		{"put", solver.BucketBuilds, `record build of "app": no space`, false},
		{"touch", solver.BucketResults, "mark record as used: no space", true},
	} {
		t.Run(tc.op+" "+tc.bucket, func(t *testing.T) {
			b := newBench(t)
			if tc.again {
				b.build(stack(), "base", "mid", "src", "top")
			}
			b.records.Fail = func(op, bucket, _ string) error {
				if op == tc.op && bucket == tc.bucket {
					return disk
				}
				return nil
			}
			_, err := b.try(t.Context(), stack())
			if !errors.Is(err, disk) || !strings.Contains(err.Error(), tc.want) {
				t.Fatalf("error %v", err)
			}
			if n := b.records.Locked(); n != 0 {
				t.Errorf("%d locks are still held", n)
			}
		})
	}
}

// An error while the content is recorded comes after the dependants had their
// input, and is not lost.
func TestHashErrorsAreReturned(t *testing.T) {
	b := newBench(t)
	b.world.hash = func(_ context.Context, what string) error {
		if what == "mid/src" {
			return errBroken
		}
		return nil
	}
	out, err := b.try(t.Context(), stack())
	if err == nil || err.Error() != `mid: exit code 1` {
		t.Fatalf("error %v", err)
	}
	if out.Results[0] == nil {
		t.Error("there is no result, though all ops ran")
	}
	b.ran("base", "mid", "src", "top")
}
