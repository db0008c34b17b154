package exporter

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/strata-build/strata/runtime/rootfs"
)

// local writes the root file system into a directory. One that does not exist
// is filled beside its place and renamed; into one that does, file for file is
// written beside its name and renamed.
func (j *job) local(ctx context.Context, out Output) error {
	dest := filepath.Clean(out.Dest)
	_, err := os.Lstat(dest)
	if err == nil {
		return j.fillLocal(ctx, &extraction{}, dest, out)
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("write output: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(dest), 0o777); err != nil {
		return fmt.Errorf("write output: %w", err)
	}
	tmp := temporary(filepath.Dir(dest))
	if err := os.Mkdir(tmp, 0o777); err != nil {
		return fmt.Errorf("write output: %w", err)
	}
	if err = j.fillLocal(ctx, &extraction{fresh: true}, tmp, out); err == nil {
		err = os.Rename(tmp, dest)
	}
	if err != nil {
		return errors.Join(err, removeTree(tmp))
	}
	return nil
}

// removeTree removes a directory whose modes may deny that to an ordinary user.
func removeTree(dir string) error {
	root, err := rootfs.OpenDir(filepath.Dir(dir))
	if err != nil {
		return err
	}
	defer root.Close()
	return root.RemoveAll(filepath.Base(dir))
}

func (j *job) fillLocal(ctx context.Context, x *extraction, dest string, out Output) error {
	root, err := rootfs.OpenDir(dest)
	if err != nil {
		return fmt.Errorf("write output: %w", err)
	}
	defer root.Close()
	x.ctx, x.root, x.split, x.owner, x.seen = ctx, root, j.split(out), os.Geteuid() == 0, map[string]bool{}
	x.buf = make([]byte, 256<<10)
	for _, p := range j.image.Platforms {
		if err := x.platform(j, p); err != nil {
			return err
		}
	}
	if out.Delete {
		return x.prune()
	}
	return nil
}

// extraction writes a tar stream into a directory that may hold anything. It
// goes from handle to handle by plain names, and never follows a link: what
// stands where a directory belongs is replaced.
type extraction struct {
	ctx   context.Context
	root  *rootfs.Root
	fresh bool // the root was made for this
	split bool
	owner bool // whether owners can be given
	seen  map[string]bool
	stack []openDir // from the root to the directory of the last entry
	temps int
	buf   []byte
}

// openDir is a directory that is being filled. Its attributes are set when
// the last of its content is there.
type openDir struct {
	*rootfs.Dir
	name   string
	header *tar.Header // nil for what is not of the image
	// fresh directories were made by this extraction: no name in them can be
	// taken, so files get theirs at once.
	fresh bool
}

func (x *extraction) platform(j *job, p PlatformImage) (err error) {
	base, err := x.root.Dir()
	if err != nil {
		return err
	}
	x.stack = []openDir{{Dir: base, fresh: x.fresh}}
	defer func() { err = errors.Join(err, x.pop(0)) }()
	prefix := ""
	if x.split {
		prefix = platformDir(p.Platform)
		h := &tar.Header{Typeflag: tar.TypeDir, Name: prefix, Mode: 0o755, ModTime: j.epoch, Uid: os.Geteuid(), Gid: os.Getegid()}
		if err := x.entry(h, nil, prefix); err != nil {
			return err
		}
	}
	return j.entriesOf(x.ctx, p, func(h *tar.Header, r io.Reader) error {
		name := strings.TrimPrefix(path.Clean("/"+h.Name), "/")
		if name == "" {
			return nil
		}
		if h.Typeflag == tar.TypeLink {
			h.Linkname = path.Join(prefix, path.Clean("/"+h.Linkname))
		}
		return x.entry(h, r, path.Join(prefix, name))
	})
}

// pop closes directories until n are open, and sets their attributes.
func (x *extraction) pop(n int) error {
	var errs []error
	for len(x.stack) > n {
		last := x.stack[len(x.stack)-1]
		x.stack = x.stack[:len(x.stack)-1]
		errs = append(errs, last.Close())
		if last.header != nil {
			errs = append(errs, x.attributes(x.stack[len(x.stack)-1].Dir, last.name, last.header))
		}
	}
	return errors.Join(errs...)
}

// enter makes the directory of an entry the top of the stack.
func (x *extraction) enter(dir string) (openDir, error) {
	var parts []string
	if dir != "." {
		parts = strings.Split(dir, "/")
	}
	same := 0
	for same < len(parts) && same+1 < len(x.stack) && x.stack[same+1].name == parts[same] {
		same++
	}
	if err := x.pop(same + 1); err != nil {
		return openDir{}, err
	}
	for _, name := range parts[same:] {
		if err := x.descend(name, nil); err != nil {
			return openDir{}, err
		}
	}
	return x.stack[len(x.stack)-1], nil
}

// descend opens a directory, in the place of whatever else has its name.
func (x *extraction) descend(name string, h *tar.Header) error {
	top := x.stack[len(x.stack)-1].Dir
	st, err := top.Lstat(name)
	if err == nil && st.Mode&unix.S_IFMT != unix.S_IFDIR {
		err = top.Remove(name)
		if err == nil {
			err = fs.ErrNotExist
		}
	}
	// Until its content is there, a directory must be writable.
	fresh := errors.Is(err, fs.ErrNotExist)
	if fresh {
		err = top.Mkdir(name, 0o700)
	} else if err == nil && h != nil && st.Mode&0o700 != 0o700 {
		err = top.Chmod(name, 0o700)
	}
	if err != nil {
		return err
	}
	dir, err := top.OpenDir(name)
	if err != nil {
		return err
	}
	x.stack = append(x.stack, openDir{dir, name, h, fresh})
	return nil
}

func (x *extraction) entry(h *tar.Header, r io.Reader, name string) error {
	if err := x.ctx.Err(); err != nil {
		return err
	}
	parent, err := x.enter(path.Dir(name))
	if err != nil {
		return err
	}
	if x.seen[name] && !x.split && h.Typeflag != tar.TypeDir {
		return fmt.Errorf("%s is in the image of more than one platform: leave out platform-split=false", name)
	}
	x.seen[name] = true
	base := path.Base(name)
	if h.Typeflag == tar.TypeDir {
		return x.descend(base, h)
	}
	if h.Typeflag == tar.TypeLink && !parent.fresh {
		// Not by rename(2), which leaves two names of one file as they are.
		if err := parent.RemoveAll(base); err != nil {
			return err
		}
	}
	if h.Typeflag == tar.TypeLink || parent.fresh {
		_, err := x.make(parent.Dir, base, h, r)
		return err
	}
	x.temps++
	tmp := fmt.Sprintf(".strata-%d-%d", os.Getpid(), x.temps)
	if made, err := x.make(parent.Dir, tmp, h, r); err != nil || !made {
		return err
	}
	return place(parent.Dir, tmp, base)
}

// place gives a new file its name, in the place of whatever has it.
func place(dir *rootfs.Dir, tmp, name string) error {
	err := dir.Rename(tmp, dir, name)
	if errors.Is(err, unix.EISDIR) || errors.Is(err, unix.ENOTEMPTY) || errors.Is(err, unix.EEXIST) {
		if err = dir.RemoveAll(name); err == nil {
			err = dir.Rename(tmp, dir, name)
		}
	}
	if err != nil {
		return errors.Join(err, dir.RemoveAll(tmp))
	}
	return nil
}

// make creates an entry; false if it has to be left out.
func (x *extraction) make(dir *rootfs.Dir, name string, h *tar.Header, r io.Reader) (bool, error) {
	var err error
	switch h.Typeflag {
	case tar.TypeLink:
		return true, x.link(dir, name, h.Linkname)
	case tar.TypeReg:
		err = x.writeFile(dir, name, r)
	case tar.TypeSymlink:
		err = dir.Symlink(h.Linkname, name)
	case tar.TypeFifo:
		err = dir.Mknod(name, unix.S_IFIFO|0o600, 0)
	case tar.TypeChar, tar.TypeBlock:
		kind := uint32(unix.S_IFCHR)
		if h.Typeflag == tar.TypeBlock {
			kind = unix.S_IFBLK
		}
		err = dir.Mknod(name, kind|0o600, unix.Mkdev(uint32(h.Devmajor), uint32(h.Devminor)))
		if errors.Is(err, unix.EPERM) {
			return false, nil // an ordinary user can make no devices
		}
	default:
		err = fmt.Errorf("%s: a tar entry of the type %q has no place in a directory", h.Name, h.Typeflag)
	}
	if err != nil {
		return false, err
	}
	if err := x.attributes(dir, name, h); err != nil {
		return false, errors.Join(err, dir.Remove(name))
	}
	return true, nil
}

func (x *extraction) writeFile(dir *rootfs.Dir, name string, r io.Reader) error {
	f, err := dir.OpenFile(name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = io.CopyBuffer(struct{ io.Writer }{f}, r, x.buf)
	if err = errors.Join(err, f.Close()); err != nil {
		return errors.Join(err, dir.Remove(name))
	}
	return nil
}

// link links to a file that was extracted before.
func (x *extraction) link(dir *rootfs.Dir, name, target string) error {
	from, err := x.root.Dir()
	if err != nil {
		return err
	}
	for _, part := range strings.Split(path.Dir(target), "/") {
		if part == "." || part == "" {
			continue
		}
		next, err := from.OpenDir(part)
		if err = errors.Join(err, from.Close()); err != nil {
			return err
		}
		from = next
	}
	return errors.Join(dir.Link(from, path.Base(target), name), from.Close())
}

// attributes sets owner, extended attributes, mode and time, in this order:
// giving a file away clears its setuid bit and its capabilities.
func (x *extraction) attributes(dir *rootfs.Dir, name string, h *tar.Header) error {
	if x.owner {
		if err := dir.Lchown(name, h.Uid, h.Gid); err != nil && !errors.Is(err, unix.EPERM) && !errors.Is(err, unix.EINVAL) {
			return err
		}
	}
	for key, value := range h.PAXRecords {
		attr, ok := strings.CutPrefix(key, "SCHILY.xattr.")
		if !ok {
			continue
		}
		if err := dir.Setxattr(name, attr, value); err != nil && !errors.Is(err, unix.EPERM) && !errors.Is(err, unix.ENOTSUP) {
			return err
		}
	}
	if h.Typeflag != tar.TypeSymlink {
		if err := dir.Chmod(name, uint32(h.Mode)); err != nil {
			return err
		}
	}
	t := unix.NsecToTimespec(h.ModTime.UnixNano())
	return dir.Utimes(name, t, t)
}

// prune removes what was not written (mode=delete).
func (x *extraction) prune() error {
	dir, err := x.root.Dir()
	if err != nil {
		return err
	}
	return x.pruneDir(dir, "")
}

// pruneDir looks through one directory, and closes it.
func (x *extraction) pruneDir(dir *rootfs.Dir, at string) error {
	defer dir.Close()
	entries, err := dir.ReadDir()
	if err != nil {
		return err
	}
	for _, entry := range entries {
		name := path.Join(at, entry.Name)
		if !x.seen[name] {
			if err := dir.RemoveAll(entry.Name); err != nil {
				return err
			}
			continue
		}
		st, err := dir.Lstat(entry.Name)
		if err != nil {
			return err
		}
		if st.Mode&unix.S_IFMT != unix.S_IFDIR {
			continue
		}
		sub, err := dir.OpenDir(entry.Name)
		if err != nil {
			return err
		}
		if err := x.pruneDir(sub, name); err != nil {
			return err
		}
	}
	return nil
}
