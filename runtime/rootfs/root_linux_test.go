package rootfs_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/strata-build/strata/internal/testenv"
	"github.com/strata-build/strata/runtime/rootfs"
)

// newRoot returns a root whose parent directory holds a canary.
func newRoot(t testing.TB) (*rootfs.Root, string) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "root")
	must(t, os.Mkdir(dir, 0o755))
	must(t, os.WriteFile(filepath.Join(dir, "..", "canary"), []byte("alive"), 0o600))
	r, err := rootfs.OpenDir(dir)
	must(t, err)
	t.Cleanup(func() { r.Close() })
	return r, dir
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantErr(t *testing.T, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("error is %v, want %v", err, want)
	}
}

// write makes a file and its parents on the host.
func write(t testing.TB, dir, name, text string) {
	t.Helper()
	p := filepath.Join(dir, name)
	must(t, os.MkdirAll(filepath.Dir(p), 0o755))
	must(t, os.WriteFile(p, []byte(text), 0o644))
}

func symlink(t testing.TB, dir, name, target string) {
	t.Helper()
	p := filepath.Join(dir, name)
	must(t, os.MkdirAll(filepath.Dir(p), 0o755))
	must(t, os.Symlink(target, p))
}

func TestLinksStayInside(t *testing.T) {
	r, dir := newRoot(t)
	write(t, dir, "canary", "inside")
	write(t, dir, "etc/file", "text")
	symlink(t, dir, "up", "../canary")
	symlink(t, dir, "a/b/deep", "../../../../../canary")
	symlink(t, dir, "absolute", "/canary")
	symlink(t, dir, "dir", "/etc")
	symlink(t, dir, "host", filepath.Join(dir, "..", "canary"))
	for _, p := range []string{"canary", "/canary", "../canary", "../../../canary", "up", "a/b/deep", "absolute", "dir/../canary", "a/../../canary"} {
		data, err := r.ReadFile(p, 100)
		if err != nil || string(data) != "inside" {
			t.Errorf("read %s: %q, %v; it left the root", p, data, err)
		}
		if got, err := r.Resolve(p); got != "/canary" {
			t.Errorf("resolve %s: %q, %v", p, got, err)
		}
	}
	_, err := r.ReadFile("host", 100)
	wantErr(t, err, fs.ErrNotExist)
	if got, err := r.Resolve("dir/file"); got != "/etc/file" {
		t.Errorf("resolve dir/file: %q, %v", got, err)
	}
	if got, err := r.Readlink("a/b/deep"); got != "../../../../../canary" {
		t.Errorf("readlink: %q, %v", got, err)
	}
	st, err := r.Lstat("dir/")
	must(t, err)
	if st.Mode&unix.S_IFMT != unix.S_IFLNK {
		t.Errorf("lstat dir/ followed the symlink")
	}
	_, err = r.Readlink("canary")
	wantErr(t, err, unix.EINVAL)
}

func TestResolve(t *testing.T) {
	r, dir := newRoot(t)
	write(t, dir, "a/b/c", "")
	symlink(t, dir, "loop", "loop2")
	symlink(t, dir, "loop2", "/loop")
	symlink(t, dir, "a/up", "..")
	symlink(t, dir, "slash", "a/b/")
	for p, want := range map[string]string{
		"": "/", "/": "/", ".": "/", "..": "/", "a/./b//c": "/a/b/c",
		"a/b/..": "/a", "a/b/../..": "/", "a/up/a/b": "/a/b", "slash/c": "/a/b/c", "a/up/../../a": "/a",
	} {
		if got, err := r.Resolve(p); got != want {
			t.Errorf("resolve %q: %q, %v; want %q", p, got, err, want)
		}
	}
	for p, want := range map[string]error{
		"loop": unix.ELOOP, "a/missing": fs.ErrNotExist, "a/b/c/d": unix.ENOTDIR,
		"a/b/c/..": unix.ENOTDIR, "a/b/c/.": unix.ENOTDIR, "a\x00b": unix.EINVAL,
	} {
		_, err := r.Resolve(p)
		wantErr(t, err, want)
	}
}

// TestMagicLinks is CVE-2024-21626's class: a WORKDIR of /proc/self/fd/N.
func TestMagicLinks(t *testing.T) {
	r, err := rootfs.OpenDir("/")
	must(t, err)
	defer r.Close()
	for _, p := range []string{"/proc/self/fd/0", "/proc/self/root/etc", "/proc/self/cwd", "/proc/thread-self/exe"} {
		_, err := r.OpenPath(p, 0)
		wantErr(t, err, unix.ELOOP)
		_, err = r.Resolve(p)
		wantErr(t, err, unix.ELOOP)
		wantErr(t, r.MkdirAll(p+"/x", rootfs.MkdirOptions{Mode: 0o755}), unix.ELOOP)
	}
	if got, err := r.Resolve("/proc/self/status"); err != nil || !strings.HasPrefix(got, "/proc/") {
		t.Errorf("an ordinary link of procfs: %q, %v", got, err)
	}
}

func TestReadFile(t *testing.T) {
	r, dir := newRoot(t)
	must(t, unix.Mkfifo(filepath.Join(dir, "fifo"), 0o644))
	must(t, os.Mkdir(filepath.Join(dir, "dir"), 0o755))
	symlink(t, dir, "loop", "loop")
	symlink(t, dir, "to-fifo", "fifo")
	huge, err := os.Create(filepath.Join(dir, "huge"))
	must(t, err)
	must(t, huge.Truncate(10<<30))
	must(t, huge.Close())
	write(t, dir, "exact", "12345")
	for p, want := range map[string]error{
		"fifo": rootfs.ErrNotRegular, "to-fifo": rootfs.ErrNotRegular, "dir": rootfs.ErrNotRegular,
		"huge": rootfs.ErrTooLarge, "loop": unix.ELOOP, "missing": fs.ErrNotExist,
	} {
		_, err := r.ReadFile(p, 1000)
		wantErr(t, err, want)
	}
	if data, err := r.ReadFile("exact", 5); string(data) != "12345" {
		t.Errorf("a file of exactly the limit: %q, %v", data, err)
	}
	_, err = r.ReadFile("exact", 4)
	wantErr(t, err, rootfs.ErrTooLarge)
	host, err := rootfs.OpenDir("/")
	must(t, err)
	defer host.Close()
	_, err = host.ReadFile("/dev/zero", 1000)
	wantErr(t, err, rootfs.ErrNotRegular)
	_, err = host.ReadFile("/proc/kallsyms", 1000) // stat says it is empty
	wantErr(t, err, rootfs.ErrTooLarge)
}

func TestMkdirAll(t *testing.T) {
	r, dir := newRoot(t)
	write(t, dir, "file", "")
	must(t, os.MkdirAll(filepath.Join(dir, "real/there"), 0o700))
	symlink(t, dir, "link", "/real")
	symlink(t, dir, "out", "../../outside")
	symlink(t, dir, "dangling", "/new/target")
	old := unix.Umask(0o077)
	defer unix.Umask(old)
	var made []string
	o := rootfs.MkdirOptions{Mode: 0o1775, Made: func(_ *rootfs.Dir, p string) error {
		made = append(made, p)
		return nil
	}}
	for _, p := range []string{"link/there/x/y", "out/z", "dangling/q", "/", "real", "../a/./b/", "link/there/x/y"} {
		must(t, r.MkdirAll(p, o))
	}
	want := []string{"/real/there/x", "/real/there/x/y", "/outside", "/outside/z", "/new", "/new/target", "/new/target/q", "/a", "/a/b"}
	if !reflect.DeepEqual(made, want) {
		t.Errorf("made %q\nwant %q", made, want)
	}
	for _, p := range want {
		st, err := os.Lstat(filepath.Join(dir, p))
		if err != nil || st.Mode() != fs.ModeDir|fs.ModeSticky|0o775 {
			t.Errorf("%s: %v, %v", p, st, err)
		}
	}
	st, err := os.Lstat(filepath.Join(dir, "real/there"))
	must(t, err)
	if st.Mode().Perm() != 0o700 {
		t.Errorf("an existing directory was changed to %v", st.Mode())
	}
	wantErr(t, r.MkdirAll("file/x", o), unix.ENOTDIR)
	wantErr(t, r.MkdirAll("file", o), unix.ENOTDIR)
}

func TestMkdirOwner(t *testing.T) {
	testenv.Root(t)
	r, dir := newRoot(t)
	made := 0
	o := rootfs.MkdirOptions{Mode: 0o2755, Chown: true, UID: 3_000_000, GID: 7, Made: func(d *rootfs.Dir, _ string) error {
		made++
		return d.Setxattr("", "user.note", "x")
	}}
	must(t, r.MkdirAll("a/b", o))
	must(t, r.Mkdir("a/c", o))
	wantErr(t, r.Mkdir("a/c", o), fs.ErrExist)
	for _, p := range []string{"a", "a/b", "a/c"} {
		var st unix.Stat_t
		must(t, unix.Lstat(filepath.Join(dir, p), &st))
		if st.Uid != 3_000_000 || st.Gid != 7 || st.Mode != unix.S_IFDIR|0o2755 {
			t.Errorf("%s is %d:%d %o", p, st.Uid, st.Gid, st.Mode)
		}
	}
	if made != 3 {
		t.Errorf("Made was called %d times", made)
	}
}

func TestOpenFile(t *testing.T) {
	r, dir := newRoot(t)
	symlink(t, dir, "link", "../canary")
	_, err := r.OpenFile("link", unix.O_WRONLY|unix.O_CREAT|unix.O_TRUNC, 0o644)
	wantErr(t, err, unix.ELOOP)
	f, err := r.OpenFile("new", unix.O_RDWR|unix.O_CREAT|unix.O_EXCL, 0o600)
	must(t, err)
	must(t, f.Close())
	_, err = r.OpenFile("new", unix.O_RDWR|unix.O_CREAT|unix.O_EXCL, 0o600)
	wantErr(t, err, fs.ErrExist)
	_, err = r.OpenFile("/", unix.O_RDWR|unix.O_CREAT, 0o600)
	wantErr(t, err, unix.EINVAL)
	alive(t, dir)
}

func alive(t *testing.T, dir string) {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(dir, "..", "canary"))
	if err != nil || string(data) != "alive" {
		t.Errorf("the file outside of the root is hurt: %q, %v", data, err)
	}
}

func TestOpenParent(t *testing.T) {
	r, dir := newRoot(t)
	write(t, dir, "a/b/c", "")
	symlink(t, dir, "l", "a/b")
	for p, want := range map[string]string{"l/c": "c", "a/b/": "b", "a/b/.": "b", "l/..": "a", "l/../new": "new", "x": "x"} {
		d, name, err := r.OpenParent(p)
		if err != nil || name != want {
			t.Errorf("parent of %q: %q, %v", p, name, err)
			continue
		}
		d.Close()
	}
	for _, p := range []string{"", "/", "..", "."} {
		_, _, err := r.OpenParent(p)
		wantErr(t, err, unix.EINVAL)
	}
}

func TestRenameAndSub(t *testing.T) {
	r, dir := newRoot(t)
	write(t, dir, "a/f", "x")
	must(t, os.Mkdir(filepath.Join(dir, "b"), 0o755))
	symlink(t, dir, "to-b", "/b")
	must(t, r.Rename("a/f", "to-b/g"))
	must(t, r.Symlink("/etc/../x", "to-b/s"))
	sub, err := r.Sub("to-b")
	must(t, err)
	defer sub.Close()
	if got, err := sub.Readlink("../../s"); got != "/etc/../x" {
		t.Errorf("readlink in sub: %q, %v", got, err)
	}
	if data, err := sub.ReadFile("/g", 10); string(data) != "x" {
		t.Errorf("read in sub: %q, %v", data, err)
	}
	must(t, sub.Remove("g"))
	wantErr(t, sub.Remove("g"), fs.ErrNotExist)
	_, err = r.Sub("b/s")
	wantErr(t, err, fs.ErrNotExist)
}

func TestOpenTakesADescriptor(t *testing.T) {
	_, dir := newRoot(t)
	write(t, dir, "f", "x")
	f, err := os.Open(dir)
	must(t, err)
	r, err := rootfs.Open(f)
	must(t, err)
	must(t, f.Close())
	defer r.Close()
	if data, err := r.ReadFile("f", 10); string(data) != "x" {
		t.Errorf("after the descriptor was closed: %q, %v", data, err)
	}
	file, err := os.Open(filepath.Join(dir, "f"))
	must(t, err)
	defer file.Close()
	_, err = rootfs.Open(file)
	wantErr(t, err, unix.ENOTDIR)
}

// TestSwappedParent is the class of CVE-2024-23651 and CVE-2024-45310: another
// step swaps a directory for a symlink that leaves the root, all the time.
func TestSwappedParent(t *testing.T) {
	r, dir := newRoot(t)
	outside := filepath.Join(dir, "..", "outside")
	must(t, os.Mkdir(outside, 0o755))
	must(t, os.Mkdir(filepath.Join(dir, "a"), 0o755))
	symlink(t, dir, "b", outside)
	symlink(t, dir, "c", "../outside")
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			select {
			case <-stop:
				return
			default:
				for _, other := range []string{"b", "c"} {
					_ = unix.Renameat2(unix.AT_FDCWD, filepath.Join(dir, "a"), unix.AT_FDCWD, filepath.Join(dir, other), unix.RENAME_EXCHANGE)
				}
			}
		}
	}()
	for range 3000 {
		_ = r.MkdirAll("a/x/../y", rootfs.MkdirOptions{Mode: 0o777})
		if f, err := r.OpenFile("a/f", unix.O_CREAT|unix.O_WRONLY, 0o666); err == nil {
			f.Close()
		}
		_ = r.Symlink("x", "a/s")
		_ = r.RemoveAll("a")
		_ = r.Mkdir("a", rootfs.MkdirOptions{Mode: 0o755})
	}
	close(stop)
	<-stopped
	entries, err := os.ReadDir(outside)
	if err != nil || len(entries) > 0 {
		t.Errorf("something was made outside of the root: %v, %v", entries, err)
	}
}

func BenchmarkStat(b *testing.B) {
	r, dir := newRoot(b)
	write(b, dir, "usr/share/doc/f", "")
	for b.Loop() {
		if _, err := r.Stat("/usr/share/doc/f"); err != nil {
			b.Fatal(err)
		}
	}
}
