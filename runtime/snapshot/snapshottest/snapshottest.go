// Package snapshottest is the conformance suite of snapshotters: every
// driver, as root and in a user namespace, passes the same tests.
//
// Its strongest test (Random) changes trees at random, step after step, and
// demands that a view of the committed layers shows exactly what the steps
// saw.
package snapshottest

import (
	"context"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/strata-build/strata/runtime/mount"
	"github.com/strata-build/strata/runtime/snapshot"
	"github.com/strata-build/strata/runtime/store"
	"github.com/strata-build/strata/runtime/tree"
)

// OpenFunc opens the snapshotter under test on a store.
type OpenFunc func(t *testing.T, st *store.Store) snapshot.Snapshotter

// Run runs the whole suite.
func Run(t *testing.T, open OpenFunc) {
	for _, c := range []struct {
		name string
		test func(*suite)
	}{
		{"Scratch", testScratch},
		{"Layers", testLayers},
		{"LayersStayAsTheyAre", testLayersStay},
		{"RawLayer", testRawLayer},
		{"SingleLayerView", testSingleLayerView},
		{"RootAttributes", testRootAttributes},
		{"ReadOnlyView", testReadOnlyView},
		{"ManyLayers", testManyLayers},
		{"Random", testRandom},
		{"CommitTwice", testCommitTwice},
		{"CommitConcurrently", testCommitConcurrently},
		{"PrepareConcurrently", testPrepareConcurrently},
		{"Missing", testMissing},
		{"HostileNames", testHostileNames},
		{"RemoveActive", testRemoveActive},
		{"RemoveLayer", testRemoveLayer},
		{"RemoveHostileTree", testRemoveHostileTree},
		{"Usage", testUsage},
		{"Walk", testWalk},
		{"ReapDeadProcess", testReapDeadProcess},
		{"NextBoot", testNextBoot},
		{"Collect", testCollect},
		{"Cancelled", testCancelled},
		{"Kept", testKept},
		{"KeptChanged", testKeptChanged},
		{"KeptIsCollected", testKeptIsCollected},
		{"KeptIsDeleted", testKeptIsDeleted},
		{"KeptHostileNames", testKeptHostileNames},
	} {
		t.Run(c.name, func(t *testing.T) {
			root := filepath.Join(t.TempDir(), "store")
			c.test(newSuite(t, open, root, ""))
		})
	}
}

// suite is one test's snapshotter, with helpers that fail the test.
type suite struct {
	t    *testing.T
	open OpenFunc
	st   *store.Store
	sn   snapshot.Snapshotter
	keys int
}

// newSuite opens a store, which may exist already, in the given boot.
func newSuite(t *testing.T, open OpenFunc, root, boot string) *suite {
	t.Helper()
	st, err := store.New(store.Options{Root: root, BootID: boot})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := st.Close(); err != nil {
			t.Errorf("close store: %v", err)
		}
	})
	return &suite{t: t, open: open, st: st, sn: open(t, st)}
}

func (s *suite) ctx() context.Context { return context.Background() }

func (s *suite) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

func (s *suite) key() string {
	s.keys++
	return "key/" + strconv.Itoa(s.keys)
}

// tree is an opened tree; its root can be used as a path.
type openTree struct {
	key  string
	root string
	file *os.File
}

func (o openTree) path(name string) string { return filepath.Join(o.root, name) }

func (s *suite) openTree(key string, t mount.Tree) openTree {
	s.t.Helper()
	f, err := t.Open()
	s.must(err)
	s.t.Cleanup(func() { _ = f.Close() }) // mostly closed already
	return openTree{key: key, root: "/proc/self/fd/" + strconv.Itoa(int(f.Fd())), file: f}
}

func (s *suite) prepare(parents ...string) openTree {
	s.t.Helper()
	key := s.key()
	t, err := s.sn.Prepare(s.ctx(), key, parents)
	s.must(err)
	return s.openTree(key, t)
}

// commit closes the tree and makes it a layer.
func (s *suite) commit(id string, o openTree) {
	s.t.Helper()
	s.must(o.file.Close())
	s.must(s.sn.Commit(s.ctx(), id, o.key))
}

// layer makes a layer on top of parents with what change does.
func (s *suite) layer(id string, parents []string, change func(root string)) {
	s.t.Helper()
	o := s.prepare(parents...)
	change(o.root)
	s.commit(id, o)
}

// view opens a view, which ends with the test.
func (s *suite) view(layers ...string) openTree {
	s.t.Helper()
	key := s.key()
	t, err := s.sn.View(s.ctx(), key, layers)
	s.must(err)
	o := s.openTree(key, t)
	s.t.Cleanup(func() {
		_ = o.file.Close()
		if err := s.sn.Remove(s.ctx(), key); err != nil {
			s.t.Errorf("remove view: %v", err)
		}
	})
	return o
}

// raw makes a layer that fill writes in overlay format.
func (s *suite) raw(id string, fill func(dir string)) {
	s.t.Helper()
	key := s.key()
	dir, err := s.sn.NewLayer(s.ctx(), key)
	s.must(err)
	fill(dir)
	s.must(s.sn.Commit(s.ctx(), id, key))
}

func (s *suite) opaqueXattr() string {
	return tree.Format{UserXattr: s.sn.UserXattr()}.OpaqueXattr()
}

func (s *suite) layerDir(id string) string {
	s.t.Helper()
	dir, err := s.sn.Layer(id)
	s.must(err)
	return dir
}

// isEmpty fails the test unless the snapshots' directory of that name is.
func (s *suite) isEmpty(dir string) {
	s.t.Helper()
	entries, err := os.ReadDir(filepath.Join(s.st.Root(), "snapshots", dir))
	s.must(err)
	if len(entries) != 0 {
		s.t.Errorf("in %s there is %v", dir, entries)
	}
}
