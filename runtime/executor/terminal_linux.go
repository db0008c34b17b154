package executor

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// openTerminal makes a terminal in a devpts mount, for a child that sees that
// mount as its /dev/pts. Both ends are opened by descriptor: the master in the
// very mount, the slave from the master. A path such as /dev/pts/0 is not used
// (CVE-2025-52565: the image decides what lies there).
func openTerminal(pts *os.File, size Terminal) (master, slave *os.File, number int, err error) {
	fd, err := unix.Openat(int(pts.Fd()), "ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_NOFOLLOW|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, nil, 0, fmt.Errorf("open a terminal: %w", err)
	}
	master = os.NewFile(uintptr(fd), "terminal")
	if err := prepareTerminal(fd, size); err != nil {
		return nil, nil, 0, errors.Join(err, master.Close())
	}
	number, err = unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		return nil, nil, 0, errors.Join(fmt.Errorf("number the terminal: %w", err), master.Close())
	}
	const flags = unix.O_RDWR | unix.O_NOCTTY | unix.O_CLOEXEC
	peer, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.TIOCGPTPEER, flags)
	if errno != 0 {
		return nil, nil, 0, errors.Join(fmt.Errorf("open the terminal's slave: %w", errno), master.Close())
	}
	return master, os.NewFile(peer, "terminal"), number, nil
}

func prepareTerminal(fd int, size Terminal) error {
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		return fmt.Errorf("unlock the terminal: %w", err)
	}
	return setSize(fd, size)
}

func setSize(fd int, t Terminal) error {
	if err := unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: t.Rows, Col: t.Cols}); err != nil {
		return fmt.Errorf("set the size of the terminal: %w", err)
	}
	return nil
}

// useTerminal makes a terminal in pts the child's standard files. It returns
// the terminal's name in pts.
func (s *stdio) useTerminal(pts *os.File, cmd *Command) (string, error) {
	master, slave, number, err := openTerminal(pts, *cmd.Terminal)
	if err != nil {
		return "", err
	}
	s.tty, s.master = true, master
	s.own = append(s.own, slave)
	s.child = [3]*os.File{slave, slave, slave}
	// As login does, so that the user may open it again.
	if err := unix.Fchown(int(slave.Fd()), int(cmd.User.UID), -1); err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.EPERM) {
		return "", fmt.Errorf("chown the terminal: %w", err)
	}
	if cmd.Stdin != nil {
		s.from, s.input = cmd.Stdin, master
	}
	out := cmd.Stdout
	if out == nil {
		out = io.Discard // somebody must read, or the command stops
	}
	s.pumps = []*pump{{r: master, w: out, done: make(chan error, 1), borrowed: true}}
	return strconv.Itoa(number), nil
}
