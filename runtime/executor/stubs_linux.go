package executor

import (
	"errors"
	"fmt"
	"os"
	"path"
	"strings"

	"github.com/strata-build/strata/runtime/rootfs"
	"golang.org/x/sys/unix"
)

// stub is a mount point that the image did not have. It was made for the step
// and is removed after it: the layer must not show what was mounted. As in
// BuildKit, what counts is the path. What stands there goes if it is empty,
// even if the step has put it there; what the step has moved away stays.
//
// Whatever the step did to the paths (CVE-2024-23652: it replaces a stub, or a
// directory above it, by a symlink to a directory of the host), they are
// resolved inside of the mount that the stub was made in.
type stub struct {
	root *rootfs.Root
	path string // in root
	// dir is the path of its directory, as the step sees it.
	dir string
	// parent is the directory that it was made in, and before the time of that
	// until then: if the step has not changed the directory, it gets it back.
	parent unix.Stat_t
	before unix.Timespec
}

// create makes name in the directory here.
func (w *walk) create(here *node, name string) error {
	dirFD, err := unix.Openat(here.fd, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: here.path, Err: err}
	}
	dir := os.NewFile(uintptr(dirFD), here.path)
	defer dir.Close()
	kind := uint32(unix.S_IFDIR)
	if len(w.pending) == 0 {
		kind = w.missing
	}
	s := stub{path: path.Join("/", strings.TrimPrefix(here.path, here.mount), name), dir: here.path}
	if err := s.make(dir, name, kind); err != nil {
		return err
	}
	if w.tree.keepInMounts && here.mount != "/" {
		return nil
	}
	if s.root, err = rootfs.Open(w.tree.mounts[here.mount].file); err != nil {
		return fmt.Errorf("create mount point %q in %s: %w", name, here.path, err)
	}
	w.tree.stubs = append(w.tree.stubs, s)
	return nil
}

func (s *stub) make(dir *os.File, name string, kind uint32) error {
	fail := func(err error) error {
		return fmt.Errorf("create mount point %q in %s: %w", name, dir.Name(), err)
	}
	at := int(dir.Fd())
	var st unix.Stat_t
	if err := unix.Fstat(at, &st); err != nil {
		return fail(err)
	}
	s.before = st.Mtim
	// Opened once and never looked up again, so that the mode is set on what
	// was made here.
	const mode = 0o755 // of files too, as runc makes them: one that is moved stays
	fd, err := -1, error(nil)
	if kind == unix.S_IFDIR {
		if err := unix.Mkdirat(at, name, mode); err != nil {
			return fail(err)
		}
		fd, err = unix.Openat(at, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	} else {
		fd, err = unix.Openat(at, name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, mode)
	}
	if err != nil {
		return fail(err)
	}
	defer func() { _ = unix.Close(fd) }()
	// The umask of this process is not the step's concern.
	if err := unix.Fchmod(fd, mode); err != nil {
		return fail(err)
	}
	if err := unix.Fstat(at, &s.parent); err != nil {
		return fail(err)
	}
	return nil
}

// removeStubs removes the mount points that were made, the last one first.
func (t *tree) removeStubs() error {
	var errs []error
	for i := len(t.stubs) - 1; i >= 0; i-- {
		s := &t.stubs[i]
		unchanged, err := s.remove()
		if unchanged {
			t.restored = append(t.restored, s.dir)
		}
		errs = append(errs, err, s.root.Close())
	}
	t.stubs = nil
	return errors.Join(errs...)
}

// keepStubs leaves those where they are that were made after the first n.
func (t *tree) keepStubs(n int) {
	for _, s := range t.stubs[n:] {
		_ = s.root.Close()
	}
	t.stubs = t.stubs[:n]
}

// remove tells whether the stub's directory is then as it was.
func (s *stub) remove() (unchanged bool, err error) {
	p, err := s.root.Resolve(s.path)
	if err != nil || p == "/" {
		return false, nil // there is nothing any more, or nothing that can be removed
	}
	dir, name, err := s.root.OpenParent(p)
	if err != nil {
		return false, s.fail(err)
	}
	defer dir.Close()
	parent, err := dir.Stat()
	if err != nil {
		return false, s.fail(err)
	}
	gone, err := s.unlink(dir, name)
	if !gone || err != nil {
		return false, err
	}
	unchanged = parent.Dev == s.parent.Dev && parent.Ino == s.parent.Ino && parent.Mtim == s.parent.Mtim
	if unchanged {
		parent.Mtim = s.before
	}
	times := []unix.Timespec{{Nsec: unix.UTIME_OMIT}, parent.Mtim}
	if err := unix.UtimesNanoAt(dir.FD(), ".", times, 0); err != nil {
		return false, fmt.Errorf("restore the time of the directory of mount point %q: %w", s.path, err)
	}
	return unchanged, nil
}

// unlink removes what is empty.
func (s *stub) unlink(dir *rootfs.Dir, name string) (gone bool, err error) {
	now, err := dir.Lstat(name)
	if err != nil {
		return false, s.fail(err)
	}
	flags := 0
	switch {
	case now.Mode&unix.S_IFMT == unix.S_IFDIR:
		flags = unix.AT_REMOVEDIR
	case now.Size != 0:
		return false, nil
	}
	switch err := unix.Unlinkat(dir.FD(), name, flags); err {
	case nil:
		return true, nil
	case unix.ENOTEMPTY, unix.ENOENT:
		return false, nil
	default:
		return false, s.fail(err)
	}
}

func (s *stub) fail(err error) error { return fmt.Errorf("remove mount point %q: %w", s.path, err) }
