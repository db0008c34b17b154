package transfer

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/strata-build/strata/runtime/rootfs"
)

var (
	// ErrNotDirectory says that a directory was asked for, by a slash at the
	// end of the path or because only one will do.
	ErrNotDirectory = errors.New("it is not a directory")
	// ErrDirectory says that a directory would replace a file.
	ErrDirectory = errors.New("a directory cannot be copied onto a file")
	// ErrNoDirectory says that the directory of the destination is missing.
	ErrNoDirectory = errors.New("there is no such directory: make it first")
	// ErrSpecial says that the destination is a device, FIFO or socket.
	ErrSpecial = errors.New("the destination must be a directory or a regular file")
)

// Place is a path in a tree.
type Place struct {
	Root *rootfs.Root
	Path string
	// Owner is whose tree it is, for messages; "" is the user's.
	Owner string
}

// String is the place as the user wrote it.
func (p Place) String() string {
	if p.Owner == "" {
		return p.Path
	}
	return p.Owner + ":" + p.Path
}

// source is what is to be copied.
type source struct {
	Place
	name string // of what is copied; "." stands for contents
	st   unix.Stat_t
	link bool // the path is that of a symlink to follow
}

func (s *source) isDir() bool { return isDir(&s.st) }

func isDir(st *unix.Stat_t) bool { return st.Mode&unix.S_IFMT == unix.S_IFDIR }

// source looks the place up as a source.
func (p Place) source(follow bool) (source, error) {
	s := source{Place: p, link: follow || wantsDir(p.Path)}
	var err error
	if s.link {
		s.st, err = p.Root.Stat(p.Path)
	} else {
		s.st, err = p.Root.Lstat(p.Path)
	}
	if err != nil {
		return s, bare(err)
	}
	if wantsDir(p.Path) && !s.isDir() {
		return s, ErrNotDirectory
	}
	s.name, err = p.name()
	return s, err
}

// bare is an error without the operation and the path, which whoever calls
// names better.
func bare(err error) error {
	var e *fs.PathError
	if errors.As(err, &e) {
		return e.Err
	}
	return err
}

// name is what a copy of the place is called.
func (p Place) name() (string, error) {
	switch base := path.Base(strings.TrimRight("/"+p.Path, "/")); {
	case base == "." || base == "/" || strings.HasSuffix(p.Path, "/."):
		return ".", nil
	case base == "..":
		canonical, err := p.Root.Resolve(p.Path)
		if canonical == "/" {
			return ".", err
		}
		return path.Base(canonical), err
	default:
		return base, nil
	}
}

// wantsDir tells whether a path can only be that of a directory.
func wantsDir(p string) bool {
	last := p[strings.LastIndexByte(p, '/')+1:]
	return last == "" || last == "." || last == ".."
}

// target is where a copy lands: the directory that a stream is unpacked in,
// and the name of what was copied there.
type target struct{ dir, name string }

// target applies the rules.
func (p Place) target(s *source) (target, error) {
	d, err := p.destination()
	switch {
	case err != nil:
		return target{}, err
	case d.exists && isDir(&d.st):
		return target{d.path, s.name}, nil
	case d.exists && s.isDir():
		return target{}, ErrDirectory
	case !d.exists && wantsDir(d.path) && !s.isDir():
		return target{}, ErrNoDirectory
	}
	dir, name := path.Split(strings.TrimRight(d.path, "/"))
	st, err := p.Root.Stat(path.Join("/", dir))
	if errors.Is(err, fs.ErrNotExist) || err == nil && !isDir(&st) || name == "." || name == ".." {
		return target{}, ErrNoDirectory
	}
	return target{path.Join("/", dir), name}, bare(err)
}

// destination is a place that is written to, after symlinks.
type destination struct {
	path   string
	exists bool
	st     unix.Stat_t
}

// maxLinks is how many dangling symlinks may lead to a destination.
const maxLinks = 10

func (p Place) destination() (destination, error) {
	d := destination{path: p.Path}
	for range maxLinks {
		var err error
		d.st, err = p.Root.Stat(d.path)
		if err == nil {
			return p.found(d)
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return d, bare(err)
		}
		next, err := p.follow(d.path)
		if err != nil || next == "" {
			return d, err
		}
		d.path = next
	}
	return d, unix.ELOOP
}

// found is a destination that is there.
func (p Place) found(d destination) (destination, error) {
	kind := d.st.Mode & unix.S_IFMT
	if kind != unix.S_IFDIR && kind != unix.S_IFREG {
		return d, ErrSpecial
	}
	d.exists = true
	var err error
	d.path, err = p.Root.Resolve(d.path)
	return d, err
}

// follow returns where a dangling symlink leads; "" when the path is none.
func (p Place) follow(name string) (string, error) {
	trimmed := strings.TrimRight(name, "/")
	text, err := p.Root.Readlink(trimmed)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.EINVAL) {
		return "", nil
	}
	if err != nil || path.IsAbs(text) {
		return text, err
	}
	dir, err := p.Root.Resolve(path.Join("/", path.Dir(trimmed)))
	if err != nil {
		return "", fmt.Errorf("follow symlink: %w", err)
	}
	return dir + "/" + text, nil
}
