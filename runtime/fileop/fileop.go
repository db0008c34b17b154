// Package fileop runs LLB file actions (copy, mkfile, mkdir, rm, symlink) on a
// destination tree. It does what BuildKit v0.33.1 does with the same action,
// quirks that users can see included.
//
// The destination is an open rootfs.Root. The source of a copy is a Tree:
// another root, or the files that a scan selected in a user's directory, read
// in place. Paths are resolved inside these, and then opened component by
// component without following a symlink, so that neither a hostile image nor a
// hostile action leads out of them.
//
// # A copy
//
// One goroutine walks the source. It resolves wildcards and patterns, makes
// directories, links and devices, and hands each regular file to one of two
// writers, which create it, copy (and, where the source knows the digest,
// verify) the contents, and set its attributes:
//
//	walk ──▶ level: source Dir + destination Dir ──▶ [queue] ──▶ 2 writers
//	                 │                                            │
//	                 └── references: the walk and each queued file ┘
//
// A level is a directory pair. It is closed, and the attributes of the
// directory are set, when the last file in it is written: by then its
// modification time changes no more. A directory that is only on the way to
// what the patterns select is made when the first such file comes.
//
// Where this package differs from BuildKit on purpose: block devices stay
// block devices; a directory on the way gets the time of its source, not of
// the build; removing a dangling symlink is not an error; what a two-match
// wildcard writes twice is well defined as the last one.
package fileop

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"

	"github.com/strata-build/strata/runtime/rootfs"
)

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

func (o *Options) warn(format string, args ...any) {
	if o.Warn != nil {
		o.Warn(fmt.Sprintf(format, args...))
	}
}

// notFound says that p does not exist, when that is what err means.
func notFound(p string, err error) error {
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) {
		return fmt.Errorf("%q: %w", p, ErrNotFound)
	}
	return err
}

// timespec is an LLB timestamp, in nanoseconds; nil when none was given.
func timespec(ns int64) *unix.Timespec {
	if ns == -1 {
		return nil
	}
	ts := unix.NsecToTimespec(ns)
	return &ts
}

// cause is what happened, without the names of temporary files.
func cause(err error) error {
	var link *os.LinkError
	if errors.As(err, &link) {
		return link.Err
	}
	return err
}

// fail names the operation and the path of an error that has no path.
func fail(op, p string, err error) error {
	return &os.PathError{Op: op, Path: p, Err: err}
}
