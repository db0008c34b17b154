package executor

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// stub is a mount point that the image did not have. It was made for the step
// and is removed after it, unless it has become something else: the layer must
// not show what was mounted.
//
// Whatever the step did to the paths (CVE-2024-23652: it replaces a stub, or a
// directory above it, by a symlink to a directory of the host), removing goes
// by the descriptor of the directory that the stub was made in, takes one
// name, follows nothing, and compares the inode first.
type stub struct {
	dir  *os.File
	name string
	made unix.Stat_t
	// before and after are the directory's times around the making: if the
	// step has not changed the directory, it gets its old time back.
	before, after unix.Timespec
}

// create makes name in the directory here.
func (w *walk) create(here *node, name string) error {
	dirFD, err := unix.Openat(here.fd, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: here.path, Err: err}
	}
	s := stub{dir: os.NewFile(uintptr(dirFD), here.path), name: name}
	kind := uint32(unix.S_IFDIR)
	if len(w.pending) == 0 {
		kind = w.missing
	}
	if err := s.make(kind); err != nil {
		return errors.Join(err, s.dir.Close())
	}
	w.tree.stubs = append(w.tree.stubs, s)
	return nil
}

func (s *stub) make(kind uint32) error {
	dir := int(s.dir.Fd())
	var err error
	if s.before, err = modified(s.dir); err != nil {
		return err
	}
	// Opened once and never looked up again, so that the mode is set on what
	// was made here.
	var fd int
	mode := uint32(0o644)
	if kind == unix.S_IFDIR {
		mode = 0o755
		if err := unix.Mkdirat(dir, s.name, mode); err != nil {
			return s.fail(err)
		}
		fd, err = unix.Openat(dir, s.name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	} else {
		fd, err = unix.Openat(dir, s.name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, mode)
	}
	if err != nil {
		return s.fail(err)
	}
	defer func() { _ = unix.Close(fd) }()
	// The umask of this process is not the step's concern.
	if err := unix.Fchmod(fd, mode); err != nil {
		return s.fail(err)
	}
	if err := unix.Fstat(fd, &s.made); err != nil {
		return s.fail(err)
	}
	s.after, err = modified(s.dir)
	return err
}

func (s *stub) fail(err error) error {
	return fmt.Errorf("create mount point %q in %s: %w", s.name, s.dir.Name(), err)
}

func modified(dir *os.File) (unix.Timespec, error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(dir.Fd()), &st); err != nil {
		return unix.Timespec{}, &os.PathError{Op: "stat", Path: dir.Name(), Err: err}
	}
	return st.Mtim, nil
}

// removeStubs removes the mount points that were made, the last one first.
func (t *tree) removeStubs() error {
	var errs []error
	for i := len(t.stubs) - 1; i >= 0; i-- {
		s := &t.stubs[i]
		unchanged, err := s.remove()
		if unchanged {
			t.restored = append(t.restored, s.dir.Name())
		}
		errs = append(errs, err, s.dir.Close())
	}
	t.stubs = nil
	return errors.Join(errs...)
}

// keepStubs leaves those where they are that were made after the first n.
func (t *tree) keepStubs(n int) {
	for _, s := range t.stubs[n:] {
		_ = s.dir.Close()
	}
	t.stubs = t.stubs[:n]
}

// remove tells whether the stub's directory is then as it was.
func (s *stub) remove() (unchanged bool, err error) {
	dir := int(s.dir.Fd())
	var now unix.Stat_t
	err = unix.Fstatat(dir, s.name, &now, unix.AT_SYMLINK_NOFOLLOW)
	if err == unix.ENOENT {
		return false, nil
	}
	if err != nil {
		return false, s.failRemove(err)
	}
	if !s.untouched(&now) {
		return false, nil
	}
	current, err := modified(s.dir)
	if err != nil {
		return false, err
	}
	flags := 0
	if now.Mode&unix.S_IFMT == unix.S_IFDIR {
		flags = unix.AT_REMOVEDIR
	}
	switch err := unix.Unlinkat(dir, s.name, flags); err {
	case nil:
	case unix.ENOTEMPTY, unix.ENOENT:
		return false, nil
	default:
		return false, s.failRemove(err)
	}
	unchanged = current == s.after
	if unchanged {
		current = s.before
	}
	return unchanged, s.restore(current)
}

// untouched tells whether the stub is what was made. A directory's time
// changes when a stub in it is removed, so only its attributes count; that it
// is empty is for the kernel to say.
func (s *stub) untouched(now *unix.Stat_t) bool {
	same := now.Dev == s.made.Dev && now.Ino == s.made.Ino && now.Mode == s.made.Mode &&
		now.Uid == s.made.Uid && now.Gid == s.made.Gid
	if now.Mode&unix.S_IFMT == unix.S_IFDIR {
		return same
	}
	return same && now.Size == 0 && now.Mtim == s.made.Mtim && now.Nlink == 1
}

// restore gives the directory its time back.
func (s *stub) restore(mtime unix.Timespec) error {
	times := []unix.Timespec{{Nsec: unix.UTIME_OMIT}, mtime}
	if err := unix.UtimesNanoAt(int(s.dir.Fd()), ".", times, 0); err != nil {
		return fmt.Errorf("restore the time of %s: %w", s.dir.Name(), err)
	}
	return nil
}

func (s *stub) failRemove(err error) error {
	return fmt.Errorf("remove mount point %q from %s: %w", s.name, s.dir.Name(), err)
}
