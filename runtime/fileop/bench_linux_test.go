package fileop_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	fscopy "github.com/tonistiigi/fsutil/copy"

	"github.com/strata-build/strata/runtime/fileop"
)

// smallFiles makes n files of about 5 kB, 100 in a directory.
func smallFiles(b *testing.B, n int) string {
	b.Helper()
	dir := b.TempDir()
	data := make([]byte, 10<<10)
	for i := range data {
		data[i] = byte(i * 31 >> 2)
	}
	for i := range n {
		d := filepath.Join(dir, fmt.Sprintf("d%02d/e%03d", i/1000, i/100))
		if i%100 == 0 {
			must(b, os.MkdirAll(d, 0o755))
		}
		must(b, os.WriteFile(filepath.Join(d, fmt.Sprintf("file-%d.js", i)), data[:i*7919%len(data)], 0o644))
	}
	return dir
}

// targets are made before, and removed after the clock: ext4 is slow to create
// files where many were just deleted.
func benchCopy(b *testing.B, run func(src, dst string) error) {
	src := smallFiles(b, 20000)
	parent := b.TempDir()
	b.ResetTimer()
	for i := range b.N {
		dst := filepath.Join(parent, fmt.Sprint(i))
		must(b, os.Mkdir(dst, 0o755))
		must(b, run(src, dst))
	}
	b.StopTimer()
}

func BenchmarkCopy20000(b *testing.B) {
	b.Run("ours", func(b *testing.B) {
		benchCopy(b, func(src, dst string) error { return copyDirs(b, src, dst, action("/", "/", contents)) })
	})
	b.Run("fsutil", func(b *testing.B) {
		benchCopy(b, func(src, dst string) error {
			return fscopy.Copy(context.Background(), src, "/", dst, "/", func(ci *fscopy.CopyInfo) { ci.CopyDirContents = true })
		})
	})
}

func BenchmarkDigest20000(b *testing.B) {
	src := smallFiles(b, 20000)
	tree := fileop.RootTree(openRoot(b, src), fileop.RootOptions{})
	for b.Loop() {
		_, err := fileop.Digest(ctx, tree, action("/", "/", contents))
		must(b, err)
	}
}
