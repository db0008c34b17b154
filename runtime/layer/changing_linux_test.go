package layer

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// busy is a directory whose first file is being written to a tar when all
// that follows changes.
type busy struct {
	t    *testing.T
	dir  string
	done bool
	tar  bytes.Buffer
}

func (b *busy) Write(p []byte) (int, error) {
	if !b.done {
		b.done = true
		b.change()
	}
	return b.tar.Write(p)
}

func (b *busy) change() {
	b.must(os.Truncate(b.path("a"), 1))
	for _, name := range []string{"dir", "file", "full", "link"} {
		b.must(os.RemoveAll(b.path(name)))
	}
	b.must(os.Symlink("z", b.path("dir")))
	b.must(os.Mkdir(b.path("file"), 0o755))
	b.must(os.WriteFile(b.path("grows"), make([]byte, 3000), 0o644))
}

func (b *busy) path(name string) string { return filepath.Join(b.dir, name) }

func (b *busy) must(err error) {
	if err != nil {
		b.t.Fatal(err)
	}
}

func newBusy(t *testing.T) *busy {
	b := &busy{t: t, dir: t.TempDir()}
	b.must(os.WriteFile(b.path("a"), bytes.Repeat([]byte("a"), 4*tarBuffer), 0o644))
	for _, name := range []string{"dir", "full/below"} {
		b.must(os.MkdirAll(b.path(name), 0o755))
	}
	for _, name := range []string{"file", "full/f", "grows", "z"} {
		b.must(os.WriteFile(b.path(name), []byte("x"), 0o644))
	}
	b.must(os.Symlink("z", b.path("link")))
	return b
}

// TestWriteChangingTar: what a running container does to its files meanwhile is
// no reason to fail, and leaves a tar that can be read.
func TestWriteChangingTar(t *testing.T) {
	b := newBusy(t)
	if err := WriteTar(t.Context(), b, b.dir, WriteOptions{Changing: true}); err != nil {
		t.Fatal(err)
	}
	sizes := map[string]int64{}
	var names []string
	for r := tar.NewReader(&b.tar); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		b.must(err)
		names = append(names, h.Name)
		sizes[h.Name] = h.Size
	}
	if want := []string{"a", "dir", "file/", "grows", "z"}; !slices.Equal(names, want) {
		t.Errorf("the tar has %q, want %q", names, want)
	}
	if sizes["a"] != 4*tarBuffer || sizes["grows"] != 3000 {
		t.Errorf("sizes: %v", sizes)
	}
}

// What should not change and does is an error.
func TestWriteChangedTar(t *testing.T) {
	b := newBusy(t)
	if err := WriteTar(t.Context(), b, b.dir, WriteOptions{}); !errors.Is(err, ErrChanged) {
		t.Errorf("WriteTar: %v, want %v", err, ErrChanged)
	}
}
