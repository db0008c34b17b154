package executor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"sync"

	"github.com/moby/sys/capability"
	"github.com/strata-build/strata/runtime/cgroup"
	"github.com/strata-build/strata/runtime/executor/program"
	"github.com/strata-build/strata/runtime/executor/seccomp"
	"github.com/strata-build/strata/runtime/executor/userns"
	"golang.org/x/sys/unix"
)

// Options configure an Executor.
type Options struct {
	// SharedProc lets commands see the /proc of the processes around Strata
	// where the kernel refuses a new one (Strata inside of an unprivileged
	// container). It weakens isolation, so it must be asked for.
	SharedProc bool
}

// Executor starts commands. It is safe for concurrent use.
type Executor struct {
	launcher *launcher
	info     userns.Info
	caps     capSet // of this process
	lastCap  int
	files    uint64 // the hard limit of open files
	cgroups  cgroup.Mode
	devices  []deviceNode
	devNull  *os.File // open for reading and writing
	proc     *os.File // the host's /proc
	self     *os.File // pidfd of this process

	defaultCaps capSet
	throttles   []string
	// procRefused and sysRefused: the kernel does not let us mount new ones.
	procRefused, sysRefused bool

	fakeIDs func() (*seccomp.Filter, error)
	mu      sync.Mutex
	filters map[capSet]*seccomp.Filter
}

// New prepares an executor. The process must have CAP_SYS_ADMIN in its user
// namespace (see package userns). It stops being dumpable.
func New(opt Options) (*Executor, error) {
	e := &Executor{fakeIDs: sync.OnceValues(seccomp.FakeIDs), filters: map[capSet]*seccomp.Filter{}}
	if err := e.open(); err != nil {
		e.closeFiles()
		return nil, err
	}
	var err error
	if e.launcher, err = newLauncher(e.info.Rootless); err != nil {
		e.closeFiles()
		return nil, fmt.Errorf("prepare a mount namespace for steps: %w", err)
	}
	if e.info.Rootless {
		if err := e.probe(opt); err != nil {
			return nil, errors.Join(err, e.Close())
		}
	}
	return e, nil
}

func (e *Executor) open() error {
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("make this process not dumpable: %w", err)
	}
	var err error
	if e.info, err = userns.Current(); err != nil {
		return err
	}
	if e.caps, err = ownCaps(); err != nil {
		return err
	}
	if !e.caps.has(unix.CAP_SYS_ADMIN) {
		return errors.New("steps need CAP_SYS_ADMIN, at least in a user namespace")
	}
	standard, err := parseCaps(DefaultCapabilities())
	if err != nil {
		return err
	}
	// Where Strata itself lacks one of them, nobody asked for it.
	e.defaultCaps = standard & e.caps
	last, err := capability.LastCap()
	if err != nil {
		return fmt.Errorf("read the kernel's capabilities: %w", err)
	}
	e.lastCap = int(last)
	var files unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &files); err != nil {
		return fmt.Errorf("read the limit of open files: %w", err)
	}
	e.files = files.Max
	h, err := cgroup.Detect()
	if err != nil {
		return err
	}
	e.cgroups = h.Mode()
	if e.throttles, err = throttles(); err != nil {
		return fmt.Errorf("list processors: %w", err)
	}
	return e.openFiles()
}

func (e *Executor) openFiles() error {
	var err error
	if e.devices, err = standardDevices(); err != nil {
		return err
	}
	if e.devNull, err = os.OpenFile(os.DevNull, os.O_RDWR, 0); err != nil {
		return err
	}
	if e.proc, err = openProc(); err != nil {
		return err
	}
	fd, err := unix.PidfdOpen(os.Getpid(), 0)
	if err != nil {
		return fmt.Errorf("open this process: %w", err)
	}
	e.self = os.NewFile(uintptr(fd), "this process")
	return nil
}

// openProc opens the host's /proc, and makes sure that it is one.
func openProc() (*os.File, error) {
	f, err := os.OpenFile("/proc", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	var st unix.Statfs_t
	if err := unix.Fstatfs(int(f.Fd()), &st); err != nil || st.Type != unix.PROC_SUPER_MAGIC {
		return nil, errors.Join(errors.New("/proc of this machine is not a proc file system"), err, f.Close())
	}
	return f, nil
}

func (e *Executor) closeFiles() {
	for _, d := range e.devices {
		closeAll([]*os.File{d.file})
	}
	closeAll([]*os.File{e.devNull, e.proc, e.self})
}

func (e *Executor) null() *os.File { return e.devNull }

// Close ends the executor. What it started is killed, and nothing can be
// started any more.
func (e *Executor) Close() error {
	// The thread is the parent of the children: its end kills them.
	e.launcher.close()
	e.closeFiles()
	return nil
}

// probe finds out what the kernel refuses to a user namespace: where the proc
// or sysfs that this process sees is partly covered (as in a container), a new
// one would uncover it.
func (e *Executor) probe(opt Options) error {
	var err error
	if e.procRefused, err = e.refused("proc", unix.CLONE_NEWPID); err != nil {
		return err
	}
	if e.procRefused && !opt.SharedProc {
		return errors.New("the kernel refuses a new /proc here, since parts of the present one are covered, " +
			"as they are in a container; run Strata outside of it, make the container privileged, " +
			"or let steps see the processes around Strata")
	}
	e.sysRefused, err = e.refused("sysfs", unix.CLONE_NEWNET)
	return err
}

// refused tells whether a child in these new namespaces may not mount a file
// system of this kind.
func (e *Executor) refused(kind string, namespaces uintptr) (bool, error) {
	c := &child{e: e, options: program.Options{Namespaces: namespaces | unix.CLONE_NEWNS}}
	defer c.release()
	c.newMount("mount a new "+kind, kind, noSuidDevExec, nil)
	c.simple("end", unix.SYS_EXIT, 0)
	started, err := e.launch(c)
	if errors.Is(err, unix.EPERM) {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	_, err = wait4(started.pid, nil, 0, nil)
	return false, errors.Join(err, started.pidfd.Close())
}

// defaultFilter is docker's profile for a set of capabilities. Compiling it
// takes a millisecond, so it is kept.
func (e *Executor) defaultFilter(caps capSet) (*seccomp.Filter, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if f, ok := e.filters[caps]; ok {
		return f, nil
	}
	f, err := seccomp.Default(caps.names())
	if err != nil {
		return nil, err
	}
	e.filters[caps] = f
	return f, nil
}

// launched is a child that has executed its command.
type launched struct {
	pid   int
	pidfd *os.File
}

// launch runs a child's program. Whatever fails, no process is left.
func (e *Executor) launch(c *child) (launched, error) {
	var started *program.Child
	var err error
	if closed := e.launcher.do(func() { started, err = c.begin() }); closed != nil {
		return launched{}, closed
	}
	if err != nil {
		return launched{}, err
	}
	failure := started.Failure()
	pid, fd := started.PID, started.PIDFD
	if second := started.Reported(); second != 0 {
		if fd, err = replace(pid, fd, second); err != nil {
			return launched{}, errors.Join(failure, err)
		}
		pid = second
	}
	if failure == nil {
		// In time for os.NewFile, which asks whether Go's poller is to watch it.
		if failure = unix.SetNonblock(fd, true); failure == nil {
			return launched{pid, os.NewFile(uintptr(fd), "process "+strconv.Itoa(pid))}, nil
		}
	}
	_ = unix.Kill(pid, unix.SIGKILL)
	_, err = wait4(pid, nil, 0, nil)
	return launched{}, errors.Join(c.failure(failure), err, unix.Close(fd))
}

// replace takes the process that the first one has forked, and returns its
// descriptor. Both are children of ours, so that their numbers are theirs until
// they are waited for.
func replace(first, fd, second int) (int, error) {
	_, err := wait4(first, nil, 0, nil)
	err = errors.Join(err, unix.Close(fd))
	if err == nil {
		if fd, err = unix.PidfdOpen(second, 0); err == nil {
			return fd, nil
		}
	}
	_ = unix.Kill(second, unix.SIGKILL)
	_, waitErr := wait4(second, nil, 0, nil)
	return -1, errors.Join(fmt.Errorf("find the process in the container: %w", err), waitErr)
}

// begin starts the program, and waits until it has executed the command or
// failed. With shared memory that is how the clone works. A copy holds a pipe
// open till then.
func (c *child) begin() (*program.Child, error) {
	if !c.options.Copy {
		return c.Program.Start(c.options)
	}
	var ends [2]int
	if err := unix.Pipe2(ends[:], cloexec); err != nil {
		return nil, fmt.Errorf("create pipe: %w", err)
	}
	started, err := c.Program.Start(c.options)
	// Nothing was written, and nothing will be.
	_ = unix.Close(ends[1])
	if err == nil {
		for {
			if _, err := unix.Read(ends[0], make([]byte, 1)); err != unix.EINTR {
				break
			}
		}
	}
	_ = unix.Close(ends[0])
	return started, err
}

// Start starts s and returns once its command has been executed, or could not
// be. Canceling ctx kills the process and all that it started.
func (e *Executor) Start(ctx context.Context, s *Spec) (*Process, error) {
	if err := e.ready(ctx); err != nil {
		return nil, err
	}
	st, err := e.plan(s)
	if err != nil {
		return nil, err
	}
	defer st.release()
	l, err := e.launch(&st.child)
	if err != nil {
		st.io.abort()
		return nil, errors.Join(err, st.tree.removeStubs())
	}
	st.io.started()
	p := newProcess(ctx, &st.child, l.pid, l.pidfd)
	p.tree = &st.tree
	return p, nil
}

func (e *Executor) ready(ctx context.Context) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if e.launcher.closed() {
		return errClosed
	}
	return nil
}

// Run is Start and Wait.
func (e *Executor) Run(ctx context.Context, s *Spec) (Status, error) {
	p, err := e.Start(ctx, s)
	if err != nil {
		return Status{}, err
	}
	return p.Wait()
}
