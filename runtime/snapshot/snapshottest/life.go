package snapshottest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/strata-build/strata/runtime/snapshot"
	"github.com/strata-build/strata/runtime/store"
)

func testCommitTwice(s *suite) {
	s.layer("l", nil, func(root string) { s.write(filepath.Join(root, "f"), "first") })
	o := s.prepare()
	s.write(o.path("f"), "second")
	s.must(o.file.Close())
	if err := s.sn.Commit(s.ctx(), "l", o.key); !errors.Is(err, snapshot.ErrExists) {
		s.t.Errorf("commit over a layer: %v, want ErrExists", err)
	}
	if got := s.read(filepath.Join(s.layerDir("l"), "f")); got != "first" {
		s.t.Errorf("the layer became %q", got)
	}
	for _, key := range []string{o.key, "never"} {
		if err := s.sn.Commit(s.ctx(), "other", key); !errors.Is(err, snapshot.ErrNotFound) {
			s.t.Errorf("commit of %s, which is gone: %v, want ErrNotFound", key, err)
		}
	}
}

// testCommitConcurrently: of several commits of one id, exactly one counts.
func testCommitConcurrently(s *suite) {
	keys := make([]string, 8)
	for i := range keys {
		o := s.prepare()
		s.write(o.path("f"), o.key)
		s.must(o.file.Close())
		keys[i] = o.key
	}
	var wg sync.WaitGroup
	var won atomic.Value
	var wins atomic.Int32
	for _, key := range keys {
		wg.Go(func() {
			switch err := s.sn.Commit(s.ctx(), "l", key); {
			case err == nil:
				wins.Add(1)
				won.Store(key)
			case !errors.Is(err, snapshot.ErrExists):
				s.t.Error(err)
			}
		})
	}
	wg.Wait()
	if wins.Load() != 1 {
		s.t.Fatalf("%d commits of one id succeeded", wins.Load())
	}
	if got := s.read(filepath.Join(s.layerDir("l"), "f")); got != won.Load() {
		s.t.Errorf("the layer is that of %s, not of %s", got, won.Load())
	}
}

func testPrepareConcurrently(s *suite) {
	s.layer("base", nil, func(root string) { s.write(filepath.Join(root, "f"), "x") })
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for j := range 5 {
				id := fmt.Sprintf("l%d-%d", i, j)
				if err := s.concurrentStep(id); err != nil {
					s.t.Errorf("%s: %v", id, err)
				}
			}
		})
	}
	wg.Wait()
}

func (s *suite) concurrentStep(id string) error {
	t, err := s.sn.Prepare(s.ctx(), id, []string{"base"})
	if err != nil {
		return err
	}
	f, err := t.Open()
	if err != nil {
		return err
	}
	root := fmt.Sprintf("/proc/self/fd/%d", f.Fd())
	err = os.WriteFile(root+"/f", []byte(id), 0o644)
	if err := errors.Join(err, f.Close(), s.sn.Commit(s.ctx(), id, id)); err != nil {
		return err
	}
	dir, err := s.sn.Layer(id)
	if err != nil {
		return err
	}
	if got, err := os.ReadFile(dir + "/f"); err != nil || string(got) != id {
		return fmt.Errorf("the layer holds %q, %w", got, err)
	}
	return nil
}

func testMissing(s *suite) {
	s.raw("l", func(string) {})
	for what, err := range map[string]error{
		"layer":   second(s.sn.Layer("missing")),
		"prepare": second(s.sn.Prepare(s.ctx(), "k1", []string{"l", "missing"})),
		"view":    second(s.sn.View(s.ctx(), "k2", []string{"missing", "l"})),
		"remove":  s.sn.Remove(s.ctx(), "missing"),
		"usage":   third(s.sn.Usage(s.ctx(), "missing")),
	} {
		if !errors.Is(err, snapshot.ErrNotFound) {
			s.t.Errorf("%s: %v, want ErrNotFound", what, err)
		}
	}
	// What failed has not taken the key.
	for _, key := range []string{"k1", "k2"} {
		_, err := s.sn.Prepare(s.ctx(), key, []string{"l"})
		s.must(err)
		_, err = s.sn.Prepare(s.ctx(), key, nil)
		if !errors.Is(err, snapshot.ErrExists) {
			s.t.Errorf("prepare %s twice: %v, want ErrExists", key, err)
		}
		if _, err := s.sn.View(s.ctx(), key, nil); !errors.Is(err, snapshot.ErrExists) {
			s.t.Errorf("view %s as well: %v, want ErrExists", key, err)
		}
		if _, err := s.sn.NewLayer(s.ctx(), key); !errors.Is(err, snapshot.ErrExists) {
			s.t.Errorf("new layer %s as well: %v, want ErrExists", key, err)
		}
		s.must(s.sn.Remove(s.ctx(), key))
	}
}

func second[T any](_ T, err error) error        { return err }
func third[T, U any](_ T, _ U, err error) error { return err }

// testHostileNames: no id leaves the store's directory (CVE-2026-33747). Keys
// may be anything.
func testHostileNames(s *suite) {
	for _, id := range []string{
		"", ".", "..", "../x", "../../../x", "/etc", "a/b", "a/../../b", "a\x00b", ".hidden", "-rf", "a b",
		strings.Repeat("x", 200),
	} {
		key := "key " + id
		_, err := s.sn.NewLayer(s.ctx(), key)
		s.must(err)
		for what, err := range map[string]error{
			"commit":  s.sn.Commit(s.ctx(), id, key),
			"layer":   second(s.sn.Layer(id)),
			"usage":   third(s.sn.Usage(s.ctx(), id)),
			"prepare": second(s.sn.Prepare(s.ctx(), "p", []string{id})),
			"view":    second(s.sn.View(s.ctx(), "v", []string{id})),
		} {
			if !errors.Is(err, store.ErrInvalidName) {
				s.t.Errorf("%s %q: %v, want ErrInvalidName", what, id, err)
			}
		}
		if err := s.sn.Remove(s.ctx(), id); !errors.Is(err, snapshot.ErrNotFound) {
			s.t.Errorf("remove %q: %v, want ErrNotFound", id, err)
		}
		s.must(s.sn.Remove(s.ctx(), key))
	}
	o := s.prepare()
	s.must(o.file.Close())
	entries, err := os.ReadDir(filepath.Dir(s.st.Root()))
	if err != nil || len(entries) != 1 {
		s.t.Errorf("beside the store there is %v, %v", entries, err)
	}
}

func testRemoveActive(s *suite) {
	s.raw("base", func(dir string) { s.write(filepath.Join(dir, "f"), "x") })
	o := s.prepare("base")
	s.write(o.path("g"), "x")
	s.must(o.file.Close())
	s.must(s.sn.Remove(s.ctx(), o.key))
	if err := s.sn.Commit(s.ctx(), "l", o.key); !errors.Is(err, snapshot.ErrNotFound) {
		s.t.Errorf("commit after remove: %v, want ErrNotFound", err)
	}
	again, err := s.sn.Prepare(s.ctx(), o.key, []string{"base"})
	s.must(err)
	o = s.openTree(o.key, again)
	if got := s.describe(o.root).names(); got != "f" {
		s.t.Errorf("a new active of the same key shows %s", got)
	}
	s.must(o.file.Close())
	s.must(s.sn.Remove(s.ctx(), o.key))
	s.must(s.sn.Reap(s.ctx()))
	s.isEmpty("trash")
}

func testRemoveLayer(s *suite) {
	s.layer("l", nil, func(root string) { s.write(filepath.Join(root, "f"), "first") })
	s.must(s.sn.Remove(s.ctx(), "l"))
	if _, err := s.sn.Layer("l"); !errors.Is(err, snapshot.ErrNotFound) {
		s.t.Errorf("the removed layer: %v, want ErrNotFound", err)
	}
	s.layer("l", nil, func(root string) { s.write(filepath.Join(root, "f"), "second") })
	if got := s.read(s.view("l").path("f")); got != "second" {
		s.t.Errorf("the layer that was made anew holds %q", got)
	}
	s.must(s.sn.Reap(s.ctx()))
	s.isEmpty("trash")
	// A key that is also a layer's id: the active goes first.
	_, err := s.sn.NewLayer(s.ctx(), "l")
	s.must(err)
	s.must(s.sn.Remove(s.ctx(), "l"))
	s.layerDir("l")
}

// testRemoveHostileTree: a step leaves links to the outside (CVE-2024-23652),
// directories without permissions, and other users' files.
func testRemoveHostileTree(s *suite) {
	outside := s.t.TempDir()
	s.write(filepath.Join(outside, "f"), "precious")
	o := s.prepare()
	s.must(os.Symlink(outside, o.path("link")))
	s.mkdir(o.path("a/b/c"))
	s.must(os.Symlink("../../../../../..", o.path("a/b/up")))
	s.write(o.path("a/b/c/f"), "x")
	if s.canChown() {
		s.must(os.Lchown(o.path("a/b/c/f"), 1234, 5678))
		s.must(os.Lchown(o.path("a/b"), 4321, 8765))
	}
	s.must(os.Chmod(o.path("a/b"), 0))
	s.must(o.file.Close())
	s.must(s.sn.Remove(s.ctx(), o.key))
	s.must(s.sn.Reap(s.ctx()))
	s.isEmpty("trash")
	if got := s.read(filepath.Join(outside, "f")); got != "precious" {
		s.t.Errorf("the file outside holds %q", got)
	}
}

func testUsage(s *suite) {
	s.raw("l", func(dir string) {
		s.write(filepath.Join(dir, "f"), strings.Repeat("x", 100_000))
		s.must(os.Link(filepath.Join(dir, "f"), filepath.Join(dir, "g")))
		s.mkdir(filepath.Join(dir, "d"))
	})
	for range 2 { // computed, and remembered
		bytes, inodes, err := s.sn.Usage(s.ctx(), "l")
		s.must(err)
		if inodes != 3 || bytes < 100_000 || bytes > 150_000 {
			s.t.Errorf("%d bytes in %d inodes, want some 100,000 in 3", bytes, inodes)
		}
		// Were it computed again, this would be seen.
		s.write(filepath.Join(s.layerDir("l"), "late"), "x")
	}
}

func testWalk(s *suite) {
	s.raw("l1", func(string) {})
	s.raw("l2", func(string) {})
	o := s.prepare("l1")
	defer o.file.Close()
	layers, actives := 0, 0
	err := s.sn.Walk(s.ctx(), func(i snapshot.Info) error {
		if i.Created.IsZero() {
			s.t.Errorf("%+v has no time", i)
		}
		if i.Active {
			actives++
			return nil
		}
		layers++
		if i.Dir != s.layerDir(i.ID) {
			s.t.Errorf("%+v has the directory %s", i, s.layerDir(i.ID))
		}
		return nil
	})
	// The copy driver keeps its flats among the actives.
	if err != nil || layers != 2 || actives < 1 {
		s.t.Errorf("%d layers, %d actives, %v, want 2 and at least 1", layers, actives, err)
	}
	stop := errors.New("stop")
	if err := s.sn.Walk(s.ctx(), func(snapshot.Info) error { return stop }); !errors.Is(err, stop) {
		s.t.Errorf("%v, want the callback's error", err)
	}
}

// testReapDeadProcess: what a process leaves behind never counts and goes
// with the next Reap; what a living one has stays.
func testReapDeadProcess(s *suite) {
	s.raw("base", func(dir string) { s.write(filepath.Join(dir, "f"), "x") })
	st, err := store.Open(s.st.Root())
	s.must(err)
	dead := &suite{t: s.t, open: s.open, st: st, sn: s.open(s.t, st)}
	o := dead.prepare("base")
	dead.write(o.path("g"), "x")
	s.must(o.file.Close())
	alive := s.prepare("base")
	s.must(s.sn.Reap(s.ctx()))
	if got := s.actives(); got < 2 {
		s.t.Errorf("%d actives of living processes", got)
	}
	s.must(st.Close()) // as far as the store can see, this is the end of it
	s.must(s.sn.Reap(s.ctx()))
	s.write(alive.path("g"), "x")
	s.commit("l", alive)
	s.must(s.sn.Reap(s.ctx()))
	if got := s.describe(s.view("base", "l").root).names(); got != "f g" {
		s.t.Errorf("the living process's layer shows %s", got)
	}
	own, err := s.st.Owner()
	s.must(err)
	err = s.sn.Walk(s.ctx(), func(i snapshot.Info) error {
		if i.Active && !strings.HasPrefix(i.ID, own+".") {
			s.t.Errorf("the dead process's active %s is left", i.ID)
		}
		return nil
	})
	s.must(err)
}

func (s *suite) actives() int {
	s.t.Helper()
	n := 0
	s.must(s.sn.Walk(s.ctx(), func(i snapshot.Info) error {
		if i.Active {
			n++
		}
		return nil
	}))
	return n
}

// testNextBoot: a layer that was never synced is gone with the power, and can
// be made again; one that was synced counts.
func testNextBoot(s *suite) {
	root := filepath.Join(s.t.TempDir(), "store")
	first := newSuite(s.t, s.open, root, "boot-1")
	first.raw("synced", func(dir string) { s.write(filepath.Join(dir, "f"), "x") })
	s.must(first.st.Sync(s.ctx()))
	for _, id := range []string{"lost", "reaped"} {
		first.raw(id, func(dir string) { s.write(filepath.Join(dir, "f"), "damaged") })
	}
	next := newSuite(s.t, s.open, root, "boot-2")
	next.layerDir("synced")
	if _, err := next.sn.Layer("lost"); !errors.Is(err, snapshot.ErrNotFound) {
		s.t.Errorf("the layer that was not synced: %v, want ErrNotFound", err)
	}
	if _, err := next.sn.Prepare(s.ctx(), "k", []string{"lost"}); !errors.Is(err, snapshot.ErrNotFound) {
		s.t.Errorf("prepare on it: %v, want ErrNotFound", err)
	}
	next.layer("lost", nil, func(root string) { s.write(filepath.Join(root, "f"), "whole") })
	s.must(next.sn.Reap(s.ctx()))
	if got := s.read(next.view("lost").path("f")); got != "whole" {
		s.t.Errorf("the layer that was made again holds %q", got)
	}
	if _, err := os.Lstat(filepath.Join(root, "snapshots/layers/reaped")); !errors.Is(err, os.ErrNotExist) {
		s.t.Errorf("a Reap leaves the layer that does not count: %v", err)
	}
	next.layerDir("synced")
}

// testCollect: the store collects layers through Owner.
func testCollect(s *suite) {
	for _, id := range []string{"kept", "leased", "dropped"} {
		s.raw(id, func(dir string) { s.write(filepath.Join(dir, "f"), strings.Repeat("x", 10_000)) })
	}
	s.must(s.st.PutRecord("images", "i", 1, snapshot.Ref("kept")))
	r, err := s.st.Collect(s.ctx(), store.Policy{}, s.sn.Owner())
	s.must(err)
	if len(r.Removed) != 0 {
		s.t.Errorf("collected what this process has just made: %+v", r)
	}
	lease, err := s.st.NewLease(s.ctx())
	s.must(err)
	s.must(lease.Add(snapshot.Ref("leased")))
	s.must(s.st.ReleaseMade())
	r, err = s.st.Collect(s.ctx(), store.Policy{}, s.sn.Owner())
	s.must(err)
	if len(r.Removed) != 1 || r.Removed[0].Ref != snapshot.Ref("dropped") || r.Bytes < 10_000 {
		s.t.Errorf("collected %+v", r)
	}
	s.layerDir("kept")
	s.layerDir("leased")
	if _, err := s.sn.Layer("dropped"); !errors.Is(err, snapshot.ErrNotFound) {
		s.t.Errorf("the collected layer: %v", err)
	}
	s.must(lease.Close())
	s.must(s.sn.Reap(s.ctx()))
	s.isEmpty("trash")
}

func testCancelled(s *suite) {
	s.raw("base", func(string) {})
	ctx, cancel := context.WithCancel(s.ctx())
	cancel()
	for what, err := range map[string]error{
		"prepare": second(s.sn.Prepare(ctx, "k", []string{"base"})),
		"view":    second(s.sn.View(ctx, "k", []string{"base"})),
		"new":     second(s.sn.NewLayer(ctx, "k")),
	} {
		if !errors.Is(err, context.Canceled) {
			s.t.Errorf("%s: %v, want canceled", what, err)
		}
	}
	_, err := s.sn.NewLayer(s.ctx(), "k")
	if err != nil {
		s.t.Errorf("what was cancelled has kept its key: %v", err)
	}
}
