package layer

import (
	"archive/tar"
	"bytes"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/strata-build/strata/runtime/rootfs"
	"github.com/strata-build/strata/runtime/tree"
	"github.com/strata-build/strata/runtime/tree/treetest"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// format is the one that this user can write.
func format() tree.Format {
	ordinary := !treetest.Privileged()
	return tree.Format{UserXattr: ordinary, SingleID: ordinary}
}

func rng(seed int) *rand.Rand { return rand.New(rand.NewPCG(uint64(seed), 7)) }

func newDir(t testing.TB) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "d")
	must(t, os.Mkdir(dir, 0o755))
	return dir
}

func open(t testing.TB, dir string) *rootfs.Root {
	t.Helper()
	r, err := rootfs.OpenDir(dir)
	must(t, err)
	t.Cleanup(func() { r.Close() })
	return r
}

// described are the files of a layer directory, as a tar can keep them.
func described(t testing.TB, dir string) map[string]string {
	t.Helper()
	return treetest.Describe(t, dir, treetest.DescribeOptions{NoSockets: true, Seconds: true, HideXattr: ownXattr})
}

func tarOf(t testing.TB, dir string, o WriteOptions) []byte {
	t.Helper()
	var buf bytes.Buffer
	must(t, WriteTar(t.Context(), &buf, dir, o))
	return buf.Bytes()
}

// entry is one tar entry of a hand-made layer.
type entry struct {
	name string
	kind byte // 0 is a regular file, or a directory where the name ends in a slash
	link string
	data string
	mode int64
	uid  int
	pax  map[string]string
	hdr  func(*tar.Header)
}

// makeTar writes a hand-made layer.
func makeTar(t testing.TB, entries ...entry) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, e := range entries {
		hdr := &tar.Header{
			Name: e.name, Typeflag: e.kind, Linkname: e.link, Mode: e.mode, Uid: e.uid, Gid: e.uid,
			Size: int64(len(e.data)), PAXRecords: e.pax,
		}
		if !treetest.Privileged() {
			hdr.Uid, hdr.Gid = os.Getuid(), os.Getgid()
		}
		if e.kind == 0 {
			hdr.Typeflag = tar.TypeReg
			if strings.HasSuffix(e.name, "/") {
				hdr.Typeflag = tar.TypeDir
			}
		}
		if e.mode == 0 {
			hdr.Mode = 0o755
		}
		if e.hdr != nil {
			e.hdr(hdr)
		}
		must(t, w.WriteHeader(hdr))
		_, err := io.WriteString(w, e.data)
		must(t, err)
	}
	must(t, w.Close())
	return buf.Bytes()
}

// listing are the names of a directory's files, with what distinguishes them
// shortly: "dir/", "link -> target", "whiteout!", "file=content".
func listing(t testing.TB, dir string) string {
	t.Helper()
	var out []string
	must(t, filepath.WalkDir(dir, func(p string, d os.DirEntry, err error) error {
		if err != nil || p == dir {
			return err
		}
		rel, err := filepath.Rel(dir, p)
		if err != nil {
			return err
		}
		text, err := short(p, rel, d)
		out = append(out, text)
		return err
	}))
	return strings.Join(out, " ")
}

func short(p, rel string, d os.DirEntry) (string, error) {
	switch {
	case d.IsDir():
		root, err := rootfs.OpenDir(p)
		if err != nil {
			return "", err
		}
		defer root.Close()
		h, err := root.OpenDir("/")
		if err != nil {
			return "", err
		}
		defer h.Close()
		attrs, err := h.Xattrs("")
		if attrs[format().OpaqueXattr()] != "" {
			return rel + "/opaque", err
		}
		return rel + "/", err
	case d.Type()&os.ModeSymlink != 0:
		target, err := os.Readlink(p)
		return rel + "->" + target, err
	case d.Type()&os.ModeCharDevice != 0:
		return rel + "!", nil
	case d.Type().IsRegular():
		data, err := os.ReadFile(p)
		return rel + "=" + string(data), err
	}
	return rel + "?", nil
}
