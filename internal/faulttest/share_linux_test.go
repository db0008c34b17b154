package faulttest

import (
	"fmt"
	"strings"
	"sync"
	"testing"
)

// counted is a build whose steps leave a line each time they run: the shared
// ones in one log, those of the file's own in another.
const counted = `
_base: string @tag(base)
_own:  string @tag(own)

_common: {
	from: _base
	steps: [
		{copy: "src", to: "/src"},
		{run: "echo first >> /log/shared; dd if=/dev/zero bs=1M count=30 | sha256sum > /sum", mounts: "/log": {type: "cache", id: "log", sharing: "shared"}},
		{run: "echo second >> /log/shared; cat /src/*/* | sort > /sorted", mounts: "/log": {type: "cache", id: "log", sharing: "shared"}},
	]
}

images: app: {
	from: _common
	steps: [{run: "echo \(_own) >> /log/own; echo \(_own) > /own", mounts: "/log": {type: "cache", id: "log", sharing: "shared"}}]
}
`

// reader shows the logs.
const reader = `
_base: string @tag(base)
images: log: {
	from: _base
	steps: [{run: "sed s/^/shared:/ /log/shared; sed s/^/own:/ /log/own", mounts: "/log": {type: "cache", id: "log", sharing: "shared"}}]
}
`

// together runs the functions at once, and waits for all.
func together(n int, fn func(i int)) {
	var all sync.WaitGroup
	start := make(chan struct{})
	for i := range n {
		all.Go(func() {
			<-start
			fn(i)
		})
	}
	close(start)
	all.Wait()
}

// TestBuildsSideBySide runs several builds at once on one store: of one file,
// and of files that share all steps but the last. Whatever they share runs
// once.
func TestBuildsSideBySide(t *testing.T) {
	base := "base=" + busybox(t)
	for _, c := range []struct {
		builds int
		same   bool
	}{{2, true}, {4, true}, {2, false}, {4, false}} {
		t.Run(fmt.Sprintf("%d of same file %t", c.builds, c.same), func(t *testing.T) {
			m := newMachine(t)
			writeContext(m)
			m.write("app.cue", counted)
			m.write("log.cue", reader)
			own := func(i int) string {
				if c.same {
					return "own=0"
				}
				return fmt.Sprintf("own=%d", i)
			}
			got := make([]outcome, c.builds)
			together(c.builds, func(i int) {
				got[i] = m.run("build", "-q", "--set", base, "--set", own(i), "./app.cue")
			})
			apart := m.fresh()
			for i, o := range got {
				if o.code != 0 {
					t.Fatalf("build %d of %d ended with exit code %d:\n%s", i, c.builds, o.code, o.output)
				}
				if want := apart.run("build", "-q", "--set", base, "--set", own(i), "./app.cue"); o != want {
					t.Errorf("build %d gives %q, and alone %q", i, o.output, want.output)
				}
			}
			log := m.succeed("build", "--progress", "plain", "--set", base, "-o", "type=cacheonly", "./log.cue")
			for _, line := range []string{"shared:first", "shared:second", "own:0"} {
				if n := strings.Count(log, " "+line+"\n"); n != 1 {
					t.Errorf("the step that writes %q ran %d times, want once:\n%s", line, n, log)
				}
			}
			m.nothingRuns()
			m.nothingHalfDone()
		})
	}
}

// TestPruneBesideBuilds removes all that nobody needs again and again while
// builds run: what a running build needs, somebody needs.
func TestPruneBesideBuilds(t *testing.T) {
	const builders, rounds = 3, 6
	m := newMachine(t)
	base := "base=" + busybox(t)
	writeContext(m)
	m.write("app.cue", counted)
	want := map[string]string{}
	for i := range builders {
		own := fmt.Sprintf("own=%d", i)
		want[own] = m.fresh().succeed("build", "-q", "--set", base, "--set", own, "./app.cue")
	}
	building, over := make(chan struct{}), sync.WaitGroup{}
	prunes := 0
	over.Go(func() {
		for {
			select {
			case <-building:
				return
			default:
			}
			if got := m.run("prune", "--all"); got.code != 0 {
				t.Errorf("prune --all ended with exit code %d:\n%s", got.code, got.output)
			}
			prunes++
		}
	})
	together(builders, func(i int) {
		own := fmt.Sprintf("own=%d", i)
		for range rounds {
			// No image keeps anything: each build has only itself to hold on to.
			got := m.run("build", "-q", "--set", base, "--set", own, "-o", fmt.Sprintf("type=oci,dest=%d.tar", i), "./app.cue")
			if got.code != 0 || got.output != want[own] {
				t.Errorf("a build beside prune ended with exit code %d, and wrote %q, want %q", got.code, got.output, want[own])
			}
		}
	})
	close(building)
	over.Wait()
	if prunes == 0 {
		t.Error("nothing was pruned beside the builds")
	}
	t.Logf("%d prunes beside %d builds", prunes, builders*rounds)
	m.nothingRuns()
	m.nothingHalfDone()
}
