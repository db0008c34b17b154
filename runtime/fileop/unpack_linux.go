package fileop

import (
	"archive/tar"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path"

	"github.com/strata-build/strata/runtime/layer"
)

// unpack unpacks a match that is a tar archive, compressed or not, into the
// destination. Anything else is for the ordinary copy.
func (c *copier) unpack(match string) (bool, error) {
	dir, n, err := c.archive(match)
	if dir == nil || err != nil {
		return false, err
	}
	defer dir.Close()
	is, err := isArchive(dir, &n)
	if !is || err != nil {
		return false, err
	}
	if err := errors.Join(c.leaveTarget(), c.pool.wait()); err != nil {
		return true, err
	}
	err = c.extract(dir, &n)
	if errors.Is(err, io.ErrUnexpectedEOF) {
		err = fmt.Errorf("the archive is cut short: %w", err)
	}
	if err != nil {
		return true, fmt.Errorf("unpack %q: %w", match, err)
	}
	return true, nil
}

// archive opens the directory of the regular file that a match is, or leads
// to. It returns no directory for anything else.
func (c *copier) archive(match string) (Dir, Node, error) {
	top, err := c.src.Root()
	if err != nil {
		return nil, Node{}, err
	}
	p, err := resolve(top, match, true)
	if err = errors.Join(err, top.Close()); err != nil {
		return nil, Node{}, err
	}
	dir, n, err := lookup(c.src, p)
	if errors.Is(err, ErrNotFound) {
		return nil, n, nil // the copy says it better
	}
	if err == nil && !n.IsRegular() {
		return nil, n, dir.Close()
	}
	return dir, n, err
}

// isArchive looks for a first tar header.
func isArchive(dir Dir, n *Node) (bool, error) {
	f, err := openNode(dir, n)
	if err != nil {
		return false, err
	}
	defer f.Close()
	r, _, err := layer.Decompress(f)
	if err != nil {
		return false, nil
	}
	_, err = tar.NewReader(r).Next()
	return err == nil, r.Close()
}

func openNode(dir Dir, n *Node) (*os.File, error) {
	fd, err := dir.Open(n)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), n.Name), nil
}

func (c *copier) extract(dir Dir, n *Node) error {
	p, err := c.resolve(path.Clean(cleanPath(c.a.GetDest())))
	if err != nil {
		return err
	}
	into, err := c.mkdirAll(p, 0o755)
	if err != nil {
		return err
	}
	root, err := into.Root()
	if err = errors.Join(err, into.Close()); err != nil {
		return err
	}
	f, err := openNode(dir, n)
	if err != nil {
		return errors.Join(err, root.Close())
	}
	x := &extractor{ctx: c.ctx, root: root, set: c.set, own: c.own, buf: make([]byte, bufferSize)}
	return errors.Join(x.verified(f, n), f.Close(), root.Close())
}

// verified extracts an archive file, of which every byte counts for the
// digest, also those behind the end of the archive.
func (x *extractor) verified(f *os.File, n *Node) error {
	var r io.Reader = f
	var h hash.Hash
	if n.Sum != nil {
		h = sha256.New()
		r = io.TeeReader(io.LimitReader(f, n.Size), h)
	}
	err := x.compressed(r)
	if h == nil {
		return err
	}
	if _, e := io.CopyBuffer(struct{ io.Writer }{io.Discard}, r, x.buf); e != nil {
		return errors.Join(err, e)
	}
	if [sha256.Size]byte(h.Sum(nil)) != *n.Sum {
		return ErrChanged // which also explains an archive that is broken
	}
	return err
}

func (x *extractor) compressed(r io.Reader) error {
	plain, _, err := layer.Decompress(r)
	if err != nil {
		return err
	}
	return errors.Join(x.archive(plain), plain.Close())
}
