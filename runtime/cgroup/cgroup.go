// Package cgroup makes control groups: it limits and measures steps and
// containers. It knows cgroup v1, v2, and the hybrid layout (v1 with an empty
// v2 hierarchy beside it), without a daemon and without systemd.
//
// # Where groups are made
//
// Always below where this process lies itself, as /proc/self/cgroup tells: a
// limit that was set on Strata holds for all of its steps, and what the
// administrator delegated is not left.
//
//	v1, hybrid   every controller has a tree:  <mount of memory>/<own path>/NAME
//	                                           <mount of pids>/<own path>/NAME
//	v2           one tree, in which a group that has processes may not hand
//	             controllers down. So the group is made in the nearest ancestor
//	             (this process' group first) that hands down what is needed, or
//	             can be told to:               <mount>/<ancestor>/NAME
//
// On v1, only the trees of the controllers that a limit needs are touched: a
// group costs about 0.1 ms for each.
//
// # What is not possible
//
// An ordinary user may only do what was delegated. Config.Resources that
// cannot be applied are an error (ErrUnavailable): silently running without a
// limit that somebody asked for is worse than not running. What only measures
// (Config.Accounting) is left out instead, and Stats is then zero there.
package cgroup

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

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
	// Pids is the number of processes and threads; -1 is unlimited.
	Pids int64
}

// IsZero tells that nothing is limited.
func (r Resources) IsZero() bool { return r == Resources{} }

// defaultPeriod is the kernel's cpu.cfs_period_us.
const defaultPeriod = 100_000

// What the kernel takes for a period.
const (
	leastPeriod = 1_000
	mostPeriod  = 1_000_000
)

func (r Resources) period() uint64 {
	if r.CPUPeriod == 0 {
		return defaultPeriod
	}
	return r.CPUPeriod
}

func (r Resources) validate() error {
	switch {
	case r.Memory < 0:
		return fmt.Errorf("memory limit %d is negative", r.Memory)
	case r.MemorySwap > 0 && r.MemorySwap < r.Memory:
		return fmt.Errorf("limit of memory and swap, %d, is below the memory limit, %d", r.MemorySwap, r.Memory)
	case r.MemorySwap != 0 && r.Memory == 0:
		return errors.New("a limit of memory and swap needs a memory limit")
	case r.CPUQuota < 0 && r.CPUQuota != -1:
		return fmt.Errorf("processor quota %d is negative", r.CPUQuota)
	case r.CPUPeriod != 0 && (r.CPUPeriod < leastPeriod || r.CPUPeriod > mostPeriod):
		return fmt.Errorf("the period of the processor quota is %d to %d µs long, and not %d", leastPeriod, mostPeriod, r.CPUPeriod)
	}
	return nil
}

// Names of controllers; on v2, cpuacct is part of cpu and the freezer of the
// core, and blkio is called io.
const (
	memory  = "memory"
	cpu     = "cpu"
	cpuacct = "cpuacct"
	cpuset  = "cpuset"
	pids    = "pids"
	freezer = "freezer"
	blkio   = "blkio"
)

// controllers are those that the limits need.
func (r Resources) controllers() []string {
	var list []string
	add := func(name string, needed bool) {
		if needed {
			list = append(list, name)
		}
	}
	add(memory, r.Memory != 0)
	add(cpu, r.CPUQuota != 0 || r.CPUPeriod != 0 || r.CPUShares != 0)
	add(cpuset, r.CPUSetCPUs != "" || r.CPUSetMems != "")
	add(pids, r.Pids != 0)
	return list
}

// systemd is the place of its directory among those of controllers, and
// namedSystemd what /proc/self/cgroup calls that hierarchy.
const (
	systemd      = "systemd"
	namedSystemd = "name=systemd"
)

// accounting are the controllers that Config.Accounting asks for.
func accounting() []string { return []string{memory, cpu, cpuacct, pids, blkio, freezer} }

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

func (m Mode) String() string {
	return [...]string{"unavailable", "v1", "hybrid", "v2"}[m]
}

// Config is a group to be made.
type Config struct {
	// Name is one path element. A group of that name must not exist.
	Name string
	// Resources are its limits.
	Resources Resources
	// Accounting asks for the controllers that Stats and Freeze need, as far
	// as they can be had.
	Accounting bool
	// Services asks for a place in the hierarchies by which systemd tracks
	// services, as far as it can be had: v1's name=systemd, and the v2 tree
	// beside v1. A systemd in the group takes what it finds itself in for its
	// own, which without this is where Strata lies.
	Services bool
}

func (c Config) validate() error {
	if c.Name == "" || c.Name[0] == '.' || strings.ContainsAny(c.Name, "/\n\x00") || len(c.Name) > 200 {
		return fmt.Errorf("control group name %q is not one plain path element", c.Name)
	}
	return c.Resources.validate()
}

// Stats are the figures of `strata stats`. What is not measured is 0.
type Stats struct {
	// CPU is the processor time used so far.
	CPU time.Duration
	// Memory in use, without file cache that can be dropped at once.
	Memory, MemoryLimit uint64
	// Pids is the number of processes and threads.
	Pids, PidsLimit uint64
	// ReadBytes and WriteBytes went through block devices.
	ReadBytes, WriteBytes uint64
}
