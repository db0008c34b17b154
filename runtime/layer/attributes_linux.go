package layer

import (
	"archive/tar"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/strata-build/strata/runtime/rootfs"
	"github.com/strata-build/strata/runtime/tree"
)

// attributes are what an entry says about a file besides its content.
type attributes struct {
	mode     uint32 // with its type bits where they are known
	uid, gid int
	mtime    unix.Timespec
	xattrs   map[string]string
}

// impliedAttributes are those of a directory that no entry describes.
func impliedAttributes() attributes { return attributes{mode: unix.S_IFDIR | 0o755} }

func attributesOf(hdr *tar.Header) (attributes, error) {
	uid, err := idOf("uid", hdr.Uid)
	if err != nil {
		return attributes{}, err
	}
	gid, err := idOf("gid", hdr.Gid)
	if err != nil {
		return attributes{}, err
	}
	a := attributes{
		mode:  uint32(hdr.Mode & 0o7777),
		uid:   uid,
		gid:   gid,
		mtime: unix.Timespec{Sec: hdr.ModTime.Unix(), Nsec: int64(hdr.ModTime.Nanosecond())},
	}
	for key, value := range hdr.PAXRecords {
		if attr, ok := strings.CutPrefix(key, xattrRecord); ok && takeXattr(attr) {
			if a.xattrs == nil {
				a.xattrs = map[string]string{}
			}
			a.xattrs[attr] = value
		}
	}
	return a, nil
}

// takeXattr says which extended attributes of a tar are set: capabilities,
// access lists, and the users' own. Never what would mean something to
// overlayfs or to us, nor labels and keys that only this host's administrator
// may give.
func takeXattr(name string) bool {
	return name == capability || ownXattr(name) || strings.HasPrefix(name, "system.posix_acl_")
}

// attributesBelow are those of a directory in the layers below.
func attributesBelow(lower *rootfs.Root, p string) (attributes, error) {
	d, err := lower.OpenDir(p)
	if err != nil {
		return attributes{}, err
	}
	defer d.Close()
	st, err := d.Stat()
	if err != nil {
		return attributes{}, err
	}
	attrs, err := d.Xattrs("")
	if err != nil {
		return attributes{}, err
	}
	a := attributes{mode: st.Mode, uid: int(st.Uid), gid: int(st.Gid), mtime: st.Mtim}
	maps.DeleteFunc(attrs, func(name, _ string) bool { return !takeXattr(name) && name != OverrideXattr })
	a.xattrs = attrs
	return a, nil
}

// file is what attributes are set on: by its descriptor, or by name where
// opening it would have an effect, or is not possible.
type file struct {
	fd   int
	dir  *rootfs.Dir
	name string
	path string // for messages
}

// setter sets attributes, each writer with its own.
type setter struct {
	format  tree.Format
	skipped []string
}

// set gives f the attributes. The owner goes first, because a change of it
// clears capabilities and setuid bits.
func (s *setter) set(f file, a attributes) error {
	if err := s.own(f, a); err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(a.xattrs)) {
		if err := s.xattr(f, name, a.xattrs[name]); err != nil {
			return err
		}
	}
	if a.mode&unix.S_IFMT != unix.S_IFLNK {
		if err := f.chmod(a.mode); err != nil {
			return err
		}
	}
	return f.utimes(a.mtime)
}

// own gives f its owner, or records it where only one id is mapped.
func (s *setter) own(f file, a attributes) error {
	if !s.format.SingleID {
		return f.chown(a.uid, a.gid)
	}
	if a.uid == os.Geteuid() && a.gid == os.Getegid() {
		return nil
	}
	kind := a.mode & unix.S_IFMT
	if _, ok := a.xattrs[OverrideXattr]; ok || kind != unix.S_IFREG && kind != unix.S_IFDIR {
		return nil // there is one already; or a link or FIFO, which can have none
	}
	o := Override{UID: uint32(a.uid), GID: uint32(a.gid), Mode: a.mode}
	return f.setxattr(OverrideXattr, o.String())
}

// xattr sets an extended attribute. Where privileges or the file system do not
// allow it, it is skipped and reported: containerd does the same.
func (s *setter) xattr(f file, name, value string) error {
	err := f.setxattr(name, value)
	allowed := !errors.Is(err, unix.ENOTSUP) && (!errors.Is(err, unix.EPERM) || !s.format.Overrides())
	if err == nil || allowed || name == OverrideXattr {
		return err
	}
	s.skip(fmt.Sprintf("%s: %s: %v", f.path, name, errors.Unwrap(err)))
	return nil
}

func (s *setter) skip(text string) {
	if len(s.skipped) < 100 {
		s.skipped = append(s.skipped, text)
	}
}

func (f file) fail(op string, err error) error {
	if err == nil {
		return nil
	}
	return &os.PathError{Op: op, Path: f.path, Err: err}
}

func (f file) chown(uid, gid int) error {
	if f.dir != nil {
		return f.dir.Lchown(f.name, uid, gid)
	}
	return f.fail("chown", unix.Fchown(f.fd, uid, gid))
}

func (f file) chmod(mode uint32) error {
	if f.dir != nil {
		return f.dir.Chmod(f.name, mode)
	}
	return f.fail("chmod", unix.Fchmod(f.fd, mode&0o7777))
}

func (f file) setxattr(name, value string) error {
	if f.dir != nil {
		return f.dir.Setxattr(f.name, name, value)
	}
	return f.fail("set extended attribute "+name+" of", unix.Fsetxattr(f.fd, name, []byte(value), 0))
}

func (f file) utimes(mtime unix.Timespec) error {
	if f.dir != nil {
		return f.dir.Utimes(f.name, mtime, mtime)
	}
	return f.fail("set times of", tree.Futimens(f.fd, mtime, mtime))
}
