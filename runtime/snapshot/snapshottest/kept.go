package snapshottest

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/strata-build/strata/runtime/snapshot"
	"github.com/strata-build/strata/runtime/store"
)

// kept opens a kept tree.
func (s *suite) kept(id string, parents ...string) openTree {
	s.t.Helper()
	t, err := s.sn.OpenKept(s.ctx(), id, parents)
	s.must(err)
	return s.openTree(id, t)
}

// testKept: what is written to a kept tree is there for the next process, and
// nothing of it reaches the layers below.
func testKept(s *suite) {
	s.layer("l", nil, func(root string) {
		s.write(filepath.Join(root, "old"), "old")
		s.write(filepath.Join(root, "gone"), "gone")
	})
	s.must(s.sn.Keep(s.ctx(), "k", []string{"l"}))
	if err := s.sn.Keep(s.ctx(), "k", []string{"l"}); !errors.Is(err, snapshot.ErrExists) {
		s.t.Errorf("a second tree of the same id: %v, want ErrExists", err)
	}
	o := s.kept("k", "l")
	s.write(o.path("new"), "new")
	s.must(os.Remove(o.path("gone")))
	s.must(o.file.Close())

	again := newSuite(s.t, s.open, s.st.Root(), "")
	s.must(again.sn.Reap(s.ctx()))
	o = again.kept("k", "l")
	if got := again.read(o.path("new")) + again.read(o.path("old")); got != "newold" {
		s.t.Errorf("the next process reads %q", got)
	}
	if _, err := os.Lstat(o.path("gone")); !errors.Is(err, os.ErrNotExist) {
		s.t.Errorf("a removed file is there again: %v", err)
	}
	s.must(o.file.Close())
	if got := s.read(filepath.Join(s.layerDir("l"), "gone")); got != "gone" {
		s.t.Errorf("the layer's file became %q", got)
	}
}

// testKeptChanged: what a kept tree changes becomes a layer that shows the
// same.
func testKeptChanged(s *suite) {
	s.layer("l", nil, func(root string) { s.write(filepath.Join(root, "gone"), "gone") })
	s.must(s.sn.Keep(s.ctx(), "k", []string{"l"}))
	o := s.kept("k", "l")
	s.write(o.path("new"), "new")
	s.must(os.Remove(o.path("gone")))
	s.must(o.file.Close())
	s.must(s.sn.Changed(s.ctx(), "k", []string{"l"}, func(dir string) error {
		if got := s.read(filepath.Join(dir, "new")); got != "new" {
			s.t.Errorf("the change reads %q", got)
		}
		_, err := os.Lstat(filepath.Join(dir, "gone")) // a whiteout
		return err
	}))
}

// testKeptIsCollected: a kept tree lives as long as a record refers to it.
func testKeptIsCollected(s *suite) {
	s.must(s.sn.Keep(s.ctx(), "k", nil))
	s.must(s.st.PutRecord("containers", "c", 1, snapshot.KeptRef("k")))
	s.must(s.st.ReleaseMade())
	policy := store.Policy{Roots: []string{"containers"}}
	_, err := s.st.Collect(s.ctx(), policy, s.sn.Owner(), s.sn.KeptOwner())
	s.must(err)
	o := s.kept("k")
	s.must(o.file.Close())
	s.must(s.st.DeleteRecord("containers", "c"))
	_, err = s.st.Collect(s.ctx(), policy, s.sn.Owner(), s.sn.KeptOwner())
	s.must(err)
	if _, err := s.sn.OpenKept(s.ctx(), "k", nil); !errors.Is(err, snapshot.ErrNotFound) {
		s.t.Errorf("after its record is gone: %v, want ErrNotFound", err)
	}
	if err := s.sn.DropKept("k"); !errors.Is(err, snapshot.ErrNotFound) {
		s.t.Errorf("removed twice: %v, want ErrNotFound", err)
	}
}

// testKeptIsDeleted: a kept tree that was dropped takes no space any more.
func testKeptIsDeleted(s *suite) {
	s.must(s.sn.Keep(s.ctx(), "k", nil))
	o := s.kept("k")
	for i := range 500 { // more than is deleted by the way
		s.mkdir(o.path(fmt.Sprintf("d%d", i)))
		s.write(o.path(fmt.Sprintf("d%d/f", i)), "f")
	}
	s.must(o.file.Close())
	s.must(s.sn.DropKept("k"))
	left, err := os.ReadDir(filepath.Join(s.st.Root(), "snapshots", "trash"))
	s.must(err)
	if len(left) > 0 {
		s.t.Errorf("left in the trash: %v", left)
	}
}

func testKeptHostileNames(s *suite) {
	for _, id := range []string{"", ".", "..", "../layers", "a/b", "/etc"} {
		if err := s.sn.Keep(s.ctx(), id, nil); !errors.Is(err, store.ErrInvalidName) {
			s.t.Errorf("keep %q: %v, want ErrInvalidName", id, err)
		}
		if err := s.sn.DropKept(id); !errors.Is(err, store.ErrInvalidName) {
			s.t.Errorf("drop %q: %v, want ErrInvalidName", id, err)
		}
	}
}
