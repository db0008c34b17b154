package rootfs_test

import (
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/strata-build/strata/runtime/rootfs"
)

// While anything on the machine is renamed, the kernel gives lookups with '..'
// up. Anybody can rename without end: that must not make them fail.
func TestLookupsInAStormOfRenames(t *testing.T) {
	top := t.TempDir()
	if err := os.MkdirAll(filepath.Join(top, "a/b/c/d"), 0o755); err != nil {
		t.Fatal(err)
	}
	root, err := rootfs.OpenDir(top)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	stop := storm(t)
	defer stop()
	for range 2000 {
		f, err := root.OpenPath("/a/../a/b/../b/c/../c/d/../../../../a/b/c/d", 0)
		if err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// storm renames files until it is told to stop.
func storm(t *testing.T) (stop func()) {
	t.Helper()
	dir := t.TempDir()
	done := make(chan struct{})
	var wg sync.WaitGroup
	for _, name := range []string{"x", "y", "z", "w"} {
		from, to := filepath.Join(dir, name), filepath.Join(dir, name+"2")
		if err := os.Mkdir(from, 0o755); err != nil {
			t.Fatal(err)
		}
		wg.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				if err := os.Rename(from, to); err != nil {
					t.Error(err)
					return
				}
				from, to = to, from
			}
		})
	}
	return func() { close(done); wg.Wait() }
}
