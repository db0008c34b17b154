package store

import (
	"context"
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// flock takes or releases a lock of the open file description, waiting as
// long as it takes.
func flock(f *os.File, how int) error {
	for {
		err := unix.Flock(int(f.Fd()), how)
		if !errors.Is(err, unix.EINTR) {
			return lockError(f, err)
		}
	}
}

// tryFlock takes a lock if that is possible now.
func tryFlock(f *os.File, how int) (bool, error) {
	err := flock(f, how|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return false, nil
	}
	return err == nil, err
}

// waitFlock takes a lock unless ctx ends first. On any error it closes f.
//
// A thread blocks in flock(2), so that the lock changes hands the moment it
// is released; polling would add its interval to every build step that waits
// for another process. The kernel offers no way to cancel that call (the Go
// runtime's signal handlers restart it), so a wait that is given up leaves
// the thread behind: when it gets the lock, it releases it at once.
func waitFlock(ctx context.Context, f *os.File, how int) error {
	ok, err := tryFlock(f, how)
	if err != nil {
		return errors.Join(err, f.Close())
	}
	if ok {
		return nil
	}
	done := make(chan error, 1)
	go func() { done <- flock(f, how) }()
	select {
	case err := <-done:
		if err != nil {
			return errors.Join(err, f.Close())
		}
		return nil
	case <-ctx.Done():
		go func() {
			<-done
			unlock(f)
		}()
		return ctx.Err()
	}
}

// unlock releases and closes. The release is explicit: a child between fork
// and exec shares the open file description, and closing our descriptor alone
// would leave the lock with it.
func unlock(f *os.File) error {
	return errors.Join(flock(f, unix.LOCK_UN), f.Close())
}

func lockError(f *os.File, err error) error {
	if err == nil {
		return nil
	}
	return &os.PathError{Op: "lock", Path: f.Name(), Err: err}
}

// unlinked reports whether an open file has been removed.
func unlinked(f *os.File) (bool, error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return false, &os.PathError{Op: "stat", Path: f.Name(), Err: err}
	}
	return st.Nlink == 0, nil
}
