package engine

import (
	"slices"
	"testing"

	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/solver/pb"

	"github.com/strata-build/strata/solver"
)

func TestDescriptions(t *testing.T) {
	base := llb.Image("example.com/base:1")
	named := llb.WithCustomName
	ran := base.Run(llb.Args([]string{"sh", "-c", "x"}), named("RUN x")).Root()
	copied := ran.File(llb.Mkdir("/a", 0o755).Mkfile("/a/b", 0o644, nil), named("WORKDIR /a"))
	linked := llb.Merge([]llb.State{copied, llb.Scratch().File(llb.Mkfile("/l", 0o644, nil), named("COPY --link l /"))})
	const pulled, step = "pulled from example.com/base:1", "mount / from exec sh -c x"
	for name, c := range map[string]struct {
		state llb.State
		n     int
		want  []string
	}{
		"image":             {base, 3, []string{pulled, pulled, pulled}},
		"no layers":         {base, 0, nil},
		"step":              {ran, 3, []string{pulled, pulled, step}},
		"actions":           {copied, 3, []string{pulled, step, "WORKDIR /a"}},
		"merge":             {linked, 5, []string{pulled, pulled, step, "WORKDIR /a", "COPY --link l /"}},
		"empty base":        {copied, 2, []string{step, "WORKDIR /a"}},
		"scratch":           {llb.Scratch(), 0, nil},
		"other output":      {ranMount(base), 1, []string{"mount /m from exec sh"}},
		"copy onto scratch": {llb.Scratch().File(llb.Copy(base, "/", "/"), named("COPY / /")), 1, []string{"COPY / /"}},
	} {
		t.Run(name, func(t *testing.T) {
			if got := descriptions(edgeOf(t, c.state), c.n); !slices.Equal(got, c.want) {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

// ranMount is the second output of a step.
func ranMount(base llb.State) llb.State {
	return base.Run(llb.Args([]string{"sh"})).AddMount("/m", llb.Scratch())
}

func edgeOf(t *testing.T, state llb.State) solver.Edge {
	t.Helper()
	def, err := state.Marshal(t.Context(), llb.LinuxAmd64)
	if err != nil {
		t.Fatal(err)
	}
	if len(def.Def) == 0 {
		return solver.Edge{}
	}
	_, edges, err := solver.Load([]*pb.Definition{def.ToPB()}...)
	if err != nil {
		t.Fatal(err)
	}
	return edges[0]
}
