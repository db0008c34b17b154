package cgroup

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// unified is a group of cgroup v2.
type unified struct{ dir string }

func (h *Hierarchy) makeUnified(c Config) (*Group, error) {
	needed := unifiedNames(c.Resources.controllers())
	wanted := needed
	if c.Accounting {
		wanted = unifiedNames(append(accounting(), needed...))
	}
	// All that is wanted, or else all that is needed, as near as possible.
	for _, list := range [][]string{wanted, needed} {
		for dir := h.unified; ; dir = filepath.Dir(dir) {
			if handsDown(dir, list) {
				if g, err := makeIn(dir, c.Name); err == nil || !refused(err) {
					return g, err
				}
			}
			if dir == h.mount || len(dir) <= 1 {
				break
			}
		}
	}
	return nil, fmt.Errorf("%w: neither %s nor a group above it hands down %s to this user; "+
		"`systemd-run --user --scope -p Delegate=yes` starts a shell where it does", ErrUnavailable, h.unified, listed(needed))
}

func listed(controllers []string) string {
	if len(controllers) == 0 {
		return "anything"
	}
	return "the controllers " + strings.Join(controllers, ", ")
}

func makeIn(parent, name string) (*Group, error) {
	dir := filepath.Join(parent, name)
	if err := os.Mkdir(dir, 0o755); err != nil {
		return nil, fmt.Errorf("create control group: %w", err)
	}
	return newGroup(map[string]string{unifiedKey: dir}), nil
}

// unifiedNames are the names of v1's controllers here.
func unifiedNames(list []string) []string {
	var names []string
	for _, name := range list {
		switch name {
		case cpuacct:
			name = cpu
		case blkio:
			name = "io"
		case freezer:
			continue
		}
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}

// handsDown tells whether groups in dir have these controllers, after asking
// for those that are missing. The kernel refuses where dir has processes.
func handsDown(dir string, controllers []string) bool {
	active, err := read(dir, "cgroup.subtree_control")
	if err != nil {
		return false
	}
	for _, name := range controllers {
		if !slices.Contains(strings.Fields(active), name) && write(dir, "cgroup.subtree_control", "+"+name) != nil {
			return false
		}
	}
	return true
}

func (u unified) apply(r Resources) error {
	for _, set := range []func(Resources) error{u.applyMemory, u.applyCPU, u.applyCPUSet, u.applyPids} {
		if err := set(r); err != nil {
			return err
		}
	}
	return nil
}

func (u unified) applyMemory(r Resources) error {
	if r.Memory == 0 {
		return nil
	}
	if err := limit(u.dir, "memory.max", strconv.FormatInt(r.Memory, 10)); err != nil {
		return err
	}
	if r.MemorySwap == 0 {
		return nil
	}
	swap := int64(-1)
	if r.MemorySwap > 0 {
		swap = r.MemorySwap - r.Memory
	}
	err := limit(u.dir, "memory.swap.max", orMax(swap))
	if errors.Is(err, ErrUnavailable) && !machineHasSwap() {
		return nil
	}
	return err
}

func (u unified) applyCPU(r Resources) error {
	if r.CPUShares != 0 {
		if err := limit(u.dir, "cpu.weight", strconv.FormatUint(weight(r.CPUShares), 10)); err != nil {
			return err
		}
	}
	if r.CPUQuota == 0 && r.CPUPeriod == 0 {
		return nil
	}
	quota := "max"
	if r.CPUQuota > 0 {
		quota = strconv.FormatInt(r.CPUQuota, 10)
	}
	return limit(u.dir, "cpu.max", quota+" "+strconv.FormatUint(r.period(), 10))
}

// weight maps shares, 2 to 262144, to v2's 1 to 10000 as runc and crun do.
func weight(shares uint64) uint64 {
	return 1 + (min(max(shares, 2), 262144)-2)*9999/262142
}

func (u unified) applyCPUSet(r Resources) error {
	for file, set := range r.sets() {
		if set.value == "" {
			continue
		}
		if err := set.within(filepath.Dir(u.dir), file+".effective"); err != nil {
			return err
		}
		if err := limit(u.dir, file, set.value); err != nil {
			return err
		}
	}
	return nil
}

func (u unified) applyPids(r Resources) error {
	if r.Pids == 0 {
		return nil
	}
	return limit(u.dir, "pids.max", orMax(r.Pids))
}

func (u unified) stats() (Stats, error) {
	var r reader
	s := Stats{
		CPU:         time.Duration(r.take(readKey(u.dir, "cpu.stat", "usage_usec"))) * time.Microsecond,
		Memory:      r.take(readUint(u.dir, "memory.current")),
		MemoryLimit: r.take(readUint(u.dir, "memory.max")),
		Pids:        r.take(readUint(u.dir, "pids.current")),
		PidsLimit:   r.take(readUint(u.dir, "pids.max")),
	}
	s.Memory -= min(s.Memory, r.take(readKey(u.dir, "memory.stat", "inactive_file")))
	text, err := read(u.dir, "io.stat")
	if err == nil {
		s.ReadBytes, s.WriteBytes, err = parseIO(text)
	}
	r.take(0, ignoreGone(err))
	return s, r.err
}

// parseIO adds up the lines "MAJOR:MINOR rbytes=N wbytes=N …".
func parseIO(text string) (readBytes, writeBytes uint64, err error) {
	for field := range strings.FieldsSeq(text) {
		name, value, _ := strings.Cut(field, "=")
		if name != "rbytes" && name != "wbytes" {
			continue
		}
		n, err := strconv.ParseUint(value, 10, 64)
		if err != nil {
			return 0, 0, err
		}
		if name == "rbytes" {
			readBytes += n
		} else {
			writeBytes += n
		}
	}
	return readBytes, writeBytes, nil
}

func (u unified) oomKills() (uint64, error) { return readKey(u.dir, "memory.events", "oom_kill") }

func (u unified) freeze(on bool) error {
	value := "0"
	if on {
		value = "1"
	}
	if err := write(u.dir, "cgroup.freeze", value); err != nil {
		return fmt.Errorf("freeze control group: %w", err)
	}
	return nil
}

func (u unified) frozen() (bool, error) {
	n, err := readKey(u.dir, "cgroup.events", "frozen")
	return n == 1, err
}

// kill needs Linux 5.14; before, a frozen v2 group can still be killed.
func (u unified) kill() (bool, error) {
	err := write(u.dir, "cgroup.kill", "1")
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}
