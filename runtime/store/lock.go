package store

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Lock is a held lock.
type Lock struct{ f *os.File }

// Lock waits for the lock called name, any string, which one goroutine of
// one process can hold at a time. It is released by Unlock, or when the
// process dies.
func (s *Store) Lock(ctx context.Context, name string) (*Lock, error) {
	for {
		f, err := s.openLock(name)
		if err != nil {
			return nil, err
		}
		if err := waitFlock(ctx, f, unix.LOCK_EX); err != nil {
			return nil, s.notLocked(name, err)
		}
		if l, err := locked(f); l != nil || err != nil {
			return l, err
		}
	}
}

func (s *Store) notLocked(name string, err error) error {
	if h, ok := s.Holder(name); ok {
		return fmt.Errorf("wait for lock %q, held by %s: %w", name, h, err)
	}
	return fmt.Errorf("wait for lock %q: %w", name, err)
}

// TryLock takes the lock called name if nobody holds it.
func (s *Store) TryLock(name string) (*Lock, bool, error) {
	for {
		f, err := s.openLock(name)
		if err != nil {
			return nil, false, err
		}
		ok, err := tryFlock(f, unix.LOCK_EX)
		if !ok || err != nil {
			return nil, false, errors.Join(err, f.Close())
		}
		if l, err := locked(f); l != nil || err != nil {
			return l, l != nil, err
		}
	}
}

// Unlock releases the lock.
func (l *Lock) Unlock() error { return unlock(l.f) }

// Remove releases the lock and removes its file, where what it guarded is gone
// for good. Whoever waits for it gets a lock of the same name.
func (l *Lock) Remove() error { return errors.Join(os.Remove(l.f.Name()), l.Unlock()) }

func (s *Store) openLock(name string) (*os.File, error) {
	f, err := os.OpenFile(s.lockPath(name), os.O_RDWR|os.O_CREATE, 0o600)
	return f, s.Explain(err)
}

func (s *Store) lockPath(name string) string { return s.path(dirLocks, hashName(name)) }

// locked makes a Lock of a file whose flock is held. It returns nil when a
// collection removed the file before we locked it: whoever comes next would
// lock a new file, so we must, too.
func locked(f *os.File) (*Lock, error) {
	gone, err := unlinked(f)
	if err != nil || gone {
		return nil, errors.Join(err, unlock(f))
	}
	// Who holds it, for messages; a failure only makes a message poorer.
	pid := []byte(strconv.Itoa(os.Getpid()) + "\n")
	if n, err := f.WriteAt(pid, 0); err == nil {
		_ = f.Truncate(int64(n))
	}
	return &Lock{f: f}, nil
}

// Holder says who holds a lock.
type Holder struct {
	// PID is 0 of a process that has not said who it is: it has just taken the
	// lock, or the disk was full.
	PID int
	// Command is the program's name, if the process can be seen from here.
	Command string
}

// String returns the holder as it stands in a message.
func (h Holder) String() string {
	switch {
	case h.PID == 0:
		return "another process"
	case h.PID == os.Getpid():
		return "this process"
	case h.Command != "":
		return fmt.Sprintf("process %d (%s)", h.PID, h.Command)
	}
	return fmt.Sprintf("process %d", h.PID)
}

// Holder returns who holds the lock called name, and whether anybody does: by
// the time that is looked at the lock may be free.
func (s *Store) Holder(name string) (Holder, bool) {
	f, err := os.Open(s.lockPath(name))
	if err != nil {
		return Holder{}, false
	}
	defer f.Close()
	if free, err := tryFlock(f, unix.LOCK_SH); free || err != nil {
		return Holder{}, false
	}
	buf := make([]byte, 32)
	n, _ := f.ReadAt(buf, 0)
	pid, err := strconv.Atoi(strings.TrimSpace(string(buf[:n])))
	if err != nil {
		return Holder{}, true
	}
	comm, _ := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "comm"))
	return Holder{PID: pid, Command: strings.TrimSpace(string(comm))}, true
}

// dropLocks removes the files of locks that nobody holds.
func (s *Store) dropLocks(ctx context.Context) error {
	entries, err := os.ReadDir(s.path(dirLocks))
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := dropLock(s.path(dirLocks, e.Name())); err != nil {
			return err
		}
	}
	return nil
}

func dropLock(path string) error {
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	free, err := tryFlock(f, unix.LOCK_EX)
	if !free || err != nil {
		return errors.Join(err, f.Close())
	}
	err = os.Remove(path)
	if errors.Is(err, os.ErrNotExist) {
		err = nil
	}
	return errors.Join(err, unlock(f))
}
