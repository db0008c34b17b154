package solver_test

import (
	"testing"

	"github.com/moby/buildkit/solver/pb"
	"github.com/strata-build/strata/solver"
)

// keysOf builds and returns the keys of the vertex called top.
func keysOf(t *testing.T, w *world, def *pb.Definition) solver.Step {
	t.Helper()
	b := newBench(t)
	b.world = w
	out, err := b.try(t.Context(), def)
	if err != nil {
		t.Fatal(err)
	}
	return step(t, out, "top")
}

// Each part of a key changes it: leaving one out would serve a result for
// something else (CVE-2024-24557).
func TestEveryPartIsInTheKeys(t *testing.T) {
	plain := func(g *llbWriter) ref { return g.exec("top", g.exec("a"), g.exec("b")) }
	same := func(*world) {}
	for _, tc := range []struct {
		name                string
		world               func(*world)
		graph               func(*llbWriter) ref
		definition, content bool // what has to differ
	}{
		{"nothing", same, plain, false, false},
		{"op", func(w *world) { w.facts["top"] = facts("env A", "1") }, plain, true, true},
		{"key of first input", func(w *world) { w.facts["a"] = facts("env A", "1"); w.makes["a"] = "a" }, plain, true, false},
		{"key of last input", func(w *world) { w.facts["b"] = facts("env A", "1"); w.makes["b"] = "b" }, plain, true, false},
		{"content of first input", func(w *world) { w.makes["a"] = "x" }, plain, false, true},
		{"content of last input", func(w *world) { w.makes["b"] = "x" }, plain, false, true},
		{"what the op sees", func(w *world) { w.sees["top/b"] = "x" }, plain, false, true},
		{"output", same, func(g *llbWriter) ref { return g.exec("top", g.exec("a"), g.exec("b").out(1)) }, true, true},
		{"output of equal content", func(w *world) { w.sees["top/b"] = "b" },
			func(g *llbWriter) ref { return g.exec("top", g.exec("a"), g.exec("b").out(1)) }, true, false},
		{"order", same, func(g *llbWriter) ref { return g.exec("top", g.exec("b"), g.exec("a")) }, true, true},
		{"fewer inputs", same, func(g *llbWriter) ref { return g.exec("top", g.exec("a")) }, true, true},
		{"repeated input", same, func(g *llbWriter) ref { return g.exec("top", g.exec("a"), g.exec("b"), g.exec("b")) }, true, true},
		{"name only", same, func(g *llbWriter) ref {
			top := plain(g)
			g.meta(top, &pb.OpMetadata{
				Description:   map[string]string{"llb.customname": "another name"},
				ProgressGroup: &pb.ProgressGroup{Id: "x"},
				Caps:          map[string]bool{"exec.meta.base": true},
			})
			return top
		}, false, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			g, h := &llbWriter{}, &llbWriter{}
			before := keysOf(t, newWorld(), g.target(plain(g)))
			w := newWorld()
			tc.world(w)
			after := keysOf(t, w, h.target(tc.graph(h)))
			if differs := before.Definition != after.Definition; differs != tc.definition {
				t.Errorf("the definition key differs: %v, want %v", differs, tc.definition)
			}
			if differs := before.Content != after.Content; differs != tc.content {
				t.Errorf("the content key differs: %v, want %v", differs, tc.content)
			}
			if before.Definition == before.Content {
				t.Error("both keys are the same")
			}
		})
	}
}

// A key is a promise to later versions: records would be lost, or worse,
// mistaken, if its derivation changed without a new domain.
func TestKeysAreStable(t *testing.T) {
	g := &llbWriter{}
	top := keysOf(t, newWorld(), g.target(g.exec("top", g.exec("a").out(1))))
	const definition = "sha256:148595e2bade93b96c7df0423f7c2115209da06eb60319bfd157abbdd62079bd"
	const content = "sha256:d6f077a01362364ab20fee797a88dae0b0eea60fd3e39c69fdfc85a84252a1e2"
	if top.Definition != definition || top.Content != content {
		t.Errorf("definition %s, content %s", top.Definition, top.Content)
	}
}
