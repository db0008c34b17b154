package tree_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/strata-build/strata/runtime/tree"
)

// remover is a visitor during whose visit to "a" everything else goes away.
type remover struct {
	t       *testing.T
	root    string
	visited []string
}

// Enter implements tree.Visitor.
func (r *remover) Enter(e *tree.Entry) error {
	r.visited = append(r.visited, e.Path)
	if e.Path == "a" {
		for _, name := range []string{"dir", "file"} {
			if err := os.RemoveAll(filepath.Join(r.root, name)); err != nil {
				r.t.Error(err)
			}
		}
	}
	return nil
}

// Leave implements tree.Visitor.
func (r *remover) Leave(*tree.Entry) error { return nil }

// TestWalkOfAChangingTree: what a running container deletes is no reason to
// fail for who only measures.
func TestWalkOfAChangingTree(t *testing.T) {
	for _, changing := range []bool{true, false} {
		root := t.TempDir()
		for _, name := range []string{"a", "file", "z"} {
			if err := os.WriteFile(filepath.Join(root, name), nil, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.MkdirAll(filepath.Join(root, "dir", "below"), 0o755); err != nil {
			t.Fatal(err)
		}
		r := &remover{t: t, root: root}
		err := tree.Walk(t.Context(), tree.WalkRequest{Layers: []string{root}, Raw: true, Changing: changing}, r)
		switch {
		case changing && (err != nil || !slices.Equal(r.visited, []string{"", "a", "z"})):
			t.Errorf("visited %q: %v", r.visited, err)
		case !changing && !errors.Is(err, os.ErrNotExist):
			t.Errorf("a tree that should not change: %v", err)
		}
	}
}
