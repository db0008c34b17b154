// Package executor runs a command in its own namespaces on a root file system.
package executor

import (
	"context"
	"errors"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

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

var errLanding = errors.New("executor: being written")

// Options configure an Executor.
type Options struct {
	// SharedProc lets steps see the /proc of the processes around Strata where
	// the kernel refuses a new one (Strata inside of an unprivileged
	// container). It weakens isolation, so it must be asked for.
	SharedProc bool
}

// Executor starts commands. It is safe for concurrent use.
type Executor struct{}

// New prepares an executor: it enters the minimal mount namespace that steps
// are cloned from. The process must have CAP_SYS_ADMIN in its user namespace
// (see package userns).
func New(opt Options) (*Executor, error) { return nil, errLanding }

// Close ends the executor. What it started is killed.
func (e *Executor) Close() error { return errLanding }

// Start starts s and returns once its command has been executed, or could not
// be. Canceling ctx kills the process and all that it started.
func (e *Executor) Start(ctx context.Context, s *Spec) (*Process, error) { return nil, errLanding }

// Run is Start and Wait.
func (e *Executor) Run(ctx context.Context, s *Spec) (Status, error) { return Status{}, errLanding }

// Exec starts c inside of the namespaces of a running container.
func (e *Executor) Exec(ctx context.Context, t Target, c *Command) (*Process, error) {
	return nil, errLanding
}

// Target is the first process of a running container.
type Target struct {
	PID int
	// StartTime is what Process.StartTime returned when the container was
	// started; it guards against another process with the same number. 0
	// checks nothing.
	StartTime uint64
}

// Status is how a process ended.
type Status struct {
	// ExitCode is the code, or 128 + Signal.
	ExitCode int
	// Signal is the signal that killed the process, or 0.
	Signal unix.Signal
	// OOMKilled tells that the kernel killed a process of the group for lack
	// of memory. It needs Command.Cgroup.
	OOMKilled bool
	// User and System are the processor time of the process and of those
	// below it; MaxRSS is the greatest resident size of one of them, in bytes.
	User, System time.Duration
	MaxRSS       int64
}

// Process is a started command. Wait must be called.
type Process struct{}

// PID is the process number as this process sees it.
func (p *Process) PID() int { return 0 }

// StartTime identifies the process together with its number: the start time
// in clock ticks since boot.
func (p *Process) StartTime() (uint64, error) { return 0, errLanding }

// PIDFD is the process' descriptor. It belongs to p and is valid until Wait
// returns.
func (p *Process) PIDFD() *os.File { return nil }

// Signal sends a signal. A process that has ended gives os.ErrProcessDone.
func (p *Process) Signal(sig unix.Signal) error { return errLanding }

// Resize sets the size of the terminal.
func (p *Process) Resize(t Terminal) error { return errLanding }

// Wait waits until the command has ended, all processes that it left behind
// are gone, and all that it wrote has reached Stdout and Stderr. The error is
// about waiting and copying: a command that fails is a Status. If ctx of Start
// was cancelled, the error is its cause.
func (p *Process) Wait() (Status, error) { return Status{}, errLanding }
