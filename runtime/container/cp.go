package container

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/strata-build/strata/runtime/fileop"
	"github.com/strata-build/strata/runtime/rootfs"
	"github.com/strata-build/strata/runtime/transfer"
)

// CopyRequest says what to copy between a container and the user's files. Which
// way, the method tells.
type CopyRequest struct {
	ID string
	// Name is what messages call the container.
	Name string
	// Path is a path in the container, as the user wrote it.
	Path string
	// Local is an absolute path of the user's. A stream takes its place.
	Local string
	// FollowLink copies what a symlink leads to, when the source is one.
	FollowLink bool
	// KeepOwners gives files to whom the source has them belong, instead of
	// to root in a container, and to the user outside.
	KeepOwners bool
	// Skipped is told of each device that could not be made outside.
	Skipped func(path string, err error)
}

// CopyFrom copies out of a container, and returns how many bytes the files
// have.
func (s *Set) CopyFrom(ctx context.Context, req CopyRequest) (size int64, err error) {
	o := transfer.Options{FollowLink: req.FollowLink, Overrides: s.e.Layers.Format().Overrides()}
	o.Extract.Skipped = req.Skipped
	// In a user namespace the owners inside are nobody's that the user knows.
	if rootless, _ := s.e.Rootless(); rootless || !req.KeepOwners {
		o.Extract.Owners = fileop.OwnersCaller
	}
	err = s.copying(ctx, req, func(inside, outside transfer.Place) error {
		size, err = transfer.Copy(ctx, outside, inside, o)
		return err
	})
	return size, err
}

// CopyTo copies into a container.
func (s *Set) CopyTo(ctx context.Context, req CopyRequest) (size int64, err error) {
	o := transfer.Options{FollowLink: req.FollowLink, Extract: s.inside()}
	if !req.KeepOwners {
		o.Extract.Owners = fileop.OwnersRoot
	}
	err = s.copying(ctx, req, func(inside, outside transfer.Place) error {
		size, err = transfer.Copy(ctx, inside, outside, o)
		return err
	})
	return size, err
}

// PackFrom writes what is at a path of a container to w as a tar stream.
func (s *Set) PackFrom(ctx context.Context, req CopyRequest, w io.Writer) error {
	o := transfer.Options{FollowLink: req.FollowLink, Overrides: s.e.Layers.Format().Overrides()}
	return s.copying(ctx, req, func(inside, _ transfer.Place) error { return transfer.Pack(ctx, w, inside, o) })
}

// UnpackTo unpacks a tar stream in a directory of a container. Its files belong
// to whom the stream says.
func (s *Set) UnpackTo(ctx context.Context, req CopyRequest, r io.Reader) error {
	o := transfer.Options{Extract: s.inside()}
	return s.copying(ctx, req, func(inside, _ transfer.Place) error { return transfer.Unpack(ctx, inside, r, o) })
}

// inside is how files are made in a container.
func (s *Set) inside() fileop.ExtractOptions {
	return fileop.ExtractOptions{SingleID: s.e.Layers.Format().SingleID}
}

// copying runs fn with both sides of a copy.
func (s *Set) copying(ctx context.Context, req CopyRequest, fn func(inside, outside transfer.Place) error) error {
	files, err := s.files(ctx, req.ID)
	if err != nil {
		return err
	}
	host, err := rootfs.OpenDir("/")
	if err != nil {
		return errors.Join(err, files.close())
	}
	err = fn(transfer.Place{Root: files.Root, Path: req.Path, Owner: req.Name}, transfer.Place{Root: host, Path: req.Local})
	if closeErr := errors.Join(host.Close(), files.close()); closeErr != nil {
		err = errors.Join(err, fmt.Errorf("close the container's files: %w", closeErr))
	}
	return err
}
