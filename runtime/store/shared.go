package store

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/sys/unix"
)

const (
	lockFile = "collect.lock"
	gateFile = "collect.gate"
)

// sharedLock is this process's part in the lock that everybody shares and
// that a collection takes for itself. It counts its holders, so that holding
// it twice, as a PutRecord inside of an Acquire does, cannot deadlock with a
// collection that waits in between.
//
// Whoever comes new passes the gate first, and a collection closes the gate
// before it waits for the lock: so it waits only for those who are inside,
// however many keep coming.
type sharedLock struct {
	mu   sync.Mutex
	held int
	lock *os.File
	gate *os.File
}

func (l *sharedLock) open(root string) error {
	var err error
	if l.gate, err = openLockFile(root, gateFile); err != nil {
		return err
	}
	if l.lock, err = openLockFile(root, lockFile); err != nil {
		return errors.Join(err, l.gate.Close())
	}
	return nil
}

func openLockFile(root, name string) (*os.File, error) {
	return os.OpenFile(filepath.Join(root, name), os.O_RDWR|os.O_CREATE, 0o600)
}

func (l *sharedLock) close() error { return errors.Join(l.gate.Close(), l.lock.Close()) }

func (l *sharedLock) enter() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.held == 0 {
		if err := flock(l.gate, unix.LOCK_SH); err != nil {
			return err
		}
		err := flock(l.lock, unix.LOCK_SH)
		if err := errors.Join(err, flock(l.gate, unix.LOCK_UN)); err != nil {
			return err
		}
	}
	l.held++
	return nil
}

func (l *sharedLock) leave() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.held--
	if l.held > 0 {
		return nil
	}
	return flock(l.lock, unix.LOCK_UN)
}

// Acquire runs fn while no collection runs: what fn finds and adds to a
// lease stays. Calls may be nested. fn should be short, as a collection
// waits for it.
func (s *Store) Acquire(fn func() error) (err error) {
	if err := s.shared.enter(); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.shared.leave()) }()
	return fn()
}

// exclusively runs fn while nobody else, of this process neither, is inside
// an Acquire. It must not be called inside of one.
func (s *Store) exclusively(ctx context.Context, fn func() error) error {
	gate, err := s.lockExclusively(ctx, gateFile)
	if err != nil {
		return err
	}
	lock, err := s.lockExclusively(ctx, lockFile)
	if err != nil {
		return errors.Join(err, unlock(gate))
	}
	err = fn()
	return errors.Join(err, unlock(lock), unlock(gate))
}

func (s *Store) lockExclusively(ctx context.Context, name string) (*os.File, error) {
	f, err := openLockFile(s.root, name)
	if err != nil {
		return nil, err
	}
	return f, waitFlock(ctx, f, unix.LOCK_EX)
}
