package localsource

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/moby/buildkit/solver/pb"
	"golang.org/x/sys/unix"

	"github.com/strata-build/strata/runtime/fileop"
	"github.com/strata-build/strata/runtime/rootfs"
)

func copyAll(src, dest string) *pb.FileActionCopy {
	return &pb.FileActionCopy{Src: src, Dest: dest, Mode: -1, Timestamp: -1, DirCopyContents: true, CreateDestPath: true}
}

func openRoot(t testing.TB, dir string) *rootfs.Root {
	t.Helper()
	r, err := rootfs.OpenDir(dir)
	must(t, err)
	t.Cleanup(func() { r.Close() })
	return r
}

func openTree(t testing.TB, m *Manifest) *Tree {
	t.Helper()
	tr, err := m.Tree()
	must(t, err)
	t.Cleanup(func() { tr.Close() })
	return tr
}

// single lets the tests run as an ordinary user, who cannot give files to root.
var single = fileop.Options{SingleID: os.Geteuid() != 0}

// What a copy from the tree makes is what was selected, and scans alike.
func TestCopyFromTree(t *testing.T) {
	src := newTree(t, contextTree...)
	must(t, os.Chmod(filepath.Join(src, "a/y"), 0o711))
	m := scan(t, src, Options{Exclude: []string{"node_modules", "a-b"}})
	dst := t.TempDir()
	must(t, fileop.Copy(ctx, openRoot(t, dst), openTree(t, m), copyAll("/", "/"), single))
	if diff := Diff(m, scan(t, dst, Options{})); len(diff) > 0 {
		t.Errorf("%+v", diff)
	}
	for _, e := range scan(t, dst, Options{}).Entries() {
		for _, old := range m.Entries() {
			if old.Path == e.Path && old.Mtime != e.Mtime {
				t.Errorf("%s: time %d, was %d", e.Path, e.Mtime, old.Mtime)
			}
		}
	}
}

// Only the files of the manifest exist.
func TestTreeIsTheSelection(t *testing.T) {
	src := newTree(t, "a=1", "d/b=2", "d/c=3", "secret=4", "l -> secret")
	m := scan(t, src, Options{Exclude: []string{"secret", "d/c"}})
	for _, p := range []string{"/secret", "/d/c", "/l"} {
		a := copyAll(p, "/x")
		a.FollowSymlink = true
		if err := fileop.Copy(ctx, openRoot(t, t.TempDir()), openTree(t, m), a, single); !errors.Is(err, fileop.ErrNotFound) {
			t.Errorf("%s: %v", p, err)
		}
	}
}

func TestChangedDuringTheBuild(t *testing.T) {
	for name, change := range map[string]func(dir string) error{
		"contents":          func(d string) error { return os.WriteFile(filepath.Join(d, "d/f"), []byte("other"), 0o644) },
		"shorter":           func(d string) error { return os.Truncate(filepath.Join(d, "d/f"), 2) },
		"removed":           func(d string) error { return os.Remove(filepath.Join(d, "d/f")) },
		"directory removed": func(d string) error { return os.RemoveAll(filepath.Join(d, "d")) },
		"symlink": func(d string) error {
			return errors.Join(os.Rename(filepath.Join(d, "d/f"), filepath.Join(d, "g")), os.Symlink("../g", filepath.Join(d, "d/f")))
		},
		"directory symlink": func(d string) error {
			return errors.Join(os.Rename(filepath.Join(d, "d"), filepath.Join(d, "e")), os.Symlink("e", filepath.Join(d, "d")))
		},
		"fifo": func(d string) error {
			return errors.Join(os.Remove(filepath.Join(d, "d/f")), unix.Mkfifo(filepath.Join(d, "d/f"), 0o600))
		},
	} {
		t.Run(name, func(t *testing.T) {
			src := newTree(t, "a=1", "d/f=text!")
			m := scan(t, src, Options{})
			must(t, change(src))
			err := Materialise(ctx, m, openRoot(t, t.TempDir()), MaterialiseOptions{Copy: single})
			if !errors.Is(err, fileop.ErrChanged) || !strings.Contains(err.Error(), `"/d/f"`) {
				t.Errorf("error %v", err)
			}
		})
	}
}

// What was appended after the scan does not count: the copy is what was
// scanned.
func TestAppendedDuringTheBuild(t *testing.T) {
	src := newTree(t, "log=one", "empty=")
	m := scan(t, src, Options{})
	must(t, os.WriteFile(filepath.Join(src, "log"), []byte("one two"), 0o644))
	must(t, os.WriteFile(filepath.Join(src, "empty"), []byte("three"), 0o644))
	dst := t.TempDir()
	must(t, Materialise(ctx, m, openRoot(t, dst), MaterialiseOptions{Copy: single}))
	if diff := Diff(m, scan(t, dst, Options{})); len(diff) > 0 {
		t.Errorf("%+v", diff)
	}
}

// A copy from the context has the same digest as one from its copy.
func TestDigestOfTreeAndRoot(t *testing.T) {
	src := newTree(t, contextTree...)
	must(t, unix.Setxattr(filepath.Join(src, "main.go"), "user.x", []byte("y"), 0))
	m := scan(t, src, Options{})
	dst := t.TempDir()
	must(t, Materialise(ctx, m, openRoot(t, dst), MaterialiseOptions{Copy: single}))
	made := fileop.RootTree(openRoot(t, dst), fileop.RootOptions{SingleID: single.SingleID})
	for _, a := range []*pb.FileActionCopy{
		copyAll("/", "/"), copyAll("/a", "/"), copyAll("/link", "/"), {Src: "/a*", Dest: "/", AllowWildcard: true, Mode: -1},
		{Src: "/", Dest: "/", IncludePatterns: []string{"**/*.go", "h?"}, DirCopyContents: true, Mode: -1},
	} {
		one, err := fileop.Digest(ctx, openTree(t, m), a)
		must(t, err)
		two, err := fileop.Digest(ctx, made, a)
		must(t, err)
		if os.Geteuid() == 0 && one != two {
			t.Errorf("%v: %s and %s", a, one, two)
		}
	}
}

func TestMaterialiseLinksWhatIsUnchanged(t *testing.T) {
	src := newTree(t, "a=1", "d/b=2", "d/c=3", "d/m=4", "t=5", "h1=6", "h2 == h1", "g=7")
	first := scan(t, src, Options{})
	one := t.TempDir()
	must(t, Materialise(ctx, first, openRoot(t, one), MaterialiseOptions{Copy: single}))

	must(t, os.WriteFile(filepath.Join(src, "d/b"), []byte("two"), 0o644))
	must(t, os.Chmod(filepath.Join(src, "d/m"), 0o600))
	must(t, unix.UtimesNano(filepath.Join(src, "t"), []unix.Timespec{{Sec: 5}, {Sec: 5}}))
	must(t, rewrite(filepath.Join(src, "h2"), "6"))
	must(t, os.WriteFile(filepath.Join(src, "new"), []byte("8"), 0o644))
	second := scan(t, src, Options{})
	two := filepath.Join(filepath.Dir(one), "two")
	must(t, os.Mkdir(two, 0o755))
	must(t, Materialise(ctx, second, openRoot(t, two), MaterialiseOptions{
		Copy: single, Previous: &Previous{Manifest: first, Root: openRoot(t, one)},
	}))
	if diff := Diff(second, scan(t, two, Options{})); len(diff) > 0 {
		t.Errorf("%+v", diff)
	}
	if diff := Diff(first, scan(t, one, Options{})); len(diff) > 0 {
		t.Errorf("the first one was changed: %+v", diff)
	}
	for name, linked := range map[string]bool{
		"a": true, "d/c": true, "g": true, "d/b": false, "d/m": false, "t": false, "h1": false, "h2": false, "new": false,
	} {
		x, _ := os.Stat(filepath.Join(one, name))
		y, err := os.Stat(filepath.Join(two, name))
		must(t, err)
		if got := x != nil && os.SameFile(x, y); got != linked {
			t.Errorf("%s is linked: %v", name, got)
		}
	}
}

func TestScanProgress(t *testing.T) {
	dir := t.TempDir()
	for i := range 2500 {
		must(t, makeEntry(dir, fmt.Sprintf("d%d/f%d=x", i%3, i)))
	}
	var got []Stats
	m := scan(t, dir, Options{Progress: func(s Stats) { got = append(got, s) }})
	last := got[len(got)-1]
	if len(got) < 3 || last.Hashed != 2500 || last.HashedBytes != 2500 || last.Bytes != 2500 {
		t.Errorf("%+v", got)
	}
	if s := m.Stats(); s.Entries != 2503 || s.Hashed != 2500 {
		t.Errorf("%+v", s)
	}
}
