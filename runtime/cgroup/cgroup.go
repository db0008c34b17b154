// Package cgroup makes control groups, on cgroup v1, v2 and hybrid layouts.
package cgroup

import (
	"context"
	"errors"
	"time"
)

var errLanding = errors.New("cgroup: being written")

// ErrUnavailable is returned when a limit was asked for that cannot be applied
// here: its controller is missing, or not delegated to this user.
var ErrUnavailable = errors.New("control group limit cannot be applied")

// ErrNotExist is returned by Load for a group that is not there.
var ErrNotExist = errors.New("control group does not exist")

// Resources are limits. A zero field is no limit.
type Resources struct {
	// Memory in bytes; MemorySwap is memory and swap together (docker's
	// meaning; -1 is unlimited swap).
	Memory, MemorySwap int64
	// CPUQuota in µs for each CPUPeriod (0 is 100 ms).
	CPUQuota  int64
	CPUPeriod uint64
	// CPUShares is the weight as of cgroup v1 (1024 is normal).
	CPUShares uint64
	// CPUSetCPUs and CPUSetMems are lists like "0-2,4".
	CPUSetCPUs, CPUSetMems string
	// Pids is the number of processes and threads.
	Pids int64
}

// IsZero tells that nothing is limited.
func (r Resources) IsZero() bool { return r == Resources{} }

// Mode is the layout of the control groups of this machine.
type Mode int

const (
	// Unavailable: no control group file system is mounted.
	Unavailable Mode = iota
	// Legacy is cgroup v1.
	Legacy
	// Hybrid is cgroup v1 with an empty v2 hierarchy beside it.
	Hybrid
	// Unified is cgroup v2.
	Unified
)

// Hierarchy is where groups are made: below the group of this process.
type Hierarchy struct{}

// Detect finds the control groups of this process.
func Detect() (*Hierarchy, error) { return nil, errLanding }

// Mode is the layout.
func (h *Hierarchy) Mode() Mode { return Unavailable }

// Config is a group to be made.
type Config struct {
	// Name is one path element.
	Name string
	// Resources are its limits.
	Resources Resources
	// Accounting asks for the controllers that Stats, Freeze and Kill need,
	// as far as they can be had.
	Accounting bool
}

// Create makes a group.
func (h *Hierarchy) Create(c Config) (*Group, error) { return nil, errLanding }

// Load opens a group by what ID returned, in whichever process made it.
func (h *Hierarchy) Load(id string) (*Group, error) { return nil, errLanding }

// Group is a control group.
type Group struct{}

// ID names the group for Load.
func (g *Group) ID() string { return "" }

// Update changes the limits; zero fields stay as they are.
func (g *Group) Update(r Resources) error { return errLanding }

// Stats are the figures of `strata stats`.
type Stats struct {
	CPU                   time.Duration
	Memory, MemoryLimit   uint64
	Pids, PidsLimit       uint64
	ReadBytes, WriteBytes uint64
}

// Stats reads the figures.
func (g *Group) Stats() (Stats, error) { return Stats{}, errLanding }

// OOMKills is how many processes of the group the kernel has killed for lack
// of memory.
func (g *Group) OOMKills() (uint64, error) { return 0, errLanding }

// Freeze stops all processes of the group.
func (g *Group) Freeze(ctx context.Context) error { return errLanding }

// Thaw lets them go on.
func (g *Group) Thaw(ctx context.Context) error { return errLanding }

// Procs lists the processes.
func (g *Group) Procs() ([]int, error) { return nil, errLanding }

// Kill kills all processes.
func (g *Group) Kill(ctx context.Context) error { return errLanding }

// Delete removes the group, which must be empty; processes that are just
// ending are waited for.
func (g *Group) Delete(ctx context.Context) error { return errLanding }

// Close releases the handle; the group stays.
func (g *Group) Close() error { return errLanding }
