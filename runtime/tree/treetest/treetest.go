// Package treetest makes random directory trees for tests, and describes trees
// so that two of them can be compared. It uses ordinary path calls, none of the
// code under test.
package treetest

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// Options say what a random tree contains.
type Options struct {
	// Files is about how many files it has.
	Files int
	// Whiteouts and Opaque put the marks of a layer into it; Opaque is the
	// name of the extended attribute.
	Whiteouts bool
	Opaque    string
	// Seconds gives whole-second times.
	Seconds bool
	// FileLinks makes hard links to regular files only: GNU tar writes a second
	// name of a device as another device.
	FileLinks bool
}

// Privileged reports whether devices, owners and capabilities can be made.
func Privileged() bool { return os.Geteuid() == 0 }

// Random fills the directory dir. The same generator makes the same tree.
func Random(t testing.TB, rng *rand.Rand, dir string, o Options) {
	t.Helper()
	g := generator{t: t, rng: rng, o: o, dirs: []string{dir}}
	for range o.Files {
		g.file()
	}
	for _, d := range g.dirs[1:] {
		g.attributes(d)
	}
	for i := len(g.dirs) - 1; i >= 0; i-- {
		g.times(g.dirs[i])
	}
}

// Overlapping fills dir with a small tree whose names, out of few, meet those of
// other such trees. Whiteouts, and with o.Opaque opaque directories, are among
// it.
func Overlapping(t testing.TB, rng *rand.Rand, dir string, o Options) {
	t.Helper()
	g := generator{t: t, rng: rng, o: o}
	g.overlapping(dir, 0)
}

func (g *generator) overlapping(dir string, depth int) {
	for _, name := range []string{"a", "b", "b.x", "c", "d", "ee"} {
		p := filepath.Join(dir, name)
		n := g.rng.IntN(10)
		switch {
		case n < 3 && depth < 3:
			g.must(os.Mkdir(p, 0o755))
			g.overlapping(p, depth+1)
		case n == 3 && g.o.Whiteouts:
			g.must(unix.Mknod(p, unix.S_IFCHR, 0))
			continue
		case n == 4:
			g.must(os.Symlink([]string{"a", "b", "../c"}[g.rng.IntN(3)], p))
		case n == 5 && len(g.files) > 0:
			g.must(os.Link(g.files[g.rng.IntN(len(g.files))], p))
			continue
		case n < 9:
			g.must(os.WriteFile(p, []byte{byte(g.rng.IntN(3))}, 0o644))
			g.files = append(g.files, p)
		default:
			continue
		}
		g.fewAttributes(p, n < 3)
	}
}

// fewAttributes sets attributes that often are those of another file.
func (g *generator) fewAttributes(p string, isDir bool) {
	if st, err := os.Lstat(p); err == nil && st.Mode()&fs.ModeSymlink == 0 {
		g.must(os.Chmod(p, []fs.FileMode{0o755, 0o755, 0o700}[g.rng.IntN(3)]))
		if g.rng.IntN(4) == 0 {
			g.must(unix.Lsetxattr(p, "user.note", []byte{'0' + byte(g.rng.IntN(2))}, 0))
		}
	}
	if isDir && g.o.Opaque != "" && g.rng.IntN(4) == 0 {
		g.must(unix.Lsetxattr(p, g.o.Opaque, []byte("y"), 0))
	}
	ts := unix.Timespec{Sec: 1000 + g.rng.Int64N(2)}
	g.must(unix.UtimesNanoAt(unix.AT_FDCWD, p, []unix.Timespec{ts, ts}, unix.AT_SYMLINK_NOFOLLOW))
}

type generator struct {
	t     testing.TB
	rng   *rand.Rand
	o     Options
	dirs  []string
	files []string
	count int
}

func (g *generator) must(err error) {
	g.t.Helper()
	if err != nil {
		g.t.Fatal(err)
	}
}

// name returns a name that is new in every directory.
func (g *generator) name() string {
	g.count++
	forms := []string{
		"file%d", "f%d.txt", "with space %d", "new\nline%d", "ünï-%d-☃", "-dash%d", "back\\slash%d",
		"tab\t%d", "\xff\xfe%d", "%d" + strings.Repeat("long", 20), "%d" + strings.Repeat("l", 200), "=%d=", "\"%d'",
	}
	return fmt.Sprintf(forms[g.rng.IntN(len(forms))], g.count)
}

func (g *generator) file() {
	dir := g.dirs[g.rng.IntN(len(g.dirs))]
	p := filepath.Join(dir, g.name())
	switch n := g.rng.IntN(20); {
	case n < 5:
		if len(p) < 3000 {
			g.must(os.Mkdir(p, 0o755))
			g.dirs = append(g.dirs, p)
		}
		return
	case n < 7:
		targets := []string{"../x", "/etc/passwd", "a", strings.Repeat("deep/", 40) + "end", "../../../..", "new\nline"}
		g.must(os.Symlink(targets[g.rng.IntN(len(targets))], p))
	case n < 9 && len(g.files) > 0:
		g.must(os.Link(g.files[g.rng.IntN(len(g.files))], p))
		return
	case n == 9:
		g.must(unix.Mkfifo(p, 0o600))
	case n == 10 && Privileged():
		kinds := []uint32{unix.S_IFCHR, unix.S_IFBLK}
		g.must(unix.Mknod(p, kinds[g.rng.IntN(2)]|0o600, int(unix.Mkdev(uint32(g.rng.IntN(4000)), 1+uint32(g.rng.IntN(1<<19))))))
	case n == 11 && g.o.Whiteouts:
		g.must(unix.Mknod(p, unix.S_IFCHR, 0))
		return
	default:
		g.content(p)
	}
	if st, err := os.Lstat(p); !g.o.FileLinks || err == nil && st.Mode().IsRegular() {
		g.files = append(g.files, p)
	}
	g.attributes(p)
	g.times(p)
}

func (g *generator) content(p string) {
	f, err := os.Create(p)
	g.must(err)
	defer f.Close()
	sizes := []int{0, 1, 511, 512, 513, 5000, 70000, 300000}
	data := make([]byte, sizes[g.rng.IntN(len(sizes))])
	for i := range data {
		data[i] = byte(g.rng.IntN(64))
	}
	switch g.rng.IntN(6) {
	case 0: // a hole before
		_, err = f.WriteAt(data, 1<<17)
	case 1: // a hole after
		if _, err = f.Write(data); err == nil {
			err = f.Truncate(int64(len(data)) + 1<<17)
		}
	default:
		_, err = f.Write(data)
	}
	g.must(err)
}

func (g *generator) attributes(p string) {
	st, err := os.Lstat(p)
	g.must(err)
	if Privileged() {
		ids := []int{0, 0, 1, 1000, 65534, 1<<21 + 5, 4294967294}
		g.must(os.Lchown(p, ids[g.rng.IntN(len(ids))], ids[g.rng.IntN(len(ids))]))
	}
	if st.Mode().IsRegular() || st.IsDir() {
		g.xattrs(p, st)
	}
	if st.IsDir() && g.o.Opaque != "" && g.rng.IntN(4) == 0 {
		g.must(unix.Lsetxattr(p, g.o.Opaque, []byte("y"), 0))
	}
	if st.Mode()&fs.ModeSymlink == 0 {
		modes := []uint32{0o644, 0o755, 0o600, 0o4755, 0o2755, 0o1777, 0o700, 0o6711}
		mode := modes[g.rng.IntN(len(modes))]
		if st.IsDir() && !Privileged() {
			mode |= 0o700 // or nobody could look into it
		}
		g.must(unix.Chmod(p, mode))
	}
}

func (g *generator) xattrs(p string, st fs.FileInfo) {
	if g.rng.IntN(3) == 0 {
		values := []string{"", "value", "with\nnewline=and\x00zero", strings.Repeat("v", 900)}
		g.must(unix.Lsetxattr(p, "user.note", []byte(values[g.rng.IntN(len(values))]), 0))
	}
	if Privileged() && st.Mode().IsRegular() && g.rng.IntN(4) == 0 {
		// cap_net_bind_service+ep
		capability := "\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
		g.must(unix.Lsetxattr(p, "security.capability", []byte(capability), 0))
	}
}

func (g *generator) times(p string) {
	seconds := []int64{0, 1, 1000000000, 1700000000, 4000000000}
	ts := unix.Timespec{Sec: seconds[g.rng.IntN(len(seconds))]}
	if !g.o.Seconds && g.rng.IntN(2) == 0 {
		ts.Nsec = g.rng.Int64N(1e9)
	}
	g.must(unix.UtimesNanoAt(unix.AT_FDCWD, p, []unix.Timespec{ts, ts}, unix.AT_SYMLINK_NOFOLLOW))
}

// Describe returns one line for each file below dir (not for dir itself), by
// path. Hard links are described by the first of their names.
func Describe(t testing.TB, dir string, o DescribeOptions) map[string]string {
	t.Helper()
	d := describer{t: t, o: o, lines: map[string]string{}, first: map[[2]uint64]string{}}
	d.walk(dir, "")
	return d.lines
}

// DescribeOptions say what of a tree counts.
type DescribeOptions struct {
	// NoSockets leaves out sockets.
	NoSockets bool
	// Seconds cuts times to whole seconds.
	Seconds bool
	// NoDirTimes leaves out the times of directories.
	NoDirTimes bool
	// NoWhiteouts leaves out whiteouts.
	NoWhiteouts bool
	// HideXattr selects extended attributes to leave out.
	HideXattr func(name string) bool
}

type describer struct {
	t     testing.TB
	o     DescribeOptions
	lines map[string]string
	first map[[2]uint64]string
}

func (d *describer) walk(dir, rel string) {
	entries, err := os.ReadDir(filepath.Join(dir, rel))
	if err != nil {
		d.t.Fatal(err)
	}
	for _, e := range entries {
		p := filepath.Join(rel, e.Name())
		var st unix.Stat_t
		err := unix.Lstat(filepath.Join(dir, p), &st)
		if errors.Is(err, fs.ErrNotExist) {
			continue // overlayfs lists whiteouts of unmerged directories
		}
		if err != nil {
			d.t.Fatal(err)
		}
		if d.skip(&st) {
			continue
		}
		d.lines[p] = d.line(filepath.Join(dir, p), p, &st)
		if e.IsDir() {
			d.walk(dir, p)
		}
	}
}

func (d *describer) skip(st *unix.Stat_t) bool {
	socket := st.Mode&unix.S_IFMT == unix.S_IFSOCK
	whiteout := st.Mode&unix.S_IFMT == unix.S_IFCHR && st.Rdev == 0
	return d.o.NoSockets && socket || d.o.NoWhiteouts && whiteout
}

func (d *describer) line(full, p string, st *unix.Stat_t) string {
	kind := st.Mode & unix.S_IFMT
	if kind != unix.S_IFDIR && st.Nlink > 1 {
		id := [2]uint64{st.Dev, st.Ino}
		if first, ok := d.first[id]; ok {
			return fmt.Sprintf("link to %q", first)
		}
		d.first[id] = p
	}
	text := fmt.Sprintf("%o %d:%d", st.Mode, st.Uid, st.Gid)
	if kind == unix.S_IFCHR && st.Rdev == 0 {
		return text[:strings.IndexByte(text, ' ')] + " whiteout"
	}
	if kind != unix.S_IFDIR || !d.o.NoDirTimes {
		text += fmt.Sprintf(" %d", st.Mtim.Sec)
		if !d.o.Seconds {
			text += fmt.Sprintf(".%09d", st.Mtim.Nsec)
		}
	}
	switch kind {
	case unix.S_IFREG:
		data, err := os.ReadFile(full)
		if err != nil {
			d.t.Fatal(err)
		}
		text += fmt.Sprintf(" %d %x", st.Size, sha256.Sum256(data))
	case unix.S_IFLNK:
		target, err := os.Readlink(full)
		if err != nil {
			d.t.Fatal(err)
		}
		text += fmt.Sprintf(" -> %q", target)
	case unix.S_IFCHR, unix.S_IFBLK:
		text += fmt.Sprintf(" %d,%d", unix.Major(st.Rdev), unix.Minor(st.Rdev))
	}
	return text + d.xattrs(full)
}

func (d *describer) xattrs(full string) string {
	list := make([]byte, 64<<10)
	n, err := unix.Llistxattr(full, list)
	if err != nil {
		d.t.Fatal(err)
	}
	var out []string
	for name := range strings.SplitSeq(strings.TrimSuffix(string(list[:n]), "\x00"), "\x00") {
		if name == "" || d.o.HideXattr != nil && d.o.HideXattr(name) {
			continue
		}
		value := make([]byte, 64<<10)
		n, err := unix.Lgetxattr(full, name, value)
		if err != nil {
			d.t.Fatal(err)
		}
		out = append(out, fmt.Sprintf(" %s=%q", name, value[:n]))
	}
	sort.Strings(out)
	return strings.Join(out, "")
}

// Diff reports where two descriptions differ, in a few lines; "" when equal.
func Diff(want, got map[string]string) string {
	var out []string
	for p, w := range want {
		if g, ok := got[p]; !ok {
			out = append(out, fmt.Sprintf("%q is missing: %s", p, w))
		} else if g != w {
			out = append(out, fmt.Sprintf("%q is  %s\n\twant %s", p, g, w))
		}
	}
	for p, g := range got {
		if _, ok := want[p]; !ok {
			out = append(out, fmt.Sprintf("%q is too much: %s", p, g))
		}
	}
	sort.Strings(out)
	if len(out) > 10 {
		out = append(out[:10], fmt.Sprintf("and %d more", len(out)-10))
	}
	return strings.Join(out, "\n")
}
