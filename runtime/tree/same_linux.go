package tree

import (
	"bytes"
	"context"
	"maps"

	"golang.org/x/sys/unix"

	"github.com/strata-build/strata/runtime/rootfs"
)

// sameness compares one name of two trees.
type sameness struct {
	ctx     context.Context
	lower   *rootfs.Dir
	old     *unix.Stat_t
	e       *Entry // in the upper tree
	trusted bool   // unchanged since the baseline, and not moved
	// overlays is set where both trees are overlay mounts, which show the
	// inode numbers of the files below under different device numbers.
	overlays bool
}

// file compares what is not two directories.
func (s sameness) file() (bool, error) {
	a, b := s.old, &s.e.Stat
	if inodeOf(a) == inodeOf(b) {
		return true, nil
	}
	if a.Mode != b.Mode || a.Uid != b.Uid || a.Gid != b.Gid || a.Rdev != b.Rdev || a.Mtim != b.Mtim {
		return false, nil
	}
	if a.Size != b.Size && a.Mode&unix.S_IFMT != unix.S_IFDIR {
		return false, nil
	}
	if s.trusted || s.overlays && a.Ino == b.Ino && a.Ctim == b.Ctim {
		return true, nil
	}
	same, err := s.xattrs()
	if !same || err != nil {
		return false, err
	}
	switch a.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		return s.content()
	case unix.S_IFLNK:
		return s.target()
	default:
		return true, nil
	}
}

// attributes compares two directories, their contents aside. The modification
// time is the contents' affair.
func (s sameness) attributes() (bool, error) {
	a, b := s.old, &s.e.Stat
	if a.Mode != b.Mode || a.Uid != b.Uid || a.Gid != b.Gid {
		return false, nil
	}
	if s.trusted {
		return true, nil
	}
	return s.xattrs()
}

func (s sameness) xattrs() (bool, error) {
	old, err := s.lower.Xattrs(s.e.Name)
	if err != nil {
		return false, err
	}
	now, err := s.e.Xattrs()
	if err != nil {
		return false, err
	}
	for _, attrs := range []map[string]string{old, now} {
		maps.DeleteFunc(attrs, func(name, _ string) bool { return private(name) })
	}
	return maps.Equal(old, now), nil
}

func (s sameness) target() (bool, error) {
	old, err := s.lower.Readlink(s.e.Name)
	if err != nil {
		return false, err
	}
	now, err := s.e.Dir.Readlink(s.e.Name)
	return old == now, err
}

func (s sameness) content() (bool, error) {
	if s.old.Size == 0 {
		return true, nil
	}
	const flags = unix.O_RDONLY | unix.O_NONBLOCK | unix.O_NOCTTY
	a, err := s.lower.Open(s.e.Name, flags, 0)
	if err != nil {
		return false, err
	}
	defer unix.Close(a)
	b, err := s.e.Dir.Open(s.e.Name, flags, 0)
	if err != nil {
		return false, err
	}
	defer unix.Close(b)
	return equalFiles(s.ctx, a, b)
}

// equalFiles compares two files from their beginning.
func equalFiles(ctx context.Context, a, b int) (bool, error) {
	bufA, bufB := copyBuffers.Get().(*[]byte), copyBuffers.Get().(*[]byte)
	defer copyBuffers.Put(bufA)
	defer copyBuffers.Put(bufB)
	for at := int64(0); ; {
		if err := ctx.Err(); err != nil {
			return false, err
		}
		n, err := preadFull(a, *bufA, at)
		if err != nil {
			return false, err
		}
		m, err := preadFull(b, *bufB, at)
		if err != nil {
			return false, err
		}
		if n != m || !bytes.Equal((*bufA)[:n], (*bufB)[:m]) {
			return false, nil
		}
		if n < len(*bufA) {
			return true, nil
		}
		at += int64(n)
	}
}

// preadFull fills p, unless the file ends.
func preadFull(fd int, p []byte, at int64) (int, error) {
	done := 0
	for done < len(p) {
		n, err := pread(fd, p[done:], at+int64(done))
		if err != nil {
			return done, err
		}
		if n == 0 {
			break
		}
		done += n
	}
	return done, nil
}
