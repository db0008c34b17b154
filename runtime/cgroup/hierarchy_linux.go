package cgroup

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/sys/mountinfo"
)

// Hierarchy is where groups are made.
type Hierarchy struct {
	// v1 maps a controller to the directory of this process' group.
	v1 map[string]string
	// unified is that of the v2 tree, mount the tree's root.
	unified, mount string
}

// Detect finds the control groups of this process. A machine without any is
// no error: its Mode is Unavailable.
func Detect() (*Hierarchy, error) { return detect("self") }

func detect(process string) (*Hierarchy, error) {
	mounts, err := mountinfo.GetMounts(mountinfo.FSTypeFilter("cgroup", "cgroup2"))
	if err != nil {
		return nil, fmt.Errorf("list control group mounts: %w", err)
	}
	f, err := os.Open(filepath.Join("/proc", process, "cgroup"))
	if errors.Is(err, fs.ErrNotExist) && process == "self" {
		return &Hierarchy{}, nil // a kernel without control groups
	}
	if err != nil {
		return nil, fmt.Errorf("read control groups of a process: %w", err)
	}
	defer f.Close()
	return parse(f, mounts)
}

// parse joins the lines "NUMBER:CONTROLLERS:PATH" of /proc/PID/cgroup with the
// mounts of those hierarchies.
func parse(groups io.Reader, mounts []*mountinfo.Info) (*Hierarchy, error) {
	h := &Hierarchy{v1: map[string]string{}}
	lines := bufio.NewScanner(groups)
	for lines.Scan() {
		number, rest, ok1 := strings.Cut(lines.Text(), ":")
		list, path, ok2 := strings.Cut(rest, ":")
		if !ok1 || !ok2 {
			return nil, fmt.Errorf("/proc/self/cgroup has the line %q", lines.Text())
		}
		if number == "0" && list == "" {
			h.addUnified(path, mounts)
			continue
		}
		for name := range strings.SplitSeq(list, ",") {
			h.addLegacy(name, path, mounts)
		}
	}
	return h, lines.Err()
}

func (h *Hierarchy) addUnified(path string, mounts []*mountinfo.Info) {
	for _, m := range mounts {
		if m.FSType == "cgroup2" {
			if dir, ok := locate(m, path); ok {
				h.unified, h.mount = dir, m.Mountpoint
			}
		}
	}
}

func (h *Hierarchy) addLegacy(name, path string, mounts []*mountinfo.Info) {
	for _, m := range mounts {
		if m.FSType == "cgroup" && slices.Contains(strings.Split(m.VFSOptions, ","), name) {
			if dir, ok := locate(m, path); ok {
				h.v1[name] = dir
			}
		}
	}
}

// locate finds the directory of a group in a mount, which in a container may
// show only a part of the hierarchy.
func locate(m *mountinfo.Info, path string) (string, bool) {
	rel, err := filepath.Rel(m.Root, path)
	if err != nil || !filepath.IsLocal(rel) {
		return "", false
	}
	dir := filepath.Join(m.Mountpoint, rel)
	_, err = os.Stat(dir)
	return dir, err == nil
}

// Mode is the layout.
func (h *Hierarchy) Mode() Mode {
	switch {
	case len(h.v1) == 0 && h.unified == "":
		return Unavailable
	case len(h.v1) == 0:
		return Unified
	case h.unified == "":
		return Legacy
	}
	return Hybrid
}

// Create makes a group.
func (h *Hierarchy) Create(c Config) (*Group, error) {
	if err := c.validate(); err != nil {
		return nil, err
	}
	g, err := h.make(c)
	if err != nil {
		return nil, err
	}
	if err := g.layout.apply(c.Resources); err != nil {
		return nil, errors.Join(err, g.remove())
	}
	return g, nil
}

func (h *Hierarchy) make(c Config) (*Group, error) {
	switch h.Mode() {
	case Unavailable:
		return nil, fmt.Errorf("%w: no control groups are mounted on this machine", ErrUnavailable)
	case Unified:
		return h.makeUnified(c)
	}
	return h.makeLegacy(c)
}

// Load opens a group by what ID returned, in whichever process made it.
func (h *Hierarchy) Load(id string) (*Group, error) {
	dirs := map[string]string{}
	for part := range strings.SplitSeq(id, ",") {
		name, dir, ok := strings.Cut(part, "=")
		if !ok || !filepath.IsAbs(dir) || filepath.Clean(dir) != dir || filepath.Base(dir) == "/" {
			return nil, fmt.Errorf("control group ID %q is malformed", id)
		}
		if !isCgroup(dir) {
			// Of all the trees: a group that is half gone is gone.
			return nil, fmt.Errorf("%w: %s", ErrNotExist, dir)
		}
		dirs[name] = dir
	}
	return newGroup(dirs), nil
}

// Of opens the group that a process lies in, where that is another one than
// this process' own. If there is none, the process is not confined, and ok is
// false.
func Of(pid int) (g *Group, ok bool, err error) {
	theirs, err := detect(strconv.Itoa(pid))
	if err != nil {
		return nil, false, err
	}
	own, err := Detect()
	if err != nil {
		return nil, false, err
	}
	dirs := map[string]string{}
	for name, dir := range theirs.v1 {
		if own.v1[name] != dir {
			dirs[name] = dir
		}
	}
	if theirs.unified != own.unified {
		dirs[unifiedKey] = theirs.unified
	}
	if len(dirs) == 0 {
		return nil, false, nil
	}
	return newGroup(dirs), true, nil
}
