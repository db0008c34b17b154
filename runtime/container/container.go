// Package container runs images: a writable tree on top of an image's layers,
// a process in namespaces of its own, and the network, the mounts and the
// limits around it.
//
// # No daemon
//
// A container is three things in the store:
//
//	record      containers/<id>   what it runs, and its last known state
//	kept tree   kept:<id>         what it has written (package snapshot)
//	directory   containers/<id>/  its log
//
// and, while it runs, two processes: the container's first one, and its
// monitor, the parent of that. The monitor is the command itself when it runs
// in the foreground, and a process of its own otherwise. It holds the lock
// "container run <id>" for as long as it lives, which is how every other
// command knows that the container is running, and writes the state down when
// that changes. There is no socket and no protocol: who wants something of a
// container reads its record, sends signals to its process, or enters its
// namespaces.
//
//	run, start ──▶ monitor ── parent of ──▶ first process
//	                  │ writes                 ▲     ▲
//	                  ▼                        │     │ namespaces
//	ps, inspect ◀── record                   stop   exec, cp
//	logs        ◀── log
//
// If a monitor is killed, the kernel kills the container with it (see
// package executor) and releases the lock: whoever looks next sees a container
// that has ended.
//
// # States
//
//	          start            ends, no restart
//	Created ────────▶ Running ──────────────────▶ Exited
//	                   ▲   │ ends, policy says so   │
//	                   │   ▼                        │ start
//	                   Restarting                   │
//	                   ▲────────────────────────────┘
//
// Rootless, the monitor's user namespace owns the container's: a command that
// enters the container enters the monitor's first (userns.Join).
package container

import (
	"errors"
	"fmt"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/strata-build/strata/runtime/cgroup"
	"github.com/strata-build/strata/runtime/executor"
	"github.com/strata-build/strata/runtime/executor/seccomp"
	"github.com/strata-build/strata/runtime/network"
)

// Errors that callers tell apart.
var (
	// ErrNotFound says that no container has that name or id.
	ErrNotFound = errors.New("no such container")
	// ErrNameInUse says that another container has the name.
	ErrNameInUse = errors.New("the name is in use")
	// ErrRunning says that something cannot be done while the container runs.
	ErrRunning = errors.New("the container is running")
	// ErrNotRunning says that something cannot be done unless it runs.
	ErrNotRunning = errors.New("the container is not running")
	// ErrNoCommand is returned for an image that says nothing of what to run.
	ErrNoCommand = errors.New("the image has no command: give one after its name")
)

// Status is what a container does.
type Status string

// The states of a container, by docker's names.
const (
	Created    Status = "created"
	Running    Status = "running"
	Restarting Status = "restarting"
	Exited     Status = "exited"
)

// Record is all that is known about a container.
type Record struct {
	ID      string
	Name    string
	Created time.Time
	// Pending is set while whoever made it is about to start it.
	Pending bool `json:",omitempty"`
	Image   Image
	Config  Config
	State   State
}

// Image is what a container was made from. It keeps what it needs of that,
// whatever becomes of the image's name.
type Image struct {
	// Name is what the user wrote.
	Name string
	// Manifest describes the manifest of the container's platform.
	Manifest ocispec.Descriptor
	// ID is the digest of the image's config.
	ID string
	// Blobs are those of the image's config and layers, which a commit needs.
	Blobs []digest.Digest
	// Layers are the ids of the layers that the container stands on, bottom
	// first: mount points, and the image's.
	Layers []string
}

// Config is what a container runs and how: what the image says and what the
// command line says, combined.
type Config struct {
	Entrypoint, Cmd []string
	Env             []string
	Workdir         string
	User            string
	Groups          []string // supplementary, by name or number
	Hostname        string
	Terminal        bool
	OpenStdin       bool
	Labels          map[string]string `json:",omitempty"`

	Network    Network
	ExtraHosts []string // NAME:ADDRESS
	Mounts     []Mount
	Devices    []executor.Device `json:",omitempty"`

	ReadOnly bool
	Init     bool
	Security Security
	Rlimits  []executor.Rlimit `json:",omitempty"`
	ShmSize  int64

	Resources   cgroup.Resources
	OOMScoreAdj *int `json:",omitempty"`

	Restart    Restart
	AutoRemove bool
	StopSignal string
	// StopTimeout is how long `stop` waits; nil is DefaultStopTimeout, and
	// negative is for ever.
	StopTimeout *time.Duration `json:",omitempty"`
	Health      *Health        `json:",omitempty"`
}

// Args is the command line of the first process.
func (c *Config) Args() []string {
	return append(append([]string{}, c.Entrypoint...), c.Cmd...)
}

// Security limits what the processes may do; see executor.Security.
type Security struct {
	Privileged      bool
	Capabilities    []string // nil is docker's default, empty is none
	NoNewPrivileges bool
	Unmasked        bool
	// Seccomp is "" for docker's profile, SeccompUnconfined for none, or a
	// profile in docker's JSON format.
	Seccomp string `json:",omitempty"`
}

// SeccompUnconfined loads no seccomp filter.
const SeccompUnconfined = "unconfined"

// executor is the same in the executor's words.
func (s *Security) executor() (executor.Security, error) {
	sec := executor.Security{
		Privileged: s.Privileged, Capabilities: s.Capabilities,
		NoNewPrivileges: s.NoNewPrivileges, Unmasked: s.Unmasked,
	}
	switch s.Seccomp {
	case "":
	case SeccompUnconfined:
		sec.Seccomp = seccomp.Unconfined()
	default:
		capabilities := s.Capabilities
		if capabilities == nil {
			capabilities = executor.DefaultCapabilities()
		}
		var err error
		if sec.Seccomp, err = seccomp.Load([]byte(s.Seccomp), capabilities); err != nil {
			return sec, fmt.Errorf("seccomp profile: %w", err)
		}
	}
	return sec, nil
}

// NetworkMode says whose network a container uses.
type NetworkMode string

// The kinds of networks.
const (
	NetworkPrivate   NetworkMode = "private"
	NetworkNone      NetworkMode = "none"
	NetworkHost      NetworkMode = "host"
	NetworkContainer NetworkMode = "container"
)

// Network is the network of a container.
type Network struct {
	Mode NetworkMode
	// Container is the id of the one whose network it joins.
	Container string `json:",omitempty"`
	// Ports are published, once it runs.
	Ports []network.Port `json:",omitempty"`
	// DNS are nameservers in the place of the host's, DNSSearch domains and
	// DNSOptions options of the resolver likewise.
	DNS        []string `json:",omitempty"`
	DNSSearch  []string `json:",omitempty"`
	DNSOptions []string `json:",omitempty"`
}

// MountType is the kind of a mount.
type MountType string

// The kinds of mounts.
const (
	MountBind   MountType = "bind"
	MountVolume MountType = "volume"
	MountTmpfs  MountType = "tmpfs"
)

// Mount is something that the container sees at a path.
type Mount struct {
	Type MountType
	// Source is a path of the host, or the name of a volume.
	Source string `json:",omitempty"`
	// Target is an absolute path inside.
	Target   string
	ReadOnly bool `json:",omitempty"`
	// Anonymous marks a volume that goes with its container.
	Anonymous bool `json:",omitempty"`
	// NoCopy leaves a new volume empty, instead of filling it with what the
	// image has at the target.
	NoCopy bool `json:",omitempty"`
	// Create makes the directory of a bind's source where it is missing.
	Create bool `json:",omitempty"`
	// NonRecursive leaves the mounts below a bind's source out.
	NonRecursive bool `json:",omitempty"`
	// Size and Mode are of a tmpfs, 0 for the defaults; Exec lets programs on
	// it be run.
	Size int64  `json:",omitempty"`
	Mode uint32 `json:",omitempty"`
	Exec bool   `json:",omitempty"`
}

// RestartPolicy says when a container is started again after it has ended.
type RestartPolicy string

// The restart policies, by docker's names.
const (
	RestartNo            RestartPolicy = "no"
	RestartOnFailure     RestartPolicy = "on-failure"
	RestartAlways        RestartPolicy = "always"
	RestartUnlessStopped RestartPolicy = "unless-stopped"
)

// Restart is a policy, with the greatest number of restarts for on-failure;
// 0 is no limit.
type Restart struct {
	Policy RestartPolicy
	Max    int `json:",omitempty"`
}

// State is what a container does, or how it has ended.
type State struct {
	Status Status
	// PID and StartTime identify the first process (executor.Target), Monitor
	// is its parent. They are numbers of the machine's, or rootless of the
	// monitor's, pid namespace.
	PID       int    `json:",omitempty"`
	StartTime uint64 `json:",omitempty"`
	Monitor   int    `json:",omitempty"`
	// Cgroup is its control group, by cgroup.Group.ID.
	Cgroup string `json:",omitempty"`

	StartedAt, FinishedAt time.Time
	ExitCode              int
	OOMKilled             bool
	// Error says why it could not be started, or was ended by Strata.
	Error string `json:",omitempty"`
	// Restarts counts how often the policy has started it again.
	Restarts int
	// StopRequested tells the monitor that an end was asked for.
	StopRequested bool `json:",omitempty"`
	// Paused is set while its processes are frozen.
	Paused bool `json:",omitempty"`
	// Ports are those that are published, with the host's actual ports.
	Ports  []network.Port `json:",omitempty"`
	Health *HealthState   `json:",omitempty"`
}

// Live reports whether a monitor is in charge of the container.
func (s *State) Live() bool { return s.Status == Running || s.Status == Restarting }

// shortID is how many digits of an id people see.
const shortID = 12

// ShortID is what people see of the id.
func (r *Record) ShortID() string { return r.ID[:shortID] }
