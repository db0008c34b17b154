package snapshot_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/strata-build/strata/internal/testenv"
	"github.com/strata-build/strata/runtime/mount/mounttest"
	"github.com/strata-build/strata/runtime/snapshot"
	"github.com/strata-build/strata/runtime/snapshot/snapshottest"
	"github.com/strata-build/strata/runtime/store"
	"golang.org/x/sys/unix"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func opener(driver string, userxattr bool) snapshottest.OpenFunc {
	return func(t *testing.T, st *store.Store) snapshot.Snapshotter {
		t.Helper()
		s, err := snapshot.Open(st, snapshot.Options{Driver: driver, UserXattr: userxattr})
		must(t, err)
		if s.Name() != driver || s.UserXattr() != userxattr {
			t.Fatalf("opened %s, user attributes %t", s.Name(), s.UserXattr())
		}
		return s
	}
}

func TestOverlay(t *testing.T) {
	testenv.Root(t)
	snapshottest.Run(t, opener(snapshot.DriverOverlay, false))
}

func TestCopy(t *testing.T) {
	testenv.Root(t)
	snapshottest.Run(t, opener(snapshot.DriverCopy, false))
}

// With one mapped id.
func TestOverlayRootless(t *testing.T) {
	mounttest.Inside(t, func(t *testing.T) { snapshottest.Run(t, opener(snapshot.DriverOverlay, true)) })
}

func TestCopyRootless(t *testing.T) {
	mounttest.Inside(t, func(t *testing.T) { snapshottest.Run(t, opener(snapshot.DriverCopy, true)) })
}

// With a range of ids, as newuidmap gives: files belong to foreign uids.
func TestOverlayRange(t *testing.T) {
	mounttest.InsideRange(t, func(t *testing.T) { snapshottest.Run(t, opener(snapshot.DriverOverlay, true)) })
}

func newStore(t testing.TB) *store.Store {
	t.Helper()
	st, err := store.Open(filepath.Join(t.TempDir(), "store"))
	must(t, err)
	t.Cleanup(func() {
		if err := st.Close(); err != nil {
			t.Error(err)
		}
	})
	return st
}

// Overlay is the choice where it works; the reason says why.
func TestAutomaticChoice(t *testing.T) {
	testenv.Root(t)
	st := newStore(t)
	for range 2 { // tried, and remembered
		s, err := snapshot.Open(st, snapshot.Options{})
		must(t, err)
		if s.Name() != snapshot.DriverOverlay || !strings.Contains(s.Reason(), "works") {
			t.Errorf("%s: %s", s.Name(), s.Reason())
		}
	}
	if _, err := snapshot.Open(st, snapshot.Options{Driver: "zfs"}); err == nil || !strings.Contains(err.Error(), `"overlay" and "copy"`) {
		t.Errorf("an unknown driver: %v", err)
	}
}

// An ordinary user outside of a user namespace cannot mount.
func TestAutomaticChoiceWithoutMounts(t *testing.T) {
	mounttest.AsUser(t, func(t *testing.T) {
		st := newStore(t)
		s, err := snapshot.Open(st, snapshot.Options{UserXattr: true})
		must(t, err)
		if s.Name() != snapshot.DriverCopy || !strings.Contains(s.Reason(), "overlayfs cannot be used") {
			t.Errorf("%s: %s", s.Name(), s.Reason())
		}
		if _, err := snapshot.Open(st, snapshot.Options{Driver: snapshot.DriverOverlay, UserXattr: true}); err == nil || !strings.Contains(err.Error(), `"copy"`) {
			t.Errorf("overlay by force: %v, want an error that names the other driver", err)
		}
	})
}

// Layers with one kind of mark are not opened with the other.
func TestFormatMismatch(t *testing.T) {
	st := newStore(t)
	_, err := snapshot.Open(st, snapshot.Options{Driver: snapshot.DriverCopy})
	must(t, err)
	_, err = snapshot.Open(st, snapshot.Options{Driver: snapshot.DriverCopy, UserXattr: true})
	if err == nil || !strings.Contains(err.Error(), "trusted.overlay.opaque") {
		t.Errorf("%v, want an error that names both attributes", err)
	}
}

// On ext4, actives are spread over block groups.
func TestTopdir(t *testing.T) {
	st := newStore(t)
	_, err := snapshot.Open(st, snapshot.Options{Driver: snapshot.DriverCopy})
	must(t, err)
	dir, err := os.Open(filepath.Join(st.Root(), "snapshots/active"))
	must(t, err)
	defer dir.Close()
	var fs unix.Statfs_t
	must(t, unix.Fstatfs(int(dir.Fd()), &fs))
	if fs.Type != unix.EXT4_SUPER_MAGIC {
		t.Skip("the temporary directory is not on ext4")
	}
	flags, err := unix.IoctlGetInt(int(dir.Fd()), unix.FS_IOC_GETFLAGS)
	if err != nil || flags&0x20000 == 0 {
		t.Errorf("flags %x, %v, want TOPDIR", flags, err)
	}
}
