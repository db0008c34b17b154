package program

import (
	"fmt"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Options say how the child comes to life.
type Options struct {
	// Namespaces are the CLONE_NEW flags.
	Namespaces uintptr
	// Cgroup is the descriptor of a cgroup v2 directory that the child is
	// born in; 0 is none.
	Cgroup int
	// Copy gives the child a copy of the memory instead of sharing it. The
	// parent goes on at once, and the program may wait for the parent.
	Copy bool
}

// Child is a process that runs, or ran, a program.
type Child struct {
	// PID is its number, PIDFD its descriptor, which the caller closes.
	PID   int
	PIDFD int
	out   *outcome
	what  []string
	// shared is the mapping that out lies in, with Options.Copy.
	shared   []byte
	reported int
}

// outcome is what the child leaves behind for the parent.
type outcome struct {
	index, errno uint32
	reported     uintptr
}

// cloneArgs is struct clone_args of clone3(2).
type cloneArgs struct {
	flags, pidfd, childTID, parentTID, exitSignal, stack, stackSize, tls uint64
	setTID, setTIDSize, cgroup                                           uint64
}

// launch is all that vfork needs, prepared: after the clone, nothing may be
// allocated.
type launch struct {
	number     uintptr
	a1, a2, a3 uintptr
	pidfd      int32
	clone3     cloneArgs
	code       []instruction
	registers  []uintptr
	own        outcome
	out        *outcome
}

// Start runs p in a new process. It returns when the process has executed
// another program or has ended; with Options.Copy, at once. The caller must
// wait for the process in any case, and look at Child.Failure.
//
// The caller's goroutine must be locked to its thread if the program asks for
// a signal when its parent ends, since "parent" is that thread.
func (p *Program) Start(o Options) (*Child, error) {
	if err := p.check(); err != nil {
		return nil, err
	}
	c := &Child{what: p.what}
	l := &launch{pidfd: -1, code: p.code, registers: make([]uintptr, p.registers)}
	l.out = &l.own
	if o.Copy {
		if err := c.share(l); err != nil {
			return nil, err
		}
	}
	// Pinned, so that it is on the heap and its address stays the same.
	p.pins.Pin(l)
	l.prepare(o)
	pid, errno := vfork(l)
	afterFork()
	if errno != 0 {
		c.unshare()
		return nil, fmt.Errorf("create a process: %w", unix.Errno(errno))
	}
	c.PID, c.PIDFD, c.out = int(pid), int(l.pidfd), l.out
	return c, nil
}

// share makes memory that parent and child both see after a copy.
func (c *Child) share(l *launch) error {
	const size = int(unsafe.Sizeof(outcome{}))
	b, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_ANONYMOUS)
	if err != nil {
		return fmt.Errorf("map memory for a new process: %w", err)
	}
	c.shared, l.out = b, (*outcome)(unsafe.Pointer(&b[0]))
	return nil
}

func (c *Child) unshare() {
	if c.shared != nil {
		// Unmapping what was mapped cannot fail.
		_ = unix.Munmap(c.shared)
		c.shared = nil
	}
}

func (l *launch) prepare(o Options) {
	flags := o.Namespaces | unix.CLONE_PIDFD
	if !o.Copy {
		flags |= unix.CLONE_VM | unix.CLONE_VFORK
	}
	if o.Cgroup == 0 {
		// The older call: some seccomp profiles forbid the newer one, whose
		// flags they cannot look at.
		l.number, l.a1, l.a3 = unix.SYS_CLONE, flags|uintptr(unix.SIGCHLD), uintptr(unsafe.Pointer(&l.pidfd))
		return
	}
	l.clone3 = cloneArgs{
		flags:      uint64(flags) | unix.CLONE_INTO_CGROUP,
		pidfd:      uint64(uintptr(unsafe.Pointer(&l.pidfd))),
		exitSignal: uint64(unix.SIGCHLD),
		cgroup:     uint64(o.Cgroup),
	}
	l.number, l.a1, l.a2 = unix.SYS_CLONE3, uintptr(unsafe.Pointer(&l.clone3)), unsafe.Sizeof(l.clone3)
}

// Failure is the call that failed (*Error), or nil if the process executed
// its program. A child of Options.Copy must have ended or executed by then.
// It can be asked once, and reads what Reported returns.
func (c *Child) Failure() error {
	index, errno := int(c.out.index), unix.Errno(c.out.errno)
	c.reported = int(c.out.reported)
	c.unshare()
	if errno == 0 {
		return nil
	}
	return &Error{Index: index, What: c.what[index], Errno: errno}
}

// Reported is the result of the call that was to be reported, or 0.
func (c *Child) Reported() int { return c.reported }

// vfork clones. Parent and child both return from vforkSyscall, the child
// first, on the same stack: so the parent returns at once, and what it returns
// was written after the child was gone.
//
//go:noinline
//go:norace
//go:nocheckptr
func vfork(l *launch) (pid, errno uintptr) {
	// From here to afterFork no signal comes and no stack may grow.
	beforeFork()
	pid, errno = vforkSyscall(l.number, l.a1, l.a2, l.a3)
	if errno != 0 || pid != 0 {
		return
	}
	child(l)
	return
}

// child is the whole life of the child.
//
//go:noinline
//go:norace
//go:nocheckptr
//go:nosplit
func child(l *launch) {
	i := 0
	for i < len(l.code) {
		in := &l.code[i]
		a := in.args
		for k := range a {
			if in.from&(1<<k) != 0 {
				a[k] = l.registers[a[k]]
			}
		}
		r, _, errno := syscall.RawSyscall6(in.number, a[0], a[1], a[2], a[3], a[4], a[5])
		if errno == 0 && in.zero && r != 0 {
			errno = syscall.EPROTO
		}
		if errno == 0 {
			if in.register != noRegister {
				l.registers[in.register] = r
			}
			if in.report && r != 0 {
				l.out.reported = r // not from the fork's child
			}
			i++
			if r != 0 {
				i = int(in.nonZero)
			}
			continue
		}
		if !ignored(in, uint16(errno)) {
			l.fail(i, uint32(errno))
		}
		i = int(in.next)
	}
	// A program ends by executing another.
	l.fail(len(l.code)-1, uint32(syscall.ENOEXEC))
}

//go:norace
//go:nocheckptr
//go:nosplit
func ignored(in *instruction, errno uint16) bool {
	for k := 0; k < int(in.ignores); k++ {
		if in.ignored[k&(maxIgnored-1)] == errno {
			return true
		}
	}
	return false
}

//go:norace
//go:nocheckptr
//go:nosplit
func (l *launch) fail(index int, errno uint32) {
	l.out.index, l.out.errno = uint32(index), errno
	for {
		// Not exit_group: it is the same for a single thread.
		syscall.RawSyscall(syscall.SYS_EXIT, 253, 0, 0)
	}
}

//go:noescape
func vforkSyscall(number, a1, a2, a3 uintptr) (result, errno uintptr)
