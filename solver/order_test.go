package solver_test

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/moby/buildkit/solver/pb"
	"github.com/strata-build/strata/solver"
)

// order builds with one job and returns the order in which the ops ran.
func (b *bench) order(def *pb.Definition) []string {
	b.Helper()
	b.request.Jobs = 1
	if _, err := b.try(b.Context(), def); err != nil {
		b.Fatal(err)
	}
	ran := b.world.runs
	b.world.runs = nil
	return ran
}

// branches is a graph of a short branch and a long one, the short one first.
func branches() *pb.Definition {
	g := &llbWriter{}
	short := g.exec("short")
	long := g.exec("long3", g.exec("long2", g.exec("long1")))
	return g.target(g.exec("top", short, long))
}

func TestLongestPathFirst(t *testing.T) {
	b := newBench(t)
	want := []string{"long1", "long2", "short", "long3", "top"}
	if got := b.order(branches()); !slices.Equal(got, want) {
		t.Errorf("order %q, want %q", got, want)
	}
}

func TestLongestPathByGivenCost(t *testing.T) {
	b := newBench(t)
	b.request.Cost = func(v *solver.Vertex) time.Duration {
		if opName(v) == "short" {
			return time.Hour
		}
		return time.Second
	}
	want := []string{"short", "long1", "long2", "long3", "top"}
	if got := b.order(branches()); !slices.Equal(got, want) {
		t.Errorf("order %q, want %q", got, want)
	}
}

// What took long in the last build is begun early in the next one.
func TestLongestPathByLastDurations(t *testing.T) {
	b := newBench(t)
	b.order(branches())
	data, _, _ := b.records.Get(t.Context(), solver.BucketBuilds, "app")
	slow := setDuration(t, data, "short", time.Hour)
	if err := b.records.Put(t.Context(), solver.BucketBuilds, "app", slow, nil); err != nil {
		t.Fatal(err)
	}
	b.request.NoCache = func(*solver.Vertex) bool { return true }
	if got := b.order(branches()); got[0] != "short" {
		t.Errorf("order %q, want short first", got)
	}
}

func TestDurationsOutliveACachedBuild(t *testing.T) {
	b := newBench(t)
	b.world.run["short"] = func(context.Context, solver.Progress) error {
		for begin := time.Now(); time.Since(begin) == 0; {
		}
		return nil
	}
	b.order(branches())
	before := durations(t, b)
	b.order(branches())
	if after := durations(t, b); after["short"] != before["short"] || after["short"] == 0 {
		t.Errorf("duration of short was %v and is %v", before["short"], after["short"])
	}
}
