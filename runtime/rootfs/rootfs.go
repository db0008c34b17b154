// Package rootfs does path operations inside an open root directory, as a
// process would after chroot into it, without ever trusting a path string.
package rootfs

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

var errLanding = errors.New("rootfs: being written")

// ResolveFlags change how the last component of a path is looked up.
type ResolveFlags uint

const (
	// NoFollow opens a symlink in the last component itself.
	NoFollow ResolveFlags = 1 << iota
	// Directory refuses anything that is not a directory.
	Directory
)

// Root is an open directory that paths are resolved in as after chroot:
// absolute symlinks start again at the root, and '..' stops there.
// It is safe for concurrent use.
type Root struct{ f *os.File }

// Open returns the root at the directory f (for example a detached mount). It
// works on its own duplicate: the caller still closes f.
func Open(f *os.File) (*Root, error) { return nil, errLanding }

// OpenDir returns the root at a trusted host path.
func OpenDir(path string) (*Root, error) { return nil, errLanding }

// Close releases the root.
func (r *Root) Close() error { return errLanding }

// File is the root directory itself. It belongs to the root.
func (r *Root) File() *os.File { return r.f }

// OpenPath returns an O_PATH handle of p.
func (r *Root) OpenPath(p string, flags ResolveFlags) (*os.File, error) { return nil, errLanding }

// OpenFile opens p with open(2) flags; with O_CREAT the last component is
// created without following a symlink that stands there.
func (r *Root) OpenFile(p string, flags int, mode uint32) (*os.File, error) { return nil, errLanding }

// Stat follows a symlink in the last component.
func (r *Root) Stat(p string) (unix.Stat_t, error) { return unix.Stat_t{}, errLanding }

// Lstat does not follow a symlink in the last component.
func (r *Root) Lstat(p string) (unix.Stat_t, error) { return unix.Stat_t{}, errLanding }

// Readlink returns the target of the symlink p.
func (r *Root) Readlink(p string) (string, error) { return "", errLanding }

// ReadFile reads the regular file p, which may hold limit bytes at most.
func (r *Root) ReadFile(p string, limit int64) ([]byte, error) { return nil, errLanding }

// Resolve returns the canonical absolute path of p inside the root: no
// symlinks, no dots.
func (r *Root) Resolve(p string) (string, error) { return "", errLanding }

// Sub returns the root at the directory p. Paths in it cannot leave p.
func (r *Root) Sub(p string) (*Root, error) { return nil, errLanding }

// OpenDir returns a handle of the directory p.
func (r *Root) OpenDir(p string) (*Dir, error) { return nil, errLanding }

// OpenParent returns a handle of the directory that holds p, and p's last
// name, which is not looked up. The root itself has no parent: an error.
func (r *Root) OpenParent(p string) (*Dir, string, error) { return nil, "", errLanding }

// MkdirOptions say what a made directory looks like.
type MkdirOptions struct {
	// Mode is the exact mode (the umask does not touch it).
	Mode uint32
	// Chown gives it to UID and GID.
	Chown    bool
	UID, GID int
	// Made is called for each directory that is made, parents first, with its
	// handle (valid during the call) and canonical path.
	Made func(d *Dir, path string) error
}

// Mkdir makes the directory p; its parent exists.
func (r *Root) Mkdir(p string, o MkdirOptions) error { return errLanding }

// MkdirAll makes p and its missing parents. Symlinks on the way are followed
// inside the root; a directory that exists is left as it is.
func (r *Root) MkdirAll(p string, o MkdirOptions) error { return errLanding }

// MkdirAllDir is MkdirAll that returns the handle of p.
func (r *Root) MkdirAllDir(p string, o MkdirOptions) (*Dir, error) { return nil, errLanding }

// Symlink makes p a symlink to target, stored as it is.
func (r *Root) Symlink(target, p string) error { return errLanding }

// Remove removes the file or the empty directory p.
func (r *Root) Remove(p string) error { return errLanding }

// RemoveAll removes p and what is below, never following a symlink. A p that
// is not there is no error.
func (r *Root) RemoveAll(p string) error { return errLanding }

// Rename moves from to to, replacing what rename(2) replaces.
func (r *Root) Rename(from, to string) error { return errLanding }

// User is what a USER specification stands for inside a root.
type User struct {
	UID, GID uint32
	// Groups are the supplementary groups.
	Groups []uint32
	Home   string
}

// LookupUser resolves "", "name", "uid", "name:group", "uid:gid", … by docker's
// rules against the root's own /etc/passwd and /etc/group.
func (r *Root) LookupUser(spec string) (User, error) { return User{}, errLanding }
