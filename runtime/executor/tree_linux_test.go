package executor

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// FuzzFind looks mount points up in a tree whose symlinks, and whose target,
// are anything. What is found lies in the tree, and so does what is made.
func FuzzFind(f *testing.F) {
	for _, s := range [][3]string{
		{"/a/b", "/etc", ".."},
		{"/link/x", "../../../../../../etc", "/link"},
		{"/dir/up/up/up/new", "..", "../.."},
		{"/abs/etc/passwd", "/", "/proc/self/root"},
		{"/dir/../../link//./x/", "link", "dir/up"},
		{"relative", "", "\x00"},
	} {
		f.Add(s[0], s[1], s[2])
	}
	f.Fuzz(func(t *testing.T, target, link, up string) {
		top := t.TempDir()
		root := filepath.Join(top, "root")
		for _, dir := range []string{"root/dir", "root/mounted/deep", "outside"} {
			if err := os.MkdirAll(filepath.Join(top, dir), 0o755); err != nil {
				t.Fatal(err)
			}
		}
		if os.Symlink(link, filepath.Join(root, "link")) != nil || os.Symlink(up, filepath.Join(root, "dir", "up")) != nil {
			return // no symlink can be that
		}
		_ = os.Symlink("/", filepath.Join(root, "abs"))
		tr := tree{mounts: map[string]planned{
			"/": {file: open(t, root)}, "/proc": {}, "/m": {file: open(t, filepath.Join(root, "mounted"))},
		}}
		p, err := tr.find(target, unix.S_IFDIR, true)
		if err == nil && p.file != nil {
			at, err := os.Readlink("/proc/self/fd/" + strconv.Itoa(int(p.file.Fd())))
			if err != nil || at != root && !strings.HasPrefix(at, root+"/") {
				t.Errorf("%q leads to %s, %v", target, at, err)
			}
			p.file.Close()
		}
		if err == nil && p.file == nil && !filepath.IsLocal(p.rest) {
			t.Errorf("%q leads to %q in a mount", target, p.rest)
		}
		if err := tr.removeStubs(); err != nil {
			t.Error(err)
		}
		left := 0
		err = filepath.WalkDir(top, func(string, os.DirEntry, error) error {
			left++
			return nil
		})
		if err != nil || left != 9 {
			t.Errorf("%q: %d paths are left, %v", target, left, err)
		}
	})
}

func open(t *testing.T, path string) *os.File {
	t.Helper()
	f, err := os.OpenFile(path, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}
