package executor

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/strata-build/strata/runtime/mount"
	"golang.org/x/sys/unix"
)

// deviceNode is a device of the host: an O_PATH descriptor whose numbers were
// checked.
type deviceNode struct {
	name string
	file *os.File
}

// standardDevices opens the devices that every step has. All of them are
// needed to run what people run, so a machine without one is an error.
func standardDevices() ([]deviceNode, error) {
	var list []deviceNode
	for _, d := range []struct {
		name         string
		major, minor uint32
	}{
		{"null", 1, 3}, {"zero", 1, 5}, {"full", 1, 7}, {"random", 1, 8}, {"urandom", 1, 9}, {"tty", 5, 0},
	} {
		f, err := openDevice("/dev/"+d.name, unix.Mkdev(d.major, d.minor))
		if err != nil {
			for _, n := range list {
				_ = n.file.Close()
			}
			return nil, err
		}
		list = append(list, deviceNode{d.name, f})
	}
	return list, nil
}

// openDevice opens a node and makes sure that it is the one it is named after:
// what is bound into every step, and over what is masked, must not be
// something that somebody has put there.
func openDevice(path string, number uint64) (*os.File, error) {
	f, err := os.OpenFile(path, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open device: %w", err)
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return nil, errors.Join(fmt.Errorf("stat %s: %w", path, err), f.Close())
	}
	if st.Mode&unix.S_IFMT != unix.S_IFCHR || st.Rdev != number {
		err := fmt.Errorf("%s is not the device that it should be", path)
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// mountDev mounts a new /dev. The devices in it are bound from the host, one by
// one: a node that the step makes itself, with the CAP_MKNOD that docker
// leaves it, cannot be opened, since all its mounts but those forbid devices.
// (Docker relies on the device controller for that, which costs every step a
// control group.)
func (s *step) mountDev() error {
	privileged := s.spec.Security.Privileged && !s.e.info.Rootless
	m, err := mount.Tmpfs(mount.TmpfsOptions{Size: devSize, Mode: 0o755, NoSuid: true, NoDev: !privileged})
	if err != nil {
		return err
	}
	s.held = append(s.held, m)
	if err := s.place(m, "/dev", unix.S_IFDIR, false); err != nil {
		return err
	}
	if err := fillDev(int(m.Fd())); err != nil {
		return err
	}
	if s.e.info.SingleID && s.has("/etc/apt") {
		if err := writeAptConfig(int(m.Fd())); err != nil {
			return err
		}
		s.env = withAptConfig(s.env)
	}
	if privileged {
		return makeHostDevices(int(m.Fd()))
	}
	for _, d := range s.e.devices {
		if err := s.bindDevice(m, d); err != nil {
			return err
		}
	}
	return nil
}

// fillDev makes what is not a device. As under runc, there is a link to the
// kernel's memory only where the kernel shows it.
func fillDev(dev int) error {
	for _, dir := range []string{"pts", "shm", "mqueue"} {
		if err := unix.Mkdirat(dev, dir, 0o755); err != nil {
			return fmt.Errorf("create /dev/%s: %w", dir, err)
		}
	}
	links := [][2]string{
		{"fd", "/proc/self/fd"}, {"stdin", "/proc/self/fd/0"}, {"stdout", "/proc/self/fd/1"},
		{"stderr", "/proc/self/fd/2"}, {"ptmx", "pts/ptmx"},
	}
	if _, err := os.Lstat("/proc/kcore"); err == nil {
		links = append(links, [2]string{"core", "/proc/kcore"})
	}
	for _, l := range links {
		if err := unix.Symlinkat(l[1], dev, l[0]); err != nil {
			return fmt.Errorf("create /dev/%s: %w", l[0], err)
		}
	}
	return nil
}

// aptConfig is where a step with a single ID finds the configuration that
// keeps apt from becoming another user for its downloads: apt makes sure that
// it has become that user, which it cannot (see seccomp.FakeIDs).
const aptConfig = "/dev/.apt.conf"

// has tells whether the tree has a path.
func (s *step) has(path string) bool {
	p, err := s.tree.find(path, 0, true)
	if err != nil {
		return false
	}
	closeAll([]*os.File{p.file})
	return true
}

func writeAptConfig(dev int) error {
	f, err := unix.Openat(dev, filepath.Base(aptConfig), unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_CLOEXEC, 0o644)
	if err != nil {
		return fmt.Errorf("create %s: %w", aptConfig, err)
	}
	file := os.NewFile(uintptr(f), aptConfig)
	_, err = file.WriteString("APT::Sandbox::User \"root\";\n")
	return errors.Join(err, file.Chmod(0o644), file.Close())
}

// withAptConfig names the file, unless the image has its own.
func withAptConfig(env []string) []string {
	if lookup(env, "APT_CONFIG", "") != "" {
		return env
	}
	return append(slices.Clip(env), "APT_CONFIG="+aptConfig)
}

// bindDevice binds a device of the host into the new /dev.
func (s *step) bindDevice(dev *os.File, d deviceNode) error {
	target, err := deviceFile(dev, d.name)
	if err != nil {
		return err
	}
	s.held = append(s.held, target)
	fd0, err := unix.OpenTree(int(d.file.Fd()), "", cloneFlags)
	if err != nil {
		return fmt.Errorf("clone the mount of /dev/%s: %w", d.name, err)
	}
	m := os.NewFile(uintptr(fd0), "/dev/"+d.name)
	s.held = append(s.held, m)
	s.attach("mount /dev/"+d.name, fd(m), fd(target))
	s.tree.mounts["/dev/"+d.name] = planned{file: m}
	return nil
}

// deviceFile makes an empty file in the new /dev to be a mount point.
func deviceFile(dev *os.File, name string) (*os.File, error) {
	if err := unix.Mknodat(int(dev.Fd()), name, unix.S_IFREG|0o666, 0); err != nil {
		return nil, fmt.Errorf("create /dev/%s: %w", name, err)
	}
	f, err := unix.Openat(int(dev.Fd()), name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open /dev/%s: %w", name, err)
	}
	return os.NewFile(uintptr(f), "/dev/"+name), nil
}

// makeHostDevices makes a node for each device of the host, for a privileged
// step.
func makeHostDevices(dev int) error {
	return filepath.WalkDir("/dev", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := strings.TrimPrefix(path, "/dev/")
		switch {
		case path == "/dev":
			return nil
		case d.IsDir() && slices.Contains([]string{"pts", "shm", "fd", "mqueue", ".lxc", ".lxd-mounts", ".udev"}, name):
			return fs.SkipDir
		case d.IsDir():
			err = unix.Mkdirat(dev, name, 0o755)
		case d.Type()&fs.ModeDevice != 0 && name != "console":
			err = copyDevice(dev, name)
		}
		if err != nil && !errors.Is(err, fs.ErrExist) && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("create %s: %w", path, err)
		}
		return nil
	})
}

func copyDevice(dev int, name string) error {
	var st unix.Stat_t
	if err := unix.Lstat("/dev/"+name, &st); err != nil {
		return err
	}
	if err := unix.Mknodat(dev, name, st.Mode, int(st.Rdev)); err != nil {
		return err
	}
	if err := unix.Fchmodat(dev, name, st.Mode&0o7777, 0); err != nil {
		return err
	}
	return unix.Fchownat(dev, name, int(st.Uid), int(st.Gid), unix.AT_SYMLINK_NOFOLLOW)
}
