package container

import (
	"errors"
	"os"
	"testing"

	"github.com/strata-build/strata/internal/testenv"
	"github.com/strata-build/strata/runtime/engine"
)

// TestRootOfAnotherProcess: where a container's process has ended and its
// number is another's, that one's files are not taken for the container's.
func TestRootOfAnotherProcess(t *testing.T) {
	testenv.Root(t)
	rec := &Record{Name: "c", State: State{PID: os.Getpid(), StartTime: 1}}
	root, err := processRoot(rec)
	if err == nil {
		root.Close()
	}
	if !errors.Is(err, os.ErrProcessDone) {
		t.Errorf("opened the root of a process that began at another time: %v", err)
	}
}

// TestEndedMeanwhile: what could not be done because the container has ended is
// said to be that; what failed in one that runs is told as it is.
func TestEndedMeanwhile(t *testing.T) {
	e := openEngine(t, t.TempDir())
	defer e.Close()
	s := New(e)
	rec := Record{ID: newID(), Name: "c", State: State{Status: Running, PID: 7}}
	if err := e.Store.PutRecord(engine.BucketContainers, rec.ID, &rec); err != nil {
		t.Fatal(err)
	}
	failed := errors.New("no such process")
	if err := s.orEnded(&rec, failed); !errors.Is(err, ErrNotRunning) {
		t.Errorf("without a monitor: %v", err)
	}
	lock, err := e.Store.Lock(t.Context(), runLock(rec.ID))
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Unlock()
	if err := s.orEnded(&rec, failed); !errors.Is(err, failed) {
		t.Errorf("of one that runs: %v", err)
	}
	before := rec
	before.State.PID = 6
	if err := s.orEnded(&before, failed); !errors.Is(err, ErrNotRunning) {
		t.Errorf("of one that was started again: %v", err)
	}
}
