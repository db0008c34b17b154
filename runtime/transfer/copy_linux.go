package transfer

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/strata-build/strata/runtime/fileop"
)

// Options say how to copy.
type Options struct {
	// FollowLink copies what a symlink leads to, when the source is one.
	FollowLink bool
	// Overrides reads the owners of source files from tree.Override.
	Overrides bool
	// Extract says how files are made.
	Extract fileop.ExtractOptions
}

// Copy copies a file or a directory, and returns how many bytes its files have.
func Copy(ctx context.Context, dst, src Place, o Options) (int64, error) {
	s, err := src.source(o.FollowLink)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", src, err)
	}
	to, err := dst.target(&s)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", dst, err)
	}
	r, w := io.Pipe()
	var size int64
	packed := make(chan error, 1)
	go func() {
		var err error
		size, err = s.pack(ctx, w, to.name, o.Overrides)
		packed <- w.CloseWithError(err)
	}()
	err = dst.extract(ctx, to.dir, r, o.Extract)
	// Where extracting failed, the other side is not to wait for it.
	_ = r.CloseWithError(err)
	err = errors.Join(err, <-packed)
	return size, err
}

// extract unpacks a stream in a directory of the place's root.
func (p Place) extract(ctx context.Context, dir string, r io.Reader, o fileop.ExtractOptions) error {
	root, err := p.Root.Sub(dir)
	if err != nil {
		return fmt.Errorf("%s: %w", p, err)
	}
	o.KeepKinds = true
	if err := fileop.Extract(ctx, root, r, o); err != nil {
		return errors.Join(fmt.Errorf("copy to %s: %w", p, err), root.Close())
	}
	return root.Close()
}

// Pack writes a file or a directory to w as a tar stream.
func Pack(ctx context.Context, w io.Writer, src Place, o Options) error {
	s, err := src.source(o.FollowLink)
	if err == nil {
		_, err = s.pack(ctx, w, s.name, o.Overrides)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", src, err)
	}
	return nil
}

// Unpack unpacks a tar stream, compressed or not, in a directory.
func Unpack(ctx context.Context, dst Place, r io.Reader, o Options) error {
	d, err := dst.destination()
	switch {
	case err != nil:
	case !d.exists:
		err = ErrNoDirectory
	case !isDir(&d.st):
		err = ErrNotDirectory
	}
	if err != nil {
		return fmt.Errorf("%s: %w", dst, err)
	}
	err = dst.extract(ctx, d.path, r, o.Extract)
	if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, tar.ErrHeader) {
		err = fmt.Errorf("the tar stream is cut short, or none: %w", err)
	}
	return err
}
