// Package userns lets an ordinary user's process continue as root of a user
// namespace of its own.
package userns

import (
	"context"
	"errors"
)

var errLanding = errors.New("userns: being written")

// ErrUnavailable is returned when the kernel or its policy refuses user
// namespaces.
var ErrUnavailable = errors.New("user namespaces are not available")

// Info describes the user namespace of this process.
type Info struct {
	// Rootless: not every user ID of the machine is mapped, so this is not the
	// initial user namespace.
	Rootless bool
	// SingleID: only one user ID is mapped; chown is impossible.
	SingleID bool
	// UID and GID are those of the user outside.
	UID, GID uint32
	// IDs is how many user IDs are mapped.
	IDs uint64
}

// Current describes the user namespace of this process.
func Current() (Info, error) { return Info{}, errLanding }

// Sufficient tells whether this process may set up namespaces: it is root
// (of whichever user namespace) and has CAP_SYS_ADMIN there.
func Sufficient() (bool, error) { return false, errLanding }

// Ensure returns at once when the process is Sufficient. Otherwise it runs the
// whole program again in a new user and mount namespace, passes signals to it,
// waits, and returns its exit code with Replaced true: the caller exits with
// it at once. If this process dies, so does the other.
func Ensure(ctx context.Context) (Outcome, error) { return Outcome{}, errLanding }

// Join is Ensure with the user and mount namespace of another process of the
// same user, for example of the monitor of a container. It returns at once
// when the process is in that user namespace already.
func Join(ctx context.Context, pid int) (Outcome, error) { return Outcome{}, errLanding }

// Outcome is what Ensure has done.
type Outcome struct {
	// Replaced: the program has run and ended in another process; this one
	// must exit with ExitCode.
	Replaced bool
	ExitCode int
	// Info is set when the process goes on.
	Info Info
}
