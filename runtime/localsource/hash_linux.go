package localsource

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/strata-build/strata/runtime/fileop"
	"github.com/strata-build/strata/runtime/rootfs"
)

// hashTries is how often a file that changes while it is read is read again.
const hashTries = 4

// regular takes the digest of a file from the cache, or makes it.
func (t *thread) regular(d *dirNode, f *file, known *record, s *Stats) error {
	if known != nil && known.stat == f.stat {
		f.entry.Sum, f.entry.Xattrs = known.sum, known.xattrs
		s.Bytes += f.entry.Size
		return nil
	}
	fd, err := d.handle.Open(f.name, unix.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	err = t.hashStable(f, fd)
	if err = errors.Join(err, unix.Close(fd)); err != nil {
		return err
	}
	f.fresh = true
	s.Hashed++
	s.HashedBytes += f.entry.Size
	s.Bytes += f.entry.Size
	return nil
}

// hashStable hashes an open file until its attributes are the same before and
// after: a file that was being written would have a digest that it never had.
func (t *thread) hashStable(f *file, fd int) error {
	for range hashTries {
		attrs, err := rootfs.FileXattrs(fd)
		if err != nil {
			return err
		}
		f.entry.Xattrs = portable(attrs)
		n, err := t.hashFile(fd, &f.entry.Sum)
		if err != nil {
			return err
		}
		var st unix.Stat_t
		if err := unix.Fstat(fd, &st); err != nil {
			return err
		}
		if stampOf(&st) == f.stat && n == st.Size {
			return nil
		}
		if st.Mode&unix.S_IFMT != unix.S_IFREG {
			return unix.ENOENT // replaced by something else meanwhile
		}
		f.fill(&st)
		if _, err := unix.Seek(fd, 0, unix.SEEK_SET); err != nil {
			return err
		}
	}
	return fmt.Errorf("it is being written: %w", fileop.ErrChanged)
}

func (t *thread) hashFile(fd int, sum *[32]byte) (int64, error) {
	t.hash.Reset()
	var total int64
	for {
		n, err := unix.Read(fd, t.buf)
		switch {
		case err == unix.EINTR:
			continue
		case err != nil:
			return total, err
		case n == 0:
			t.hash.Sum(sum[:0])
			return total, nil
		}
		t.hash.Write(t.buf[:n])
		if total += int64(n); t.ctx.Err() != nil {
			return total, t.ctx.Err()
		}
	}
}

// portable returns the extended attributes that belong to a file's contents.
// Capabilities are none of them, as under BuildKit, where the copy of a context
// loses them: it is given to root after they are set.
func portable(attrs map[string]string) []fileop.Xattr {
	var out []fileop.Xattr
	for name, value := range attrs {
		if fileop.PortableXattr(name) && name != "security.capability" {
			out = append(out, fileop.Xattr{Name: name, Value: value})
		}
	}
	slices.SortFunc(out, func(a, b fileop.Xattr) int { return strings.Compare(a.Name, b.Name) })
	return out
}
