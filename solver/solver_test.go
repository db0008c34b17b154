package solver_test

import (
	"testing"
)

// app is the usual graph: two sources, a stage that is built from both, and an
// image that takes one output of the stage.
func app() *llb {
	return &llb{}
}

func TestHitByDefinition(t *testing.T) {
	b := newBench(t)
	g := app()
	def := g.target(g.exec("top", g.exec("mid", g.source("base"))))
	out := b.build(def, "base", "mid", "top")
	if out.Results[0] != "top[mid[base]]" {
		t.Fatalf("result %q", out.Results[0])
	}
	reason(t, out, "top", "ran", "never built before")

	out = b.build(def)
	if out.Results[0] != "top[mid[base]]" {
		t.Fatalf("result %q", out.Results[0])
	}
	reason(t, out, "top", "cached", "unchanged")
	reason(t, out, "mid", "cached", "not needed, as what uses it was found")
}
