package cgroup

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// legacy is a group of cgroup v1: one directory for each controller.
type legacy struct{ dirs map[string]string }

func (h *Hierarchy) makeLegacy(c Config) (*Group, error) {
	g := &Group{dirs: map[string]string{}}
	made := map[string]bool{}
	add := func(name, own string) error {
		if own == "" {
			return fmt.Errorf("%w: this machine has no controller %q", ErrUnavailable, name)
		}
		dir := filepath.Join(own, c.Name)
		if !made[dir] {
			if err := os.Mkdir(dir, 0o755); refused(err) {
				return fmt.Errorf("%w: create control group: %w", ErrUnavailable, err)
			} else if err != nil {
				return fmt.Errorf("create control group: %w", err)
			}
			made[dir] = true
		}
		g.dirs[name] = dir
		return nil
	}
	needed := c.Resources.controllers()
	for _, name := range needed {
		if err := add(name, h.v1[name]); err != nil {
			return nil, errors.Join(err, g.remove())
		}
	}
	for name, own := range h.optional(c) {
		if slices.Contains(needed, name) {
			continue
		}
		// What nobody asked for by a limit is left out where it cannot be had.
		if err := add(name, own); err != nil && !errors.Is(err, ErrUnavailable) {
			return nil, errors.Join(err, g.remove())
		}
	}
	if len(g.dirs) == 0 {
		return nil, fmt.Errorf("%w: no control group can be created below %s", ErrUnavailable, h.v1[pids])
	}
	return newGroup(g.dirs), nil
}

// optional are the directories in which a group is made where it can be.
func (h *Hierarchy) optional(c Config) map[string]string {
	dirs := map[string]string{}
	if c.Accounting || len(c.Resources.controllers()) == 0 {
		for _, name := range accounting() {
			dirs[name] = h.v1[name]
		}
	}
	if c.Services {
		dirs[systemd], dirs[unifiedKey] = h.v1[namedSystemd], h.unified
	}
	return dirs
}

func (l legacy) apply(r Resources) error {
	for _, name := range r.controllers() {
		if l.dirs[name] == "" {
			return fmt.Errorf("%w: the group was made without the controller %q", ErrUnavailable, name)
		}
	}
	for _, set := range []func(Resources) error{l.applyMemory, l.applyCPU, l.applyCPUSet, l.applyPids} {
		if err := set(r); err != nil {
			return err
		}
	}
	return nil
}

func (l legacy) applyMemory(r Resources) error {
	if r.Memory == 0 {
		return nil
	}
	dir := l.dirs[memory]
	err := limit(dir, "memory.limit_in_bytes", strconv.FormatInt(r.Memory, 10))
	if errors.Is(err, unix.EINVAL) && r.MemorySwap != 0 {
		// The two limits must be in order at any time: raising both, the
		// outer one goes first.
		if err := l.applySwap(r); err != nil {
			return err
		}
		return limit(dir, "memory.limit_in_bytes", strconv.FormatInt(r.Memory, 10))
	}
	if err != nil {
		return err
	}
	return l.applySwap(r)
}

func (l legacy) applySwap(r Resources) error {
	if r.MemorySwap == 0 {
		return nil
	}
	err := limit(l.dirs[memory], "memory.memsw.limit_in_bytes", strconv.FormatInt(r.MemorySwap, 10))
	if errors.Is(err, ErrUnavailable) && !machineHasSwap() {
		// A limit of something that is not there holds by itself.
		return nil
	}
	return err
}

func machineHasSwap() bool {
	text, err := os.ReadFile("/proc/swaps")
	return err != nil || strings.Count(string(text), "\n") > 1
}

func (l legacy) applyCPU(r Resources) error {
	dir := l.dirs[cpu]
	if r.CPUShares != 0 {
		if err := limit(dir, "cpu.shares", strconv.FormatUint(r.CPUShares, 10)); err != nil {
			return err
		}
	}
	if r.CPUPeriod != 0 {
		if err := limit(dir, "cpu.cfs_period_us", strconv.FormatUint(r.CPUPeriod, 10)); err != nil {
			return err
		}
	}
	if r.CPUQuota != 0 {
		return limit(dir, "cpu.cfs_quota_us", strconv.FormatInt(r.CPUQuota, 10))
	}
	return nil
}

// applyCPUSet fills both lists: with an empty one, no process may join.
func (l legacy) applyCPUSet(r Resources) error {
	dir := l.dirs[cpuset]
	if r.CPUSetCPUs == "" && r.CPUSetMems == "" {
		return nil
	}
	for file, set := range r.sets() {
		if set.value != "" {
			if err := set.within(filepath.Dir(dir), file); err != nil {
				return err
			}
		} else if err := inherited(dir, file, &set.value); err != nil {
			return err
		}
		if set.value == "" {
			continue
		}
		if err := limit(dir, file, set.value); err != nil {
			return err
		}
	}
	return nil
}

// inherited sets value to that of the parent, where the group has none.
func inherited(dir, file string, value *string) error {
	own, err := read(dir, file)
	if err == nil && own == "" {
		*value, err = read(filepath.Dir(dir), file)
	}
	if err != nil {
		return fmt.Errorf("read control group limit: %w", err)
	}
	return nil
}

func (l legacy) applyPids(r Resources) error {
	if r.Pids == 0 {
		return nil
	}
	return limit(l.dirs[pids], "pids.max", orMax(r.Pids))
}

func orMax(n int64) string {
	if n < 0 {
		return "max"
	}
	return strconv.FormatInt(n, 10)
}

func (l legacy) stats() (Stats, error) {
	var r reader
	s := Stats{
		CPU:         time.Duration(r.take(l.number(cpuacct, "cpuacct.usage"))),
		Memory:      r.take(l.number(memory, "memory.usage_in_bytes")),
		MemoryLimit: r.take(l.number(memory, "memory.limit_in_bytes")),
		Pids:        r.take(l.number(pids, "pids.current")),
		PidsLimit:   r.take(l.number(pids, "pids.max")),
	}
	if dir, ok := l.dirs[memory]; ok {
		s.Memory -= min(s.Memory, r.take(readKey(dir, "memory.stat", "total_inactive_file")))
	}
	if dir, ok := l.dirs[blkio]; ok {
		s.ReadBytes = r.take(serviceBytes(dir, "Read"))
		s.WriteBytes = r.take(serviceBytes(dir, "Write"))
	}
	return s, r.err
}

func (l legacy) number(controller, file string) (uint64, error) {
	dir, ok := l.dirs[controller]
	if !ok {
		return 0, nil
	}
	return readUint(dir, file)
}

// serviceBytes adds up the lines "MAJOR:MINOR OPERATION BYTES".
func serviceBytes(dir, operation string) (uint64, error) {
	text, err := read(dir, "blkio.throttle.io_service_bytes_recursive")
	if err != nil {
		return 0, ignoreGone(err)
	}
	total := uint64(0)
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) != 3 || f[1] != operation {
			continue
		}
		n, err := strconv.ParseUint(f[2], 10, 64)
		if err != nil {
			return 0, err
		}
		total += n
	}
	return total, nil
}

func (l legacy) oomKills() (uint64, error) {
	dir, ok := l.dirs[memory]
	if !ok {
		return 0, nil
	}
	return readKey(dir, "memory.oom_control", "oom_kill")
}

func (l legacy) freeze(on bool) error {
	dir, ok := l.dirs[freezer]
	if !ok {
		return fmt.Errorf("%w: the group has no freezer", ErrUnavailable)
	}
	state := "THAWED"
	if on {
		state = "FROZEN"
	}
	if err := write(dir, "freezer.state", state); err != nil {
		return fmt.Errorf("freeze control group: %w", err)
	}
	return nil
}

func (l legacy) frozen() (bool, error) {
	state, err := read(l.dirs[freezer], "freezer.state")
	if state == "FREEZING" {
		// A process that was just born may have escaped: ask again.
		return false, write(l.dirs[freezer], "freezer.state", "FROZEN")
	}
	return state == "FROZEN", err
}

// kill thaws: a frozen process does not even die.
func (l legacy) kill() (bool, error) {
	if _, ok := l.dirs[freezer]; ok {
		return false, l.freeze(false)
	}
	return false, nil
}
