package fileop_test

import (
	"testing"

	"github.com/moby/buildkit/solver/pb"

	"github.com/strata-build/strata/runtime/fileop"
)

// TestCheck: what is refused before a copy, whether its digest is asked for
// or not.
func TestCheck(t *testing.T) {
	dir := newTree(t, "d/f=text", "d/in -> nowhere", "good -> d/f", "bad -> nowhere", "loop -> loop")
	for name, c := range map[string]struct {
		a       *pb.FileActionCopy
		refused bool
	}{
		"all":              {action("/", "/", contents, follow), false},
		"bad selected":     {action("/", "/", contents, follow, exclude("loop")), true},
		"loop selected":    {action("/", "/", contents, follow, include("l*")), true},
		"none selected":    {action("/", "/", contents, follow, exclude("bad", "loop")), false},
		"not followed":     {action("/", "/", contents, exclude("d")), false},
		"below a name":     {action("/d", "/", contents, follow, exclude("x")), false},
		"pattern":          {action("/d/[fg]", "/", wildcard, follow), false},
		"no pattern":       {action("/d/[f", "/", wildcard, follow), true},
		"no pattern, kept": {action("/d/[f", "/", follow), false},
	} {
		err := fileop.Check(fileop.RootTree(openRoot(t, dir), fileop.RootOptions{}), c.a)
		if refused := err != nil; refused != c.refused {
			t.Errorf("%s: %v", name, err)
		}
	}
}
