// Package userns lets an ordinary user's process continue as root of a user
// namespace of its own, in which it may mount, and make the namespaces of
// steps. Nothing has to be set up for it.
//
//	strata (ordinary user)              strata (root of the namespace)
//	──────────────────────              ──────────────────────────────
//	clone(NEWUSER|NEWNS) ─────────────▶ wait
//	newuidmap, newgidmap, or
//	the single-ID maps
//	go on ────────────────────────────▶ make mounts private to us
//	pass on signals                     execve(ourselves)
//	wait                                … the whole command …
//	exit with its code ◀─────────────── exit
//
// A Go program has threads, and the kernel lets no thread leave the user
// namespace of its process: hence the second process. It is in the same
// process group and on the same terminal, so that shells, pipes and ^C work
// as if it were the first.
//
// # IDs
//
// Where /etc/subuid and /etc/subgid give the user ranges, and newuidmap and
// newgidmap are installed and work, root inside is the user outside, and 1, 2,
// … are the ranges. Elsewhere there is just the one ID: everything in an image
// belongs to it (see Info.SingleID, and seccomp.FakeIDs for what steps then
// see).
package userns

import "errors"

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
	// UID and GID are those of root outside: of the user, in a namespace that
	// Ensure made.
	UID, GID uint32
	// IDs and GroupIDs are how many user and group IDs are mapped.
	IDs, GroupIDs uint64
}

// Outcome is what Ensure or Join has done.
type Outcome struct {
	// Replaced: the program has run and ended in another process; this one
	// must exit with ExitCode.
	Replaced bool
	// ExitCode is the other's, or 128 and the number of the signal that ended
	// it.
	ExitCode int
	// Info is set when this process goes on.
	Info Info
}
