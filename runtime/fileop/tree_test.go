package fileop_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strings"
	"testing"
	"time"

	"github.com/moby/buildkit/solver/pb"
	"golang.org/x/sys/unix"

	"github.com/strata-build/strata/runtime/fileop"
	"github.com/strata-build/strata/runtime/rootfs"
)

func TestMain(m *testing.M) {
	unix.Umask(0) // as in buildkitd
	os.Exit(m.Run())
}

// past is the time of everything that newTree makes: a time in a tree that is
// newer was set by the test.
var past = time.Date(2001, 2, 3, 4, 5, 6, 0, time.UTC)

// newTree makes a tree of entries "path", as
//
//	"dir/ 0700"  "file=text 0644"  "link -> target"  "other == file" (hard link)
//	"fifo |"  "char %c"  "block %b"  "file=text 0644 7:8" (owner)
func newTree(t testing.TB, entries ...string) string {
	t.Helper()
	dir := t.TempDir()
	fill(t, dir, entries...)
	return dir
}

func fill(t testing.TB, dir string, entries ...string) {
	t.Helper()
	for _, e := range entries {
		must(t, makeEntry(dir, e))
	}
	must(t, filepath.WalkDir(dir, func(p string, _ fs.DirEntry, err error) error {
		return errors.Join(err, setTime(p, past))
	}))
}

func setTime(p string, tm time.Time) error {
	ts := unix.NsecToTimespec(tm.UnixNano())
	return unix.UtimesNanoAt(unix.AT_FDCWD, p, []unix.Timespec{ts, ts}, unix.AT_SYMLINK_NOFOLLOW)
}

func makeEntry(dir, e string) error {
	if name, target, ok := strings.Cut(e, " -> "); ok {
		return parentsThen(dir, name, func(p string) error { return os.Symlink(target, p) })
	}
	if name, target, ok := strings.Cut(e, " == "); ok {
		return parentsThen(dir, name, func(p string) error { return os.Link(filepath.Join(dir, target), p) })
	}
	if name, ok := strings.CutSuffix(e, " |"); ok {
		return parentsThen(dir, name, func(p string) error { return unix.Mkfifo(p, 0o640) })
	}
	if name, ok := strings.CutSuffix(e, " %c"); ok {
		return parentsThen(dir, name, func(p string) error { return unix.Mknod(p, unix.S_IFCHR|0o620, 0x105) })
	}
	if name, ok := strings.CutSuffix(e, " %b"); ok {
		return parentsThen(dir, name, func(p string) error { return unix.Mknod(p, unix.S_IFBLK|0o660, 0x107) })
	}
	name, mode, own := e, "", ""
	if before, after, ok := strings.Cut(e, " "); ok {
		name = before
		mode, own, _ = strings.Cut(after, " ")
	}
	return parentsThen(dir, name, func(p string) error {
		base, text, isFile := strings.Cut(p, "=")
		var err error
		if isFile {
			err = os.WriteFile(base, []byte(text), 0o644)
		} else {
			err = os.MkdirAll(base, 0o755)
		}
		return errors.Join(err, setMode(base, mode, own))
	})
}

func setMode(p, mode, own string) error {
	if own != "" {
		var uid, gid int
		if _, err := fmt.Sscanf(own, "%d:%d", &uid, &gid); err != nil {
			return err
		}
		if err := os.Lchown(p, uid, gid); err != nil {
			return err
		}
	}
	if mode == "" {
		return nil
	}
	var bits uint32
	if _, err := fmt.Sscanf(mode, "%o", &bits); err != nil {
		return err
	}
	return unix.Chmod(p, bits)
}

func parentsThen(dir, name string, make func(p string) error) error {
	p := filepath.Join(dir, name)
	parent, _, _ := strings.Cut(p, "=")
	if err := os.MkdirAll(filepath.Dir(parent), 0o755); err != nil {
		return err
	}
	return make(p)
}

// list describes a tree, one line an entry. Times that are not older than now
// are "now".
func list(t testing.TB, dir string, now time.Time) []string {
	t.Helper()
	var lines []string
	first := map[uint64]string{}
	must(t, filepath.WalkDir(dir, func(p string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		line, err := describe(dir, p, now, first)
		lines = append(lines, line)
		return err
	}))
	sort.Strings(lines)
	return lines
}

func describe(dir, p string, now time.Time, first map[uint64]string) (string, error) {
	var st unix.Stat_t
	if err := unix.Lstat(p, &st); err != nil {
		return "", err
	}
	rel := "/" + strings.TrimPrefix(strings.TrimPrefix(p, dir), "/")
	line := fmt.Sprintf("%s %06o %d:%d", rel, st.Mode, st.Uid, st.Gid)
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		data, err := os.ReadFile(p)
		switch {
		case errors.Is(err, fs.ErrPermission): // an ordinary user runs the tests
			line += " (unreadable)"
		case err != nil:
			return "", err
		default:
			line += fmt.Sprintf(" %q", data)
		}
		if st.Nlink > 1 {
			if f := first[st.Ino]; f != "" {
				line += " == " + f
			} else {
				first[st.Ino] = rel
			}
		}
	case unix.S_IFLNK:
		target, err := os.Readlink(p)
		if err != nil {
			return "", err
		}
		line += " -> " + target
	case unix.S_IFCHR, unix.S_IFBLK:
		line += fmt.Sprintf(" dev %x", st.Rdev)
	}
	line += " " + xattrsOf(p)
	if mtime := time.Unix(st.Mtim.Unix()); mtime.Before(now) {
		line += " " + mtime.UTC().Format(time.RFC3339)
	} else {
		line += " now"
	}
	return line, nil
}

func xattrsOf(p string) string {
	buf := make([]byte, 4096)
	n, err := unix.Llistxattr(p, buf)
	if err != nil || n <= 0 {
		return ""
	}
	names := strings.Split(strings.TrimSuffix(string(buf[:n]), "\x00"), "\x00")
	sort.Strings(names)
	for i, name := range names {
		v := make([]byte, 256)
		n, _ := unix.Lgetxattr(p, name, v)
		names[i] = fmt.Sprintf("%s=%q", name, v[:max(n, 0)])
	}
	return strings.Join(names, ",")
}

// sameTree compares the oracle's tree with ours. Where the oracle's time is
// that of the build, ours may be anything: the layer writer bounds it.
func sameTree(want, got []string) string {
	var diff []string
	for _, w := range want {
		loose, isNow := strings.CutSuffix(w, " now")
		found := slices.ContainsFunc(got, func(g string) bool {
			return g == w || isNow && g[:strings.LastIndex(g, " ")] == loose
		})
		if !found {
			diff = append(diff, "- "+w)
		}
	}
	for _, g := range got {
		loose := g[:strings.LastIndex(g, " ")]
		if !slices.Contains(want, g) && !slices.Contains(want, loose+" now") {
			diff = append(diff, "+ "+g)
		}
	}
	return strings.Join(diff, "\n")
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func openRoot(t testing.TB, dir string) *rootfs.Root {
	t.Helper()
	r, err := rootfs.OpenDir(dir)
	must(t, err)
	t.Cleanup(func() { r.Close() })
	return r
}

// copyDirs runs our copy between two directories.
func copyDirs(t testing.TB, src, dst string, a *pb.FileActionCopy) error {
	t.Helper()
	from := fileop.RootTree(openRoot(t, src), fileop.RootOptions{})
	return fileop.Copy(context.Background(), openRoot(t, dst), from, a, fileop.Options{})
}

// action is a copy with the defaults of client/llb.
func action(src, dest string, change ...func(*pb.FileActionCopy)) *pb.FileActionCopy {
	a := &pb.FileActionCopy{Src: src, Dest: dest, Mode: -1, Timestamp: -1}
	for _, f := range change {
		f(a)
	}
	return a
}

// dockerfile sets what a COPY instruction sets.
func dockerfile(a *pb.FileActionCopy) {
	a.FollowSymlink, a.DirCopyContents, a.CreateDestPath = true, true, true
	a.AllowWildcard, a.AllowEmptyWildcard = true, true
}
