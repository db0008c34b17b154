package rmtree_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/strata-build/strata/internal/testenv"
	"github.com/strata-build/strata/runtime/mount"
	"github.com/strata-build/strata/runtime/mount/mounttest"
	"github.com/strata-build/strata/runtime/store/rmtree"
	"golang.org/x/sys/unix"
)

// tree makes a directory with a sibling that must survive, and returns both.
func tree(t *testing.T) (dir, sibling string) {
	t.Helper()
	base := t.TempDir()
	dir, sibling = filepath.Join(base, "tree"), filepath.Join(base, "sibling")
	for _, d := range []string{dir, sibling} {
		must(t, os.Mkdir(d, 0o755))
	}
	must(t, os.WriteFile(filepath.Join(sibling, "f"), []byte("x"), 0o600))
	return dir, sibling
}

func remove(t *testing.T, path string) error {
	t.Helper()
	parent, err := os.Open(filepath.Dir(path))
	must(t, err)
	defer parent.Close()
	return rmtree.Remove(context.Background(), parent, filepath.Base(path))
}

func mustVanish(t *testing.T, path string) {
	t.Helper()
	must(t, remove(t, path))
	if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%s is still there: %v", path, err)
	}
}

func mustStay(t *testing.T, sibling string) {
	t.Helper()
	if _, err := os.Stat(filepath.Join(sibling, "f")); err != nil {
		t.Errorf("a file outside is gone: %v", err)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestRemove(t *testing.T) {
	dir, sibling := tree(t)
	must(t, os.MkdirAll(filepath.Join(dir, "a/b/c"), 0o755))
	for i := range 3000 {
		must(t, os.WriteFile(filepath.Join(dir, "a/b", fmt.Sprint(i)), nil, 0o600))
	}
	mustVanish(t, dir)
	mustVanish(t, dir) // is not there: no error
	file := filepath.Join(sibling, "g")
	must(t, os.WriteFile(file, nil, 0o600))
	mustVanish(t, file)
	mustStay(t, sibling)
}

// CVE-2024-23652: clean-up through a symbolic link.
func TestSymlinksAreNotFollowed(t *testing.T) {
	dir, sibling := tree(t)
	must(t, os.Symlink(sibling, filepath.Join(dir, "link")))
	must(t, os.Symlink("..", filepath.Join(dir, "up")))
	mustVanish(t, dir)
	mustStay(t, sibling)
	must(t, os.Symlink(sibling, dir))
	mustVanish(t, dir)
	mustStay(t, sibling)
}

// A directory is swapped for a symbolic link, again and again, while it is
// being removed: between the look at the name and its opening, too.
func TestSwappedDirectory(t *testing.T) {
	dir, sibling := tree(t)
	stop, stopped := make(chan struct{}), make(chan struct{})
	inner, link := filepath.Join(dir, "inner"), filepath.Join(dir, "link")
	go func() {
		defer close(stopped)
		for {
			select {
			case <-stop:
				return
			default:
			}
			_ = os.Remove(link)
			_ = os.Symlink(sibling, link)
			_ = os.Mkdir(inner, 0o755)
			for range 3 {
				_ = unix.Renameat2(unix.AT_FDCWD, inner, unix.AT_FDCWD, link, unix.RENAME_EXCHANGE)
			}
		}
	}()
	// EISDIR: a directory for unlink, and a link when it was to be opened.
	hits := 0
	for tries := 0; hits < 3 && tries < 1_000_000; tries++ {
		if err := remove(t, inner); errors.Is(err, unix.EISDIR) {
			hits++
		}
	}
	close(stop)
	<-stopped
	mustStay(t, sibling)
	if hits == 0 {
		t.Error("the swap never came in between")
	}
}

func TestDeepTree(t *testing.T) {
	dir, sibling := tree(t)
	const depth = 5000
	deepen(t, dir, depth)
	// The names that the remover uses for itself may be taken.
	must(t, os.Mkdir(filepath.Join(dir, ".rmtree-1"), 0o755))
	must(t, os.WriteFile(filepath.Join(dir, ".rmtree-1/f"), nil, 0o600))
	must(t, os.WriteFile(filepath.Join(dir, ".rmtree-2"), nil, 0o600))
	var limit unix.Rlimit
	must(t, unix.Getrlimit(unix.RLIMIT_NOFILE, &limit))
	low := unix.Rlimit{Cur: 256, Max: limit.Max}
	must(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &low))
	defer func() { must(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &limit)) }()
	mustVanish(t, dir)
	mustStay(t, sibling)
}

// deepen makes directories inside each other, deeper than a path can say.
func deepen(t *testing.T, dir string, depth int) {
	t.Helper()
	fd, err := unix.Open(dir, unix.O_PATH, 0)
	must(t, err)
	for range depth {
		must(t, unix.Mkdirat(fd, "d", 0o755))
		next, err := unix.Openat(fd, "d", unix.O_PATH, 0)
		must(t, err)
		must(t, unix.Close(fd))
		fd = next
	}
	must(t, unix.Close(fd))
}

func TestCancel(t *testing.T) {
	dir, _ := tree(t)
	parent, err := os.Open(filepath.Dir(dir))
	must(t, err)
	defer parent.Close()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := rmtree.Remove(ctx, parent, "tree"); !errors.Is(err, context.Canceled) {
		t.Errorf("%v, want canceled", err)
	}
}

// An ordinary user's directories without permissions.
func TestUnreadable(t *testing.T) {
	mounttest.AsUser(t, func(t *testing.T) {
		dir, sibling := tree(t)
		must(t, os.MkdirAll(filepath.Join(dir, "closed/in"), 0o755))
		must(t, os.WriteFile(filepath.Join(dir, "closed/in/f"), nil, 0o400))
		deepen(t, filepath.Join(dir, "closed"), 100)
		must(t, os.Chmod(filepath.Join(dir, "closed/in"), 0o500))
		must(t, os.Chmod(filepath.Join(dir, "closed"), 0))
		must(t, os.Chmod(dir, 0o500))
		mustVanish(t, dir)
		mustStay(t, sibling)
	})
}

// A file system that is still mounted in the tree is left alone.
func TestMountInside(t *testing.T) {
	testenv.Root(t)
	mounttest.InMountNamespace(t, func() {
		dir, sibling := tree(t)
		target := filepath.Join(dir, "a/mnt")
		must(t, os.MkdirAll(target, 0o755))
		src, err := os.Open(sibling)
		must(t, err)
		defer src.Close()
		m, err := mount.Bind(src, mount.BindOptions{})
		must(t, err)
		on, err := os.Open(target)
		must(t, err)
		must(t, mount.Attach(m, on))
		must(t, errors.Join(on.Close(), m.Close()))
		if err := remove(t, dir); err == nil {
			t.Error("a tree with a mount inside was removed")
		}
		mustStay(t, sibling)
		must(t, unix.Unmount(target, 0))
		mustVanish(t, dir)
	})
}
