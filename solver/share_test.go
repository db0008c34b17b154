package solver_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"

	"github.com/moby/buildkit/solver/pb"
	"github.com/strata-build/strata/solver"
	"github.com/strata-build/strata/solver/solvertest"
)

// result is what a Solve in another goroutine returned.
type result struct {
	out *solver.Outcome
	err error
}

// start solves in the background, as another process would: nothing but the
// records is shared.
func (b *bench) start(ctx context.Context, w *world, def *pb.Definition) <-chan result {
	req := b.graph(map[string]*pb.Definition{"app": def})
	done := make(chan result, 1)
	go func() {
		out, err := solver.New(w, b.records).Solve(ctx, req)
		done <- result{out, err}
	}()
	return done
}

// hold makes an op wait in its Run: it closes started, and ends with release.
func hold(w *world, name string, err error) (started, release chan struct{}) {
	started, release = make(chan struct{}), make(chan struct{})
	w.run[name] = func(ctx context.Context, _ solver.Progress) error {
		close(started)
		select {
		case <-release:
			return err
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return started, release
}

// waits returns a channel that is closed when somebody waits for a lock.
func (b *bench) waits() <-chan struct{} {
	var once sync.Once
	waiting := make(chan struct{})
	b.records.Waiting = func(string) { once.Do(func() { close(waiting) }) }
	return waiting
}

func TestConcurrentBuildsMakeAVertexOnce(t *testing.T) {
	b := newBench(t)
	other := newWorld()
	started, release := hold(b.world, "mid", nil)
	waiting := b.waits()
	one := b.start(t.Context(), b.world, stack())
	<-started
	two := b.start(t.Context(), other, stack())
	<-waiting
	close(release)
	first, second := <-one, <-two
	if first.err != nil || second.err != nil {
		t.Fatal(first.err, second.err)
	}
	reason(t, first.out, "mid", solver.Ran, "never built before")
	reason(t, second.out, "mid", solver.Cached, "made by another build at the same time")
	for _, name := range other.take() {
		if name == "mid" {
			t.Error("mid ran twice")
		}
	}
	if second.out.Results[0] != first.out.Results[0] {
		t.Errorf("results %v and %v", first.out.Results, second.out.Results)
	}
	if n := b.records.Locked(); n != 0 {
		t.Errorf("%d locks are still held", n)
	}
}

// The lock was free, but only because the other build has just ended.
func TestRecordMadeBetweenLookUpAndLock(t *testing.T) {
	b := newBench(t)
	other := newWorld()
	g := &llbWriter{}
	def := g.target(g.exec("mid", g.source("src")))
	misses := 0
	b.records.Fail = func(op, bucket, _ string) error {
		if op == "get" && bucket == solver.BucketOps {
			t.Error("looked for content though there is a result")
		}
		if op == "get" && bucket == solver.BucketResults {
			if misses++; misses == 2 { // mid, then src was not found
				b.records.Fail = nil
				if res := <-b.start(t.Context(), other, def); res.err != nil {
					t.Error(res.err)
				}
			}
		}
		return nil
	}
	b.request.Jobs = 1
	out := b.build(def)
	reason(t, out, "mid", solver.Cached, "made by another build at the same time")
}

func TestWaitingBuildTakesOverWhenTheOtherFails(t *testing.T) {
	b := newBench(t)
	other := newWorld()
	started, release := hold(b.world, "mid", errBroken)
	waiting := b.waits()
	one := b.start(t.Context(), b.world, stack())
	<-started
	two := b.start(t.Context(), other, stack())
	<-waiting
	close(release)
	if first := <-one; !errors.Is(first.err, errBroken) {
		t.Fatalf("error %v", first.err)
	}
	if second := <-two; second.err != nil || second.out.Results[0] != "top[mid[base src]]" {
		t.Fatalf("result %v", second)
	}
	if n := b.records.Locked(); n != 0 {
		t.Errorf("%d locks are still held", n)
	}
}

func TestWaitingEndsWithTheContext(t *testing.T) {
	b := newBench(t)
	started, release := hold(b.world, "mid", nil)
	waiting := b.waits()
	one := b.start(t.Context(), b.world, stack())
	<-started
	ctx, cancel := context.WithCancel(t.Context())
	two := b.start(ctx, newWorld(), stack())
	<-waiting
	cancel()
	second := <-two
	if !errors.Is(second.err, context.Canceled) {
		t.Fatalf("error %v", second.err)
	}
	reason(t, second.out, "mid", solver.Cancelled, "the build was cancelled")
	close(release)
	if first := <-one; first.err != nil {
		t.Fatal(first.err)
	}
}

// Two builds with one job each make x and y, and each needs what the other one
// makes. The waiting must not take the job slot.
func TestWaitingDoesNotTakeAJobSlot(t *testing.T) {
	b := newBench(t)
	b.request.Jobs = 1
	g := &llbWriter{}
	x, y := g.exec("x"), g.exec("y")
	one, two := newWorld(), newWorld()
	xStarted, xRelease := hold(one, "x", nil)
	yStarted, yRelease := hold(two, "y", nil)
	waited := make(chan string, 2)
	b.records.Waiting = func(name string) { waited <- name }

	first := b.start(t.Context(), one, g.target(g.exec("xy", x, y)))
	<-xStarted
	// The second one finds x taken, and goes on with y.
	second := b.start(t.Context(), two, g.target(g.exec("x then y", x, y)))
	<-waited
	<-yStarted
	close(xRelease)
	<-waited // the first one waits for y
	close(yRelease)
	for _, done := range []<-chan result{first, second} {
		if res := <-done; res.err != nil {
			t.Fatal(res.err)
		}
	}
	ran := append(one.take(), two.take()...)
	if len(ran) != 4 {
		t.Errorf("ran %q, want each op once", ran)
	}
}

func TestForcedVerticesRunInEachBuild(t *testing.T) {
	b := newBench(t)
	b.request.NoCache = func(v *solver.Vertex) bool { return opName(v) == "mid" }
	other := newWorld()
	started, release := hold(b.world, "mid", nil)
	waiting := b.waits()
	one := b.start(t.Context(), b.world, stack())
	<-started
	two := b.start(t.Context(), other, stack())
	<-waiting
	close(release)
	if first, second := <-one, <-two; first.err != nil || second.err != nil {
		t.Fatal(first.err, second.err)
	}
	if ran := other.take(); !slices.Contains(ran, "mid") || slices.Contains(ran, "base") {
		t.Errorf("the second build ran %q, want mid, and not base", ran)
	}
}

// A vertex may hold its lock while it waits for a job slot again. It must let
// go of it when the build is given up.
func TestCancelWithALockInHand(t *testing.T) {
	b := newBench(t)
	g := &llbWriter{}
	x, y := g.exec("x"), g.exec("y")
	two := newWorld()
	xStarted, xRelease := hold(b.world, "x", errBroken)
	yStarted, _ := hold(two, "y", nil)
	one := b.start(t.Context(), b.world, g.target(x))
	<-xStarted

	ctx, cancel := context.WithCancel(t.Context())
	status, wait := b.watch(func(e event) {
		for _, st := range e.Statuses {
			if st.Completed != nil { // the waiting is over, and y has the only slot
				cancel()
			}
		}
	})
	b.request.Jobs, b.request.Status = 1, status
	second := b.start(ctx, two, g.target(g.exec("xy", x, y)))
	<-yStarted
	close(xRelease)
	if res := <-second; !errors.Is(res.err, context.Canceled) {
		t.Fatalf("error %v", res.err)
	}
	wait()
	<-one
	if ran := two.take(); !slices.Equal(ran, []string{"y"}) {
		t.Errorf("ran %q, want y", ran)
	}
	if n := b.records.Locked(); n != 0 {
		t.Errorf("%d locks are still held", n)
	}
}

// late are Records whose locks come when it is too late for them.
type late struct {
	*solvertest.Records
	cancel func()
}

func (l late) TryLock(context.Context, string) (func(), bool, error) {
	l.cancel()
	return nil, false, nil
}

func (l late) Lock(ctx context.Context, name string) (func(), error) {
	<-ctx.Done()
	return l.Records.Lock(context.WithoutCancel(ctx), name)
}

func TestLockThatComesAfterTheEnd(t *testing.T) {
	b := newBench(t)
	ctx, cancel := context.WithCancel(t.Context())
	records := late{b.records, cancel}
	_, err := solver.New(b.world, records).Solve(ctx, b.graph(map[string]*pb.Definition{"app": stack()}))
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("error %v", err)
	}
	b.ran()
}
