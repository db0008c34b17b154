package executor

import (
	"io"
	"os"

	"github.com/strata-build/strata/runtime/cgroup"
	"github.com/strata-build/strata/runtime/executor/seccomp"
	"github.com/strata-build/strata/runtime/rootfs"
)

// Command is what is executed, and as whom.
type Command struct {
	// Args is the command line. A name without a slash is looked up in the
	// PATH of Env, inside of the root.
	Args []string
	// Env is the whole environment.
	Env []string
	// Cwd is an absolute path inside of the root; "" is "/". It must exist.
	Cwd string
	// User is whom the command runs as.
	User rootfs.User
	// Security limits what the command may do.
	Security Security
	// Rlimits replace the defaults.
	Rlimits []Rlimit
	// OOMScoreAdj is written before the command is executed.
	OOMScoreAdj *int
	// Cgroup is joined before the command is executed; nil is none.
	Cgroup *cgroup.Group
	// Terminal gives the command a terminal, which Stdin and Stdout are
	// connected to; Stderr is not used.
	Terminal *Terminal
	// Stdin nil is /dev/null.
	Stdin io.Reader
	// Stdout and Stderr nil are /dev/null. An *os.File is passed as it is;
	// anything else gets a pipe. If both are the same writer, they share one.
	Stdout, Stderr io.Writer
}

// Spec is a command with a root file system and namespaces of its own.
type Spec struct {
	Command
	// Root is the root file system: a detached mount. The caller closes it.
	Root *os.File
	// ReadonlyRoot makes it read-only once the mount points are made.
	ReadonlyRoot bool
	// Hostname of the UTS namespace; "" keeps that of the machine.
	Hostname string
	// Mounts are attached in this order, over the default ones: a target of
	// /dev/shm, say, replaces the default.
	Mounts []Mount
	// Network is the network namespace.
	Network Network
	// Devices are further device nodes.
	Devices []Device
	// ShmSize is the size of /dev/shm; 0 is docker's 64 MiB.
	ShmSize int64
	// HostCgroupNames leaves the process in the machine's cgroup namespace,
	// which suits one that sees the machine's /sys/fs/cgroup.
	HostCgroupNames bool
	// KeepSystemDirs leaves /dev, /proc and /sys in the root where they had to
	// be made, unless a mount of the spec is below them, and mount points in
	// other mounts than the root. runc leaves them, and so BuildKit's layers
	// and cache mounts have them.
	KeepSystemDirs bool
	// Init runs the command below a first process that reaps orphans and
	// passes on signals (docker's --init). The program must call InitMain.
	Init bool
}

// Mount is one mount of a step.
type Mount struct {
	// Target is an absolute path inside of the root. Symlinks are resolved
	// there. A missing target is made, and removed after the step if it is
	// untouched.
	Target string
	// Source is a detached mount (package mount): its root is a directory or a
	// file. A detached mount can be used once. The caller closes it.
	Source *os.File
	// ReadOnly makes it, with all mounts below it, read-only.
	ReadOnly bool
	// Devices lets device nodes on it be opened.
	Devices bool
	// CoveredMode gives the root of the mount, which can be written to, the
	// permissions of the directory that it covers, if there is one: so runc
	// does with a tmpfs whose mode nobody asked for.
	CoveredMode bool
}

// NetworkMode is the kind of network a step gets.
type NetworkMode int

const (
	// NetworkNone is a new namespace with nothing but loopback.
	NetworkNone NetworkMode = iota
	// NetworkNS joins Network.NS.
	NetworkNS
	// NetworkHost stays in the namespace of this process.
	NetworkHost
)

// Network is the network namespace of a step.
type Network struct {
	Mode NetworkMode
	// NS is the namespace of NetworkNS. The caller closes it.
	NS *os.File
}

// Security limits what a command may do. The zero value is docker's default.
type Security struct {
	// Privileged lifts everything: all capabilities, no seccomp filter, no
	// masked or read-only paths, the devices of the host.
	Privileged bool
	// Capabilities are the capabilities that are kept, as CAP_NAME; nil is
	// DefaultCapabilities, empty is none.
	Capabilities []string
	// Seccomp is the filter; nil is the default profile for Capabilities.
	Seccomp *seccomp.Filter
	// NoNewPrivileges stops setuid programs from gaining any.
	NoNewPrivileges bool
	// Unmasked leaves the sensitive paths of /proc and /sys open
	// (docker's systempaths=unconfined).
	Unmasked bool
}

// Rlimit is one resource limit.
type Rlimit struct {
	// Name is docker's: nofile, nproc, core, …
	Name string
	// Soft and Hard are the limits; RlimInfinity is none.
	Soft, Hard uint64
}

// RlimInfinity stands for no limit.
const RlimInfinity = ^uint64(0)

// Terminal is the size of a terminal.
type Terminal struct{ Rows, Cols uint16 }

// Device is a device node of the host that the command may use.
type Device struct {
	// Source is the path on the host, Target the path inside of the root.
	// Its permissions are those of the node: the kernel knows no read-only
	// mount of a device.
	Source, Target string
}

// DefaultCapabilities are the capabilities that docker leaves to a container.
func DefaultCapabilities() []string {
	return []string{
		"CAP_AUDIT_WRITE", "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID",
		"CAP_KILL", "CAP_MKNOD", "CAP_NET_BIND_SERVICE", "CAP_NET_RAW", "CAP_SETFCAP",
		"CAP_SETGID", "CAP_SETPCAP", "CAP_SETUID", "CAP_SYS_CHROOT",
	}
}
