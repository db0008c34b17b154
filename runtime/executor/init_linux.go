package executor

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"syscall"

	"golang.org/x/sys/unix"
)

// InitName is the name, as the first argument, under which this program is the
// init of a step (Spec.Init).
const InitName = "strata-init"

// InitMain is the first process of a step with Spec.Init. main must call it
// before anything else: it returns at once unless this process was started as
// such an init, and otherwise never.
//
// It runs the command, passes every signal on to it, reaps what it leaves
// behind, and ends with its exit code when it ends.
func InitMain() {
	if len(os.Args) < 2 || os.Args[0] != InitName || os.Getpid() != 1 {
		return
	}
	code, err := runInit(os.Args[1:])
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", InitName, err)
	}
	os.Exit(code)
}

func runInit(args []string) (int, error) {
	signals := make(chan os.Signal, 64)
	signal.Notify(signals)
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	// A group of its own, which a terminal then sends ^C to, and not also to
	// us, who would pass it on a second time.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if _, err := unix.IoctlGetInt(0, unix.TIOCGPGRP); err == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{Foreground: true}
	}
	if err := cmd.Start(); err != nil {
		return initFailure(err), err
	}
	for sig := range signals {
		switch sig {
		case unix.SIGCHLD:
			if code, ended := reap(cmd.Process.Pid); ended {
				return code, nil
			}
		case unix.SIGURG, unix.SIGTTIN, unix.SIGTTOU:
			// Go's own, and those that a process outside of the terminal's
			// group gets for using it.
		default:
			// It may just have ended; SIGCHLD comes next.
			_ = unix.Kill(cmd.Process.Pid, sig.(syscall.Signal))
		}
	}
	return 0, nil
}

func initFailure(err error) int {
	if errors.Is(err, exec.ErrNotFound) || errors.Is(err, os.ErrNotExist) {
		return 127
	}
	return 126
}

// reap takes the status of all that has ended, and tells whether the command
// is among it.
func reap(command int) (code int, ended bool) {
	for {
		var ws unix.WaitStatus
		pid, err := unix.Wait4(-1, &ws, unix.WNOHANG, nil)
		if err == unix.EINTR {
			continue
		}
		if pid <= 0 || err != nil {
			return code, ended
		}
		if pid == command {
			code, ended = exitCode(ws), true
		}
	}
}

// exitCode is how shells and docker express the end of a process.
func exitCode(ws unix.WaitStatus) int {
	if ws.Signaled() {
		return 128 + int(ws.Signal())
	}
	return ws.ExitStatus()
}
