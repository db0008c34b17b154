package mounttest

import (
	"fmt"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// InMountNamespace runs fn on a thread that has a mount namespace of its own,
// from which nothing spreads: whatever fn mounts is gone afterwards.
func InMountNamespace(t *testing.T, fn func()) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // not unlocked: the thread ends with the goroutine
		if unix.Gettid() == unix.Getpid() {
			// The process's first thread never ends, so another one it is.
			InMountNamespace(t, fn)
			runtime.UnlockOSThread()
			return
		}
		if err := enterMountNamespace(); err != nil {
			t.Error(err)
			return
		}
		fn()
	}()
	<-done
}

func enterMountNamespace() error {
	if err := unix.Unshare(unix.CLONE_FS | unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("unshare: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	return nil
}
