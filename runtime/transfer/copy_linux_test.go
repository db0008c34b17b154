package transfer

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/strata-build/strata/runtime/fileop"
	"github.com/strata-build/strata/runtime/rootfs"
)

// plant makes files below dir: a name that ends in "/" is a directory, and a
// value that begins with "->" a symlink.
func plant(t testing.TB, dir string, files map[string]string) {
	t.Helper()
	for name, text := range files {
		full := filepath.Join(dir, name)
		err := os.MkdirAll(filepath.Dir(full), 0o755)
		target, link := strings.CutPrefix(text, "->")
		switch {
		case strings.HasSuffix(name, "/"):
			err = errors.Join(err, os.MkdirAll(full, 0o755))
		case link:
			err = errors.Join(err, os.Symlink(target, full))
		default:
			err = errors.Join(err, os.WriteFile(full, []byte(text), 0o644))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

func open(t testing.TB, dir string) *rootfs.Root {
	t.Helper()
	root, err := rootfs.OpenDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { root.Close() })
	return root
}

// list is a tree as one line for each file, sorted.
func list(t testing.TB, dir string) string {
	t.Helper()
	var lines []string
	err := filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil || name == dir {
			return err
		}
		line := strings.TrimPrefix(name, dir+"/")
		switch d.Type() {
		case 0:
			data, err := os.ReadFile(name)
			lines = append(lines, line+"="+string(data))
			return err
		case fs.ModeDir:
			line += "/"
		case fs.ModeSymlink:
			target, err := os.Readlink(name)
			lines = append(lines, line+"->"+target)
			return err
		default:
			line += "?"
		}
		lines = append(lines, line)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(lines)
	return strings.Join(lines, " ")
}

var callers = Options{Extract: fileop.ExtractOptions{Owners: fileop.OwnersCaller}}

// TestWhereACopyLands holds docker's rules.
func TestWhereACopyLands(t *testing.T) {
	const (
		empty = ""
		dir   = "d/ d/sub/ d/sub/x=X d/y=Y"
	)
	for _, c := range []struct {
		src, dst string
		follow   bool
		want     string // of the destination, which has "dir/" and "file=old"
		err      error
	}{
		{src: "f", dst: "new", want: "dir/ file=old new=F"},
		{src: "/f", dst: "/new", want: "dir/ file=old new=F"},
		{src: "f", dst: "dir", want: "dir/ dir/f=F file=old"},
		{src: "f", dst: "dir/", want: "dir/ dir/f=F file=old"},
		{src: "f", dst: "dir/.", want: "dir/ dir/f=F file=old"},
		{src: "f", dst: "dir/../dir/g", want: "dir/ dir/g=F file=old"},
		{src: "f", dst: "file", want: "dir/ file=F"},
		{src: "f", dst: "new/", err: ErrNoDirectory},
		{src: "f", dst: "new/g", err: ErrNoDirectory},
		{src: "f", dst: "file/g", err: unix.ENOTDIR},
		{src: "f", dst: "file/", err: unix.ENOTDIR},
		{src: "f/", dst: "new", err: unix.ENOTDIR},
		{src: "nope", dst: "new", err: fs.ErrNotExist},
		{src: "d", dst: "new", want: "dir/ file=old new/ new/sub/ new/sub/x=X new/y=Y"},
		{src: "d/.", dst: "new", want: "dir/ file=old new/ new/sub/ new/sub/x=X new/y=Y"},
		{src: "d/", dst: "new/", want: "dir/ file=old new/ new/sub/ new/sub/x=X new/y=Y"},
		{src: "d", dst: "dir", want: "dir/ dir/d/ dir/d/sub/ dir/d/sub/x=X dir/d/y=Y file=old"},
		{src: "d/", dst: "dir", want: "dir/ dir/d/ dir/d/sub/ dir/d/sub/x=X dir/d/y=Y file=old"},
		{src: "d/.", dst: "dir", want: "dir/ dir/sub/ dir/sub/x=X dir/y=Y file=old"},
		{src: "d/sub/..", dst: "dir", want: "dir/ dir/d/ dir/d/sub/ dir/d/sub/x=X dir/d/y=Y file=old"},
		{src: "d", dst: "file", err: ErrDirectory},
		{src: "d", dst: "new/deep", err: ErrNoDirectory},
		{src: "/", dst: "new", want: "dir/ file=old new/ new/d/ new/d/sub/ new/d/sub/x=X new/d/y=Y new/f=F new/ld->d new/lf->/f new/up->../../../f"},
		{src: "lf", dst: "new", want: "dir/ file=old new->/f"},
		{src: "lf", dst: "new", follow: true, want: "dir/ file=old new=F"},
		{src: "lf", dst: "dir", follow: true, want: "dir/ dir/lf=F file=old"},
		{src: "up", dst: "new", follow: true, want: "dir/ file=old new=F"},
		{src: "ld", dst: "dir", want: "dir/ dir/ld->d file=old"},
		{src: "ld/", dst: "dir", want: "dir/ dir/ld/ dir/ld/sub/ dir/ld/sub/x=X dir/ld/y=Y file=old"},
		{src: "ld/.", dst: "dir", want: "dir/ dir/sub/ dir/sub/x=X dir/y=Y file=old"},
		{src: "ld", dst: "new", follow: true, want: "dir/ file=old new/ new/sub/ new/sub/x=X new/y=Y"},
		{src: "ld/y", dst: "new", want: "dir/ file=old new=Y"},
	} {
		from, to := t.TempDir(), t.TempDir()
		plant(t, from, map[string]string{"f": "F", "d/sub/x": "X", "d/y": "Y", "lf": "->/f", "ld": "->d", "up": "->../../../f"})
		plant(t, to, map[string]string{"dir/": empty, "file": "old"})
		o := callers
		o.FollowLink = c.follow
		_, err := Copy(context.Background(), Place{Root: open(t, to), Path: c.dst}, Place{Root: open(t, from), Path: c.src}, o)
		if !errors.Is(err, c.err) || err != nil && c.err == nil {
			t.Errorf("%s to %s: error %v, want %v", c.src, c.dst, err, c.err)
		}
		if c.err != nil {
			c.want = "dir/ file=old"
		}
		if got := list(t, to); got != c.want {
			t.Errorf("%s to %s (follow %t) gives\n%s, want\n%s", c.src, c.dst, c.follow, got, c.want)
		}
	}
}

// TestDestinationLinks: symlinks to the destination, and the destination if it
// is one, are followed inside its root.
func TestDestinationLinks(t *testing.T) {
	outside := t.TempDir()
	for dst, want := range map[string]string{
		"dir-link":      "dir/f=F",
		"dir-link/g":    "dir/g=F",
		"file-link":     "file=F",
		"dangling":      "dir/made=F",
		"dangling-up":   "made=F",
		"abs":           "abs->" + outside + "/x",
		"dir/dangling2": "dir/made2=F",
	} {
		from, to := t.TempDir(), t.TempDir()
		plant(t, from, map[string]string{"f": "F"})
		plant(t, to, map[string]string{
			"dir/": "", "file": "old", "dir-link": "->/dir", "file-link": "->dir/../file", "dangling": "->dir/made",
			"dangling-up": "->../../made", "abs": "->" + outside + "/x", "dir/dangling2": "->made2", "loop": "->loop",
		})
		_, err := Copy(context.Background(), Place{Root: open(t, to), Path: dst}, Place{Root: open(t, from), Path: "f"}, callers)
		if wantErr := dst == "abs"; (err != nil) != wantErr {
			t.Errorf("%s: %v", dst, err)
		}
		if got := list(t, to); !strings.Contains(" "+got+" ", " "+want+" ") {
			t.Errorf("%s gives %s, without %s", dst, got, want)
		}
	}
	if got := list(t, outside); got != "" {
		t.Errorf("outside there is now %s", got)
	}
}

// TestKindsStay: neither a directory nor what is none takes the other's place.
func TestKindsStay(t *testing.T) {
	from, to := t.TempDir(), t.TempDir()
	plant(t, from, map[string]string{"a/x": "X", "b/x/y": "Y"})
	plant(t, to, map[string]string{"a/x/keep": "K", "b/x": "K", "c": "->a", "keep/": ""})
	for src, dst := range map[string]string{"a": ".", "b": "."} {
		_, err := Copy(context.Background(), Place{Root: open(t, to), Path: dst}, Place{Root: open(t, from), Path: src}, callers)
		if err == nil {
			t.Errorf("%s: no error", src)
		}
	}
	if got, want := list(t, to), "a/ a/x/ a/x/keep=K b/ b/x=K c->a keep/"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// TestAttributes: what a file is comes along: mode, time, links, attributes.
func TestAttributes(t *testing.T) {
	from, to := t.TempDir(), t.TempDir()
	plant(t, from, map[string]string{"d/f": "F"})
	file := filepath.Join(from, "d/f")
	when := time.Unix(1234567890, 123456789)
	for _, err := range []error{
		os.Chmod(file, 0o6751|os.ModeSetuid), os.Chmod(filepath.Join(from, "d"), 0o711),
		os.Link(file, filepath.Join(from, "d/g")), unix.Mkfifo(filepath.Join(from, "d/p"), 0o600),
		os.Chtimes(file, when, when),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	n, err := Copy(context.Background(), Place{Root: open(t, to), Path: "new"}, Place{Root: open(t, from), Path: "d"}, callers)
	if err != nil || n != 1 {
		t.Fatalf("copied %d bytes, error %v", n, err)
	}
	var f, g, p, d unix.Stat_t
	for name, st := range map[string]*unix.Stat_t{"new/f": &f, "new/g": &g, "new/p": &p, "new": &d} {
		if err := unix.Lstat(filepath.Join(to, name), st); err != nil {
			t.Fatal(err)
		}
	}
	if f.Ino != g.Ino || f.Mode&0o7777 != 0o4751 || d.Mode&0o7777 != 0o711 || p.Mode != unix.S_IFIFO|0o600 {
		t.Errorf("modes: f %o, d %o, p %o; inodes %d and %d", f.Mode, d.Mode, p.Mode, f.Ino, g.Ino)
	}
	if got := time.Unix(f.Mtim.Unix()); !got.Equal(when) {
		t.Errorf("time is %s, want %s", got, when)
	}
}

// TestPackNames: what is in a stream is called as docker calls it.
func TestPackNames(t *testing.T) {
	from := t.TempDir()
	plant(t, from, map[string]string{"d/sub/x": "X"})
	for src, want := range map[string]string{
		"d": "d/ d/sub/ d/sub/x", "d/.": ".// ./sub/ ./sub/x", "d/sub/x": "x", "/d/sub": "sub/ sub/x",
	} {
		var b bytes.Buffer
		if err := Pack(context.Background(), &b, Place{Root: open(t, from), Path: src}, callers); err != nil {
			t.Fatal(err)
		}
		var names []string
		for r := tar.NewReader(&b); ; {
			h, err := r.Next()
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			names = append(names, h.Name)
		}
		if got := strings.Join(names, " "); got != strings.ReplaceAll(want, "//", "/") {
			t.Errorf("%s is packed as %s, want %s", src, got, want)
		}
	}
}

// TestKernelsFiles: what the kernel makes up when it is asked is no file of a
// tree; that there is a place for it is.
func TestKernelsFiles(t *testing.T) {
	var b bytes.Buffer
	if err := Pack(context.Background(), &b, Place{Root: open(t, "/proc"), Path: "self/fdinfo"}, callers); err != nil {
		t.Fatal(err)
	}
	r := tar.NewReader(&b)
	if h, err := r.Next(); err != nil || h.Typeflag != tar.TypeDir {
		t.Fatalf("%+v, %v", h, err)
	}
	if h, err := r.Next(); err != io.EOF {
		t.Errorf("%+v, %v", h, err)
	}
}

// TestShrunkFile: a file that has less than was said of it is an error, not a
// copy with something else at its end. A file of sysfs says 4096.
func TestShrunkFile(t *testing.T) {
	to := t.TempDir()
	_, err := Copy(context.Background(), Place{Root: open(t, to), Path: "new"}, Place{Root: open(t, "/sys/kernel"), Path: "uevent_seqnum"}, callers)
	if !errors.Is(err, ErrChanged) {
		t.Errorf("got error %v, want %v", err, ErrChanged)
	}
}

// swap changes a name between two files until the test ends.
func swap(t *testing.T, a, b string) {
	t.Helper()
	stop, done := make(chan struct{}), make(chan error)
	go func() {
		for {
			select {
			case <-stop:
				done <- nil
				return
			default:
			}
			if err := unix.Renameat2(unix.AT_FDCWD, a, unix.AT_FDCWD, b, unix.RENAME_EXCHANGE); err != nil {
				done <- err
				return
			}
		}
	}()
	t.Cleanup(func() {
		close(stop)
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// TestSwappedDirectory: while a directory is a symlink out of the root every
// other moment, nothing outside is read or written (CVE-2018-15664).
func TestSwappedDirectory(t *testing.T) {
	base := t.TempDir()
	plant(t, base, map[string]string{
		"in/d/f": "inside", "in/other": "->" + base + "/out/d", "out/d/f": "secret", "out/d/g": "", "local/g": "local", "to/": "",
	})
	swap(t, base+"/in/d", base+"/in/other")
	inside, user := open(t, base+"/in"), open(t, base)
	copied := 0
	// At least once it has to be the directory, however busy the machine is.
	for tries := 0; tries < 300 || copied == 0 && tries < 100_000; tries++ {
		_, err := Copy(context.Background(), Place{Root: user, Path: "to/f"}, Place{Root: inside, Path: "d/f"}, callers)
		if err == nil {
			copied++
		}
		if got, _ := os.ReadFile(base + "/to/f"); string(got) == "secret" {
			t.Fatal("a file outside of the root was read")
		}
		_, err = Copy(context.Background(), Place{Root: inside, Path: "d/g"}, Place{Root: user, Path: "local/g"}, callers)
		if err == nil {
			copied++
		}
		if got, _ := os.ReadFile(base + "/out/d/g"); len(got) > 0 {
			t.Fatal("a file outside of the root was written")
		}
	}
	if copied == 0 {
		t.Error("no copy ever met the directory")
	}
}

// TestSwappedFIFO: a FIFO that takes a file's place blocks nothing.
func TestSwappedFIFO(t *testing.T) {
	base, to := t.TempDir(), t.TempDir()
	plant(t, base, map[string]string{"d/f": "F"})
	if err := unix.Mkfifo(base+"/p", 0o600); err != nil {
		t.Fatal(err)
	}
	swap(t, base+"/d/f", base+"/p")
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	kinds := map[fs.FileMode]bool{}
	for range 300 {
		_, err := Copy(ctx, Place{Root: open(t, to), Path: "."}, Place{Root: open(t, base), Path: "d"}, callers)
		if err != nil && !errors.Is(err, ErrChanged) {
			t.Fatal(err)
		}
		if info, err := os.Lstat(to + "/d/f"); err == nil {
			kinds[info.Mode().Type()] = true
		}
	}
	if !kinds[0] || !kinds[fs.ModeNamedPipe] {
		t.Errorf("copies met only %v", kinds)
	}
}

// TestCancel: the end of the context is the end of a copy, also of a long file.
func TestCancel(t *testing.T) {
	from := t.TempDir()
	f, err := os.Create(from + "/endless")
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(f.Truncate(1<<40), f.Close()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	err = Pack(ctx, io.Discard, Place{Root: open(t, from), Path: "endless"}, callers)
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got error %v", err)
	}
}
