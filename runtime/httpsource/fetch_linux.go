package httpsource

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"golang.org/x/sys/unix"

	"github.com/strata-build/strata/internal/bounded"
	"github.com/strata-build/strata/runtime/rootfs"
	"github.com/strata-build/strata/runtime/tree"
)

// Fetch writes the file into the empty directory dst.
func (c *Client) Fetch(ctx context.Context, s *Source, r Resolved, dst *rootfs.Root) error {
	blob, err := c.o.Blobs.Open(ctx, r.Digest)
	if errors.Is(err, fs.ErrNotExist) {
		if _, err := c.download(ctx, s, nil, r.Digest); err != nil {
			return err
		}
		blob, err = c.o.Blobs.Open(ctx, r.Digest)
	}
	if err != nil {
		return fmt.Errorf("http source %s: %w", s, err)
	}
	err = c.write(ctx, s, r, dst, blob)
	if err = errors.Join(err, blob.Close()); err != nil {
		return fmt.Errorf("http source %s: %w", s, err)
	}
	return nil
}

func (c *Client) write(ctx context.Context, s *Source, r Resolved, dst *rootfs.Root, blob io.Reader) error {
	dir, err := dst.Dir()
	if err != nil {
		return err
	}
	defer dir.Close()
	f, err := dir.OpenFile(safeName(r.Filename), unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, bounded.Reader(ctx, blob))
	if err == nil {
		err = c.setAttrs(int(f.Fd()), s)
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	ts := unix.Timespec{Sec: unixTime(r)}
	return dir.Utimes(safeName(r.Filename), ts, ts)
}

// setAttrs sets owner and mode, in this order: a change of the owner clears
// the setuid bit.
func (c *Client) setAttrs(fd int, s *Source) error {
	mode := s.Perm
	if mode == 0 {
		mode = 0o600
	}
	if s.UID != 0 || s.GID != 0 {
		if err := c.chown(fd, s, mode); err != nil {
			return fmt.Errorf("give the file to %d:%d: %w", s.UID, s.GID, err)
		}
	}
	return unix.Fchmod(fd, mode)
}

func (c *Client) chown(fd int, s *Source, mode uint32) error {
	if !c.o.SingleID {
		return unix.Fchown(fd, s.UID, s.GID)
	}
	o := tree.Override{UID: uint32(s.UID), GID: uint32(s.GID), Mode: unix.S_IFREG | mode}
	return unix.Fsetxattr(fd, tree.OverrideXattr, []byte(o.String()), 0)
}
