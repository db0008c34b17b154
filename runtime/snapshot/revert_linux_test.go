package snapshot_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/strata-build/strata/runtime/mount"
	"github.com/strata-build/strata/runtime/snapshot"
)

var past = time.Unix(1000, 5)

// dirs makes directories of a layer with a mode and a time, files by a path
// that ends in "file".
func dirs(t *testing.T, paths ...string) string {
	t.Helper()
	layer := t.TempDir()
	for _, p := range paths {
		name := filepath.Join(layer, p)
		if filepath.Base(p) == "file" {
			if err := os.WriteFile(name, nil, 0o644); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if err := os.Mkdir(name, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return layer
}

// stamp gives everything in a layer one time.
func stamp(t *testing.T, layer string) {
	t.Helper()
	err := filepath.WalkDir(layer, func(p string, _ os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Chtimes(p, past, past)
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestRevert(t *testing.T) {
	for name, c := range map[string]struct {
		lower  [][]string // bottom first
		upper  []string
		change func(t *testing.T, upper string)
		revert string
		want   []string // what is left
		opaque string   // of the upmost lower layer
	}{
		"unchanged":            {lower: [][]string{{"etc"}}, upper: []string{"etc"}, revert: "/etc"},
		"with its parents":     {lower: [][]string{{"a", "a/b", "a/b/c"}}, upper: []string{"a", "a/b", "a/b/c"}, revert: "/a/b/c"},
		"up to one that holds": {lower: [][]string{{"a", "a/b"}}, upper: []string{"a", "a/b", "a/file"}, revert: "/a/b", want: []string{"a", "a/file"}},
		"not empty":            {lower: [][]string{{"etc"}}, upper: []string{"etc", "etc/file"}, revert: "/etc", want: []string{"etc", "etc/file"}},
		"new":                  {lower: [][]string{{"usr"}}, upper: []string{"etc"}, revert: "/etc", want: []string{"etc"}},
		"once a file":          {lower: [][]string{{"etc"}, {"file"}}, upper: []string{"file"}, revert: "/file", want: []string{"file"}},
		"hidden by a file":     {lower: [][]string{{"a", "a/file"}, {"a"}}, upper: []string{"a"}, revert: "/a/file", want: []string{"a"}},
		"not there":            {lower: [][]string{{"etc"}}, revert: "/etc"},
		"the upmost of several": {
			lower: [][]string{{"etc"}, {"usr"}}, upper: []string{"etc"}, revert: "/etc",
		},
		"another mode": {
			lower: [][]string{{"etc"}}, upper: []string{"etc"}, revert: "/etc", want: []string{"etc"},
			change: func(t *testing.T, upper string) { chmod(t, filepath.Join(upper, "etc"), 0o700) },
		},
		"another time": {
			lower: [][]string{{"etc"}}, upper: []string{"etc"}, revert: "/etc", want: []string{"etc"},
			change: func(t *testing.T, upper string) { chtimes(t, filepath.Join(upper, "etc"), past.Add(1)) },
		},
		"below an opaque directory": {
			lower: [][]string{{"a", "a/b"}}, upper: []string{"a", "a/b"}, revert: "/a/b", want: []string{"a", "a/b"},
			change: func(t *testing.T, upper string) { setOpaque(t, filepath.Join(upper, "a")) },
		},
		"hidden by an opaque directory far above": {
			lower: [][]string{{"a", "a/b", "a/b/c"}, {"a", "a/b"}}, upper: []string{"a", "a/b", "a/b/c"}, revert: "/a/b/c",
			want:   []string{"a", "a/b", "a/b/c"},
			opaque: "a",
		},
		"behind a link": {
			lower: [][]string{{"a", "a/b"}}, upper: []string{"x", "x/b"}, revert: "/a/b", want: []string{"a", "x", "x/b"},
			change: func(t *testing.T, upper string) {
				if err := os.Symlink("x", filepath.Join(upper, "a")); err != nil {
					t.Fatal(err)
				}
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			tree := mount.Tree{Upper: dirs(t, c.upper...)}
			stamp(t, tree.Upper)
			for _, paths := range c.lower {
				layer := dirs(t, paths...)
				stamp(t, layer)
				tree.Lower = append(tree.Lower, layer)
			}
			if c.opaque != "" {
				setOpaque(t, filepath.Join(tree.Lower[len(tree.Lower)-1], c.opaque))
			}
			if c.change != nil {
				c.change(t, tree.Upper)
				chtimes(t, tree.Upper, past)
			}
			if err := snapshot.Revert(tree, []string{c.revert}); err != nil {
				t.Fatal(err)
			}
			if got := everything(t, tree.Upper); !slices.Equal(got, c.want) {
				t.Errorf("left is %q, not %q", got, c.want)
			}
			if info, err := os.Stat(tree.Upper); err != nil || !info.ModTime().Equal(past) {
				t.Errorf("the time of the parent is %v, %v", info.ModTime(), err)
			}
		})
	}
}

// setOpaque marks a directory as overlayfs does without privileges.
func setOpaque(t *testing.T, dir string) {
	t.Helper()
	err := unix.Setxattr(dir, "user.overlay.opaque", []byte("y"), 0)
	if errors.Is(err, unix.ENOTSUP) {
		t.Skip("the file system has no extended attributes of users")
	}
	if err != nil {
		t.Fatal(err)
	}
}

func chmod(t *testing.T, name string, mode os.FileMode) {
	t.Helper()
	if err := os.Chmod(name, mode); err != nil {
		t.Fatal(err)
	}
}

func chtimes(t *testing.T, name string, at time.Time) {
	t.Helper()
	if err := os.Chtimes(name, at, at); err != nil {
		t.Fatal(err)
	}
}

// everything lists what is below a directory.
func everything(t *testing.T, dir string) []string {
	t.Helper()
	var list []string
	err := filepath.WalkDir(dir, func(p string, _ os.DirEntry, err error) error {
		if p != dir && err == nil {
			rel, _ := filepath.Rel(dir, p)
			list = append(list, rel)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}
