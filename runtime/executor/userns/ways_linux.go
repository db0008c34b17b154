package userns

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/user"
	"strconv"
	"strings"

	"github.com/strata-build/strata/runtime/executor/program"
	"golang.org/x/sys/unix"
)

// create makes new namespaces.
type create struct{}

func (create) clone() uintptr { return unix.CLONE_NEWUSER | unix.CLONE_NEWNS }

// enter also finds out whether the namespace is good for anything: some
// policies allow it, but no privileges in it. What the host mounts later is
// seen, and what is mounted here is not seen there.
func (create) enter(p *program.Program) {
	p.Do(program.Call{
		What: "use the new user namespace", Number: unix.SYS_MOUNT,
		Args: program.Args{p.String(""), p.String("/"), {}, program.Int(unix.MS_REC | unix.MS_SLAVE)},
	})
}

func (create) explain(err error) error {
	switch {
	case errors.Is(err, unix.EPERM), errors.Is(err, unix.EACCES):
		return fmt.Errorf("%w: the kernel forbids them to this user; see the settings "+
			"kernel.apparmor_restrict_unprivileged_userns (must be 0) and kernel.unprivileged_userns_clone (must be 1), "+
			"or run Strata as root: %w", ErrUnavailable, err)
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EUSERS):
		return fmt.Errorf("%w: there are too many, see the setting user.max_user_namespaces: %w", ErrUnavailable, err)
	case errors.Is(err, unix.EINVAL), errors.Is(err, unix.ENOSYS):
		return fmt.Errorf("%w: this kernel is built without them: %w", ErrUnavailable, err)
	}
	return fmt.Errorf("create a user namespace: %w", err)
}

// help writes the ID maps: the largest that this user can have.
func (create) help(pid int) error {
	uid, gid := os.Geteuid(), os.Getegid()
	if uid == 0 && writeIdentity(pid) == nil {
		// Root without CAP_SYS_ADMIN, in a container say, keeps all its IDs.
		return nil
	}
	if writeRanges(pid, uid, gid) == nil {
		return nil
	}
	return writeSingle(pid, uid, gid)
}

// idFile is a file of /proc/PID.
func idFile(pid int, name string) string { return fmt.Sprintf("/proc/%d/%s", pid, name) }

func writeIdentity(pid int) error {
	for _, name := range []string{"gid_map", "uid_map"} {
		text, err := os.ReadFile("/proc/self/" + name)
		if err != nil {
			return fmt.Errorf("read own ID map: %w", err)
		}
		var lines strings.Builder
		for line := range strings.Lines(string(text)) {
			if f := strings.Fields(line); len(f) == 3 {
				fmt.Fprintf(&lines, "%s %s %s\n", f[0], f[0], f[2])
			}
		}
		if err := os.WriteFile(idFile(pid, name), []byte(lines.String()), 0); err != nil {
			return fmt.Errorf("write ID map: %w", err)
		}
	}
	return nil
}

// writeSingle maps the user alone, which needs no help from anybody. The
// kernel wants setgroups switched off first: by leaving a group, a process
// could get at files that are closed to that group.
func writeSingle(pid, uid, gid int) error {
	for _, w := range [][2]string{
		{"setgroups", "deny"},
		{"gid_map", fmt.Sprintf("0 %d 1\n", gid)},
		{"uid_map", fmt.Sprintf("0 %d 1\n", uid)},
	} {
		err := os.WriteFile(idFile(pid, w[0]), []byte(w[1]), 0)
		if w[0] != "uid_map" && errors.Is(err, fs.ErrPermission) {
			// newgidmap has set the groups already, and newuidmap failed.
			continue
		}
		if err != nil {
			return fmt.Errorf("map this user into the user namespace: %w", err)
		}
	}
	return nil
}

// writeRanges has the setuid programs newuidmap and newgidmap map the user's
// ranges. It fails where they, or the ranges, are missing.
func writeRanges(pid, uid, gid int) error {
	names := []string{strconv.Itoa(uid)}
	if u, err := user.LookupId(names[0]); err == nil {
		names = append(names, u.Username)
	}
	for _, m := range []struct {
		tool, file string
		own        int
	}{
		{"newgidmap", "/etc/subgid", gid},
		{"newuidmap", "/etc/subuid", uid},
	} {
		ranges, err := subordinate(m.file, names)
		if err != nil {
			return err
		}
		args := []string{strconv.Itoa(pid), "0", strconv.Itoa(m.own), "1"}
		next := uint64(1)
		for _, r := range ranges {
			args = append(args, format(next), format(r.first), format(r.count))
			next += r.count
		}
		if out, err := exec.Command(m.tool, args...).CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w: %s", m.tool, err, out)
		}
	}
	return nil
}

func format(n uint64) string { return strconv.FormatUint(n, 10) }

type idRange struct{ first, count uint64 }

// subordinate reads the lines "NAME:FIRST:COUNT" of a user.
func subordinate(file string, names []string) ([]idRange, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var list []idRange
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if r, ok := parseRange(lines.Text(), names); ok {
			list = append(list, r)
		}
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("%s has nothing for %s", file, strings.Join(names, " or "))
	}
	return list, nil
}

func parseRange(line string, names []string) (idRange, bool) {
	f := strings.Split(strings.TrimSpace(line), ":")
	if len(f) != 3 {
		return idRange{}, false
	}
	for _, n := range names {
		if f[0] != n {
			continue
		}
		first, err1 := strconv.ParseUint(f[1], 10, 32)
		count, err2 := strconv.ParseUint(f[2], 10, 32)
		return idRange{first, count}, err1 == nil && err2 == nil && count > 0
	}
	return idRange{}, false
}

// join enters the namespaces of another process.
type join struct{ target *os.File }

func (join) clone() uintptr { return 0 }

func (join) help(int) error { return nil }

func (j join) enter(p *program.Program) {
	p.Do(program.Call{
		What: "join the user namespace", Number: unix.SYS_SETNS,
		Args: program.Args{program.Int(int(j.target.Fd())), program.Int(unix.CLONE_NEWUSER | unix.CLONE_NEWNS)},
	})
	// Joining a mount namespace moves a process to its root.
	if dir, err := os.Getwd(); err == nil {
		p.Do(program.Call{
			What: "enter the working directory", Number: unix.SYS_CHDIR, Args: program.Args{p.String(dir)},
			Ignore: []unix.Errno{unix.ENOENT, unix.EACCES, unix.ENOTDIR},
		})
	}
}

func (join) explain(err error) error {
	return fmt.Errorf("join the user namespace of a container: %w", err)
}
