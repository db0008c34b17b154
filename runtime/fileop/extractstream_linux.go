package fileop

import (
	"context"
	"errors"
	"io"

	"golang.org/x/sys/unix"

	"github.com/strata-build/strata/runtime/rootfs"
)

// Owners says whom the files of an archive belong to when they are unpacked.
type Owners int

const (
	// OwnersArchive gives them to whom the archive says.
	OwnersArchive Owners = iota
	// OwnersRoot gives them to root.
	OwnersRoot
	// OwnersCaller leaves them with this process' user.
	OwnersCaller
)

// ExtractOptions say how Extract unpacks.
type ExtractOptions struct {
	Owners Owners
	// SingleID is set when only one user id is mapped; see Options.
	SingleID bool
	// KeepKinds refuses to put a directory in the place of something else, or
	// the other way round, or anything in the place of a mounted file.
	KeepKinds bool
	// Skipped is told of each device that could not be made for want of
	// privileges. Without it, such a device is an error.
	Skipped func(path string, err error)
}

// Extract unpacks a tar stream, compressed or not, into dst. Neither names nor
// links lead out of it.
func Extract(ctx context.Context, dst *rootfs.Root, r io.Reader, o ExtractOptions) error {
	x := &extractor{ctx: ctx, root: dst, set: setter{single: o.SingleID}, opt: o, buf: make([]byte, bufferSize)}
	if o.Owners == OwnersRoot {
		x.own = &owner{}
	}
	if err := x.compressed(r); err != nil {
		return err
	}
	// What sends the stream is not to find it closed.
	_, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, r, x.buf)
	return errors.Join(err, ctx.Err())
}

// notMounted refuses a file that something is mounted on. Where that was done
// in another mount namespace, the kernel would let us remove it, and unmount
// what is mounted there.
func notMounted(dir *rootfs.Dir, name string) error {
	var parent, file unix.Statx_t
	if err := unix.Statx(dir.FD(), "", unix.AT_EMPTY_PATH, unix.STATX_MNT_ID, &parent); err != nil {
		return fail("stat", dir.Path(), err)
	}
	if err := unix.Statx(dir.FD(), name, unix.AT_SYMLINK_NOFOLLOW, unix.STATX_MNT_ID, &file); err != nil {
		return fail("stat", name, err)
	}
	if parent.Mnt_id != file.Mnt_id {
		return errors.New("something is mounted there, which is not overwritten")
	}
	return nil
}
