package store_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/strata-build/strata/runtime/store"
)

// holdAlone takes a lock and checks that nobody else can have it meanwhile.
func holdAlone(t *testing.T, s *store.Store, name string, inside *atomic.Int32) {
	l, err := s.Lock(context.Background(), name)
	if err != nil {
		t.Error(err)
		return
	}
	if inside.Add(1) != 1 {
		t.Error("two hold the lock")
	}
	if _, ok, err := s.TryLock(name); ok || err != nil {
		t.Errorf("a held lock can be taken: %v, %v", ok, err)
	}
	inside.Add(-1)
	if err := l.Unlock(); err != nil {
		t.Error(err)
	}
}

func TestLockExcludes(t *testing.T) {
	s := newStore(t)
	var wg sync.WaitGroup
	var inside, turns atomic.Int32
	for range 8 {
		wg.Go(func() {
			for range 50 {
				holdAlone(t, s, "name", &inside)
				turns.Add(1)
			}
		})
	}
	wg.Wait()
	if turns.Load() != 400 {
		t.Errorf("%d turns, want 400", turns.Load())
	}
}

func TestTryLock(t *testing.T) {
	s := newStore(t)
	l, ok, err := s.TryLock("name")
	if !ok || err != nil {
		t.Fatal(ok, err)
	}
	if _, ok, err := s.TryLock("name"); ok || err != nil {
		t.Errorf("locked twice: %v, %v", ok, err)
	}
	other, ok, err := s.TryLock("other")
	if !ok || err != nil {
		t.Errorf("another name: %v, %v", ok, err)
	}
	must(t, errors.Join(l.Unlock(), other.Unlock()))
	if _, ok := s.Holder("name"); ok {
		t.Error("a free lock has a holder")
	}
}

// A lock is held whether or not its holder could write down who it is, as on a
// full disk: containers are known to run by it.
func TestHolderWithoutName(t *testing.T) {
	s := newStore(t)
	l, err := s.Lock(context.Background(), "name")
	must(t, err)
	must(t, os.Truncate(store.LockPath(s, "name"), 0))
	if h, ok := s.Holder("name"); !ok || h.String() != "another process" {
		t.Errorf("the holder is %q, %v", h, ok)
	}
	must(t, l.Unlock())
}

func TestLockCancelled(t *testing.T) {
	s := newStore(t)
	held, err := s.Lock(context.Background(), "name")
	must(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	failed := make(chan error)
	go func() {
		_, err := s.Lock(ctx, "name")
		failed <- err
	}()
	cancel()
	err = <-failed
	if !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "this process") {
		t.Errorf("%v, want canceled, and who holds it", err)
	}
	must(t, held.Unlock())
	// The wait that was given up must not keep the lock.
	l, err := s.Lock(context.Background(), "name")
	must(t, err)
	must(t, l.Unlock())
}

// A collection removes the files of free locks while others take them: a
// lock on a removed file must not count.
func TestLockFilesRemoved(t *testing.T) {
	s := newStore(t)
	stop := make(chan struct{})
	var removing, locking sync.WaitGroup
	removing.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			if err := store.DropLocks(context.Background(), s); err != nil {
				t.Error(err)
				return
			}
		}
	})
	var inside [2]atomic.Int32
	for i := range 6 {
		locking.Go(func() {
			for range 300 {
				holdAlone(t, s, fmt.Sprint(i%2), &inside[i%2])
			}
		})
	}
	locking.Wait()
	close(stop)
	removing.Wait()
	must(t, store.DropLocks(context.Background(), s))
	if entries, err := os.ReadDir(s.Root() + "/locks"); err != nil || len(entries) != 0 {
		t.Errorf("lock files left: %v, %v", entries, err)
	}
}

// Acquire may be nested while a collection waits for the lock.
func TestAcquireNested(t *testing.T) {
	s := newStore(t)
	collected := make(chan error, 1)
	err := s.Acquire(func() error {
		go func() {
			_, err := s.Collect(context.Background(), store.Policy{})
			collected <- err
		}()
		for range 100 {
			if err := s.PutRecord("b", "k", 1); err != nil {
				return err
			}
			select {
			case err := <-collected:
				return fmt.Errorf("collected during an Acquire: %w", err)
			default:
			}
		}
		return nil
	})
	must(t, err)
	must(t, <-collected)
}
