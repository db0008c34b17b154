package store

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	"github.com/strata-build/strata/runtime/store/rmtree"
	"golang.org/x/sys/unix"
)

// owner is this process's identity in the store: a file that it keeps locked.
type owner struct {
	mu   sync.Mutex
	name string
	f    *os.File
}

// Owner returns the name under which this process owns things in the store;
// it is a valid name. Things called "<owner>.<anything>" can be told from
// those of dead processes with OwnerAlive. Names are never used twice.
func (s *Store) Owner() (string, error) {
	s.owner.mu.Lock()
	defer s.owner.mu.Unlock()
	for s.owner.f == nil {
		if err := s.newOwner(); err != nil {
			return "", fmt.Errorf("register process in the store: %w", s.Explain(err))
		}
	}
	return s.owner.name, nil
}

// newOwner makes and locks an owner file. It leaves s.owner unset if a Reap
// came between the two and took the file for a dead process's.
func (s *Store) newOwner() error {
	random := make([]byte, 8)
	if _, err := rand.Read(random); err != nil {
		return err
	}
	name := hex.EncodeToString(random)
	f, err := os.OpenFile(s.path(dirOwners, name), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	if err := flock(f, unix.LOCK_EX); err != nil {
		return errors.Join(err, f.Close())
	}
	gone, err := unlinked(f)
	if gone || err != nil {
		return errors.Join(err, unlock(f))
	}
	s.owner.name, s.owner.f = name, f
	return nil
}

// OwnerAlive reports whether the process behind an owner name still lives,
// and has the store open.
func (s *Store) OwnerAlive(name string) (bool, error) {
	if err := ValidName(name); err != nil {
		return false, err
	}
	f, err := os.Open(s.path(dirOwners, name))
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	// A shared lock, so that two who ask at once do not take each other for
	// the owner.
	dead, err := tryFlock(f, unix.LOCK_SH)
	if dead {
		return false, errors.Join(err, unlock(f))
	}
	return err == nil, errors.Join(err, f.Close())
}

// disown removes what this process owns in the store, and then the owner.
func (s *Store) disown() error {
	s.owner.mu.Lock()
	defer s.owner.mu.Unlock()
	if s.owner.f == nil {
		return nil
	}
	mine := func(name string) (bool, error) { return name == s.owner.name, nil }
	err := s.removeOwned(context.Background(), mine)
	err = errors.Join(err, os.Remove(s.owner.f.Name()), unlock(s.owner.f))
	s.owner.f = nil
	return err
}

// ownedName returns a new file name that belongs to this process.
func (s *Store) ownedName() (string, error) {
	name, err := s.Owner()
	if err != nil {
		return "", err
	}
	return name + "." + strconv.FormatUint(s.serial.Add(1), 10), nil
}

// TempDir makes a new directory that belongs to this process: it is removed
// by Close, or by the next Reap after the process died. It is on the store's
// file system, so that its content can be renamed into place.
func (s *Store) TempDir() (string, error) {
	name, err := s.ownedName()
	if err != nil {
		return "", err
	}
	path := s.path(dirTemp, name)
	return path, s.Explain(os.Mkdir(path, 0o700))
}

// IsTemp tells whether a path lies in what TempDir and TempFile make: no user
// knows it.
func (s *Store) IsTemp(path string) bool {
	rel, err := filepath.Rel(s.path(dirTemp), path)
	return err == nil && filepath.IsLocal(rel)
}

// TempFile makes a new file under the same rule as TempDir.
func (s *Store) TempFile() (*os.File, error) {
	name, err := s.ownedName()
	if err != nil {
		return nil, err
	}
	f, err := os.OpenFile(s.path(dirTemp, name), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	return f, s.Explain(err)
}

// Reap removes what dead processes left behind: temporary files, leases, and
// blobs that were on their way out.
func (s *Store) Reap(ctx context.Context) error {
	known := make(map[string]bool)
	dead := func(name string) (bool, error) {
		if d, ok := known[name]; ok {
			return d, nil
		}
		alive, err := s.OwnerAlive(name)
		if err == nil {
			known[name] = !alive
		}
		return !alive && err == nil, err
	}
	err := errors.Join(s.removeOwned(ctx, dead), s.emptyTrash(ctx))
	if err != nil {
		return fmt.Errorf("reap store: %w", err)
	}
	return s.dropOwners()
}

// removeOwned removes the temporary files and leases whose owner is selected.
func (s *Store) removeOwned(ctx context.Context, selected func(owner string) (bool, error)) error {
	var errs []error
	for _, dir := range []string{dirTemp, dirLeases} {
		d, err := os.Open(s.path(dir))
		if err != nil {
			return err
		}
		errs = append(errs, removeSelected(ctx, d, selected), d.Close())
	}
	return errors.Join(errs...)
}

func removeSelected(ctx context.Context, dir *os.File, selected func(owner string) (bool, error)) error {
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return err
	}
	var errs []error
	for _, name := range names {
		owner, _, _ := strings.Cut(name, ".")
		ok, err := selected(owner)
		if ok {
			err = rmtree.Remove(ctx, dir, name)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// dropOwners removes the files of dead owners.
func (s *Store) dropOwners() error {
	paths, err := filepath.Glob(s.path(dirOwners, "*"))
	if err != nil {
		return err
	}
	var errs []error
	for _, path := range paths {
		// The same as for a lock file: unlink while holding the lock, so that
		// a process that is just registering sees it and takes a new name.
		errs = append(errs, dropLock(path))
	}
	return errors.Join(errs...)
}
