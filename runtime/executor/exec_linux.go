package executor

import (
	"context"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/strata-build/strata/runtime/cgroup"
	"github.com/strata-build/strata/runtime/executor/program"
	"github.com/strata-build/strata/runtime/rootfs"
)

// Target is the first process of a running container.
type Target struct {
	PID int
	// StartTime is what Process.StartTime returned when the container was
	// started; it guards against another process with the same number. 0
	// checks nothing.
	StartTime uint64
}

// Check makes sure that the process is there, and no other one with its number.
// Whoever opened something of /proc/PID before has then opened the right
// process'.
func (t Target) Check() error {
	started, err := startTime(t.PID)
	if err == nil && t.StartTime != 0 && started != t.StartTime {
		err = fmt.Errorf("process %d is no longer that of the container: %w", t.PID, os.ErrProcessDone)
	}
	return err
}

// Exec starts c inside of the namespaces of a running container, and inside of
// its control group unless c has one. Canceling ctx kills the process alone.
func (e *Executor) Exec(ctx context.Context, t Target, cmd *Command) (*Process, error) {
	if err := e.ready(ctx); err != nil {
		return nil, err
	}
	x, err := e.planExec(t, cmd)
	if err != nil {
		return nil, err
	}
	defer x.close()
	l, err := e.launch(&x.child)
	if err != nil {
		x.io.abort()
		return nil, err
	}
	x.io.started()
	return newProcess(ctx, &x.child, l.pid, l.pidfd), nil
}

// entry is the program of a process that joins a container.
type entry struct {
	child
	target *os.File // pidfd
	group  *cgroup.Group
}

func (x *entry) close() {
	x.release()
	closeAll([]*os.File{x.target})
	if x.group != nil {
		// It holds descriptors only.
		_ = x.group.Close()
	}
}

func (e *Executor) planExec(t Target, cmd *Command) (*entry, error) {
	own := *cmd // the group may be added to it
	c, err := newChild(e, &own)
	if err != nil {
		return nil, err
	}
	x := &entry{child: *c}
	// Unlike that of a new container, this process is seen by others from its
	// birth. One that may trace it anyway (CAP_SYS_PTRACE) must not get at our
	// memory.
	x.options.Copy = true
	if x.target, err = openTarget(t); err == nil {
		err = x.write(t)
	}
	if err != nil {
		if x.io != nil {
			x.io.abort()
		}
		x.close()
		return nil, err
	}
	return x, nil
}

// openTarget opens a process, and makes sure that it is the one that was meant:
// after the descriptor is open, its number cannot be given to another.
func openTarget(t Target) (*os.File, error) {
	fd, err := unix.PidfdOpen(t.PID, 0)
	if err != nil {
		return nil, fmt.Errorf("open process %d of the container: %w", t.PID, err)
	}
	f := os.NewFile(uintptr(fd), "container")
	if err := t.Check(); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// write writes the program. The descriptors of the host are opened before, and
// closed by the kernel when the command is executed; nothing is looked up on
// the host's side once the namespaces are joined.
//
// A process cannot change its pid namespace, only that of its children: hence
// the fork. The second process is our child nevertheless (CLONE_PARENT).
func (x *entry) write(t Target) error {
	if err := x.connect(t); err != nil {
		return err
	}
	x.signals()
	if err := x.joinCgroupOf(t); err != nil {
		return err
	}
	x.Do(program.Call{
		What: "join the container", Number: unix.SYS_SETNS,
		Args: program.Args{
			fd(x.target),
			program.Int(unix.CLONE_NEWPID | unix.CLONE_NEWNS | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS | unix.CLONE_NEWNET | unix.CLONE_NEWCGROUP),
		},
	})
	var first program.Label
	x.Do(program.Call{
		What: "create a process in the container", Number: unix.SYS_CLONE,
		Args: program.Args{program.Int(unix.CLONE_PARENT | int(unix.SIGCHLD))}, NonZero: &first, Report: true,
	})
	x.dieWithParent()
	x.session()
	x.stdio()
	x.chdir()
	if err := x.limits(); err != nil {
		return err
	}
	if err := x.privileges(); err != nil {
		return err
	}
	if _, err := os.Lstat(fmt.Sprintf("/proc/%d/root%s", t.PID, aptConfig)); err == nil {
		x.env = withAptConfig(x.env)
	}
	x.execute()
	x.Place(&first)
	x.simple("end", unix.SYS_EXIT, 0)
	return nil
}

// joinCgroupOf joins the container's group, so that its limits hold.
func (x *entry) joinCgroupOf(t Target) error {
	if x.cmd.Cgroup == nil {
		g, ok, err := cgroup.Of(t.PID)
		if err != nil {
			return err
		}
		if !ok {
			return nil
		}
		x.group, x.cmd.Cgroup = g, g
	}
	return x.joinCgroup()
}

func (x *entry) connect(t Target) error {
	var err error
	if x.cmd.Terminal == nil {
		x.io, err = newStdio(x.cmd, x.e.null())
		return err
	}
	pts, err := openPts(t)
	if err != nil {
		return err
	}
	defer pts.Close()
	x.io = &stdio{}
	_, err = x.io.useTerminal(pts, x.cmd)
	return err
}

// openPts opens the container's /dev/pts, and makes sure that it is a devpts:
// what else a container had put there, we would open on its behalf
// (CVE-2025-52565).
func openPts(t Target) (*os.File, error) {
	root, err := rootfs.OpenDir(fmt.Sprintf("/proc/%d/root", t.PID))
	if err != nil {
		return nil, fmt.Errorf("open the root of the container: %w", err)
	}
	defer root.Close()
	pts, err := root.OpenPath("/dev/pts", rootfs.Directory)
	if err != nil {
		return nil, fmt.Errorf("open /dev/pts of the container: %w", err)
	}
	var st unix.Statfs_t
	if err := unix.Fstatfs(int(pts.Fd()), &st); err != nil || st.Type != unix.DEVPTS_SUPER_MAGIC {
		return nil, errors.Join(errors.New("the container has no terminals at /dev/pts"), err, pts.Close())
	}
	return pts, nil
}
