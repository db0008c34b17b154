package snapshottest

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

func testScratch(s *suite) {
	if got := s.describe(s.view().root); got.names() != "" {
		s.t.Errorf("a view of nothing shows %s", got.names())
	}
	o := s.prepare()
	if got := s.describe(o.root); got.names() != "" || !contains(got["."], "mode=40755") {
		s.t.Errorf("an active on nothing shows %q, its root is %s", got.names(), got["."])
	}
	s.write(o.path("f"), "x")
	s.mkdir(o.path("d/e"))
	want := s.describe(o.root)
	s.commit("l1", o)
	s.same("view", s.describe(s.view("l1").root), want)
	if got := s.read(filepath.Join(s.layerDir("l1"), "f")); got != "x" {
		s.t.Errorf("f in the layer: %q", got)
	}
}

func contains(s, part string) bool { return len(s) >= len(part) && s[:len(part)] == part }

// testLayers: each kind of change, one by one, in the layer that follows.
func testLayers(s *suite) {
	s.layer("base", nil, func(root string) {
		at := func(name string) string { return filepath.Join(root, name) }
		s.mkdir(at("dir/sub"))
		s.mkdir(at("gone/deep"))
		s.mkdir(at("replaced"))
		s.mkdir(at("tofile"))
		for _, f := range []string{"keep", "change", "delete", "mode", "owner", "xattr", "todir", "tolink", "touch",
			"dir/a", "dir/sub/b", "gone/deep/c", "replaced/old", "tofile/x", "move"} {
			s.write(at(f), "old "+f)
		}
		s.must(os.Symlink("keep", at("link")))
	})
	o := s.prepare("base")
	s.change(o)
	want := s.describe(o.root)
	if want["replaced/old"] != "" || want["delete"] != "" || want["gone"] != "" || want["replaced/new"] == "" {
		s.t.Fatalf("the change did not take place: %v", want.names())
	}
	s.commit("top", o)
	s.same("view", s.describe(s.view("base", "top").root), want)
	// A third layer undoes some of it.
	o = s.prepare("base", "top")
	s.same("active", s.describe(o.root), want)
	s.must(os.RemoveAll(o.path("replaced")))
	s.write(o.path("delete"), "back")
	s.must(os.Remove(o.path("todir/x")))
	s.must(os.Remove(o.path("todir")))
	want = s.describe(o.root)
	s.commit("third", o)
	s.same("view of three", s.describe(s.view("base", "top", "third").root), want)
}

func (s *suite) change(o openTree) {
	s.t.Helper()
	s.write(o.path("change"), "new")
	s.must(os.Remove(o.path("delete")))
	s.must(unix.Chmod(o.path("mode"), 0o4711))
	s.must(unix.Setxattr(o.path("xattr"), "user.test", []byte("value"), 0))
	s.must(os.RemoveAll(o.path("gone")))
	s.must(os.RemoveAll(o.path("replaced")))
	s.mkdir(o.path("replaced"))
	s.write(o.path("replaced/new"), "n")
	s.must(os.RemoveAll(o.path("tofile")))
	s.write(o.path("tofile"), "file")
	s.must(os.Remove(o.path("todir")))
	s.mkdir(o.path("todir"))
	s.write(o.path("todir/x"), "x")
	s.must(os.Remove(o.path("tolink")))
	s.must(os.Symlink("/nowhere", o.path("tolink")))
	s.must(os.Remove(o.path("link")))
	s.must(os.Symlink("change", o.path("link")))
	s.must(os.Rename(o.path("move"), o.path("dir/moved")))
	s.must(os.Link(o.path("change"), o.path("dir/hard")))
	s.must(unix.Chmod(o.path("dir/sub"), 0o1777))
	s.must(unix.Mkfifo(o.path("fifo"), 0o600))
	s.must(os.Chtimes(o.path("touch"), epoch, epoch))
	if s.canChown() {
		s.must(os.Lchown(o.path("owner"), 1234, 5678))
		s.must(os.Lchown(o.path("link"), 1, 2))
	}
}

// canChown reports whether ids other than our own are mapped.
func (s *suite) canChown() bool {
	probe := filepath.Join(s.t.TempDir(), "probe")
	s.write(probe, "")
	return os.Lchown(probe, 1234, 5678) == nil
}

// testLayersStay: no change through an active reaches its parents.
func testLayersStay(s *suite) {
	s.layer("base", nil, func(root string) {
		s.mkdir(filepath.Join(root, "d"))
		s.write(filepath.Join(root, "d/f"), "old")
		s.write(filepath.Join(root, "g"), "old")
		s.must(os.Link(filepath.Join(root, "g"), filepath.Join(root, "h")))
	})
	before := s.describe(s.layerDir("base"))
	o := s.prepare("base")
	f, err := os.OpenFile(o.path("d/f"), os.O_WRONLY, 0)
	s.must(err)
	_, err = f.WriteString("new")
	s.must(errors.Join(err, f.Close()))
	s.must(os.Chmod(o.path("g"), 0o600))
	s.must(os.Truncate(o.path("h"), 1))
	s.must(os.RemoveAll(o.path("d")))
	s.same("the layer below an active", s.describe(s.layerDir("base")), before)
	s.commit("top", o)
	s.same("the layer below a layer", s.describe(s.layerDir("base")), before)
	s.same("a view of it", s.describe(s.view("base").root), before)
}

// testRawLayer: what a caller writes in overlay format is understood.
func testRawLayer(s *suite) {
	s.raw("base", func(dir string) {
		s.mkdir(filepath.Join(dir, "d"))
		s.write(filepath.Join(dir, "d/hidden"), "x")
		s.write(filepath.Join(dir, "gone"), "x")
		s.write(filepath.Join(dir, "stays"), "x")
	})
	s.raw("top", func(dir string) {
		s.mkdir(filepath.Join(dir, "d"))
		s.must(unix.Setxattr(filepath.Join(dir, "d"), s.opaqueXattr(), []byte("y"), 0))
		s.write(filepath.Join(dir, "d/new"), "x")
		s.must(unix.Mknod(filepath.Join(dir, "gone"), unix.S_IFCHR, 0))
	})
	const want = "d d/new stays"
	if got := s.describe(s.view("base", "top").root).names(); got != want {
		s.t.Errorf("the view shows %s, want %s", got, want)
	}
	o := s.prepare("base", "top")
	if got := s.describe(o.root).names(); got != want {
		s.t.Errorf("the active shows %s, want %s", got, want)
	}
	s.write(o.path("d/newer"), "x")
	s.commit("third", o)
	if got := s.describe(s.view("base", "top", "third").root).names(); got != "d d/new d/newer stays" {
		s.t.Errorf("the third layer shows %s", got)
	}
}

// testSingleLayerView: a layer's whiteouts do not show, though nothing is
// below that they could hide.
func testSingleLayerView(s *suite) {
	s.raw("l", func(dir string) {
		s.write(filepath.Join(dir, "f"), "x")
		s.must(unix.Mknod(filepath.Join(dir, "gone"), unix.S_IFCHR, 0))
	})
	if got := s.describe(s.view("l").root).names(); got != "f" {
		s.t.Errorf("the view shows %s, want f", got)
	}
}

// testRootAttributes: the root directory is a file like any other.
func testRootAttributes(s *suite) {
	s.layer("base", nil, func(root string) {
		s.must(unix.Chmod(root, 0o1750))
		s.must(unix.Setxattr(root, "user.test", []byte("value"), 0))
		s.write(filepath.Join(root, "f"), "x")
	})
	want := s.describe(s.view("base").root)["."]
	if !contains(want, "mode=41750") {
		s.t.Errorf("the root of the view: %s, want the mode it was given", want)
	}
	o := s.prepare("base")
	if got := s.describe(o.root)["."]; got != want {
		s.t.Errorf("the root of an active: %s, want %s", got, want)
	}
	s.write(o.path("g"), "x")
	s.commit("top", o)
	if got := s.describe(s.view("base", "top").root)["."]; got != want {
		s.t.Errorf("the root of the next view: %s, want %s", got, want)
	}
}

func testReadOnlyView(s *suite) {
	s.layer("l", nil, func(root string) { s.write(filepath.Join(root, "f"), "x") })
	a, b := s.view("l"), s.view("l")
	for _, o := range []openTree{a, b, s.view()} {
		if err := os.WriteFile(o.path("new"), nil, 0o600); !errors.Is(err, unix.EROFS) {
			s.t.Errorf("write to a view: %v, want EROFS", err)
		}
	}
	if s.read(a.path("f"))+s.read(b.path("f")) != "xx" {
		s.t.Error("two views of the same layer do not show it")
	}
}

func testManyLayers(s *suite) {
	const n = 130
	ids := make([]string, n)
	for i := range ids {
		ids[i] = "l" + strconv.Itoa(i)
		s.raw(ids[i], func(dir string) {
			s.write(filepath.Join(dir, "own"+strconv.Itoa(i)), "x")
			s.write(filepath.Join(dir, "all"), strconv.Itoa(i))
		})
	}
	o := s.prepare(ids...)
	if got := s.read(o.path("all")); got != fmt.Sprint(n-1) {
		s.t.Errorf("all = %s, want that of the top layer", got)
	}
	for i := range ids {
		s.read(o.path("own" + strconv.Itoa(i)))
	}
	s.write(o.path("all"), "new")
	s.commit("top", o)
	if got := s.read(s.view(append(ids, "top")...).path("all")); got != "new" {
		s.t.Errorf("all = %s", got)
	}
}
