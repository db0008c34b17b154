package executor

import (
	"errors"
	"fmt"
	"os"
	"path"
	"strings"

	"github.com/strata-build/strata/runtime/executor/program"
	"golang.org/x/sys/unix"
)

// tree is the file tree of a step while it is planned: the root, and the
// mounts that the child will attach, none of which is attached yet. It finds
// mount points across them, by descriptor, one name at a time:
//
//   - a symlink in the image is followed inside of the tree only,
//   - a magic link of some /proc is text like any other symlink,
//   - a directory that somebody else swaps meanwhile (two steps may share a
//     cache mount: CVE-2024-23651) is either the old or the new one, in either
//     case inside of the tree. The descriptor that is found is the very mount
//     point; no path is looked at again.
type tree struct {
	mounts map[string]planned // by canonical path; "/" is the root
	stubs  []stub
	// restored are the directories of stubs that were removed without a trace.
	restored []string
	// keepInMounts leaves what is made in another mount than the root there.
	keepInMounts bool
}

// planned is a mount of the tree.
type planned struct {
	// file is the detached mount, or nil if only the child can make it; then
	// arg is the register that the child has it in.
	file *os.File
	arg  program.Arg
}

// point is a mount point: an open descriptor, or a path below a mount that the
// child makes.
type point struct {
	path string   // canonical, as the step sees it
	file *os.File // to be closed by the caller
	made bool     // it was not there before
	base program.Arg
	rest string
}

const maxSymlinks = 40 // the kernel's own limit

// node is an open directory on the way to a mount point.
type node struct {
	fd    int
	path  string
	mount string // the path of the mount that it is in
	owned bool
}

// walk is the search for one mount point.
type walk struct {
	tree    *tree
	target  string
	pending []string // names that are still to be looked up
	stack   []node   // the way so far, for ".."
	links   int
	// missing is what to make where there is nothing: 0, S_IFDIR or S_IFREG.
	// It is for the last name; those before it become directories.
	missing uint32
	// follow tells whether a symlink in the last place is followed.
	follow bool
	made   bool // something was missing
}

// find returns the mount point at target.
func (t *tree) find(target string, missing uint32, follow bool) (point, error) {
	w := &walk{tree: t, target: target, missing: missing, follow: follow}
	defer w.close()
	if !path.IsAbs(target) {
		return point{}, w.refuse(errors.New("it is not an absolute path"))
	}
	w.pending = split(target)
	w.stack = []node{{fd: int(t.mounts["/"].file.Fd()), path: "/", mount: "/"}}
	for len(w.pending) > 0 {
		p, inner, err := w.step()
		if err != nil {
			return point{}, w.refuse(err)
		}
		if inner {
			return p, nil
		}
	}
	top := w.top()
	if top.path == "/" {
		return point{}, w.refuse(errors.New("it is the root"))
	}
	return w.found(top)
}

func (w *walk) refuse(err error) error {
	return fmt.Errorf("%w: %s: %w", ErrMountTarget, w.target, err)
}

func (w *walk) top() *node { return &w.stack[len(w.stack)-1] }

// found hands the descriptor of the last node over.
func (w *walk) found(n *node) (point, error) {
	fd := n.fd
	if !n.owned {
		dup, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 3)
		if err != nil {
			return point{}, w.refuse(err)
		}
		fd = dup
	}
	n.owned = false
	return point{path: n.path, file: os.NewFile(uintptr(fd), n.path), made: w.made}, nil
}

func (w *walk) close() {
	for _, n := range w.stack {
		if n.owned {
			_ = unix.Close(n.fd)
		}
	}
}

// step looks one name up. If it leads into a mount that the child makes, the
// search ends there.
func (w *walk) step() (point, bool, error) {
	name := w.pending[0]
	w.pending = w.pending[1:]
	if name == ".." {
		w.up()
		return point{}, false, nil
	}
	here := w.top()
	next := path.Join(here.path, name)
	if m, ok := w.tree.mounts[next]; ok {
		if m.file == nil {
			return w.inner(next, m)
		}
		w.stack = append(w.stack, node{fd: int(m.file.Fd()), path: next, mount: next})
		return point{}, false, nil
	}
	return point{}, false, w.open(here, name, next)
}

func (w *walk) up() {
	last := len(w.stack) - 1
	if last == 0 {
		return // ".." of the root is the root
	}
	if w.stack[last].owned {
		_ = unix.Close(w.stack[last].fd)
	}
	w.stack = w.stack[:last]
}

// inner is a point below a mount that only the child has. No symlink is
// followed there, so that the names tell which other mounts are on the way.
func (w *walk) inner(at string, m planned) (point, bool, error) {
	rest := w.pending
	for i, name := range w.pending {
		if name == ".." {
			return point{}, false, errors.New("it goes up from " + at)
		}
		deeper := path.Join(at, path.Join(w.pending[:i+1]...))
		if d, ok := w.tree.mounts[deeper]; ok {
			at, m, rest = deeper, d, w.pending[i+1:]
			if d.file != nil {
				w.pending = rest
				w.stack = append(w.stack, node{fd: int(d.file.Fd()), path: at, mount: at})
				return point{}, false, nil
			}
		}
	}
	p := path.Join(append([]string{"."}, rest...)...)
	return point{path: path.Join(at, p), base: m.arg, rest: p}, true, nil
}

func (w *walk) open(here *node, name, next string) error {
	const flags = unix.O_PATH | unix.O_NOFOLLOW | unix.O_CLOEXEC
	fd, err := unix.Openat(here.fd, name, flags, 0)
	if err == unix.ENOENT && w.missing != 0 {
		if err := w.create(here, name); err != nil {
			return err
		}
		w.made = true
		fd, err = unix.Openat(here.fd, name, flags, 0)
	}
	if err != nil {
		return &os.PathError{Op: "open", Path: next, Err: err}
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		_ = unix.Close(fd)
		return &os.PathError{Op: "stat", Path: next, Err: err}
	}
	if st.Mode&unix.S_IFMT != unix.S_IFLNK {
		w.stack = append(w.stack, node{fd: fd, path: next, mount: here.mount, owned: true})
		return nil
	}
	defer func() { _ = unix.Close(fd) }()
	return w.link(fd, next)
}

// link replaces a symlink by what it says.
func (w *walk) link(fd int, at string) error {
	if len(w.pending) == 0 && !w.follow {
		return errors.New("the image has a symlink there")
	}
	if w.links++; w.links > maxSymlinks {
		return unix.ELOOP
	}
	buf := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(fd, "", buf)
	if err != nil {
		return &os.PathError{Op: "readlink", Path: at, Err: err}
	}
	text := string(buf[:n])
	w.pending = append(split(text), w.pending...)
	if path.IsAbs(text) {
		for len(w.stack) > 1 {
			w.up()
		}
	}
	return nil
}

func split(p string) []string {
	var names []string
	for name := range strings.SplitSeq(p, "/") {
		if name != "" && name != "." {
			names = append(names, name)
		}
	}
	return names
}

// isDir tells what an open descriptor is.
func isDir(f *os.File) (bool, error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return false, &os.PathError{Op: "stat", Path: f.Name(), Err: err}
	}
	return st.Mode&unix.S_IFMT == unix.S_IFDIR, nil
}
