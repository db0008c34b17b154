// Package executor runs commands in containers: the steps of a build, and what
// `strata run` runs. It needs no runc and no daemon.
//
// # A start
//
// Everything that takes thought is done in ordinary Go, before the process
// exists: mount points are found and made, file systems that need no new
// namespace are mounted (detached: they are descriptors that nobody else can
// reach), terminals and pipes are opened, the seccomp filter is compiled. What
// must happen in the new process is written down as a list of system calls
// (package program), which a child that shares our memory makes without ever
// running Go code of its own, and whose last one executes the user's command:
//
//	goroutine of Start            launcher thread              child, pid 1 of its namespace
//	──────────────────            ───────────────              ──────────────────────────────
//	find, mount, open, compile
//	write the program ──────────▶ vfork(NEWNS, NEWPID, …) ───▶ reset signals
//	                              │ suspended                  join control group
//	                              │ (≈ 0.5 ms)                 new session, new keyring
//	                              │                            join network, set host name
//	                              │                            attach root, /proc, /dev, /sys, …
//	                              │                            attach the spec's mounts
//	                              │                            mask
//	                              │                            pivot_root, drop the old root
//	                              │                            files 0, 1, 2; working directory
//	                              │                            limits, user, filter, capabilities
//	                              ◀─────────────────────────── execve
//	Process ◀──────────────────── pidfd
//
// The launcher is one thread for all: it lies in a mount namespace that is
// nearly empty, so that cloning it copies next to nothing. Starts queue there
// for half a millisecond each. A call that fails is named in the error
// ("mount /proc: operation not permitted"), and nothing was executed.
//
// # What is not trusted
//
// The root file system and everything in it, including the paths that the
// spec names there: another step may change a shared directory at any moment.
// So a path is resolved once, inside of the root, and from then on the
// descriptor is used. The comments cite the CVEs of other runtimes at the
// place that would have had them.
//
// The process itself is not dumpable once there is an executor: what it clones
// has its memory and its open files for a while. A process that joins a
// container (Exec) is seen by those that are in it (CVE-2016-9962), so it gets
// a copy of the memory besides.
//
// # What a command gets
//
// By default what docker gives it: fourteen capabilities, docker's seccomp
// profile, masked paths, a /dev of its own. What differs: device nodes are
// bound from the host and all other mounts forbid devices, instead of a device
// control group; so no step costs a control group unless it has a limit.
//
// The oldest kernel that serves is Linux 5.12.
//
// In a user namespace (package userns) the same code runs. What an ordinary
// user cannot have is left out: see the comments at SingleID and Rootless.
package executor

import "errors"

// Errors of starting a command. The caller maps them to the exit codes that
// docker users expect: 127 for ErrNotFound, 126 for ErrNotExecutable.
var (
	// ErrNotFound is returned when the command is nowhere in the root.
	ErrNotFound = errors.New("command not found")
	// ErrNotExecutable is returned when the kernel refuses to execute it.
	ErrNotExecutable = errors.New("command cannot be executed")
	// ErrMountTarget is returned for a mount whose target cannot be a mount
	// point: a file where a directory is needed, or a path that leads out.
	ErrMountTarget = errors.New("mount target cannot be used")
	// ErrCwd is returned for a working directory that does not exist in the
	// root, is no directory, or is reached through /proc's magic links.
	ErrCwd = errors.New("working directory cannot be used")
)
