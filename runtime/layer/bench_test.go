package layer

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/strata-build/strata/runtime/tree"
)

// manyFiles makes 20,000 files of 99 MB in 1,000 directories.
func manyFiles(b *testing.B) string {
	b.Helper()
	dir := newDir(b)
	r := rng(1)
	data := compressible(16 << 10)
	for i := range 20000 {
		d := filepath.Join(dir, fmt.Sprintf("d%02d/e%02d", i/1000, i/20%50))
		if i%20 == 0 {
			must(b, os.MkdirAll(d, 0o755))
		}
		n := 2000 + r.IntN(5900)
		at := r.IntN(len(data) - n)
		must(b, os.WriteFile(filepath.Join(d, fmt.Sprintf("file-%05d.txt", i)), data[at:at+n], 0o644))
	}
	return dir
}

// report gives the time per pass, by whole passes: the first warms the cache.
func timed(b *testing.B, bytes int64, pass func()) {
	b.Helper()
	pass()
	if bytes > 0 {
		b.SetBytes(bytes)
	}
	for b.Loop() {
		pass()
	}
}

func BenchmarkWriteTar(b *testing.B) {
	dir := manyFiles(b)
	o := WriteOptions{Format: format(), Epoch: time.Unix(0, 0)}
	b.Run("ours", func(b *testing.B) {
		timed(b, 99e6, func() { must(b, WriteTar(b.Context(), io.Discard, dir, o)) })
	})
	b.Run("archive-tar", func(b *testing.B) {
		timed(b, 99e6, func() { must(b, archiveTarOf(dir)) })
	})
	for _, c := range []Compression{{Type: None}, {}, {Level: 3}, {Level: 6}, {Type: Zstd, Level: 1}, {Type: Zstd}} {
		c = mustNormal(b, c)
		b.Run("blob-"+c.name(), func(b *testing.B) {
			timed(b, 99e6, func() {
				out := sha256.New() // as the store does
				_, err := encode(b.Context(), out, c, func(w io.Writer) error { return WriteTar(b.Context(), w, dir, o) })
				must(b, err)
			})
		})
	}
}

// archiveTarOf is the usual way, for comparison.
func archiveTarOf(dir string) error {
	w := tar.NewWriter(io.Discard)
	err := filepath.WalkDir(dir, func(p string, d os.DirEntry, err error) error {
		if err != nil || p == dir {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		hdr, err := tar.FileInfoHeader(info, "")
		if err != nil {
			return err
		}
		hdr.Name, hdr.ModTime, hdr.Format = p, time.Unix(0, 0), tar.FormatPAX
		if err := w.WriteHeader(hdr); err != nil || d.IsDir() {
			return err
		}
		f, err := os.Open(p)
		if err != nil {
			return err
		}
		defer f.Close()
		_, err = io.Copy(w, f)
		return err
	})
	if err != nil {
		return err
	}
	return w.Close()
}

func BenchmarkTinyLayer(b *testing.B) {
	dir := newDir(b)
	must(b, os.WriteFile(filepath.Join(dir, "x"), []byte("x\n"), 0o644))
	c := mustNormal(b, Compression{})
	b.ReportAllocs()
	timed(b, 0, func() {
		_, err := encode(b.Context(), io.Discard, c, func(w io.Writer) error {
			return WriteTar(b.Context(), w, dir, WriteOptions{Format: format()})
		})
		must(b, err)
	})
}

func BenchmarkCompressGiB(b *testing.B) {
	piece := compressible(64 << 20)
	for _, c := range []Compression{{}, {Level: 6}, {Type: Zstd}} {
		c = mustNormal(b, c)
		b.Run(c.name(), func(b *testing.B) {
			timed(b, 1<<30, func() {
				_, err := encode(b.Context(), sha256.New(), c, func(w io.Writer) error {
					for range 16 {
						if _, err := w.Write(piece); err != nil {
							return err
						}
					}
					return nil
				})
				must(b, err)
			})
		})
	}
}

func BenchmarkApply(b *testing.B) {
	dir := manyFiles(b)
	plain := tarOf(b, dir, WriteOptions{Format: format()})
	top := b.TempDir()
	for _, c := range []Compression{{Type: None}, {}, {Type: Zstd}} {
		blob := packed(b, plain, c)
		n := 0
		b.Run(mustNormal(b, c).name(), func(b *testing.B) {
			b.SetBytes(99e6)
			for b.Loop() {
				// Nothing is removed between the passes: ext4 would be slow.
				n++
				to := filepath.Join(top, fmt.Sprint(c.Type, n))
				must(b, os.Mkdir(to, 0o755))
				_, err := Apply(b.Context(), bytes.NewReader(blob), to, ApplyOptions{Format: format()})
				must(b, err)
			}
		})
	}
}

func BenchmarkFlatten(b *testing.B) {
	dir := manyFiles(b)
	top := b.TempDir()
	n := 0
	b.SetBytes(99e6)
	for b.Loop() {
		n++
		to := filepath.Join(top, fmt.Sprint(n))
		must(b, os.Mkdir(to, 0o755))
		must(b, tree.Flatten(b.Context(), tree.FlattenRequest{Layers: []string{dir}, Dst: open(b, to), Format: format()}))
	}
}
