package rootfs

import (
	"errors"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

// maxSymlinks is how many symlinks one path may go through, as in the kernel.
const maxSymlinks = 40

// MkdirOptions say what a made directory looks like.
type MkdirOptions struct {
	// Mode is the exact mode: the umask does not touch it.
	Mode uint32
	// Chown gives it to UID and GID.
	Chown    bool
	UID, GID int
	// KeepSetgid leaves the bit that a directory inherits from its parent.
	KeepSetgid bool
	// Made is called for each directory that is made, parents first, with its
	// handle (valid during the call) and its canonical path.
	Made func(d *Dir, path string) error
}

// Resolve returns the canonical absolute path of p inside the root: no
// symlinks, no dots. It is for showing and recording; an operation on it goes
// through the root again.
func (r *Root) Resolve(p string) (string, error) {
	w := walker{root: r, op: "resolve", asked: p, cur: -1}
	defer w.close()
	if err := w.walk(p); err != nil {
		return "", err
	}
	return w.path(), nil
}

// Mkdir makes the directory p; its parent exists.
func (r *Root) Mkdir(p string, o MkdirOptions) error {
	d, name, err := r.OpenParent(p)
	if err != nil {
		return err
	}
	defer d.Close()
	made, err := d.makeDir(name, o)
	if err != nil {
		return err
	}
	defer made.Close()
	if o.Made == nil {
		return nil
	}
	canonical, err := r.Resolve(p)
	if err != nil {
		return err
	}
	return o.Made(made, canonical)
}

// MkdirAll makes p and its missing parents. Symlinks on the way are followed
// inside the root, also where their target is still missing: that is then made.
// A directory that exists is left as it is.
func (r *Root) MkdirAll(p string, o MkdirOptions) error {
	d, err := r.MkdirAllDir(p, o)
	if err != nil {
		return err
	}
	return d.Close()
}

// MkdirAllDir is MkdirAll that returns the handle of p.
func (r *Root) MkdirAllDir(p string, o MkdirOptions) (*Dir, error) {
	d, err := r.OpenDir(p)
	if !errors.Is(err, unix.ENOENT) {
		return d, err
	}
	w := walker{root: r, op: "mkdir", asked: p, mkdir: &o, cur: -1}
	defer w.close()
	if err := w.walk(p); err != nil {
		return nil, err
	}
	return w.openDir()
}

// walker resolves a path component by component. At any time cur is the
// directory whose canonical name done is; a component is opened without
// following it, and a symlink's target is put in front of what is left to do.
// '..' does not go up through the descriptor, which a concurrent rename may
// have moved out of the root, but opens the shorter canonical path again.
type walker struct {
	root  *Root
	op    string
	asked string        // for messages
	mkdir *MkdirOptions // missing directories are made

	cur   int      // descriptor; -1 stands for the root itself
	done  []string // canonical components of cur
	last  string   // the last component when it is not a directory
	links int
}

func (w *walker) path() string {
	p := "/" + strings.Join(w.done, "/")
	if w.last == "" {
		return p
	}
	return path.Join(p, w.last)
}

func (w *walker) close() {
	if w.cur >= 0 {
		unix.Close(w.cur)
		w.cur = -1
	}
}

func (w *walker) dirfd() int {
	if w.cur >= 0 {
		return w.cur
	}
	return w.root.fd()
}

func (w *walker) fail(err error) error {
	return &os.PathError{Op: w.op, Path: w.asked, Err: err}
}

func (w *walker) walk(p string) error {
	for rest := p; rest != ""; {
		name, after, _ := strings.Cut(rest, "/")
		switch rest = after; name {
		case "":
			continue
		case ".":
			if w.last != "" {
				return w.fail(unix.ENOTDIR)
			}
			continue
		case "..":
			if err := w.up(); err != nil {
				return err
			}
			continue
		}
		target, err := w.step(name)
		if err != nil {
			return err
		}
		if target == "" {
			continue
		}
		if w.links++; w.links > maxSymlinks {
			return w.fail(unix.ELOOP)
		}
		if target[0] == '/' {
			w.close()
			w.done = nil
		}
		if rest != "" || strings.HasSuffix(target, "/") {
			target += "/" + rest
		}
		rest = target
	}
	return nil
}

// step goes into name. It returns the target where name is a symlink.
func (w *walker) step(name string) (string, error) {
	if w.last != "" {
		return "", w.fail(unix.ENOTDIR)
	}
	fd, err := openat(w.dirfd(), name, unix.O_PATH|unix.O_NOFOLLOW, 0)
	if errors.Is(err, unix.ENOENT) && w.mkdir != nil {
		made, err := w.make(name)
		if made || err != nil {
			return "", err
		}
		return w.step(name) // somebody was faster
	}
	if err != nil {
		return "", w.fail(err)
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		unix.Close(fd)
		return "", w.fail(err)
	}
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		w.enter(fd, name)
		return "", nil
	}
	defer unix.Close(fd)
	if st.Mode&unix.S_IFMT == unix.S_IFLNK {
		return w.readlink(fd, name)
	}
	w.last = name
	return "", nil
}

// readlink returns the target of the symlink name, open as fd. The magic links
// of procfs, whose text is not where they lead, are refused.
func (w *walker) readlink(fd int, name string) (string, error) {
	target, err := readlinkat(fd, "")
	if err != nil {
		return "", w.fail(err)
	}
	var fs unix.Statfs_t
	if err := unix.Fstatfs(fd, &fs); err != nil {
		return "", w.fail(err)
	}
	if fs.Type != unix.PROC_SUPER_MAGIC {
		return target, nil
	}
	followed, err := openat2(w.dirfd(), name, unix.O_PATH, 0, inRoot)
	if errors.Is(err, unix.ELOOP) {
		return "", w.fail(err)
	}
	if err == nil {
		unix.Close(followed)
	}
	return target, nil
}

func (w *walker) enter(fd int, name string) {
	w.close()
	w.cur = fd
	w.done = append(w.done, name)
}

func (w *walker) up() error {
	if w.last != "" {
		return w.fail(unix.ENOTDIR)
	}
	w.close()
	if len(w.done) <= 1 {
		w.done = nil
		return nil
	}
	w.done = w.done[:len(w.done)-1]
	fd, err := openat2(w.root.fd(), strings.Join(w.done, "/"), unix.O_PATH|unix.O_DIRECTORY, 0,
		unix.RESOLVE_BENEATH|unix.RESOLVE_NO_SYMLINKS)
	if err != nil {
		return w.fail(err)
	}
	w.cur = fd
	return nil
}

// make makes the directory name and goes into it; false if it is there.
func (w *walker) make(name string) (bool, error) {
	at := Dir{fd: w.dirfd(), path: w.path()}
	d, err := at.makeDir(name, *w.mkdir)
	if errors.Is(err, unix.EEXIST) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	w.enter(d.fd, name)
	if w.mkdir.Made == nil {
		return true, nil
	}
	return true, w.mkdir.Made(d, w.path())
}

// openDir returns a handle of the directory that the walk ended in.
func (w *walker) openDir() (*Dir, error) {
	if w.last != "" {
		return nil, w.fail(unix.ENOTDIR)
	}
	fd, err := openat(w.dirfd(), ".", unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, w.fail(err)
	}
	return &Dir{fd: fd, path: w.path()}, nil
}
