package executor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/strata-build/strata/runtime/cgroup"
	"golang.org/x/sys/unix"
)

// Status is how a process ended.
type Status struct {
	// ExitCode is the code, or 128 + Signal.
	ExitCode int
	// Signal is the signal that killed the process, or 0.
	Signal unix.Signal
	// OOMKilled tells that the kernel killed a process of the group for lack
	// of memory. It needs Command.Cgroup.
	OOMKilled bool
	// User and System are the processor time of the process and of those that
	// it waited for; MaxRSS is the greatest resident size of one of them, in
	// bytes.
	User, System time.Duration
	MaxRSS       int64
	// Restored are directories that mount points were made in and removed
	// from, and that are as they were, by their paths in the step.
	Restored []string
}

// Process is a started command. Wait must be called.
type Process struct {
	pid   int
	pidfd *os.File
	io    *stdio
	tree  *tree // whose stubs are removed at the end; nil for Exec
	group *cgroup.Group
	kills uint64 // of the group, before the start
	ctx   context.Context
	stop  func() bool // takes the watch on ctx back

	once   sync.Once
	status Status
	err    error
}

// unknownCode is the code of a process that could not be waited for, which must
// not pass for one that has done its work.
const unknownCode = 255

// PID is the process number as this process sees it.
func (p *Process) PID() int { return p.pid }

// StartTime identifies the process together with its number: the start time
// in clock ticks since boot.
func (p *Process) StartTime() (uint64, error) { return startTime(p.pid) }

// startTime is field 22 of /proc/PID/stat. The second field is the name, which
// may have anything in it, closing parentheses too.
func startTime(pid int) (uint64, error) {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return 0, fmt.Errorf("read the start time of a process: %w", err)
	}
	fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
	if len(fields) < 20 {
		return 0, fmt.Errorf("read the start time of process %d: the kernel tells %d fields", pid, len(fields))
	}
	return strconv.ParseUint(fields[19], 10, 64)
}

// PIDFD is the process' descriptor. It belongs to p and is valid until Wait
// returns.
func (p *Process) PIDFD() *os.File { return p.pidfd }

// Signal sends a signal. A process that has ended gives os.ErrProcessDone.
func (p *Process) Signal(sig unix.Signal) error {
	conn, err := p.pidfd.SyscallConn()
	if err != nil {
		return os.ErrProcessDone
	}
	var failed error
	err = conn.Control(func(fd uintptr) { failed = unix.PidfdSendSignal(int(fd), sig, nil, 0) })
	switch {
	case err != nil || failed == unix.ESRCH:
		return os.ErrProcessDone
	case failed != nil:
		return fmt.Errorf("send signal %d: %w", sig, failed)
	}
	return nil
}

// Resize sets the size of the terminal.
func (p *Process) Resize(t Terminal) error {
	if p.io.master == nil {
		return errors.New("the process has no terminal")
	}
	conn, err := p.io.master.SyscallConn()
	if err != nil {
		return os.ErrProcessDone
	}
	var failed error
	if err := conn.Control(func(fd uintptr) { failed = setSize(int(fd), t) }); err != nil {
		return os.ErrProcessDone
	}
	return failed
}

// Attend passes signals and sizes of the terminal on to the process until ended
// is closed.
func (p *Process) Attend(ended <-chan struct{}, signals <-chan os.Signal, sizes <-chan Terminal) {
	for {
		select {
		case <-ended:
			return
		case sig := <-signals:
			if s, ok := sig.(unix.Signal); ok {
				_ = p.Signal(s) // it may have ended
			}
		case size := <-sizes:
			_ = p.Resize(size) // it may have ended
		}
	}
}

// Wait waits until the command has ended, all processes that it left behind
// are gone, and all that it wrote has reached Stdout and Stderr. The error is
// about waiting and copying: a command that fails is a Status. If ctx of Start
// was cancelled meanwhile, the error is its cause.
func (p *Process) Wait() (Status, error) {
	p.once.Do(func() { p.status, p.err = p.wait() })
	return p.status, p.err
}

func (p *Process) wait() (Status, error) {
	ws, usage, err := p.reap()
	// Killed for ctx, not ended by itself: the watch could not be taken back.
	cancelled := !p.stop() && ws.Signaled()
	s := Status{
		ExitCode: exitCode(ws),
		User:     time.Duration(usage.Utime.Nano()),
		System:   time.Duration(usage.Stime.Nano()),
		MaxRSS:   usage.Maxrss << 10,
	}
	if ws.Signaled() {
		s.Signal = ws.Signal()
	}
	if err != nil {
		s.ExitCode = unknownCode
	}
	errs := []error{err, p.io.finish()}
	if p.group != nil {
		kills, err := p.group.OOMKills()
		s.OOMKilled = kills > p.kills
		errs = append(errs, err)
	}
	if p.tree != nil {
		errs = append(errs, p.tree.removeStubs())
		s.Restored = p.tree.restored
	}
	if cancelled {
		errs = []error{context.Cause(p.ctx), errors.Join(errs...)}
	}
	errs = append(errs, p.pidfd.Close())
	return s, errors.Join(errs...)
}

// reap waits in Go's poller, which watches the descriptor: a thousand
// containers are waited for by no thread. When the first process of a pid
// namespace has ended, the kernel has killed and reaped all others in it.
func (p *Process) reap() (unix.WaitStatus, unix.Rusage, error) {
	var ws unix.WaitStatus
	var usage unix.Rusage
	conn, err := p.pidfd.SyscallConn()
	if err != nil {
		return ws, usage, fmt.Errorf("wait for process: %w", err)
	}
	var failed error
	err = conn.Read(func(uintptr) bool {
		var pid int
		pid, failed = wait4(p.pid, &ws, unix.WNOHANG, &usage)
		return pid != 0
	})
	if err := errors.Join(err, failed); err != nil {
		return ws, usage, fmt.Errorf("wait for process: %w", err)
	}
	return ws, usage, nil
}

func wait4(pid int, ws *unix.WaitStatus, flags int, usage *unix.Rusage) (int, error) {
	for {
		n, err := unix.Wait4(pid, ws, flags, usage)
		if err != unix.EINTR {
			return n, err
		}
	}
}

// newProcess takes charge of a started child.
func newProcess(ctx context.Context, c *child, pid int, pidfd *os.File) *Process {
	p := &Process{pid: pid, pidfd: pidfd, io: c.io, group: c.cmd.Cgroup, kills: c.kills, ctx: ctx}
	p.stop = context.AfterFunc(ctx, func() {
		// It may have ended by itself just now.
		_ = p.Signal(unix.SIGKILL)
	})
	return p
}
