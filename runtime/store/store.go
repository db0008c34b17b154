// Package store keeps what builds produce and reuse on disk, for any number
// of processes at once, without a daemon and without a database.
//
//	version                       the layout's number
//	blobs/sha256/<hex>            content by digest
//	blobs/stamps/<hex>            when that file was written, see below
//	ingest/<hex>                  downloads that can be resumed
//	records/<bucket>/<2>/<hash>   small values by key, self-checksummed
//	locks/<hash>                  flock files of named locks
//	owners/<id>                   flock'd by a living process
//	leases/<owner>.<n>            refs that a living process needs
//	tmp/<owner>.<n>               temporary files of a living process
//	boots/<boot id>[.synced]      see below
//	trash/                        blobs on their way out
//	<name>/                       other packages' directories (Dir)
//
// # Nothing half-written counts
//
// Everything is written under a temporary name, verified, and renamed. A
// temporary file carries the name of its owner, a process that holds a flock
// for as long as it lives: kill -9 releases the lock, and the next Reap knows
// the file for litter. Records carry a checksum of themselves; a damaged one
// is a miss.
//
// # Power loss
//
// Nothing is synced on the way, since an fsync per file would cost more than
// the rest of the build. Instead everything carries a Stamp, the boot id and
// a generation:
//
//	write ─▶ "boot B, generation 7" ─▶ counts while boot B lasts
//	Sync:    generation := 8; syncfs; boots/B.synced := 7 (fsynced)
//	         ─▶ now counts in every later boot, too
//
// What a later boot finds with a stamp that no Sync covers may be damaged: a
// record and a layer are then a miss, and a blob is read and compared with
// its digest before it counts again.
//
// # Collection
//
// One lock, shared by everybody who looks things up or puts them in place
// (Acquire; a microsecond), exclusive to Collect, makes 'found and leased' one
// step in the eyes of a collection. See Collect for what is kept.
package store

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// Errors that callers tell apart.
var (
	// ErrNotFound says that a blob is not in the store.
	ErrNotFound = errors.New("not found in the store")
	// ErrExists says that a blob is in the store already.
	ErrExists = errors.New("already in the store")
	// ErrMismatch says that content is not what its digest or size promises.
	ErrMismatch = errors.New("content does not match")
	// ErrInvalidName says that a name may not become part of a path.
	ErrInvalidName = errors.New("invalid name")
)

// layoutVersion is the content of the version file.
const layoutVersion = "strata store 1\n"

const bootIDFile = "/proc/sys/kernel/random/boot_id"

// Directories of the store's own.
const (
	dirBlobs   = "blobs/sha256"
	dirStamps  = "blobs/stamps"
	dirIngest  = "ingest"
	dirRecords = "records"
	dirLocks   = "locks"
	dirOwners  = "owners"
	dirLeases  = "leases"
	dirTemp    = "tmp"
	dirBoots   = "boots"
	dirTrash   = "trash"
)

func ownDirs() []string {
	return []string{
		"blobs", dirBlobs, dirStamps, dirIngest, dirRecords, dirLocks,
		dirOwners, dirLeases, dirTemp, dirBoots, dirTrash,
	}
}

// Options say where a store is.
type Options struct {
	// Root is the store's directory.
	Root string
	// BootID identifies this boot of the machine; empty reads the kernel's.
	BootID string
	// Verified are buckets whose records count by their checksum alone, also
	// after a power loss without a Sync: all that they refer to is verified
	// when it is used. The names of images are such records, so that an image
	// survives a reboot as soon as the kernel has written it.
	Verified []string
}

// Store is an open store. It is safe for concurrent use, also by several
// processes.
type Store struct {
	root   string
	boot   boot
	shared sharedLock
	owner  owner
	serial atomic.Uint64
	// verified are Options.Verified.
	verified []string

	mu   sync.Mutex
	made *Lease // what this process put into the store; nil until needed
}

// Open opens the store at root, and creates it when there is none.
func Open(root string) (*Store, error) { return New(Options{Root: root}) }

// New is Open with options.
func New(o Options) (*Store, error) {
	root, err := filepath.Abs(o.Root)
	if err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	s := &Store{root: root, verified: o.Verified}
	if err := s.prepareRoot(); err != nil {
		return nil, openError(root, err)
	}
	if err := s.shared.open(root); err != nil {
		return nil, openError(root, err)
	}
	if err := s.boot.open(s, o.BootID); err != nil {
		return nil, errors.Join(openError(root, err), s.shared.close())
	}
	return s, nil
}

// openError says what to do about a root that cannot be written to: nothing is
// done without locks, not even reading.
func openError(root string, err error) error {
	if errors.Is(err, unix.EROFS) || errors.Is(err, os.ErrPermission) {
		return fmt.Errorf("open store: %s cannot be written to (%w): choose another root", root, err)
	}
	return fmt.Errorf("open store: %w", err)
}

// Close gives up what belongs to this process: its temporary files, leases
// and locks.
func (s *Store) Close() error {
	return errors.Join(s.noteUnsynced(), s.disown(), s.boot.close(), s.shared.close())
}

// Root returns the store's directory.
func (s *Store) Root() string { return s.root }

func (s *Store) path(elem ...string) string {
	return filepath.Join(s.root, filepath.Join(elem...))
}

// prepareRoot finds the store, or makes it where there is nothing yet.
func (s *Store) prepareRoot() error {
	if err := os.MkdirAll(s.root, 0o700); err != nil {
		return err
	}
	if err := s.checkOwner(); err != nil {
		return err
	}
	version, err := os.ReadFile(s.path("version"))
	switch {
	case string(version) == layoutVersion:
		return nil
	case err != nil && !errors.Is(err, os.ErrNotExist):
		return err
	case len(version) > 0:
		return fmt.Errorf("%s has the layout %q, this strata knows %q: use another root, or remove that one",
			s.root, strings.TrimSpace(string(version)), strings.TrimSpace(layoutVersion))
	}
	return s.create()
}

// checkOwner refuses a root where somebody else could replace what is in it.
func (s *Store) checkOwner() error {
	var st unix.Stat_t
	if err := unix.Stat(s.root, &st); err != nil {
		return &os.PathError{Op: "stat", Path: s.root, Err: err}
	}
	if int(st.Uid) != os.Geteuid() {
		// In a user namespace, numbers would not be those that the user knows.
		return fmt.Errorf("%s belongs to another user: choose another root, or run as its owner", s.root)
	}
	if st.Mode&0o002 != 0 {
		return fmt.Errorf("%s is writable by everybody: choose another root, or remove that permission", s.root)
	}
	return nil
}

func (s *Store) create() error {
	entries, err := os.ReadDir(s.root)
	if err != nil {
		return err
	}
	own := append(ownDirs(), "version", lockFile, gateFile)
	for _, e := range entries {
		if !slices.Contains(own, e.Name()) {
			return fmt.Errorf("%s is not a strata store and not empty (it holds %q): choose another root", s.root, e.Name())
		}
	}
	for _, dir := range ownDirs() {
		if err := os.Mkdir(s.path(dir), 0o700); err != nil && !errors.Is(err, os.ErrExist) {
			return err
		}
	}
	return s.writeDurably(s.path("version"), []byte(layoutVersion))
}

// writeDurably replaces a file so that even a power loss leaves the old or
// the new content. It is not for the hot path.
func (s *Store) writeDurably(path string, data []byte) error {
	f, err := s.TempFile()
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = f.Write(data)
	if err := errors.Join(err, f.Sync()); err != nil {
		return s.Explain(err)
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return s.Explain(err)
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// Dir returns the sub-directory name, for another package's own use. It is
// made when it does not exist.
func (s *Store) Dir(name string) (string, error) {
	if err := ValidName(name); err != nil {
		return "", err
	}
	if slices.Contains(ownDirs(), name) {
		return "", fmt.Errorf("directory %q of the store: %w: it is the store's own", name, ErrInvalidName)
	}
	path := s.path(name)
	if err := os.Mkdir(path, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return "", s.Explain(err)
	}
	return path, nil
}

// Explain adds to an error what to do about a full disk, if it is about one.
func (s *Store) Explain(err error) error {
	var known *diskFullError
	if errors.As(err, &known) || !errors.Is(err, unix.ENOSPC) && !errors.Is(err, unix.EDQUOT) {
		return err
	}
	return &diskFullError{root: s.root, err: err}
}

// diskFullError is an error that has been explained.
type diskFullError struct {
	root string
	err  error
}

func (e *diskFullError) Error() string {
	return fmt.Sprintf("%v: free some space on the disk that holds %s, for example with `strata prune`", e.err, e.root)
}

func (e *diskFullError) Unwrap() error { return e.err }
