package layer

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/strata-build/strata/internal/testenv"
	"github.com/strata-build/strata/runtime/tree"
	"github.com/strata-build/strata/runtime/tree/treetest"
)

// TestRoundTrip: a layer directory, its tar, and the directory unpacked from it
// are the same; and so is the tar of that.
func TestRoundTrip(t *testing.T) {
	for seed := range 5 {
		src, dst := newDir(t), newDir(t)
		o := treetest.Options{Files: 250, Whiteouts: true, Opaque: format().OpaqueXattr()}
		treetest.Random(t, rng(seed), src, o)
		data := tarOf(t, src, WriteOptions{Format: format()})
		result, err := Apply(t.Context(), bytes.NewReader(data), dst, ApplyOptions{Format: format()})
		must(t, err)
		if result.NeedsLower || len(result.Skipped) > 0 {
			t.Fatalf("seed %d: %+v", seed, result)
		}
		// A whiteout in an opaque directory hides nothing, and is dropped.
		want := described(t, src)
		dropHidden(t, src, want)
		if d := treetest.Diff(want, described(t, dst)); d != "" {
			t.Fatalf("seed %d: %s", seed, d)
		}
		again := tarOf(t, dst, WriteOptions{Format: format()})
		if len(want) == len(described(t, src)) && !bytes.Equal(data, again) {
			t.Errorf("seed %d: the second tar is another one", seed)
		}
	}
}

func dropHidden(t *testing.T, dir string, lines map[string]string) {
	t.Helper()
	for p, line := range lines {
		if !strings.HasSuffix(line, " whiteout") {
			continue
		}
		for at := filepath.Dir(p); at != "."; at = filepath.Dir(at) {
			if n, err := unix.Lgetxattr(filepath.Join(dir, at), format().OpaqueXattr(), make([]byte, 1)); n == 1 && err == nil {
				delete(lines, p)
			}
		}
	}
}

// TestArchiveTarReads: the standard reader sees what is there, in order.
func TestArchiveTarReads(t *testing.T) {
	src := newDir(t)
	treetest.Random(t, rng(100), src, treetest.Options{Files: 300, Whiteouts: true})
	lines := described(t, src)
	r := tar.NewReader(bytes.NewReader(tarOf(t, src, WriteOptions{Format: format(), Epoch: time.Unix(1500000000, 0)})))
	last := ""
	for {
		hdr, err := r.Next()
		if err == io.EOF {
			break
		}
		must(t, err)
		name := strings.TrimSuffix(hdr.Name, "/")
		if base, ok := strings.CutPrefix(filepath.Base(name), ".wh."); ok {
			name = filepath.Join(filepath.Dir(name), base)
		}
		line, ok := lines[name]
		if !ok {
			t.Fatalf("%q is not in the tree", hdr.Name)
		}
		delete(lines, name)
		if want := fmt.Sprintf(" %d:%d ", hdr.Uid, hdr.Gid); !strings.Contains(line, want) && hdr.Typeflag != tar.TypeLink && !strings.HasSuffix(line, "whiteout") {
			t.Errorf("%q: %s, want%s", hdr.Name, line, want)
		}
		if hdr.Uname != "" || hdr.Gname != "" || hdr.ModTime.Unix() > 1500000000 || hdr.ModTime.Nanosecond() != 0 {
			t.Errorf("%q: %q %q %v", hdr.Name, hdr.Uname, hdr.Gname, hdr.ModTime)
		}
		if walkOrder(name) <= walkOrder(last) {
			t.Errorf("%q comes after %q", name, last)
		}
		last = name
		if n, err := io.Copy(io.Discard, r); n != hdr.Size || err != nil {
			t.Errorf("%q: %d bytes of %d, %v", hdr.Name, n, hdr.Size, err)
		}
	}
	if len(lines) > 0 {
		t.Errorf("missing: %v", lines)
	}
}

// walkOrder makes names comparable as a walk visits them.
func walkOrder(p string) string { return strings.ReplaceAll(p, "/", "\x00") }

// TestGNUTarReads: what GNU tar unpacks is the tree.
func TestGNUTarReads(t *testing.T) {
	testenv.Root(t)
	gnu := testenv.Tool(t, "tar")
	for seed := range 3 {
		src, dst := newDir(t), newDir(t)
		treetest.Random(t, rng(200+seed), src, treetest.Options{Files: 200})
		file := filepath.Join(t.TempDir(), "l.tar")
		must(t, os.WriteFile(file, tarOf(t, src, WriteOptions{Format: format()}), 0o600))
		cmd := exec.Command(gnu, "--xattrs", "--xattrs-include=*", "--numeric-owner", "--delay-directory-restore", "-xpf", file, "-C", dst)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		if d := treetest.Diff(described(t, src), described(t, dst)); d != "" {
			t.Fatalf("seed %d: %s", seed, d)
		}
	}
}

// TestGNUTarWrites: what GNU tar packs is unpacked as it was, in its own format
// and in pax.
func TestGNUTarWrites(t *testing.T) {
	testenv.Root(t)
	gnu := testenv.Tool(t, "tar")
	for _, format := range []string{"gnu", "posix"} {
		for _, sparse := range []string{"--sparse", "--no-check-device"} {
			src, dst := newDir(t), newDir(t)
			treetest.Random(t, rng(300), src, treetest.Options{Files: 200, Seconds: true, FileLinks: true})
			file := filepath.Join(t.TempDir(), "l.tar")
			args := []string{"--format=" + format, "--numeric-owner", sparse, "-cf", file, "-C", src, "."}
			if format == "posix" {
				args = append([]string{"--xattrs", "--xattrs-include=*"}, args...)
			}
			if out, err := exec.Command(gnu, args...).CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			f, err := os.Open(file)
			must(t, err)
			_, err = Apply(t.Context(), f, dst, ApplyOptions{})
			must(t, err)
			must(t, f.Close())
			o := treetest.DescribeOptions{Seconds: true}
			if format == "gnu" {
				o.HideXattr = func(string) bool { return true }
			}
			if d := treetest.Diff(treetest.Describe(t, src, o), treetest.Describe(t, dst, o)); d != "" {
				t.Fatalf("%s %s: %s", format, sparse, d)
			}
		}
	}
}

func TestWriteIsDeterministic(t *testing.T) {
	a, b := newDir(t), newDir(t)
	treetest.Random(t, rng(5), a, treetest.Options{Files: 200, Seconds: true})
	treetest.Random(t, rng(5), b, treetest.Options{Files: 200, Seconds: true})
	if !bytes.Equal(tarOf(t, a, WriteOptions{Format: format()}), tarOf(t, b, WriteOptions{Format: format()})) {
		t.Error("two equal trees give two tars")
	}
	kept := tarOf(t, a, WriteOptions{Format: format()})
	epoch := tarOf(t, a, WriteOptions{Format: format(), Epoch: time.Unix(0, 0)})
	if bytes.Equal(kept, epoch) {
		t.Error("epoch 0 is taken for no epoch")
	}
	r := tar.NewReader(bytes.NewReader(epoch))
	for {
		hdr, err := r.Next()
		if err == io.EOF {
			break
		}
		must(t, err)
		if hdr.ModTime.Unix() > 0 {
			t.Errorf("%q has the time %v", hdr.Name, hdr.ModTime)
		}
	}
}

func TestWriteStripsMarks(t *testing.T) {
	src := newDir(t)
	p := filepath.Join(src, "f")
	must(t, os.WriteFile(p, []byte("x"), 0o644))
	for attr, value := range map[string]string{"user.own": "1", "user.overlay.origin": "2", OverrideXattr: "7:8:100644"} {
		must(t, unix.Setxattr(p, attr, []byte(value), 0))
	}
	for _, f := range []tree.Format{{}, {UserXattr: true}, {UserXattr: true, SingleID: true}} {
		hdr, err := tar.NewReader(bytes.NewReader(tarOf(t, src, WriteOptions{Format: f}))).Next()
		must(t, err)
		if len(hdr.PAXRecords) != 0 {
			t.Errorf("%+v: a layer has the records %v", f, hdr.PAXRecords)
		}
		var flat bytes.Buffer
		must(t, FlattenTar(t.Context(), &flat, []string{src}, WriteOptions{Format: f}))
		whole, err := tar.NewReader(&flat).Next()
		must(t, err)
		if len(whole.PAXRecords) != 1 || whole.PAXRecords["SCHILY.xattr.user.own"] != "1" {
			t.Errorf("%+v: a file system has the records %v", f, whole.PAXRecords)
		}
		uid := os.Getuid() // a step of a rootful build cannot change owners by an attribute
		if f.Overrides() {
			uid = 7
		}
		if hdr.Uid != uid {
			t.Errorf("%+v: uid %d, want %d", f, hdr.Uid, uid)
		}
	}
}

func TestWriteRefuses(t *testing.T) {
	src := newDir(t)
	must(t, os.WriteFile(filepath.Join(src, ".wh.x"), nil, 0o644))
	err := WriteTar(t.Context(), io.Discard, src, WriteOptions{Format: format()})
	if !errors.Is(err, ErrWhiteoutName) || !strings.Contains(err.Error(), ".wh.x") {
		t.Errorf("a file called .wh.x: %v", err)
	}
	must(t, FlattenTar(t.Context(), io.Discard, []string{src}, WriteOptions{Format: format()}))
	broken := newDir(t)
	must(t, os.WriteFile(filepath.Join(broken, "f"), nil, 0o644))
	must(t, unix.Setxattr(filepath.Join(broken, "f"), OverrideXattr, []byte("nonsense"), 0))
	err = WriteTar(t.Context(), io.Discard, broken, WriteOptions{Format: tree.Format{UserXattr: true}})
	if !errors.Is(err, tree.ErrOverride) {
		t.Errorf("a damaged override: %v", err)
	}
}

func TestWriteLeavesOutSockets(t *testing.T) {
	src := newDir(t)
	must(t, unix.Mknod(filepath.Join(src, "s"), unix.S_IFSOCK|0o600, 0))
	if data := tarOf(t, src, WriteOptions{Format: format()}); len(data) != 1024 {
		t.Errorf("%d bytes", len(data))
	}
}

// TestLargeSizes: more than 8 GiB does not fit into ustar.
func TestLargeSizes(t *testing.T) {
	testenv.Full(t, "time")
	src := newDir(t)
	p := filepath.Join(src, "large")
	must(t, os.WriteFile(p, []byte("begin"), 0o644))
	must(t, os.Truncate(p, 9<<30))
	pr, pw := io.Pipe()
	go func() { pw.CloseWithError(WriteTar(t.Context(), pw, src, WriteOptions{Format: format()})) }()
	dst := newDir(t)
	_, err := Apply(t.Context(), pr, dst, ApplyOptions{Format: format()})
	must(t, err)
	var st unix.Stat_t
	must(t, unix.Stat(filepath.Join(dst, "large"), &st))
	if st.Size != 9<<30 || st.Blocks > 10000 {
		t.Errorf("%d bytes in %d blocks", st.Size, st.Blocks)
	}
}

// TestFlattenTar: the merged view as one tar.
func TestFlattenTar(t *testing.T) {
	for seed := range 5 {
		var stack []string
		for i := range 3 {
			dir := newDir(t)
			o := treetest.Options{Whiteouts: i > 0}
			if i > 0 {
				o.Opaque = format().OpaqueXattr()
			}
			treetest.Overlapping(t, rng(seed*10+i), dir, o)
			stack = append(stack, dir)
		}
		var buf bytes.Buffer
		must(t, FlattenTar(t.Context(), &buf, stack, WriteOptions{Format: format()}))
		got, want := newDir(t), newDir(t)
		_, err := Apply(t.Context(), &buf, got, ApplyOptions{Format: format()})
		must(t, err)
		must(t, tree.Flatten(t.Context(), tree.FlattenRequest{Layers: stack, Dst: open(t, want), Format: format()}))
		if d := treetest.Diff(described(t, want), described(t, got)); d != "" {
			t.Fatalf("seed %d: %s", seed, d)
		}
	}
}
