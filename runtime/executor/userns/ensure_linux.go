package userns

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"strconv"
	"syscall"
	"unsafe"

	"github.com/strata-build/strata/runtime/executor/program"
	"golang.org/x/sys/unix"
)

// Ensure returns at once when the process is Sufficient. Otherwise it runs the
// whole program again in a new user and mount namespace, passes signals to it,
// waits, and returns its exit code with Replaced set: the caller exits with it
// at once. If this process dies, so does the other. What ends the other is a
// signal, not ctx.
func Ensure(ctx context.Context) (Outcome, error) {
	ok, err := Sufficient()
	if err != nil {
		return Outcome{}, err
	}
	if ok {
		info, err := Current()
		return Outcome{Info: info}, err
	}
	if err := ctx.Err(); err != nil {
		return Outcome{}, context.Cause(ctx)
	}
	return replace(create{})
}

// Join is Ensure with the user and mount namespace of another process of the
// same user, for example of the monitor of a container. It returns at once
// when this process is in that user namespace already.
func Join(ctx context.Context, pid int) (Outcome, error) {
	same, err := sameNamespace(pid)
	if err != nil {
		return Outcome{}, err
	}
	if same {
		info, err := Current()
		return Outcome{Info: info}, err
	}
	if err := ctx.Err(); err != nil {
		return Outcome{}, context.Cause(ctx)
	}
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return Outcome{}, fmt.Errorf("open process %d: %w", pid, err)
	}
	target := os.NewFile(uintptr(fd), "process "+strconv.Itoa(pid))
	out, err := replace(join{target})
	return out, errors.Join(err, target.Close())
}

func sameNamespace(pid int) (bool, error) {
	var own, other unix.Stat_t
	if err := unix.Stat("/proc/self/ns/user", &own); err != nil {
		return false, fmt.Errorf("find the user namespace of this process: %w", err)
	}
	if err := unix.Stat(fmt.Sprintf("/proc/%d/ns/user", pid), &other); err != nil {
		return false, fmt.Errorf("find the user namespace of process %d: %w", pid, err)
	}
	return own.Dev == other.Dev && own.Ino == other.Ino, nil
}

// way is how the other process gets into its namespaces.
type way interface {
	// clone are the namespaces that it is born in.
	clone() uintptr
	// enter writes down what it does first.
	enter(p *program.Program)
	// help is done by this process while the other one waits.
	help(pid int) error
	// explain is the error for a call of it that failed.
	explain(err error) error
}

// replace runs this program again, in other namespaces.
func replace(w way) (Outcome, error) {
	// The thread is the parent; if it ended, the child would get a signal.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	r, started, err := os.Pipe()
	if err != nil {
		return Outcome{}, fmt.Errorf("create pipe: %w", err)
	}
	defer r.Close()
	defer started.Close()

	// From here on, signals are the other's.
	signals := make(chan os.Signal, 16)
	relay(signals)
	defer signal.Stop(signals)

	p := write(w, r)
	defer p.Release()
	// A copy of the memory, since it waits for us.
	child, err := p.Start(program.Options{Namespaces: w.clone(), Copy: true})
	if err != nil {
		return Outcome{}, w.explain(err)
	}
	defer func() { _ = unix.Close(child.PIDFD) }()
	if err := w.help(child.PID); err != nil {
		_ = unix.PidfdSendSignal(child.PIDFD, unix.SIGKILL, nil, 0)
		_, waitErr := wait(child.PID)
		return Outcome{}, errors.Join(err, waitErr)
	}
	if _, err := started.Write([]byte{1}); err != nil {
		return Outcome{}, fmt.Errorf("let the program go on: %w", err)
	}
	code, err := follow(child, signals)
	if err != nil {
		return Outcome{}, err
	}
	if err := child.Failure(); err != nil {
		return Outcome{}, w.explain(err)
	}
	return Outcome{Replaced: true, ExitCode: code}, nil
}

// write writes the other process' program.
func write(w way, started *os.File) *program.Program {
	p := &program.Program{}
	p.Do(program.Call{
		What: "ask to end with the first process", Number: unix.SYS_PRCTL,
		Args: program.Args{program.Int(unix.PR_SET_PDEATHSIG), program.Int(int(unix.SIGKILL))},
	})
	p.Do(program.Call{
		What: "wait for the ID maps", Number: unix.SYS_READ,
		Args: program.Args{program.Int(int(started.Fd())), p.Space(8), program.Int(1)},
	})
	w.enter(p)
	resetSignals(p)
	execute(p)
	return p
}

// execute executes this program, with the arguments and the environment that it
// has. By its path where possible: what /proc/self/exe leads to lies in the
// first process' mount namespace, in which the executor could not clone it.
func execute(p *program.Program) {
	call := program.Call{What: "execute this program again", Number: unix.SYS_EXECVE}
	args, env := p.Strings(os.Args), p.Strings(syscall.Environ())
	if path, err := os.Readlink("/proc/self/exe"); err == nil {
		call.Args = program.Args{p.String(path), args, env}
		call.Ignore = []unix.Errno{unix.ENOENT, unix.EACCES, unix.ENOTDIR}
		p.Do(call)
	}
	call.Args, call.Ignore = program.Args{p.String("/proc/self/exe"), args, env}, nil
	p.Do(call)
}

// resetSignals lets no handler of ours run in the copy, and then signals
// through. What is ignored (by nohup) stays ignored.
func resetSignals(p *program.Program) {
	fallback := p.Space(32) // struct kernel_sigaction: all zero is SIG_DFL
	for sig := 1; sig <= 64; sig++ {
		var old [4]uintptr
		_, _, errno := unix.RawSyscall6(unix.SYS_RT_SIGACTION, uintptr(sig), 0, uintptr(unsafe.Pointer(&old)), 8, 0, 0)
		const ignored = 1 // SIG_IGN
		if errno != 0 || old[0] == ignored || sig == int(unix.SIGKILL) || sig == int(unix.SIGSTOP) {
			continue
		}
		p.Do(program.Call{
			What: "reset signals", Number: unix.SYS_RT_SIGACTION,
			Args: program.Args{program.Int(sig), fallback, {}, program.Int(8)},
		})
	}
	p.Do(program.Call{
		What: "unblock signals", Number: unix.SYS_RT_SIGPROCMASK,
		Args: program.Args{program.Int(unix.SIG_SETMASK), p.Space(8), {}, program.Int(8)},
	})
}

// relay subscribes to the signals that are passed on, except for those that
// this process was told to ignore.
func relay(to chan<- os.Signal) {
	for _, sig := range []os.Signal{
		unix.SIGHUP, unix.SIGINT, unix.SIGQUIT, unix.SIGTERM, unix.SIGUSR1, unix.SIGUSR2, unix.SIGALRM, unix.SIGPIPE,
	} {
		if !signal.Ignored(sig) {
			signal.Notify(to, sig)
		}
	}
}

// follow passes signals on until the other process ends.
func follow(child *program.Child, signals <-chan os.Signal) (int, error) {
	type ending struct {
		code int
		err  error
	}
	ended := make(chan ending, 1)
	go func() {
		code, err := wait(child.PID)
		ended <- ending{code, err}
	}()
	for {
		select {
		case sig := <-signals:
			if !fromTerminal(sig) {
				// It may just have ended.
				_ = unix.PidfdSendSignal(child.PIDFD, sig.(syscall.Signal), nil, 0)
			}
		case e := <-ended:
			return e.code, e.err
		}
	}
}

// fromTerminal tells whether a signal most probably came from the keyboard:
// the other process, in the same group, has got it too then, and must not take
// the copy for a second ^C.
func fromTerminal(sig os.Signal) bool {
	if sig != unix.SIGINT && sig != unix.SIGQUIT {
		return false
	}
	tty, err := os.OpenFile("/dev/tty", os.O_RDONLY|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return false
	}
	defer tty.Close()
	group, err := unix.IoctlGetInt(int(tty.Fd()), unix.TIOCGPGRP)
	return err == nil && group == unix.Getpgrp()
}

// wait returns the exit code as shells express it.
func wait(pid int) (int, error) {
	for {
		var ws unix.WaitStatus
		switch _, err := unix.Wait4(pid, &ws, 0, nil); {
		case err == unix.EINTR:
		case err != nil:
			return 0, fmt.Errorf("wait for the program in the user namespace: %w", err)
		case ws.Signaled():
			return 128 + int(ws.Signal()), nil
		default:
			return ws.ExitStatus(), nil
		}
	}
}
