package solver_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/solver/pb"
	"github.com/moby/buildkit/util/progress/progressui"
	digest "github.com/opencontainers/go-digest"
	"github.com/strata-build/strata/solver"
)

// screen is what a reader of the progress knows at the end.
type screen struct {
	vertices map[string]*client.Vertex // the last state of each
	logs     map[digest.Digest]string
	statuses map[string]*client.VertexStatus
}

func newScreen() *screen {
	return &screen{map[string]*client.Vertex{}, map[digest.Digest]string{}, map[string]*client.VertexStatus{}}
}

func (s *screen) see(e event) {
	for _, v := range e.Vertexes {
		s.vertices[v.Name] = v
	}
	for _, l := range e.Logs {
		s.logs[l.Vertex] += fmt.Sprintf("%d:%s", l.Stream, l.Data)
	}
	for _, st := range e.Statuses {
		s.statuses[st.ID] = st
	}
}

// state describes a vertex on the screen.
func (s *screen) state(name string) string {
	v := s.vertices[name]
	switch {
	case v == nil:
		return "absent"
	case v.Started == nil:
		return "announced"
	case v.Completed == nil:
		return "running"
	case v.Error != "":
		return "error " + v.Error
	case v.Cached:
		return "cached"
	}
	return "done"
}

// show builds with a screen. The screen is complete when the build has ended.
func (b *bench) show(ctx context.Context, def *pb.Definition) (*screen, error) {
	s := newScreen()
	status, wait := b.watch(s.see)
	b.request.Status = status
	_, err := b.try(ctx, def)
	wait()
	b.world.take()
	return s, err
}

func (s *screen) expect(t *testing.T, states map[string]string) {
	t.Helper()
	for name, want := range states {
		if got := s.state(name); got != want {
			t.Errorf("%s is %s, want %s", name, got, want)
		}
	}
}

func TestProgressOfVertices(t *testing.T) {
	b := newBench(t)
	g := &llbWriter{}
	mid := g.exec("mid", g.source("base"), g.source("src"))
	g.meta(mid, &pb.OpMetadata{ProgressGroup: &pb.ProgressGroup{Id: "stage", Name: "the stage"}})
	def := g.target(g.exec("top", mid))
	s, err := b.show(t.Context(), def)
	if err != nil {
		t.Fatal(err)
	}
	s.expect(t, map[string]string{"local://base": "done", "local://src": "done", "mid": "done", "top": "done"})
	if in := s.vertices["mid"].Inputs; len(in) != 2 || in[0] != s.vertices["local://base"].Digest {
		t.Errorf("inputs of mid %v", in)
	}
	if s.vertices["mid"].ProgressGroup.GetName() != "the stage" {
		t.Error("the progress group is lost")
	}

	s, err = b.show(t.Context(), def)
	if err != nil {
		t.Fatal(err)
	}
	s.expect(t, map[string]string{"local://base": "cached", "local://src": "cached", "mid": "cached", "top": "cached"})

	b.world.run["mid"] = func(context.Context, solver.Progress) error { return errBroken }
	b.request.NoCache = func(v *solver.Vertex) bool { return opName(v) == "mid" }
	s, err = b.show(t.Context(), def)
	if !errors.Is(err, errBroken) {
		t.Fatal(err)
	}
	s.expect(t, map[string]string{"local://src": "cached", "mid": "error exit code 1", "top": "announced"})
}

func TestProgressOfARunningOp(t *testing.T) {
	b := newBench(t)
	var late solver.Progress
	b.world.run["mid"] = func(_ context.Context, p solver.Progress) error {
		fmt.Fprint(p.Stdout(), "out\n")
		fmt.Fprint(p.Stderr(), "err\n")
		p.Status("layer one", 10, 100, false)
		p.Status("layer one", 100, 100, true)
		late = p
		return nil
	}
	s, err := b.show(t.Context(), stack())
	if err != nil {
		t.Fatal(err)
	}
	if got := s.logs[s.vertices["mid"].Digest]; got != "1:out\n2:err\n" {
		t.Errorf("logs %q", got)
	}
	st := s.statuses["layer one"]
	if st == nil || st.Current != 100 || st.Total != 100 || st.Started == nil || st.Completed == nil {
		t.Errorf("status %+v", st)
	}
	// An op that goes on talking after the build has ended does no harm.
	fmt.Fprint(late.Stdout(), "too late")
	late.Status("layer two", 0, 0, false)
}

func TestProgressWithoutAReader(t *testing.T) {
	b := newBench(t)
	b.world.run["mid"] = func(_ context.Context, p solver.Progress) error {
		fmt.Fprint(p.Stdout(), "out\n")
		p.Status("layer", 1, 1, true)
		return nil
	}
	b.build(stack(), "base", "mid", "src", "top")
}

func TestProgressOfACancelledBuild(t *testing.T) {
	b := newBench(t)
	ctx, cancel := context.WithCancel(t.Context())
	b.world.run["mid"] = func(ctx context.Context, _ solver.Progress) error {
		cancel()
		<-ctx.Done()
		return ctx.Err()
	}
	s, err := b.show(ctx, stack())
	if !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	s.expect(t, map[string]string{"mid": "error context canceled", "top": "announced"})
}

// A reader that never reads holds up the output of a step, but no cancelled
// build, however much the step has to say.
func TestReaderThatDoesNotRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		ctx, cancel := context.WithCancel(t.Context())
		b.request.Status = make(chan *client.SolveStatus)
		wrote := 0
		b.world.run["mid"] = func(ctx context.Context, p solver.Progress) error {
			for range 100 {
				fmt.Fprint(p.Stdout(), strings.Repeat("x", 1<<20))
				wrote++
			}
			return ctx.Err()
		}
		done := b.start(ctx, b.world, stack())
		synctest.Wait()
		if wrote < 4 || wrote > 10 {
			t.Errorf("the step wrote %d MiB ahead of the reader", wrote)
		}
		cancel()
		if res := <-done; !errors.Is(res.err, context.Canceled) {
			t.Fatalf("error %v", res.err)
		}
		if wrote != 100 {
			t.Errorf("the step could write %d MiB only", wrote)
		}
	})
}

func TestProgressOfWaiting(t *testing.T) {
	b := newBench(t)
	started, release := hold(b.world, "mid", nil)
	waiting := b.waits()
	one := b.start(t.Context(), b.world, stack())
	<-started
	s := newScreen()
	shown := make(chan struct{})
	status, wait := b.watch(func(e event) {
		s.see(e)
		for _, st := range e.Statuses {
			if st.ID == "waiting for another build of this step" && st.Completed == nil {
				close(shown)
			}
		}
	})
	b.request.Status = status
	two := b.start(t.Context(), newWorld(), stack())
	<-waiting
	<-shown
	close(release)
	if first, second := <-one, <-two; first.err != nil || second.err != nil {
		t.Fatal(first.err, second.err)
	}
	wait()
	s.expect(t, map[string]string{"mid": "cached"})
	if st := s.statuses["waiting for another build of this step"]; st == nil || st.Completed == nil {
		t.Errorf("status %+v", st)
	}
}

func TestSlowKeysAreShown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.world.key["src"] = func(context.Context) error { time.Sleep(time.Second); return nil }
		b.world.key["base"] = func(context.Context) error { time.Sleep(time.Millisecond); return nil }
		s := newScreen()
		var shown []string
		status, wait := b.watch(func(e event) {
			s.see(e)
			for _, v := range e.Vertexes {
				if s.state(v.Name) == "running" && !slices.Contains(shown, v.Name) {
					shown = append(shown, v.Name)
				}
			}
		})
		b.request.Status = status
		b.build(stack(), "base", "mid", "src", "top")
		b.build(stack())
		wait()
		if len(shown) == 0 || shown[0] != "local://src" {
			t.Errorf("shown at work: %q, want local://src first, for its key", shown)
		}
		s.expect(t, map[string]string{"local://src": "cached"})
	})
}

// display builds and returns what BuildKit's plain display makes of it.
func (b *bench) display(def *pb.Definition) string {
	b.Helper()
	var out bytes.Buffer
	d, err := progressui.NewDisplay(&out, progressui.PlainMode)
	if err != nil {
		b.Fatal(err)
	}
	status := make(chan *client.SolveStatus)
	done := make(chan error, 1)
	go func() {
		_, err := d.UpdateFrom(b.Context(), status)
		done <- err
	}()
	b.request.Status = status
	_, buildErr := b.try(b.Context(), def)
	close(status)
	if err := <-done; err != nil {
		b.Fatal(err)
	}
	if buildErr != nil {
		fmt.Fprintln(&out, buildErr)
	}
	return out.String()
}

func TestProgressInThePlainDisplay(t *testing.T) {
	b := newBench(t)
	b.world.run["mid"] = func(_ context.Context, p solver.Progress) error {
		fmt.Fprintln(p.Stdout(), "hello from mid")
		return nil
	}
	out := b.display(stack())
	for _, want := range []string{"local://base", "hello from mid", "top", "DONE"} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is not in:\n%s", want, out)
		}
	}
	out = b.display(stack())
	if strings.Count(out, "CACHED") != 4 || strings.Contains(out, "DONE") {
		t.Errorf("of a cached build:\n%s", out)
	}
	b.request.NoCache = func(v *solver.Vertex) bool { return opName(v) == "mid" }
	b.world.run["mid"] = func(_ context.Context, p solver.Progress) error {
		fmt.Fprintln(p.Stderr(), "no such file")
		return errBroken
	}
	out = b.display(stack())
	if !strings.Contains(out, "ERROR: exit code 1") || strings.Count(out, "no such file") != 2 {
		t.Errorf("of a failed build:\n%s", out)
	}
}

func TestWatch(t *testing.T) {
	b := newBench(t)
	s := newScreen()
	status, wait := b.watch(s.see)
	err := solver.Watch(t.Context(), status, "export image", func(_ context.Context, p solver.Progress) error {
		fmt.Fprint(p.Stdout(), "writing")
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	err = solver.Watch(t.Context(), status, "push image", func(context.Context, solver.Progress) error { return errBroken })
	if !errors.Is(err, errBroken) {
		t.Fatal(err)
	}
	wait()
	s.expect(t, map[string]string{"export image": "done", "push image": "error exit code 1"})
	if err := solver.Watch(t.Context(), nil, "quiet", func(context.Context, solver.Progress) error { return nil }); err != nil {
		t.Fatal(err)
	}
}
