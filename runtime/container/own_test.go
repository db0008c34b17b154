package container

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/strata-build/strata/runtime/engine"
	"github.com/strata-build/strata/runtime/executor/userns"
)

// TestCollectionLeavesWhatIsBeingMade: a container's directory is there before
// its record, and another process' prune in between leaves it alone.
func TestCollectionLeavesWhatIsBeingMade(t *testing.T) {
	root := t.TempDir()
	open := func() *engine.Engine {
		info, err := userns.Current()
		if err != nil {
			t.Fatal(err)
		}
		e, err := engine.Open(t.Context(), engine.Options{Root: root, Driver: "copy", Rootless: info.Rootless, SingleID: info.SingleID})
		if err != nil {
			t.Fatal(err)
		}
		return e
	}
	maker, other := open(), open()
	defer other.Close()
	id := newID()
	if err := New(maker).makeDir(id); err != nil {
		t.Fatal(err)
	}
	exists := func() bool {
		if _, err := other.Prune(t.Context(), engine.PruneRequest{All: true}); err != nil {
			t.Fatal(err)
		}
		_, err := os.Stat(filepath.Join(root, "containers", id))
		return !errors.Is(err, os.ErrNotExist)
	}
	if !exists() {
		t.Error("prune removed the directory of a container that is being made")
	}
	if err := maker.Close(); err != nil {
		t.Fatal(err)
	}
	if exists() {
		t.Error("what a process left that has ended stays for ever")
	}
}
