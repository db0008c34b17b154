package executor

import (
	"unsafe"

	"github.com/strata-build/strata/runtime/executor/program"
	"golang.org/x/sys/unix"
)

// calls writes the system calls of a child down, in terms of what they are for.
type calls struct{ program.Program }

// fd is a descriptor that the child inherits under the same number.
func fd(f interface{ Fd() uintptr }) program.Arg { return program.Int(int(f.Fd())) }

const (
	cloexec      = unix.O_CLOEXEC
	attachFlags  = unix.MOVE_MOUNT_F_EMPTY_PATH | unix.MOVE_MOUNT_T_EMPTY_PATH
	cloneFlags   = unix.OPEN_TREE_CLONE | unix.OPEN_TREE_CLOEXEC | unix.AT_EMPTY_PATH
	insideMount  = unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_XDEV
	anyMode      = 0
	pointerBytes = int(unsafe.Sizeof(uintptr(0)))
)

// attach moves a detached mount onto a target; both are open.
func (c *calls) attach(what string, mount, target program.Arg) {
	c.Do(program.Call{
		What: what, Number: unix.SYS_MOVE_MOUNT,
		Args: program.Args{mount, c.String(""), target, c.String(""), program.Int(attachFlags)},
	})
}

// clone makes a detached copy of the mount at an open path; recursive takes
// along what is mounted below.
func (c *calls) clone(what string, path program.Arg, flags int) program.Arg {
	return c.Add(program.Call{
		What: what, Number: unix.SYS_OPEN_TREE,
		Args: program.Args{path, c.String(""), program.Int(cloneFlags | flags)},
	})
}

// setReadOnly makes a mount read-only, with what is mounted below it.
func (c *calls) setReadOnly(what string, mount program.Arg) {
	c.setAttributes(what, mount, []uintptr{unix.MOUNT_ATTR_RDONLY, 0, 0, 0})
}

// setPrivate keeps what is mounted below a mount from appearing elsewhere: a
// clone of a host's shared mount is shared too.
func (c *calls) setPrivate(what string, mount program.Arg) {
	c.setAttributes(what, mount, []uintptr{0, 0, unix.MS_PRIVATE, 0})
}

// setAttributes takes the words of struct mount_attr: set, clear, propagation,
// user namespace.
func (c *calls) setAttributes(what string, mount program.Arg, attr []uintptr) {
	c.Do(program.Call{
		What: what, Number: unix.SYS_MOUNT_SETATTR,
		Args: program.Args{
			mount, c.String(""), program.Int(unix.AT_EMPTY_PATH | unix.AT_RECURSIVE), c.Words(attr),
			program.Int(unix.MOUNT_ATTR_SIZE_VER0),
		},
	})
}

// open opens path below dir with openat2. The call can be changed before it
// is added.
func (c *calls) open(what string, dir program.Arg, path string, flags, resolve uintptr) program.Call {
	return program.Call{
		What: what, Number: unix.SYS_OPENAT2,
		Args: program.Args{
			dir, c.String(path), c.Words([]uintptr{flags | cloexec, anyMode, resolve}), program.Int(3 * pointerBytes),
		},
	}
}

// newMount makes a detached mount of a file system that belongs to the child's
// own namespaces. If the kernel refuses it to this user, refused, where it is
// given, is where the program goes on.
func (c *calls) newMount(what, kind string, attrs int, refused *program.Label) program.Arg {
	var ignore []unix.Errno
	if refused != nil {
		ignore = []unix.Errno{unix.EPERM}
	}
	fs := c.Add(program.Call{
		What: what, Number: unix.SYS_FSOPEN,
		Args: program.Args{c.String(kind), program.Int(unix.FSOPEN_CLOEXEC)}, Ignore: ignore, Else: refused,
	})
	// What /proc/mounts shows in the first column, and scripts look for.
	c.Do(program.Call{
		What: what, Number: unix.SYS_FSCONFIG,
		Args: program.Args{fs, program.Int(unix.FSCONFIG_SET_STRING), c.String("source"), c.String(kind)},
	})
	c.Do(program.Call{
		What: what, Number: unix.SYS_FSCONFIG,
		Args: program.Args{fs, program.Int(unix.FSCONFIG_CMD_CREATE)}, Ignore: ignore, Else: refused,
	})
	return c.Add(program.Call{
		What: what, Number: unix.SYS_FSMOUNT,
		Args: program.Args{fs, program.Int(unix.FSMOUNT_CLOEXEC), program.Int(attrs)}, Ignore: ignore, Else: refused,
	})
}

// writeTo writes text to an open file.
func (c *calls) writeTo(what string, file program.Arg, text string) {
	c.Do(program.Call{
		What: what, Number: unix.SYS_WRITE,
		Args: program.Args{file, c.String(text), program.Int(len(text))},
	})
}

// close closes descriptors of the child's own. All are closed in the end; this
// is for those of which there is one for each processor.
func (c *calls) close(fds ...program.Arg) {
	for _, f := range fds {
		c.Do(program.Call{What: "close a file", Number: unix.SYS_CLOSE, Args: program.Args{f}})
	}
}

// simple adds a call of numbers only.
func (c *calls) simple(what string, number uintptr, args ...int) {
	call := program.Call{What: what, Number: number}
	for i, a := range args {
		call.Args[i] = program.Int(a)
	}
	c.Do(call)
}
