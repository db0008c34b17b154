package rootfs

import (
	"os"

	"golang.org/x/sys/unix"
)

// Dir is an open directory. Its methods take one plain name (no slash, not
// "", "." or ".."), and never follow a symlink that stands there. Work on
// many files through it, so that no path is resolved from the root again.
type Dir struct{ fd int }

// DirEntry is one name of a directory listing.
type DirEntry struct {
	Name string
	Type uint32 // S_IFMT bits, 0 when the file system does not tell
}

// FD is the descriptor, which belongs to the handle.
func (d *Dir) FD() int { return d.fd }

// Close releases the handle.
func (d *Dir) Close() error { return errLanding }

// Root returns a root at this directory, independent of the handle.
func (d *Dir) Root() (*Root, error) { return nil, errLanding }

// Stat returns the directory's own attributes.
func (d *Dir) Stat() (unix.Stat_t, error) { return unix.Stat_t{}, errLanding }

// ReadDir lists the directory, sorted by name.
func (d *Dir) ReadDir() ([]DirEntry, error) { return nil, errLanding }

// Lstat returns the attributes of name.
func (d *Dir) Lstat(name string) (unix.Stat_t, error) { return unix.Stat_t{}, errLanding }

// OpenDir opens the directory name.
func (d *Dir) OpenDir(name string) (*Dir, error) { return nil, errLanding }

// OpenFile opens name with open(2) flags, to which O_NOFOLLOW is added.
func (d *Dir) OpenFile(name string, flags int, mode uint32) (*os.File, error) {
	return nil, errLanding
}

// Readlink returns the target of the symlink name.
func (d *Dir) Readlink(name string) (string, error) { return "", errLanding }

// Mkdir makes a directory with exactly this mode.
func (d *Dir) Mkdir(name string, mode uint32) error { return errLanding }

// Symlink makes a symlink to target, stored as it is.
func (d *Dir) Symlink(target, name string) error { return errLanding }

// Mknod makes a device, FIFO or socket with exactly this mode.
func (d *Dir) Mknod(name string, mode uint32, dev uint64) error { return errLanding }

// Link makes name a hard link to old in from.
func (d *Dir) Link(from *Dir, old, name string) error { return errLanding }

// Rename moves name to newName in to.
func (d *Dir) Rename(name string, to *Dir, newName string) error { return errLanding }

// Remove removes the file or the empty directory name.
func (d *Dir) Remove(name string) error { return errLanding }

// RemoveAll removes name and what is below, never following a symlink; a name
// that is not there is no error.
func (d *Dir) RemoveAll(name string) error { return errLanding }

// Lchown gives name away.
func (d *Dir) Lchown(name string, uid, gid int) error { return errLanding }

// Chmod sets the mode of name, which must not be a symlink.
func (d *Dir) Chmod(name string, mode uint32) error { return errLanding }

// Utimes sets access and modification time of name.
func (d *Dir) Utimes(name string, atime, mtime unix.Timespec) error { return errLanding }

// Xattrs returns the extended attributes of name; "" is the directory itself.
func (d *Dir) Xattrs(name string) (map[string]string, error) { return nil, errLanding }

// Setxattr sets one extended attribute of name; "" is the directory itself.
func (d *Dir) Setxattr(name, attr, value string) error { return errLanding }

// Removexattr removes one extended attribute of name.
func (d *Dir) Removexattr(name, attr string) error { return errLanding }
