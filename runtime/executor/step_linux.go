package executor

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"unsafe"

	"github.com/strata-build/strata/runtime/executor/program"
	"github.com/strata-build/strata/runtime/mount"
	"golang.org/x/sys/unix"
)

// step is the program of a process with a root and namespaces of its own.
type step struct {
	child
	spec *Spec
	tree tree
	pts  *os.File // the mount at /dev/pts, if it is ours
}

// plan does everything that can be done before the process exists, and writes
// down what it must do itself.
func (e *Executor) plan(s *Spec) (*step, error) {
	c, err := newChild(e, &s.Command)
	if err != nil {
		return nil, err
	}
	st := &step{child: *c, spec: s}
	if err := st.write(); err != nil {
		st.release()
		if st.io != nil {
			st.io.abort()
		}
		return nil, errors.Join(err, st.tree.removeStubs())
	}
	return st, nil
}

// write writes the program. The order matters:
//
//   - Signals first: until then they are blocked.
//   - The control group before anything that takes memory or makes a cgroup
//     namespace.
//   - The network namespace before /sys, which shows it.
//   - All mounts by descriptor while the host's mounts can still be seen (a
//     new proc needs an old one in a user namespace), the masks upon them,
//     then pivot_root, so that no path is looked up on the host's side.
//   - The working directory from inside of the new root.
//   - Limits that need privileges, then the privileges go, see privileges.
func (s *step) write() error {
	if err := s.checkSpec(); err != nil {
		return err
	}
	s.options.Namespaces = unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS
	s.signals()
	s.dieWithParent()
	if err := s.joinCgroup(); err != nil {
		return err
	}
	if s.cmd.Cgroup != nil && !s.spec.HostCgroupNames {
		s.simple("create a cgroup namespace", unix.SYS_UNSHARE, unix.CLONE_NEWCGROUP)
	}
	s.session()
	s.network()
	s.hostname()
	if err := s.files(); err != nil {
		return err
	}
	s.pivot()
	s.stdio()
	s.chdir()
	if err := s.limits(); err != nil {
		return err
	}
	if err := s.privileges(); err != nil {
		return err
	}
	return s.executeStep()
}

func (s *step) checkSpec() error {
	switch {
	case s.spec.Root == nil:
		return errors.New("there is no root file system")
	case s.spec.Network.Mode == NetworkNS && s.spec.Network.NS == nil:
		return errors.New("there is no network namespace to join")
	case strings.IndexByte(s.spec.Hostname, 0) >= 0 || len(s.spec.Hostname) > 64:
		return fmt.Errorf("host name %q is not possible: it has at most 64 bytes", s.spec.Hostname)
	}
	return nil
}

func (s *step) network() {
	switch s.spec.Network.Mode {
	case NetworkHost:
	case NetworkNS:
		s.Do(program.Call{
			What: "join the network namespace", Number: unix.SYS_SETNS,
			Args: program.Args{fd(s.spec.Network.NS), program.Int(unix.CLONE_NEWNET)},
		})
	default:
		s.options.Namespaces |= unix.CLONE_NEWNET
		s.loopback()
	}
}

// ifreq is struct ifreq of netdevice(7), as far as the flags of a device need.
type ifreq struct {
	name  [unix.IFNAMSIZ]byte
	flags uint16
	_     [22]byte
}

// loopback brings lo up: many programs expect at least that.
func (s *step) loopback() {
	req := ifreq{name: [unix.IFNAMSIZ]byte{'l', 'o'}, flags: unix.IFF_UP}
	raw := unsafe.Slice((*byte)(unsafe.Pointer(&req)), unsafe.Sizeof(req))
	const what = "bring the loopback device up"
	sock := s.Add(program.Call{
		What: what, Number: unix.SYS_SOCKET,
		Args: program.Args{program.Int(unix.AF_INET), program.Int(unix.SOCK_DGRAM | unix.SOCK_CLOEXEC)},
	})
	s.Do(program.Call{
		What: what, Number: unix.SYS_IOCTL, Args: program.Args{sock, program.Int(unix.SIOCSIFFLAGS), s.Bytes(raw)},
	})
}

func (s *step) hostname() {
	if name := s.spec.Hostname; name != "" {
		s.Do(program.Call{
			What: "set the host name", Number: unix.SYS_SETHOSTNAME, Args: program.Args{s.String(name), program.Int(len(name))},
		})
	}
}

// files builds the file tree and connects the standard files, for which the
// terminals must be mounted.
func (s *step) files() error {
	if err := restrict(s.spec.Root, false, !s.spec.Security.Privileged); err != nil {
		return fmt.Errorf("set attributes of the root file system: %w", err)
	}
	if err := s.attachMounts(); err != nil {
		return err
	}
	if err := s.connect(); err != nil {
		return err
	}
	if !s.spec.Security.Privileged && !s.spec.Security.Unmasked {
		s.mask()
	}
	s.setPrivate("make the mounts private", fd(s.spec.Root))
	if !s.spec.ReadonlyRoot {
		return nil
	}
	// All mount points are made, and they stay: nothing can be removed from
	// this mount any more. It has no layer either.
	s.tree.keepStubs(0)
	if err := restrict(s.spec.Root, true, false); err != nil {
		return fmt.Errorf("make the root file system read-only: %w", err)
	}
	return nil
}

func (s *step) connect() error {
	var err error
	if s.cmd.Terminal == nil {
		s.io, err = newStdio(s.cmd, s.e.null())
		return err
	}
	if s.pts == nil {
		return errors.New("a terminal was asked for, and something else is to be mounted at /dev/pts")
	}
	s.io = &stdio{}
	name, err := s.io.useTerminal(s.pts, s.cmd)
	if err != nil {
		return err
	}
	return s.console(name)
}

// console binds the terminal to /dev/console, as docker does.
func (s *step) console(name string) error {
	dev, ok := s.tree.mounts["/dev"]
	if !ok || dev.file == nil {
		return nil
	}
	p, err := s.tree.find("/dev/console", unix.S_IFREG, false)
	if err != nil {
		return err
	}
	s.held = append(s.held, p.file)
	const what = "mount /dev/console"
	slave := s.Add(s.open(what, fd(s.pts), name, unix.O_PATH|unix.O_NOFOLLOW, insideMount))
	s.attach(what, s.clone(what, slave, 0), fd(p.file))
	return nil
}

// pivot makes the new root the root and lets go of the old one. It goes by
// descriptor: the new root is the working directory, the old one lands upon
// it, and "." is then what lies on top.
func (s *step) pivot() {
	s.Do(program.Call{What: "enter the root file system", Number: unix.SYS_FCHDIR, Args: program.Args{fd(s.spec.Root)}})
	dot := s.String(".")
	s.Do(program.Call{What: "change the root", Number: unix.SYS_PIVOT_ROOT, Args: program.Args{dot, dot}})
	s.Do(program.Call{
		What: "detach the old root", Number: unix.SYS_UMOUNT2, Args: program.Args{dot, program.Int(unix.MNT_DETACH)},
	})
	s.Do(program.Call{What: "enter the root", Number: unix.SYS_CHDIR, Args: program.Args{s.String("/")}})
}

// executeStep executes the command, or the init that executes it.
func (s *step) executeStep() error {
	if !s.spec.Init {
		s.execute()
		return nil
	}
	self, err := ownProgram()
	if err != nil {
		return err
	}
	s.held = append(s.held, self)
	args := append([]string{InitName}, s.cmd.Args...)
	s.Do(program.Call{
		What: "execute the init", Number: unix.SYS_EXECVEAT,
		Args: program.Args{
			fd(self), s.String(""), s.Strings(args), s.Strings(s.env), program.Int(unix.AT_EMPTY_PATH),
		},
	})
	return nil
}

// ownProgram opens this program for execution in a step. It is a read-only
// mount of its own: from inside, /proc/1/exe leads to it, and through a
// writable one the command could replace the program of the host
// (CVE-2019-5736).
func ownProgram() (*os.File, error) {
	exe, err := os.OpenFile("/proc/self/exe", unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open this program: %w", err)
	}
	defer exe.Close()
	return mount.Bind(exe, mount.BindOptions{ReadOnly: true})
}
