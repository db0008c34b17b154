// Package fileop runs LLB file actions (copy, mkfile, mkdir, rm, symlink) on a
// destination tree. It does what BuildKit v0.33.1 does with the same action,
// quirks that users can see included.
//
// The destination is an open rootfs.Root. The source of a copy is a Tree:
// another root, or the files that a scan selected in a user's directory, read
// in place. No path is used as a string once these are open.
package fileop

import (
	"context"
	"errors"

	"github.com/moby/buildkit/solver/pb"
	"github.com/opencontainers/go-digest"

	"github.com/strata-build/strata/runtime/rootfs"
)

var errLanding = errors.New("fileop: being written")

// ErrNotFound is wrapped by the errors about a source or a required path that
// does not exist.
var ErrNotFound = errors.New("not found")

// ErrChanged is wrapped by the errors about a source file that is no longer
// what was scanned.
var ErrChanged = errors.New("changed while the build was reading it")

// Options are what an action needs besides its definition.
type Options struct {
	// Input opens the tree that a user or group name is looked up in: the
	// input index of pb.NamedUserOpt. It is called only for owners by name;
	// the root stays the caller's.
	Input func(ctx context.Context, index int64) (*rootfs.Root, error)
	// SingleID is set when only one user id is mapped: owners, modes and
	// devices that the kernel refuses are recorded as overrides.
	SingleID bool
	// Progress, when set, is told now and then how much a copy has written.
	// Calls do not overlap.
	Progress func(Progress)
	// Warn, when set, is told what the user should know and what does not
	// fail the action.
	Warn func(message string)
}

// Progress counts what a copy has written.
type Progress struct {
	Files int64
	Bytes int64
}

// Copy copies what a selects in src onto dst.
func Copy(ctx context.Context, dst *rootfs.Root, src Tree, a *pb.FileActionCopy, o Options) error {
	return errLanding
}

// Mkdir makes a directory.
func Mkdir(ctx context.Context, dst *rootfs.Root, a *pb.FileActionMkDir, o Options) error {
	return errLanding
}

// Mkfile writes a file, replacing what is there.
func Mkfile(ctx context.Context, dst *rootfs.Root, a *pb.FileActionMkFile, o Options) error {
	return errLanding
}

// Symlink makes a symlink.
func Symlink(ctx context.Context, dst *rootfs.Root, a *pb.FileActionSymlink, o Options) error {
	return errLanding
}

// Rm removes files and directories.
func Rm(ctx context.Context, dst *rootfs.Root, a *pb.FileActionRm) error {
	return errLanding
}

// Digest returns a digest of just what a selects in src: names, types, modes,
// owners, link targets, extended attributes and contents, but no times.
func Digest(ctx context.Context, src Tree, a *pb.FileActionCopy) (digest.Digest, error) {
	return "", errLanding
}
