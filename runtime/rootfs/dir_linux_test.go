package rootfs_test

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/strata-build/strata/internal/testenv"
	"github.com/strata-build/strata/runtime/rootfs"
)

func openDir(t testing.TB, r *rootfs.Root, p string) *rootfs.Dir {
	t.Helper()
	d, err := r.OpenDir(p)
	must(t, err)
	t.Cleanup(func() { d.Close() })
	return d
}

func TestDirTakesPlainNames(t *testing.T) {
	r, dir := newRoot(t)
	must(t, os.Mkdir(filepath.Join(dir, "sub"), 0o755))
	d := openDir(t, r, "/sub")
	for _, name := range []string{"", ".", "..", "../canary", "/canary", "a/b", "a\x00"} {
		_, statErr := d.Lstat(name)
		_, openErr := d.OpenFile(name, unix.O_RDONLY, 0)
		_, dirErr := d.OpenDir(name)
		_, linkErr := d.Readlink(name)
		for op, err := range map[string]error{
			"stat": statErr, "open": openErr, "opendir": dirErr, "readlink": linkErr,
			"mkdir": d.Mkdir(name, 0o755), "symlink": d.Symlink("x", name), "mknod": d.Mknod(name, unix.S_IFIFO|0o600, 0),
			"link": d.Link(d, "x", name), "link from": d.Link(d, name, "x"), "rename": d.Rename(name, d, "x"),
			"rename to": d.Rename("x", d, name), "remove": d.Remove(name), "remove all": d.RemoveAll(name),
			"chown": d.Lchown(name, 0, 0), "chmod": d.Chmod(name, 0o600), "utimes": d.Utimes(name, unix.Timespec{}, unix.Timespec{}),
		} {
			if err == nil || !strings.Contains(err.Error(), "invalid argument") {
				t.Errorf("%s %q: %v", op, name, err)
			}
		}
		if name != "" {
			_, err := d.Xattrs(name)
			wantErr(t, err, unix.EINVAL)
			wantErr(t, d.Setxattr(name, "user.x", "y"), unix.EINVAL)
			wantErr(t, d.Removexattr(name, "user.x"), unix.EINVAL)
		}
	}
	alive(t, dir)
}

func TestDirNeverFollows(t *testing.T) {
	r, dir := newRoot(t)
	must(t, os.Mkdir(filepath.Join(dir, "target"), 0o755))
	symlink(t, dir, "link", "target")
	symlink(t, dir, "canary", "../canary")
	d := openDir(t, r, "/")
	_, err := d.OpenDir("link")
	wantErr(t, err, unix.ENOTDIR)
	_, err = d.OpenFile("canary", unix.O_RDONLY, 0)
	wantErr(t, err, unix.ELOOP)
	wantErr(t, d.Chmod("canary", 0), unix.EOPNOTSUPP)
	must(t, d.Utimes("canary", unix.Timespec{Sec: 5}, unix.Timespec{Sec: 7}))
	st, err := d.Lstat("canary")
	must(t, err)
	if st.Mtim.Sec != 7 {
		t.Errorf("mtime of the link is %d", st.Mtim.Sec)
	}
	must(t, d.Link(d, "canary", "second"))
	if got, err := d.Readlink("second"); got != "../canary" {
		t.Errorf("hard link of a symlink: %q, %v", got, err)
	}
	wantErr(t, d.Setxattr("canary", "user.x", "y"), unix.EPERM) // the kernel's answer for a symlink itself
	must(t, d.RemoveAll("canary"))
	alive(t, dir)
}

func TestReadDir(t *testing.T) {
	r, dir := newRoot(t)
	var want []string
	for i := range 3000 {
		name := fmt.Sprintf("%04d-%s\n", i, strings.Repeat("x", i%200))
		must(t, os.WriteFile(filepath.Join(dir, name), nil, 0o600))
		want = append(want, name)
	}
	must(t, os.Mkdir(filepath.Join(dir, "zdir"), 0o755))
	symlink(t, dir, "zlink", "zdir")
	d := openDir(t, r, "/")
	for range 2 { // the second listing starts again
		got, err := d.ReadDir()
		must(t, err)
		if len(got) != len(want)+2 {
			t.Fatalf("%d entries, want %d", len(got), len(want)+2)
		}
		for i, name := range want {
			if got[i].Name != name || got[i].Type != unix.S_IFREG {
				t.Fatalf("entry %d is %q of type %o", i, got[i].Name, got[i].Type)
			}
		}
		if got[3000].Type != unix.S_IFDIR || got[3001].Type != unix.S_IFLNK {
			t.Errorf("types: %v", got[3000:])
		}
	}
}

func TestXattrs(t *testing.T) {
	r, dir := newRoot(t)
	write(t, dir, "f", "")
	symlink(t, dir, "l", "f")
	d := openDir(t, r, "/")
	long := strings.Repeat("v", 1000)
	must(t, d.Setxattr("f", "user.empty", ""))
	must(t, d.Setxattr("f", "user.long", long))
	for i := range 20 {
		must(t, d.Setxattr("f", fmt.Sprintf("user.attribute-%02d", i), "x"))
	}
	got, err := d.Xattrs("f")
	must(t, err)
	if got["user.long"] != long || len(got) != 22 {
		t.Errorf("%d attributes: %v", len(got), got)
	}
	if v, ok := got["user.empty"]; v != "" || !ok {
		t.Errorf("empty value: %q, %v", v, ok)
	}
	must(t, d.Removexattr("f", "user.long"))
	wantErr(t, d.Removexattr("f", "user.long"), unix.ENODATA)
	if got, err := d.Xattrs("l"); err != nil || got["user.empty"] != "" || len(got) > 1 {
		t.Errorf("attributes of a symlink: %v, %v", got, err)
	}
	must(t, d.Setxattr("", "user.self", "1"))
	if got, err := d.Xattrs(""); got["user.self"] != "1" {
		t.Errorf("attributes of the directory: %v, %v", got, err)
	}
	must(t, d.Removexattr("", "user.self"))
}

func TestMknodAndOwner(t *testing.T) {
	testenv.Root(t)
	r, _ := newRoot(t)
	d := openDir(t, r, "/")
	must(t, d.Mknod("null", unix.S_IFCHR|0o666, unix.Mkdev(1, 3)))
	must(t, d.Mknod("disk", unix.S_IFBLK|0o660, unix.Mkdev(300, 70000)))
	must(t, d.Mknod("fifo", unix.S_IFIFO|0o622, 0))
	must(t, d.Lchown("fifo", 5, 6))
	st, err := d.Lstat("disk")
	must(t, err)
	if unix.Major(st.Rdev) != 300 || unix.Minor(st.Rdev) != 70000 || st.Mode != unix.S_IFBLK|0o660 {
		t.Errorf("disk: %o %x", st.Mode, st.Rdev)
	}
	st, err = d.Lstat("fifo")
	must(t, err)
	if st.Uid != 5 || st.Gid != 6 || st.Mode != unix.S_IFIFO|0o622 {
		t.Errorf("fifo: %d:%d %o", st.Uid, st.Gid, st.Mode)
	}
}

// TestRemoveAllDoesNotFollow is the class of CVE-2024-23652.
func TestRemoveAllDoesNotFollow(t *testing.T) {
	r, dir := newRoot(t)
	write(t, dir, "t/a/b/f", "")
	symlink(t, dir, "t/a/out", "../../..")
	symlink(t, dir, "t/host", filepath.Join(dir, ".."))
	symlink(t, dir, "l", "t")
	must(t, r.RemoveAll("l"))
	if _, err := os.Lstat(filepath.Join(dir, "t/a/b/f")); err != nil {
		t.Error(err)
	}
	must(t, r.RemoveAll("t"))
	must(t, r.RemoveAll("t"))
	must(t, r.RemoveAll("no/such/thing"))
	_, err := os.Lstat(filepath.Join(dir, "t"))
	wantErr(t, err, fs.ErrNotExist)
	alive(t, dir)
}

// TestRemoveAllDeep removes a tree that is deeper than descriptors and than a
// path can be, with a name in the way of its own bookkeeping.
func TestRemoveAllDeep(t *testing.T) {
	r, dir := newRoot(t)
	write(t, dir, fmt.Sprintf(".strata-removed-%d-0/keep", os.Getpid()), "")
	at := openDir(t, r, "/")
	for range 3000 {
		must(t, at.Mkdir("deeper", 0o755))
		next, err := at.OpenDir("deeper")
		must(t, err)
		t.Cleanup(func() { next.Close() })
		at = next
	}
	must(t, r.RemoveAll("deeper"))
	entries, err := os.ReadDir(dir)
	must(t, err)
	if len(entries) != 1 {
		t.Errorf("left over: %v", entries)
	}
}
