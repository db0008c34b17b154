package executor

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unsafe"

	"github.com/strata-build/strata/runtime/executor/program"
	"github.com/strata-build/strata/runtime/executor/seccomp"
	"golang.org/x/sys/unix"
)

// signals gives the command the signal handling of a new login: everything at
// its default, nothing blocked. Ignored signals would be inherited, SIGHUP of
// a `nohup strata` for one.
func (c *child) signals() {
	action := c.Space(32) // struct kernel_sigaction: all zero is SIG_DFL
	for sig := 1; sig <= 64; sig++ {
		if sig == int(unix.SIGKILL) || sig == int(unix.SIGSTOP) {
			continue
		}
		c.Do(program.Call{
			What: "reset signals", Number: unix.SYS_RT_SIGACTION,
			Args: program.Args{program.Int(sig), action, {}, program.Int(8)},
		})
	}
}

// unblock comes after the last point at which a signal could run one of the
// parent's handlers in the child, which shares its memory.
func (c *child) unblock() {
	c.Do(program.Call{
		What: "unblock signals", Number: unix.SYS_RT_SIGPROCMASK,
		Args: program.Args{program.Int(unix.SIG_SETMASK), c.Space(8), {}, program.Int(8)},
	})
}

// dieWithParent: what Strata starts does not outlive it. The kernel forgets
// the wish when the credentials change, so it is said twice. Only then can it
// be told whether the parent is gone already.
func (c *child) dieWithParent() {
	c.simple("ask to end with Strata", unix.SYS_PRCTL, unix.PR_SET_PDEATHSIG, int(unix.SIGKILL))
}

func (c *child) checkParent() {
	// struct pollfd{fd int32, events, revents int16}
	poll := c.Bytes(binary32(uint32(c.e.self.Fd()), uint32(unix.POLLIN)))
	c.Do(program.Call{
		What: "check that Strata is still there", Number: unix.SYS_PPOLL,
		Args: program.Args{poll, program.Int(1), c.Space(16)}, Zero: true,
	})
}

func binary32(words ...uint32) []byte {
	return slices.Clone(unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(words))), 4*len(words)))
}

// session: a new session, and so no controlling terminal; a new keyring, since
// keyrings are not namespaced and the caller's holds, say, disk passwords.
func (c *child) session() {
	c.simple("start a session", unix.SYS_SETSID)
	c.Do(program.Call{
		What: "start a keyring", Number: unix.SYS_KEYCTL, Args: program.Args{program.Int(1)}, // KEYCTL_JOIN_SESSION_KEYRING
		// No keys in this kernel, or too many: the default seccomp profile
		// keeps commands from keys in any case.
		Ignore: []unix.Errno{unix.ENOSYS, unix.EDQUOT, unix.EPERM, unix.ENOMEM},
	})
}

// limits sets what does not depend on who the command runs as.
func (c *child) limits() error {
	c.simple("set the umask", unix.SYS_UMASK, 0o022)
	rlimits, err := c.e.rlimits(c.cmd.Rlimits)
	if err != nil {
		return err
	}
	for _, r := range rlimits {
		c.Do(program.Call{
			What: r.set(), Number: unix.SYS_PRLIMIT64,
			Args: program.Args{{}, program.Int(r.resource), c.Words([]uintptr{uintptr(r.Soft), uintptr(r.Hard)})},
		})
	}
	if c.cmd.OOMScoreAdj != nil {
		score := strconv.Itoa(*c.cmd.OOMScoreAdj)
		c.writeOwnProc("set oom_score_adj to "+score+", where less than Strata's own takes the capability CAP_SYS_RESOURCE", "oom_score_adj", score)
	}
	return nil
}

// writeOwnProc writes a file of /proc/self; what names that in an error. The
// file is in the host's proc that was opened and checked beforehand: the step's
// own could be made to lead elsewhere (CVE-2019-16884, CVE-2025-52881).
func (c *child) writeOwnProc(what, file, text string) {
	f := c.Add(program.Call{
		What: what, Number: unix.SYS_OPENAT,
		Args: program.Args{fd(c.e.proc), c.String("self/" + file), program.Int(unix.O_WRONLY | cloexec)},
	})
	c.writeTo(what, f, text)
}

// privileges makes the child whom the command runs as. The order:
//
//  1. The bounding set, while CAP_SETPCAP is there.
//  2. The groups, then the group, then the user: each needs the one before.
//     Changing the user keeps the permitted capabilities (PR_SET_KEEPCAPS) and
//     clears the effective ones.
//  3. What must hold for the command, and needs no privilege.
//  4. The filter. Without no_new_privs it takes CAP_SYS_ADMIN, so it comes
//     before the capabilities go. So late, hardly a call of ours has to pass it.
//  5. The capabilities.
func (c *child) privileges() error {
	keep, err := c.e.capabilities(&c.cmd.Security)
	if err != nil {
		return err
	}
	filters, err := c.filters(keep)
	if err != nil {
		return err
	}
	if c.e.info.SingleID && c.cmd.User.UID != 0 {
		// A new user namespace fills the bounding set again.
		c.becomeSingle()
		c.dropBounding(keep)
	} else {
		c.dropBounding(keep)
		if err := c.become(); err != nil {
			return err
		}
	}
	c.dieWithParent()
	c.checkParent()
	c.unblock()
	c.simple("close inherited files", unix.SYS_CLOSE_RANGE, 3, int(^uint32(0)), unix.CLOSE_RANGE_CLOEXEC)

	final := keep
	if c.cmd.User.UID != 0 {
		final = 0 // as after the execve of an ordinary user
	}
	if c.cmd.Security.NoNewPrivileges {
		c.simple("forbid new privileges", unix.SYS_PRCTL, unix.PR_SET_NO_NEW_PRIVS, 1)
		c.setCaps(final)
		c.loadFilters(filters)
		return nil
	}
	if c.cmd.User.UID != 0 && len(filters) > 0 {
		c.setCaps(c.e.caps)
	}
	c.loadFilters(filters)
	c.setCaps(final)
	return nil
}

func (c *child) dropBounding(keep capSet) {
	for n := range c.e.lastCap + 1 {
		if !keep.has(n) && !c.cmd.Security.Privileged {
			c.simple("drop capabilities", unix.SYS_PRCTL, unix.PR_CAPBSET_DROP, n)
		}
	}
}

// become changes user and groups.
func (c *child) become() error {
	u := c.cmd.User
	info := c.e.info
	if info.SingleID {
		return nil // we are root, and cannot be more groups than one
	}
	if uint64(u.UID) >= info.IDs || uint64(u.GID) >= info.GroupIDs {
		return fmt.Errorf("user %d:%d is not mapped: this user has the IDs 0 to %d (see /etc/subuid and /etc/subgid)",
			u.UID, u.GID, min(info.IDs, info.GroupIDs)-1)
	}
	c.Do(program.Call{
		What: "set supplementary groups", Number: unix.SYS_SETGROUPS,
		Args: program.Args{program.Int(len(u.Groups)), c.Bytes(binary32(u.Groups...))},
	})
	gid, uid := int(u.GID), int(u.UID)
	c.simple("set group "+strconv.Itoa(gid), unix.SYS_SETRESGID, gid, gid, gid)
	if uid != 0 {
		c.simple("keep capabilities", unix.SYS_PRCTL, unix.PR_SET_KEEPCAPS, 1)
	}
	c.simple("set user "+strconv.Itoa(uid), unix.SYS_SETRESUID, uid, uid, uid)
	return nil
}

// becomeSingle: where one ID is mapped, nobody else can be become. But a user
// namespace below can call that one ID by the wanted name: files and
// processes are those of the single ID as before, and `id` tells the user's.
// The new namespace has no power over the mounts of the step, which belong to
// the one above.
func (c *child) becomeSingle() {
	c.simple("create a user namespace", unix.SYS_UNSHARE, unix.CLONE_NEWUSER)
	// The kernel asks for it before a group may be mapped.
	c.writeOwnProc("write setgroups", "setgroups", "deny")
	c.writeOwnProc("write gid_map", "gid_map", fmt.Sprintf("%d 0 1\n", c.cmd.User.GID))
	c.writeOwnProc("write uid_map", "uid_map", fmt.Sprintf("%d 0 1\n", c.cmd.User.UID))
}

// setCaps sets the permitted and effective sets, and clears the inheritable
// one (CVE-2022-24769).
func (c *child) setCaps(s capSet) {
	header := c.Bytes(binary32(unix.LINUX_CAPABILITY_VERSION_3, 0))
	lo, hi := uint32(s), uint32(s>>32)
	data := c.Bytes(binary32(lo, lo, 0, hi, hi, 0))
	c.Do(program.Call{What: "set capabilities", Number: unix.SYS_CAPSET, Args: program.Args{header, data}})
}

// filters are the seccomp filters of the command, in the order of loading.
func (c *child) filters(keep capSet) ([]*seccomp.Filter, error) {
	var list []*seccomp.Filter
	if c.e.info.SingleID {
		f, err := c.e.fakeIDs()
		if err != nil {
			return nil, err
		}
		list = append(list, f)
	}
	f := c.cmd.Security.Seccomp
	if f == nil && !c.cmd.Security.Privileged {
		var err error
		if f, err = c.e.defaultFilter(keep); err != nil {
			return nil, err
		}
	}
	if f != nil && len(f.Code()) > 0 {
		list = append(list, f)
	}
	return list, nil
}

func (c *child) loadFilters(list []*seccomp.Filter) {
	for _, f := range list {
		code := f.Code()
		// struct sock_fprog{len uint16, filter pointer}
		prog := c.Words([]uintptr{uintptr(len(code)), c.Pinned((*byte)(unsafe.Pointer(&code[0]))).Value()})
		c.Do(program.Call{
			What: "load the seccomp filter", Number: unix.SYS_SECCOMP,
			Args: program.Args{program.Int(unix.SECCOMP_SET_MODE_FILTER), program.Int(int(f.Flags())), prog},
		})
	}
}

// limit is an Rlimit with its number.
type limit struct {
	Rlimit
	resource int
}

// set names the setting of the limit, for its error.
func (l *limit) set() string {
	what := "set limit " + l.Name + " to " + limitText(l.Soft) + ":" + limitText(l.Hard)
	var own unix.Rlimit
	if err := unix.Getrlimit(l.resource, &own); err == nil && own.Max < l.Hard {
		what += ", above Strata's own of " + limitText(own.Max)
	}
	return what
}

func limitText(n uint64) string {
	if n == RlimInfinity {
		return "unlimited"
	}
	return strconv.FormatUint(n, 10)
}

// Defaults for open files: systemd's, and docker's since version 29. What is
// beyond makes programs slow that close all files they could have open.
const (
	softFiles = 1024
	hardFiles = 524288
)

func (e *Executor) rlimits(list []Rlimit) ([]limit, error) {
	limits := []limit{{
		Rlimit:   Rlimit{Name: "nofile", Soft: min(softFiles, e.files), Hard: min(hardFiles, e.files)},
		resource: unix.RLIMIT_NOFILE,
	}}
	names := rlimitNames()
	for _, r := range list {
		i := slices.Index(names, strings.ToLower(r.Name))
		if i < 0 {
			return nil, fmt.Errorf("limit %q is not known; there are %s", r.Name, strings.Join(names, ", "))
		}
		if r.Soft > r.Hard {
			return nil, fmt.Errorf("limit %s: the soft limit %d is above the hard limit %d", r.Name, r.Soft, r.Hard)
		}
		if i == unix.RLIMIT_NOFILE {
			limits = limits[1:]
		}
		limits = append(limits, limit{r, i})
	}
	return limits, nil
}

// rlimitNames are docker's names, each at its number.
func rlimitNames() []string {
	return []string{
		"cpu", "fsize", "data", "stack", "core", "rss", "nproc", "nofile", "memlock", "as", "locks", "sigpending",
		"msgqueue", "nice", "rtprio", "rttime",
	}
}
