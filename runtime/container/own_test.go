package container

import (
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/strata-build/strata/runtime/engine"
	"github.com/strata-build/strata/runtime/executor/userns"
)

func openEngine(t *testing.T, root string) *engine.Engine {
	t.Helper()
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

// TestVolumesOfAContainerBeingMade: `volume prune` beside `run` leaves the
// volumes of the new container alone.
func TestVolumesOfAContainerBeingMade(t *testing.T) {
	root := t.TempDir()
	maker, other := openEngine(t, root), openEngine(t, root)
	defer maker.Close()
	defer other.Close()
	var pruning sync.WaitGroup
	made := make(chan struct{})
	defer func() { close(made); pruning.Wait() }()
	pruning.Go(func() {
		s := New(other)
		for {
			select {
			case <-made:
				return
			default:
			}
			all, err := s.Volumes()
			for _, v := range all {
				if err := s.RemoveVolume(t.Context(), v.Name); err != nil && !errors.Is(err, ErrVolumeInUse) && !errors.Is(err, ErrNoVolume) {
					t.Errorf("remove volume: %v", err)
				}
			}
			if err != nil {
				t.Errorf("list volumes: %v", err)
			}
		}
	})
	s := New(maker)
	for range 200 {
		rec := Record{ID: newID(), Config: Config{Mounts: []Mount{{Type: MountVolume, Target: "/data"}}}}
		rec.Image.Manifest.Digest = digest.FromString("an image")
		if err := s.make(t.Context(), &rec); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Volume(rec.Config.Mounts[0].Source); err != nil {
			t.Error(err)
			break
		}
		if err := s.remove(t.Context(), rec.ID, true); err != nil {
			t.Fatal(err)
		}
	}
}

// TestCollectionLeavesWhatIsBeingMade: a container's directory is there before
// its record, and another process' prune in between leaves it alone.
func TestCollectionLeavesWhatIsBeingMade(t *testing.T) {
	root := t.TempDir()
	maker, other := openEngine(t, root), openEngine(t, root)
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
