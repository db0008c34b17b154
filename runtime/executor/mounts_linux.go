package executor

import (
	"errors"
	"fmt"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/strata-build/strata/runtime/cgroup"
	"github.com/strata-build/strata/runtime/executor/program"
	"github.com/strata-build/strata/runtime/mount"
	"golang.org/x/sys/unix"
)

const (
	noSuidDevExec = unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV | unix.MOUNT_ATTR_NOEXEC
	defaultShm    = 64 << 20
	devSize       = 64 << 20
)

// defaultMounts are attached before those of the spec, in this order. A mount
// of the spec with the same target takes the place.
func (s *step) defaultMounts() []defaultMount {
	return []defaultMount{
		{"/proc", s.mountProc},
		{"/dev", s.mountDev},
		{"/dev/pts", s.mountPts},
		{"/dev/shm", s.mountShm},
		{"/dev/mqueue", s.mountMqueue},
		{"/sys", s.mountSys},
		{"/sys/fs/cgroup", s.mountCgroup},
	}
}

type defaultMount struct {
	target string
	attach func() error
}

// attachMounts puts all mounts into the tree and their calls into the program.
func (s *step) attachMounts() error {
	s.attachRoot()
	rest := slices.Clone(s.spec.Mounts)
	for _, d := range s.defaultMounts() {
		i := slices.IndexFunc(rest, func(m Mount) bool { return path.Clean(m.Target) == d.target })
		if i < 0 {
			if err := s.attachDefault(d); err != nil {
				return err
			}
			continue
		}
		m := rest[i]
		m.CoveredMode = false // of what is covered, only the executor made
		if err := s.attachMount(m); err != nil {
			return err
		}
		rest = slices.Delete(rest, i, i+1)
	}
	for _, m := range rest {
		if err := s.attachMount(m); err != nil {
			return err
		}
	}
	return s.attachDevices()
}

// attachDefault attaches a default mount.
func (s *step) attachDefault(d defaultMount) error {
	before := len(s.tree.stubs)
	if err := d.attach(); err != nil {
		return err
	}
	if s.spec.KeepSystemDirs && !s.mountsBelow(d.target) {
		s.tree.keepStubs(before)
	}
	return nil
}

// mountsBelow tells whether the spec mounts something below a directory. Then
// BuildKit removes that with the mount point, if it was not there before.
func (s *step) mountsBelow(dir string) bool {
	return slices.ContainsFunc(s.spec.Mounts, func(m Mount) bool { return strings.HasPrefix(path.Clean(m.Target), dir+"/") })
}

// attachRoot attaches the root, so that mounts can be attached in it.
func (s *step) attachRoot() {
	s.tree.mounts = map[string]planned{"/": {file: s.spec.Root}}
	s.tree.keepInMounts = s.spec.KeepSystemDirs
	s.Do(program.Call{
		What: "attach the root file system", Number: unix.SYS_MOVE_MOUNT,
		Args: program.Args{
			fd(s.spec.Root), s.String(""), program.Int(unix.AT_FDCWD), s.String("/" + launcherRoot),
			program.Int(unix.MOVE_MOUNT_F_EMPTY_PATH),
		},
	})
}

// attachMount attaches a mount of the spec.
func (s *step) attachMount(m Mount) error {
	target := path.Clean(m.Target)
	if err := s.checkTarget(target); err != nil {
		return err
	}
	dir, err := isDir(m.Source)
	if err != nil {
		return err
	}
	if err := restrict(m.Source, m.ReadOnly, !m.Devices && !s.spec.Security.Privileged); err != nil {
		return fmt.Errorf("set attributes of the mount at %s: %w", target, err)
	}
	missing := uint32(unix.S_IFREG)
	if dir {
		missing = unix.S_IFDIR
	}
	p, err := s.tree.find(target, missing, true)
	if err != nil {
		return err
	}
	if err := s.placeAt(m.Source, target, p); err != nil || !m.CoveredMode || p.file == nil || p.made {
		return err
	}
	return copyMode(m.Source, p.file)
}

// copyMode gives the root of a mount the permissions of the directory below.
func copyMode(m, covered *os.File) error {
	var st unix.Stat_t
	if err := unix.Fstat(int(covered.Fd()), &st); err != nil {
		return &os.PathError{Op: "stat", Path: covered.Name(), Err: err}
	}
	fd, err := unix.Openat(int(m.Fd()), ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return &os.PathError{Op: "open mount for", Path: covered.Name(), Err: err}
	}
	defer unix.Close(fd)
	if err := unix.Fchmod(fd, st.Mode&0o7777); err != nil {
		return &os.PathError{Op: "set mode of mount for", Path: covered.Name(), Err: err}
	}
	return nil
}

// inProc are the files of /proc that may be covered: those that describe the
// machine. Anything else there is how the kernel and the C library talk to a
// process, and covering it is how a mount becomes an escape (CVE-2019-16884,
// CVE-2025-52881). It is runc's list.
func inProc() []string {
	return []string{
		"/proc/cpuinfo", "/proc/diskstats", "/proc/loadavg", "/proc/meminfo", "/proc/net/dev", "/proc/slabinfo",
		"/proc/stat", "/proc/swaps", "/proc/sys/kernel/ns_last_pid", "/proc/sys/crypto/fips_enabled", "/proc/uptime",
	}
}

func (s *step) checkTarget(target string) error {
	if target == "/proc" || (len(target) > 6 && target[:6] == "/proc/" && !slices.Contains(inProc(), target)) {
		return fmt.Errorf("%w: %s: /proc belongs to the kernel", ErrMountTarget, target)
	}
	return nil
}

// restrict changes the attributes of a detached mount.
func restrict(f *os.File, readOnly, noDev bool) error {
	attr := &unix.MountAttr{}
	if readOnly {
		attr.Attr_set |= unix.MOUNT_ATTR_RDONLY
	}
	if noDev {
		attr.Attr_set |= unix.MOUNT_ATTR_NODEV
	}
	if attr.Attr_set == 0 {
		return nil
	}
	return unix.MountSetattr(int(f.Fd()), "", unix.AT_EMPTY_PATH|unix.AT_RECURSIVE, attr)
}

// place attaches a detached mount at target, which is made where it is missing.
func (s *step) place(m *os.File, target string, missing uint32, follow bool) error {
	p, err := s.tree.find(target, missing, follow)
	if err != nil {
		return err
	}
	return s.placeAt(m, target, p)
}

// placeAt attaches a detached mount at a mount point, which it keeps.
func (s *step) placeAt(m *os.File, target string, p point) error {
	if p.file != nil {
		dir, err := isDir(m)
		if err != nil {
			return err
		}
		if err := s.hold(p, dir); err != nil {
			return err
		}
	}
	s.attach("mount "+target, fd(m), s.targetOf(p))
	s.tree.mounts[p.path] = planned{file: m}
	return nil
}

// hold keeps a mount point open, after a look whether it is one for a
// directory, or for a file.
func (s *step) hold(p point, dir bool) error {
	s.held = append(s.held, p.file)
	is, err := isDir(p.file)
	switch {
	case err != nil:
		return err
	case dir && !is:
		return fmt.Errorf("%w: %s is a file, and a directory is to be mounted there", ErrMountTarget, p.path)
	case !dir && is:
		return fmt.Errorf("%w: %s is a directory, and a file is to be mounted there", ErrMountTarget, p.path)
	}
	return nil
}

// targetOf is the descriptor of a mount point in the child.
func (s *step) targetOf(p point) program.Arg {
	if p.file != nil {
		return fd(p.file)
	}
	return s.Add(s.open("open "+p.path, p.base, p.rest, unix.O_PATH, insideMount))
}

// placeMade attaches a mount that the child makes.
func (s *step) placeMade(m program.Arg, target string) error {
	p, err := s.tree.find(target, unix.S_IFDIR, false)
	if err != nil {
		return err
	}
	if p.file != nil {
		if err := s.hold(p, true); err != nil {
			return err
		}
	}
	s.attach("mount "+target, m, s.targetOf(p))
	s.tree.mounts[p.path] = planned{arg: m}
	return nil
}

// mountProc mounts a proc of the child's pid namespace. The image's /proc must
// be a directory: were it a symlink, the masks below would be somewhere else
// than the processes look (CVE-2025-52881 and its kin).
func (s *step) mountProc() error {
	if s.e.procRefused {
		proc, err := bindPath("/proc")
		if err != nil {
			return err
		}
		s.held = append(s.held, proc)
		return s.place(proc, "/proc", unix.S_IFDIR, false)
	}
	return s.placeMade(s.newMount("mount /proc", "proc", noSuidDevExec, nil), "/proc")
}

// mountSys mounts a sysfs, which shows the network devices of the child's
// network namespace, and which only that namespace's owner may mount.
func (s *step) mountSys() error {
	readOnly := !s.spec.Security.Privileged
	if s.e.sysRefused || (s.e.info.Rootless && s.spec.Network.Mode == NetworkHost) {
		sys, err := bindPath("/sys")
		if err != nil {
			return err
		}
		s.held = append(s.held, sys)
		if err := restrict(sys, readOnly, true); err != nil {
			return fmt.Errorf("make /sys read-only: %w", err)
		}
		return s.place(sys, "/sys", unix.S_IFDIR, false)
	}
	attrs := noSuidDevExec
	if readOnly {
		attrs |= unix.MOUNT_ATTR_RDONLY
	}
	return s.placeMade(s.newMount("mount /sys", "sysfs", attrs, nil), "/sys")
}

func (s *step) mountShm() error {
	size := s.spec.ShmSize
	if size == 0 {
		size = defaultShm
	}
	m, err := mount.Tmpfs(mount.TmpfsOptions{
		Size: size, Mode: 0o777 | os.ModeSticky, NoSuid: true, NoDev: true, NoExec: true, Source: "shm", // as runc names it
	})
	if err != nil {
		return err
	}
	s.held = append(s.held, m)
	return s.place(m, "/dev/shm", unix.S_IFDIR, false)
}

func (s *step) mountMqueue() error {
	return s.placeMade(s.newMount("mount /dev/mqueue", "mqueue", noSuidDevExec, nil), "/dev/mqueue")
}

// mountPts mounts terminals of the step's own.
func (s *step) mountPts() error {
	m, err := newPts(!s.e.info.SingleID)
	if err != nil {
		return err
	}
	s.held = append(s.held, m)
	s.pts = m
	return s.place(m, "/dev/pts", unix.S_IFDIR, false)
}

// newPts makes a devpts instance. Group 5, tty, cannot be named where it is
// not mapped.
func newPts(ttyGroup bool) (*os.File, error) {
	options := [][2]string{{"newinstance", ""}, {"ptmxmode", "0666"}, {"mode", "0620"}}
	if ttyGroup {
		options = append(options, [2]string{"gid", "5"})
	}
	fs, err := unix.Fsopen("devpts", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("mount terminals: %w", err)
	}
	defer func() { _ = unix.Close(fs) }()
	for _, o := range options {
		if o[1] == "" {
			err = unix.FsconfigSetFlag(fs, o[0])
		} else {
			err = unix.FsconfigSetString(fs, o[0], o[1])
		}
		if err != nil {
			return nil, fmt.Errorf("mount terminals with %s: %w", o[0], err)
		}
	}
	if err := unix.FsconfigCreate(fs); err != nil {
		return nil, fmt.Errorf("mount terminals: %w", err)
	}
	m, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NOEXEC)
	if err != nil {
		return nil, fmt.Errorf("mount terminals: %w", err)
	}
	return os.NewFile(uintptr(m), "devpts"), nil
}

// mountCgroup shows the step its own control group, read-only unless it is
// privileged: a runtime like Java's sizes itself by the limits. Without a group
// of its own it has no limits, and on cgroup v1 the directory then stays empty.
func (s *step) mountCgroup() error {
	const target = "/sys/fs/cgroup"
	if _, ok := s.tree.mounts["/sys"]; !ok {
		return nil
	}
	switch s.e.cgroups {
	case cgroup.Unified:
		attrs := noSuidDevExec
		if !s.spec.Security.Privileged {
			attrs |= unix.MOUNT_ATTR_RDONLY
		}
		var refused program.Label
		m := s.newMount("mount "+target, "cgroup2", attrs, &refused)
		err := s.placeMade(m, target)
		s.Place(&refused)
		return err
	case cgroup.Legacy, cgroup.Hybrid:
		if s.spec.Cgroup != nil {
			return s.mountLegacyCgroup(target)
		}
	}
	return nil
}

// mountLegacyCgroup mounts a tmpfs with the group's directory for each
// controller.
func (s *step) mountLegacyCgroup(target string) error {
	m, err := mount.Tmpfs(mount.TmpfsOptions{Size: 1 << 20, Mode: 0o755, NoSuid: true, NoDev: true, NoExec: true})
	if err != nil {
		return err
	}
	s.held = append(s.held, m)
	dirs := s.spec.Cgroup.Dirs()
	for controller := range dirs {
		if err := unix.Mkdirat(int(m.Fd()), controller, 0o755); err != nil {
			return fmt.Errorf("create a directory for the controller %q: %w", controller, err)
		}
	}
	if err := restrict(m, true, false); err != nil {
		return fmt.Errorf("make %s read-only: %w", target, err)
	}
	if err := s.place(m, target, unix.S_IFDIR, false); err != nil {
		return err
	}
	for controller, dir := range dirs {
		d, err := bindPath(dir)
		if err != nil {
			return err
		}
		s.held = append(s.held, d)
		if err := restrict(d, !s.spec.Security.Privileged, true); err != nil {
			return fmt.Errorf("make %s read-only: %w", dir, err)
		}
		if err := s.place(d, path.Join(target, controller), unix.S_IFDIR, false); err != nil {
			return err
		}
	}
	return nil
}

// attachDevices binds the devices that the spec names.
func (s *step) attachDevices() error {
	for _, d := range s.spec.Devices {
		if err := s.attachDevice(d); err != nil {
			return fmt.Errorf("device %s: %w", d.Source, err)
		}
	}
	return nil
}

func (s *step) attachDevice(d Device) error {
	host, err := os.OpenFile(d.Source, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer host.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(host.Fd()), &st); err != nil {
		return err
	}
	if k := st.Mode & unix.S_IFMT; k != unix.S_IFCHR && k != unix.S_IFBLK {
		return errors.New("it is not a device")
	}
	m, err := mount.Bind(host, mount.BindOptions{})
	if err != nil {
		return err
	}
	s.held = append(s.held, m)
	return s.place(m, path.Clean(d.Target), unix.S_IFREG, true)
}
