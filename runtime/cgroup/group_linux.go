package cgroup

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// unifiedKey is the place of the v2 directory among those of controllers.
const unifiedKey = "unified"

// Group is a control group. It is safe for concurrent use.
type Group struct {
	dirs   map[string]string // by controller, or unifiedKey
	layout layout

	mu   sync.Mutex
	join *Join
}

// layout is what differs between v1 and v2.
type layout interface {
	apply(Resources) error
	stats() (Stats, error)
	oomKills() (uint64, error)
	// freeze asks for a state, frozen tells whether it is reached.
	freeze(on bool) error
	frozen() (bool, error)
	// kill kills everything at once where the kernel can, else ok is false.
	kill() (ok bool, err error)
}

func newGroup(dirs map[string]string) *Group {
	g := &Group{dirs: dirs}
	if dir, ok := dirs[unifiedKey]; ok && len(dirs) == 1 {
		g.layout = unified{dir: dir}
	} else {
		g.layout = legacy{dirs: dirs}
	}
	return g
}

// ID names the group for Load.
func (g *Group) ID() string {
	parts := make([]string, 0, len(g.dirs))
	for _, name := range slices.Sorted(maps.Keys(g.dirs)) {
		parts = append(parts, name+"="+g.dirs[name])
	}
	return strings.Join(parts, ",")
}

// paths are the directories, each once (v1 may mount two controllers as one).
func (g *Group) paths() []string {
	return slices.Compact(slices.Sorted(maps.Values(g.dirs)))
}

// Dirs are the directories by controller; on v2 there is one, named "unified".
func (g *Group) Dirs() map[string]string { return maps.Clone(g.dirs) }

// Update changes the limits; zero fields stay as they are.
func (g *Group) Update(r Resources) error {
	if err := r.validate(); err != nil {
		return err
	}
	return g.layout.apply(r)
}

// Stats reads the figures.
func (g *Group) Stats() (Stats, error) { return g.layout.stats() }

// OOMKills is how many processes of the group the kernel has killed for lack
// of memory. A group without the memory controller has none.
func (g *Group) OOMKills() (uint64, error) { return g.layout.oomKills() }

// Join is what a process needs to enter a group. It belongs to the group.
type Join struct {
	// Dir is the directory for clone3's CLONE_INTO_CGROUP (v2), or nil.
	Dir *os.File
	// Procs are the files that the process writes "0" to (v1).
	Procs []*os.File
}

// Join opens what a process needs to enter the group. The group closes it.
func (g *Group) Join() (*Join, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.join != nil {
		return g.join, nil
	}
	j := &Join{}
	for _, dir := range g.paths() {
		if err := j.open(dir, dir == g.dirs[unifiedKey]); err != nil {
			return nil, errors.Join(fmt.Errorf("join control group: %w", err), j.close())
		}
	}
	g.join = j
	return j, nil
}

func (j *Join) open(dir string, v2 bool) error {
	if v2 {
		f, err := os.Open(dir)
		j.Dir = f
		return err
	}
	f, err := os.OpenFile(filepath.Join(dir, "cgroup.procs"), os.O_WRONLY, 0)
	if err == nil {
		j.Procs = append(j.Procs, f)
	}
	return err
}

func (j *Join) close() error {
	var errs []error
	for _, f := range append(j.Procs, j.Dir) {
		if f != nil {
			errs = append(errs, f.Close())
		}
	}
	return errors.Join(errs...)
}

// Close releases the handle; the group stays.
func (g *Group) Close() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.join == nil {
		return nil
	}
	j := g.join
	g.join = nil
	return j.close()
}

// Procs lists the processes of the group and of those below it.
func (g *Group) Procs() ([]int, error) {
	var list []int
	err := filepath.WalkDir(g.paths()[0], func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return ignoreGone(err)
		}
		found, err := readProcs(path)
		list = append(list, found...)
		return ignoreGone(err)
	})
	if err != nil {
		return nil, fmt.Errorf("list processes of control group: %w", err)
	}
	return list, nil
}

func readProcs(dir string) ([]int, error) {
	text, err := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
	var list []int
	for f := range strings.FieldsSeq(string(text)) {
		// 0 is a process that this process' pid namespace does not have.
		if pid, err := strconv.Atoi(f); err == nil && pid != 0 {
			list = append(list, pid)
		}
	}
	return list, err
}

func ignoreGone(err error) error {
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENODEV) {
		return nil
	}
	return err
}

// Freeze stops all processes of the group, and returns when they stand. Where
// they do not in time, or ctx ends before, they go on.
func (g *Group) Freeze(ctx context.Context) error {
	if err := g.layout.freeze(true); err != nil {
		return err
	}
	if err := g.reach(ctx, true); err != nil {
		return errors.Join(err, g.layout.freeze(false))
	}
	return nil
}

// Thaw lets them go on.
func (g *Group) Thaw(ctx context.Context) error {
	err := g.layout.freeze(false)
	if err == nil {
		err = g.reach(ctx, false)
	}
	// Processes that were killed while they were frozen end now, and whoever
	// waits for them may have removed the group.
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENODEV) {
		return nil
	}
	return err
}

// reach waits until all processes stand, or go on.
func (g *Group) reach(ctx context.Context, frozen bool) error {
	return poll(ctx, "freeze control group", func() (bool, error) {
		now, err := g.layout.frozen()
		return now == frozen, err
	})
}

// Kill kills all processes, and returns when none is left.
func (g *Group) Kill(ctx context.Context) error {
	atOnce, err := g.layout.kill()
	if err != nil {
		return fmt.Errorf("kill control group: %w", err)
	}
	return poll(ctx, "kill control group", func() (bool, error) {
		list, err := g.Procs()
		if err != nil || len(list) == 0 {
			return true, err
		}
		if !atOnce {
			killEach(list)
		}
		return false, nil
	})
}

// killEach kills by number. A process that ends meanwhile is no error, and a
// new one that gets its number within that time is not to be feared: numbers
// are reused last.
func killEach(list []int) {
	for _, pid := range list {
		_ = unix.Kill(pid, unix.SIGKILL)
	}
}

// Delete removes the group with those below it. Its processes have ended; it
// waits for the kernel to let go of them.
func (g *Group) Delete(ctx context.Context) error {
	if err := g.Close(); err != nil {
		return err
	}
	return poll(ctx, "remove control group", func() (bool, error) {
		err := g.remove()
		return !errors.Is(err, unix.EBUSY), err
	})
}

func (g *Group) remove() error {
	var errs []error
	for _, dir := range g.paths() {
		errs = append(errs, removeTree(dir))
	}
	return errors.Join(errs...)
}

// removeTree removes a directory of a cgroup file system, deepest first; its
// files go with it.
func removeTree(dir string) error {
	err := unix.Rmdir(dir)
	if err == nil || err == unix.ENOENT {
		return nil
	}
	entries, readErr := os.ReadDir(dir)
	if readErr != nil {
		return ignoreGone(readErr)
	}
	below := false
	for _, e := range entries {
		if e.IsDir() {
			below = true
			if err := removeTree(filepath.Join(dir, e.Name())); err != nil {
				return err
			}
		}
	}
	if below {
		err = unix.Rmdir(dir)
	}
	if err == nil || err == unix.ENOENT {
		return nil
	}
	return &os.PathError{Op: "remove", Path: dir, Err: err}
}

// patience is how long the kernel may take for what is only a matter of time.
const patience = 10 * time.Second

// poll asks done until it says so, with growing pauses: cgroup v1 has no event
// to wait for. The error of the last call is returned.
func poll(ctx context.Context, what string, done func() (bool, error)) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	pause := 200 * time.Microsecond
	for {
		ok, err := done()
		if ok {
			return err
		}
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			timer.Stop()
			return errors.Join(fmt.Errorf("%s: %w", what, ctx.Err()), err)
		case <-timer.C:
		}
		pause = min(2*pause, 50*time.Millisecond)
	}
}
