package mount_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/strata-build/strata/internal/testenv"
	"github.com/strata-build/strata/runtime/mount"
	"github.com/strata-build/strata/runtime/mount/mounttest"
	"golang.org/x/sys/unix"
)

func TestRoot(t *testing.T) {
	testenv.Root(t)
	all(t, false)
}

func TestUserNamespace(t *testing.T) {
	mounttest.Inside(t, func(t *testing.T) { all(t, true) })
}

// opener opens a tree in one of the two ways that kernels need.
type opener struct {
	name      string
	userxattr bool
	open      func(mount.Tree) (*os.File, error)
}

// all runs every test, with the kernel's best way and with the way for old
// kernels.
func all(t *testing.T, userxattr bool) {
	for _, o := range []opener{
		{"appending", userxattr, mount.Tree.Open},
		{"legacy", userxattr, mount.OpenLegacy},
	} {
		t.Run(o.name, func(t *testing.T) {
			t.Run("writable", o.writable)
			t.Run("read-only", o.readOnly)
			t.Run("single-layer", o.singleLayer)
			t.Run("no-layer", o.noLayer)
			t.Run("rename-is-copy", o.renameIsCopy)
			t.Run("chmod-copies-data", o.chmodCopiesData)
			t.Run("400-layers", o.manyLayers)
			t.Run("hostile-paths", o.hostilePaths)
			t.Run("names-missing-layer", o.namesMissingLayer)
			t.Run("invisible", o.invisible)
		})
	}
	t.Run("bind", bind)
	t.Run("bind-file", bindFile)
	t.Run("tmpfs", tmpfs)
	t.Run("attach", attach)
	t.Run("dir", plainDir)
	t.Run("supported", func(t *testing.T) {
		if err := mount.OverlaySupported(t.TempDir(), userxattr); err != nil {
			t.Error(err)
		}
	})
	t.Run("unsupported", func(t *testing.T) { unsupported(t, userxattr) })
}

// tree lays out layers, bottom first, each a list of "path=content", and an
// upper and work directory.
func (o opener) tree(t *testing.T, layers ...[]string) mount.Tree {
	t.Helper()
	base := t.TempDir()
	tree := mount.Tree{
		Upper:     mkdir(t, base, "upper"),
		Work:      mkdir(t, base, "work"),
		Empty:     mkdir(t, base, "empty"),
		UserXattr: o.userxattr,
	}
	for i, files := range layers {
		dir := mkdir(t, base, fmt.Sprint("layer", i))
		tree.Lower = append(tree.Lower, dir)
		for _, f := range files {
			name, content, _ := strings.Cut(f, "=")
			mkdir(t, filepath.Dir(filepath.Join(dir, name)), ".")
			write(t, filepath.Join(dir, name), content)
		}
	}
	return tree
}

func (o opener) mustOpen(t *testing.T, tree mount.Tree) *os.File {
	t.Helper()
	m, err := o.open(tree)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	return m
}

func readOnly(tree mount.Tree) mount.Tree {
	tree.Upper, tree.Work, tree.ReadOnly = "", "", true
	return tree
}

func (o opener) writable(t *testing.T) {
	tree := o.tree(t, []string{"a=1", "b=1", "dir/x=1"}, []string{"b=2"})
	m := o.mustOpen(t, tree)
	if got := readAt(t, m, "a") + readAt(t, m, "b"); got != "12" {
		t.Errorf("a, b = %q, want the upper layer's b", got)
	}
	if err := unix.Unlinkat(int(m.Fd()), "a", 0); err != nil {
		t.Fatal(err)
	}
	writeAt(t, m, "new", "n")
	if st := lstat(t, filepath.Join(tree.Upper, "a")); st.Mode&unix.S_IFMT != unix.S_IFCHR || st.Rdev != 0 {
		t.Errorf("mode of the whiteout %o", st.Mode)
	}
	if got := read(t, filepath.Join(tree.Upper, "new")); got != "n" {
		t.Errorf("new in the upper directory = %q", got)
	}
	if got := read(t, filepath.Join(tree.Lower[0], "a")); got != "1" {
		t.Errorf("the layer changed: %q", got)
	}
	// The kernel's mark of a volatile upper directory: no sync at unmount.
	if _, err := os.Stat(filepath.Join(tree.Work, "work/incompat/volatile")); err != nil {
		t.Errorf("not volatile: %v", err)
	}
}

func (o opener) readOnly(t *testing.T) {
	tree := o.tree(t, []string{"a=1"}, []string{"b=2"})
	m := o.mustOpen(t, readOnly(tree))
	if got := readAt(t, m, "a") + readAt(t, m, "b"); got != "12" {
		t.Errorf("a, b = %q", got)
	}
	if err := tryWrite(m, "a"); !errors.Is(err, unix.EROFS) {
		t.Errorf("write: %v, want EROFS", err)
	}
	tree.ReadOnly = true
	m = o.mustOpen(t, tree)
	if err := tryWrite(m, "a"); !errors.Is(err, unix.EROFS) {
		t.Errorf("write to a read-only tree with an upper directory: %v, want EROFS", err)
	}
}

// singleLayer: a layer's whiteouts are hidden even when nothing is below.
func (o opener) singleLayer(t *testing.T) {
	tree := o.tree(t, []string{"a=1"})
	if err := unix.Mknod(filepath.Join(tree.Lower[0], "gone"), unix.S_IFCHR, 0); err != nil {
		t.Fatal(err)
	}
	m := o.mustOpen(t, readOnly(tree))
	var st unix.Stat_t
	if err := unix.Fstatat(int(m.Fd()), "gone", &st, unix.AT_SYMLINK_NOFOLLOW); !errors.Is(err, unix.ENOENT) {
		t.Errorf("the whiteout shows: %v", err)
	}
	if names := list(t, m); len(names) != 1 || names[0] != "a" {
		t.Errorf("entries %q, want a", names)
	}
	tree.Empty = ""
	if _, err := o.open(readOnly(tree)); err == nil {
		t.Error("a single layer was mounted without an empty directory")
	}
}

func (o opener) noLayer(t *testing.T) {
	tree := o.tree(t)
	m := o.mustOpen(t, tree)
	writeAt(t, m, "f", "x")
	if got := read(t, filepath.Join(tree.Upper, "f")); got != "x" {
		t.Errorf("f = %q", got)
	}
	if _, err := o.open(readOnly(tree)); err == nil {
		t.Error("a view of nothing was mounted: it has no layer and no plain directory")
	}
}

// renameIsCopy: a directory of a layer cannot be renamed with a redirect,
// which only this stack would understand.
func (o opener) renameIsCopy(t *testing.T) {
	tree := o.tree(t, []string{"dir/x=1"})
	m := o.mustOpen(t, tree)
	err := unix.Renameat(int(m.Fd()), "dir", int(m.Fd()), "moved")
	if !errors.Is(err, unix.EXDEV) {
		t.Errorf("rename of a layer's directory: %v, want EXDEV", err)
	}
}

func (o opener) chmodCopiesData(t *testing.T) {
	tree := o.tree(t, []string{"f=data"})
	m := o.mustOpen(t, tree)
	if err := unix.Fchmodat(int(m.Fd()), "f", 0o600, 0); err != nil {
		t.Fatal(err)
	}
	if got := read(t, filepath.Join(tree.Upper, "f")); got != "data" {
		t.Errorf("the upper directory's f holds %q after chmod", got)
	}
}

func (o opener) manyLayers(t *testing.T) {
	layers := make([][]string, 400)
	for i := range layers {
		layers[i] = []string{fmt.Sprintf("f%d=%d", i, i), fmt.Sprintf("all=%d", i)}
	}
	tree := o.tree(t, layers...)
	m := o.mustOpen(t, tree)
	if got := readAt(t, m, "f0") + readAt(t, m, "f399") + readAt(t, m, "all"); got != "0399399" {
		t.Errorf("f0, f399, all = %q", got)
	}
	writeAt(t, m, "f0", "new")
	if got := readAt(t, o.mustOpen(t, readOnly(tree)), "f0"); got != "0" {
		t.Errorf("f0 of the view = %q", got)
	}
}

// hostilePaths: no byte of a path is an option or separator to the kernel.
func (o opener) hostilePaths(t *testing.T) {
	for _, name := range []string{
		`a:b`, `a,upperdir=x`, `a\b`, `a\:b`, `-o x`, "new\nline", strings.Repeat("long/", 60) + "x",
	} {
		base := mkdir(t, t.TempDir(), name)
		tree := mount.Tree{
			Lower:     []string{mkdir(t, base, "l1"), mkdir(t, base, "l2")},
			Upper:     mkdir(t, base, "up"),
			Work:      mkdir(t, base, "work"),
			UserXattr: o.userxattr,
		}
		write(t, filepath.Join(tree.Lower[0], "f"), "x")
		m := o.mustOpen(t, tree)
		writeAt(t, m, "g", readAt(t, m, "f"))
		if got := read(t, filepath.Join(tree.Upper, "g")); got != "x" {
			t.Errorf("%q: g = %q", name, got)
		}
		if got := readAt(t, o.mustOpen(t, readOnly(tree)), "f"); got != "x" {
			t.Errorf("%q: f of the view = %q", name, got)
		}
	}
}

func (o opener) namesMissingLayer(t *testing.T) {
	for i, spoil := range []func(*mount.Tree, string){
		func(tree *mount.Tree, dir string) { tree.Lower[1] = dir },
		func(tree *mount.Tree, dir string) { tree.Upper = dir },
		func(tree *mount.Tree, dir string) { tree.Work = dir },
	} {
		tree := o.tree(t, []string{"a=1"}, []string{"a=1"}, []string{"a=1"})
		missing := filepath.Join(t.TempDir(), "missing")
		spoil(&tree, missing)
		_, err := o.open(tree)
		if !errors.Is(err, unix.ENOENT) || !strings.Contains(err.Error(), missing) {
			t.Errorf("case %d: %v, want ENOENT of %s", i, err, missing)
		}
	}
}

// invisible: a detached mount is in no mount table, and gone when closed.
func (o opener) invisible(t *testing.T) {
	before := overlays(t)
	m := o.mustOpen(t, o.tree(t, []string{"a=1"}))
	if after := overlays(t); after != before {
		t.Errorf("the mount table changed:\n%s\n%s", before, after)
	}
	m.Close()
}

// overlays is the part of the mount table that a tree would be in. Other
// programs mount other things at any time.
func overlays(t *testing.T) string {
	t.Helper()
	var b strings.Builder
	for line := range strings.Lines(read(t, "/proc/thread-self/mountinfo")) {
		if strings.Contains(line, " - overlay ") {
			b.WriteString(line)
		}
	}
	return b.String()
}

func bind(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "f"), "x")
	src := open(t, dir)
	rw, err := mount.Bind(src, mount.BindOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer rw.Close()
	writeAt(t, rw, "f", "y")
	ro, err := mount.Bind(src, mount.BindOptions{ReadOnly: true, Recursive: true})
	if err != nil {
		t.Fatal(err)
	}
	defer ro.Close()
	if got := readAt(t, ro, "f"); got != "y" {
		t.Errorf("f = %q", got)
	}
	if err := tryWrite(ro, "f"); !errors.Is(err, unix.EROFS) {
		t.Errorf("write: %v, want EROFS", err)
	}
}

func bindFile(t *testing.T) {
	name := filepath.Join(t.TempDir(), "f")
	write(t, name, "x")
	m, err := mount.Bind(open(t, name), mount.BindOptions{ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	if got := read(t, fmt.Sprintf("/proc/self/fd/%d", m.Fd())); got != "x" {
		t.Errorf("content %q", got)
	}
}

func tmpfs(t *testing.T) {
	m, err := mount.Tmpfs(mount.TmpfsOptions{Size: 64 << 10, Mode: 0o755 | os.ModeSetgid, NoExec: true})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(m.Fd()), &st); err != nil || st.Mode != unix.S_IFDIR|0o2755 {
		t.Errorf("mode %o, %v", st.Mode, err)
	}
	var fs unix.Statfs_t
	path := fmt.Sprintf("/proc/self/fd/%d", m.Fd())
	if err := unix.Statfs(path, &fs); err != nil || fs.Type != unix.TMPFS_MAGIC || fs.Flags&unix.ST_NOEXEC == 0 {
		t.Errorf("statfs: type %x, flags %x, %v", fs.Type, fs.Flags, err)
	}
	if err := os.WriteFile(path+"/big", make([]byte, 128<<10), 0o600); !errors.Is(err, unix.ENOSPC) {
		t.Errorf("write beyond the size: %v, want ENOSPC", err)
	}
	if def, err := mount.Tmpfs(mount.TmpfsOptions{}); err != nil {
		t.Error(err)
	} else if fi, err := def.Stat(); err != nil || fi.Mode() != os.ModeDir|os.ModeSticky|0o777 {
		t.Errorf("mode of the default: %v, %v", fi.Mode(), err)
	}
}

func attach(t *testing.T) {
	target := t.TempDir()
	mounttest.InMountNamespace(t, func() {
		m, err := mount.Tmpfs(mount.TmpfsOptions{})
		if err != nil {
			t.Error(err)
			return
		}
		writeAt(t, m, "f", "x")
		if err := mount.Attach(m, open(t, target)); err != nil {
			t.Error(err)
		}
		if got := read(t, filepath.Join(target, "f")); got != "x" {
			t.Errorf("f = %q", got)
		}
	})
	if _, err := os.Stat(filepath.Join(target, "f")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the mount is visible outside: %v", err)
	}
}

func plainDir(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "f"), "x")
	m, err := mount.Tree{Dir: dir, ReadOnly: true}.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	if got := readAt(t, m, "f"); got != "x" {
		t.Errorf("f = %q", got)
	}
	if err := tryWrite(m, "f"); !errors.Is(err, unix.EROFS) {
		t.Errorf("write: %v, want EROFS", err)
	}
	if _, err := (mount.Tree{Dir: dir, Lower: []string{dir}}).Open(); err == nil {
		t.Error("a tree that is both a directory and layers was opened")
	}
}

// unsupported: overlayfs takes no upper directory on overlayfs or procfs; the
// probe must say so and leave nothing behind.
func unsupported(t *testing.T, userxattr bool) {
	if err := mount.OverlaySupported("/proc/self", userxattr); err == nil {
		t.Error("overlay on procfs is said to be supported")
	}
	if err := mount.OverlaySupported(filepath.Join(t.TempDir(), "missing"), userxattr); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("overlay in a missing directory: %v", err)
	}
	dir := t.TempDir()
	if err := mount.OverlaySupported(dir, userxattr); err != nil {
		t.Error(err)
	}
	if rest, _ := os.ReadDir(dir); len(rest) != 0 {
		t.Errorf("the probe left %v", rest)
	}
}
