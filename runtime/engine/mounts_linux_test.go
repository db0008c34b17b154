package engine

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/strata-build/strata/internal/testenv"
	"github.com/strata-build/strata/runtime/snapshot"
)

func open(t *testing.T) *Engine {
	t.Helper()
	e, err := Open(t.Context(), Options{Root: t.TempDir(), Driver: snapshot.DriverCopy})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	return e
}

// A reboot ends all mounts: their records go, with the directories that were
// made for them, and what they kept is free.
func TestMountsAfterReboot(t *testing.T) {
	e := open(t)
	dir := filepath.Join(t.TempDir(), "made")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	stale := Mount{Dir: dir, Image: "app:1", Made: true, Boot: "an earlier one", Namespace: mountNamespace()}
	if err := e.Store.PutRecord(BucketMounts, dir, stale, snapshot.Ref("gone")); err != nil {
		t.Fatal(err)
	}
	if _, err := e.Prune(t.Context(), PruneRequest{}); err != nil {
		t.Fatal(err)
	}
	if found, err := e.Store.GetRecord(BucketMounts, dir, nil); found || err != nil {
		t.Errorf("the record is there: %t, %v", found, err)
	}
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("the directory: %v", err)
	}
}

// In another mount namespace than its own nobody can tell that a mount has
// ended: it stays.
func TestMountsOfOtherNamespace(t *testing.T) {
	e := open(t)
	dir := t.TempDir()
	there := Mount{Dir: dir, Image: "app:1", Boot: e.Store.BootID(), Namespace: "mnt:[1]"}
	if err := e.Store.PutRecord(BucketMounts, dir, there); err != nil {
		t.Fatal(err)
	}
	mounts, err := e.Mounts(t.Context())
	if err != nil || len(mounts) != 1 || mounts[0].Image != "app:1" {
		t.Errorf("Mounts = %+v, %v", mounts, err)
	}
	// In ours it would be seen.
	there.Namespace = mountNamespace()
	if err := e.Store.PutRecord(BucketMounts, dir, there); err != nil {
		t.Fatal(err)
	}
	if mounts, err = e.Mounts(t.Context()); err != nil || len(mounts) != 0 {
		t.Errorf("Mounts = %+v, %v", mounts, err)
	}
}

// A directory name with a blank is found among the kernel's mounts.
func TestIsMountPoint(t *testing.T) {
	for dir, want := range map[string]bool{"/proc": true, "/proc/self": false, t.TempDir(): false} {
		if got, err := isMountPoint(dir); err != nil || got != want {
			t.Errorf("isMountPoint(%s) = %t, %v", dir, got, err)
		}
	}
	testenv.Root(t)
	dir := filepath.Join(t.TempDir(), "a b\\c")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	e := open(t)
	empty, err := e.Snapshots.View(t.Context(), "v", nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := attach(empty, dir); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := e.unmount(Mount{Dir: dir}, 0); err != nil {
			t.Error(err)
		}
	}()
	if got, err := isMountPoint(dir); err != nil || !got {
		t.Errorf("isMountPoint(%s) = %t, %v", dir, got, err)
	}
}
