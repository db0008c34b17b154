package executor

import (
	"errors"
	"fmt"
	"os"
	"path"
	"strings"

	"github.com/strata-build/strata/runtime/executor/program"
	"golang.org/x/sys/unix"
)

// child is the program of a new process, with what it needs from the parent.
type child struct {
	calls
	e    *Executor
	cmd  *Command
	env  []string
	held []*os.File // open until the child has executed
	io   *stdio
	// kills is how often the group ran out of memory before.
	kills uint64
	// places are where the command may be, by the PATH in search if it is one
	// name.
	places []string
	search string
	// options of the clone.
	options program.Options
	// explain turns the failure of a call, by index, into the error that the
	// caller gets.
	explain map[int]func(error) error
}

func newChild(e *Executor, cmd *Command) (*child, error) {
	switch {
	case len(cmd.Args) == 0:
		return nil, errors.New("there is no command to execute")
	case cmd.Args[0] == "":
		return nil, fmt.Errorf("%w: its name is empty", ErrNotFound)
	case cmd.Cwd != "" && !path.IsAbs(cmd.Cwd):
		return nil, fmt.Errorf("%w: %s is not an absolute path", ErrCwd, cmd.Cwd)
	}
	for _, s := range append(append([]string{cmd.Cwd}, cmd.Args...), cmd.Env...) {
		if strings.IndexByte(s, 0) >= 0 {
			return nil, fmt.Errorf("%q has a zero byte in it", s)
		}
	}
	places, search := places(cmd)
	if len(places) == 0 {
		return nil, notInPath(cmd.Args[0], search)
	}
	return &child{
		e: e, cmd: cmd, env: cmd.Env, places: places, search: search, explain: map[int]func(error) error{},
	}, nil
}

// places are where the command may be, and the PATH that tells. As in runc, a
// PATH leads to no program below the working directory.
func places(cmd *Command) (places []string, search string) {
	name := cmd.Args[0]
	if strings.Contains(name, "/") {
		return []string{name}, ""
	}
	search = lookup(cmd.Env, "PATH", defaultPath)
	for dir := range strings.SplitSeq(search, ":") {
		if path.IsAbs(dir) {
			places = append(places, dir+"/"+name)
		}
	}
	return places, search
}

// explained says how a failure of the call that is added next is reported.
func (c *child) explained(f func(error) error) { c.explain[c.Len()] = f }

// failure is the error of a start for that of a call.
func (c *child) failure(err error) error {
	var call *program.Error
	if errors.As(err, &call) {
		if f, ok := c.explain[call.Index]; ok {
			return f(err)
		}
	}
	return err
}

// joinCgroup comes before everything that uses memory. The cgroup namespace is
// made after it, since its root is where the process lies at that time.
func (c *child) joinCgroup() error {
	if c.cmd.Cgroup == nil {
		c.options.Namespaces |= unix.CLONE_NEWCGROUP
		return nil
	}
	j, err := c.cmd.Cgroup.Join()
	if err != nil {
		return err
	}
	if c.kills, err = c.cmd.Cgroup.OOMKills(); err != nil {
		return err
	}
	if j.Dir != nil {
		c.options.Cgroup = int(j.Dir.Fd())
	}
	for _, f := range j.Procs {
		c.writeTo("join control group "+f.Name(), fd(f), "0")
	}
	return nil
}

// stdio connects the files 0, 1 and 2. Files of ours that have these numbers
// themselves are moved away first.
func (c *child) stdio() {
	var from [3]program.Arg
	for i, f := range c.io.child {
		from[i] = fd(f)
		if f.Fd() < 3 {
			from[i] = c.Add(program.Call{
				What: "connect standard files", Number: unix.SYS_FCNTL,
				Args: program.Args{fd(f), program.Int(unix.F_DUPFD_CLOEXEC), program.Int(3)},
			})
		}
	}
	for i := range from {
		c.Do(program.Call{
			What: "connect standard files", Number: unix.SYS_DUP3, Args: program.Args{from[i], program.Int(i)},
		})
	}
	if c.io.tty {
		c.simple("take the terminal", unix.SYS_IOCTL, 0, unix.TIOCSCTTY, 0)
	}
}

// chdir enters the working directory, by descriptor, without any magic link on
// the way: those of /proc/self/fd lead out of the root (CVE-2024-21626). The
// process is inside of its root by now, so that symlinks and '..' stay there.
// (RESOLVE_IN_ROOT would say so once more, and give a path with '..' up while
// anybody mounts or renames.)
func (c *child) chdir() {
	dir := c.cmd.Cwd
	if dir == "" {
		dir = "/"
	}
	report := func(err error) error { return fmt.Errorf("%w: %s: %w", ErrCwd, dir, errors.Unwrap(err)) }
	c.explained(report)
	f := c.Add(c.open("open the working directory", program.Int(unix.AT_FDCWD), dir,
		unix.O_PATH|unix.O_DIRECTORY, unix.RESOLVE_NO_MAGICLINKS))
	c.explained(report)
	c.Do(program.Call{What: "enter the working directory", Number: unix.SYS_FCHDIR, Args: program.Args{f}})
}

const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// execute tries each place where the command may be, as the C library does.
func (c *child) execute() {
	args, env := c.Strings(c.cmd.Args), c.Strings(c.env)
	for i, p := range c.places {
		call := program.Call{
			What: "execute " + p, Number: unix.SYS_EXECVE, Args: program.Args{c.String(p), args, env},
		}
		if i < len(c.places)-1 {
			call.Ignore = []unix.Errno{unix.ENOENT, unix.ENOTDIR, unix.EACCES}
		}
		c.explained(func(err error) error { return execError(c.cmd.Args[0], c.search, err) })
		c.Do(call)
	}
}

func lookup(env []string, name, fallback string) string {
	value := fallback
	for _, e := range env {
		if n, v, ok := strings.Cut(e, "="); ok && n == name {
			value = v // the last one counts
		}
	}
	return value
}

func notInPath(name, search string) error {
	return fmt.Errorf("%w: there is no program %q in the PATH (%s)", ErrNotFound, name, search)
}

func execError(name, search string, err error) error {
	notThere := errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR)
	switch {
	case search != "" && (notThere || errors.Is(err, unix.EACCES)):
		return notInPath(name, search)
	case notThere:
		return fmt.Errorf("%w: %s, or the interpreter that it names: %w", ErrNotFound, name, errors.Unwrap(err))
	}
	return fmt.Errorf("%w: %s: %w", ErrNotExecutable, name, errors.Unwrap(err))
}

// release closes what the child needed, once it has executed or failed.
func (c *child) release() {
	c.Release()
	closeAll(c.held)
	c.held = nil
}
