package executor

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/strata-build/strata/runtime/cgroup"
	"golang.org/x/sys/unix"
)

func group(t *testing.T, r cgroup.Resources) *cgroup.Group {
	t.Helper()
	initial(t) // nothing is delegated
	h, err := cgroup.Detect()
	if err != nil {
		t.Fatal(err)
	}
	name := "strata-executor-" + strconv.Itoa(os.Getpid()) + "-" + strconv.FormatInt(time.Now().UnixNano(), 36)
	g, err := h.Create(cgroup.Config{Name: name, Resources: r, Accounting: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := g.Delete(context.Background()); err != nil {
			t.Error(err)
		}
		for _, dir := range g.Dirs() {
			if _, err := os.Stat(dir); err == nil {
				t.Errorf("%s is left behind", dir)
			}
		}
	})
	return g
}

func TestOutOfMemory(t *testing.T) {
	e := newExecutor(t)
	g := group(t, cgroup.Resources{Memory: 32 << 20, MemorySwap: 32 << 20})
	// The file system's pages are the group's: dd into /dev/shm fills it.
	big := func(s *Spec) { s.Cgroup, s.ShmSize = g, 1<<30 }
	r := run(t, e, big, "dd", "if=/dev/zero", "of=/dev/shm/x", "bs=1M", "count=100")
	if r.err != nil || !r.OOMKilled || r.Signal != unix.SIGKILL || r.ExitCode != 137 {
		t.Errorf("got %+v", r)
	}
	// A child that is killed counts, too.
	r = run(t, e, big, "sh", "-c", "dd if=/dev/zero of=/dev/shm/x bs=1M count=100; rm /dev/shm/x; exit 5")
	if r.err != nil || !r.OOMKilled || r.Signal != 0 || r.ExitCode != 5 {
		t.Errorf("got %+v", r)
	}
	// What happened before does not.
	r = run(t, e, big, "true")
	if r.err != nil || r.OOMKilled || r.ExitCode != 0 {
		t.Errorf("got %+v", r)
	}
}

func TestProcessLimit(t *testing.T) {
	e := newExecutor(t)
	g := group(t, cgroup.Resources{Pids: 5})
	r := run(t, e, func(s *Spec) { s.Cgroup = g }, "sh", "-c", "for i in 1 2 3 4 5 6 7 8; do sleep 100 & done")
	if r.err != nil || !strings.Contains(r.stderr, "can't fork") {
		t.Errorf("got %+v", r)
	}
}

// The step sees its own group as the root, and its limits.
func TestCgroupInside(t *testing.T) {
	e := newExecutor(t)
	g := group(t, cgroup.Resources{Memory: 77 << 20})
	limit := "/sys/fs/cgroup/memory/memory.limit_in_bytes"
	if h, err := cgroup.Detect(); err == nil && h.Mode() == cgroup.Unified {
		limit = "/sys/fs/cgroup/memory.max"
	}
	got := sh(t, e, func(s *Spec) { s.Cgroup = g }, `grep -E ':(memory)?:|^0::' /proc/self/cgroup | cut -d: -f3 | sort -u; cat `+limit+`; (echo 0 > `+limit+`) 2>/dev/null || echo read-only; mkdir /sys/fs/cgroup/x 2>/dev/null || echo read-only`)
	if want := "/\n" + strconv.Itoa(77<<20) + "\nread-only\nread-only"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// What is privileged may make groups in its own, and sees where it lies when
// it shares the machine's names.
func TestCgroupOfThePrivileged(t *testing.T) {
	e := newExecutor(t)
	g := group(t, cgroup.Resources{Pids: 100})
	dir, number := "/sys/fs/cgroup/pids/x", "pids"
	if h, err := cgroup.Detect(); err == nil && h.Mode() == cgroup.Unified {
		dir, number = "/sys/fs/cgroup/x", ""
	}
	script := "mkdir " + dir + " && rmdir " + dir + " && echo made; grep ':" + number + ":' /proc/self/cgroup | cut -d: -f3"
	privileged := func(names bool) func(*Spec) {
		return func(s *Spec) { s.Cgroup, s.Security.Privileged, s.HostCgroupNames = g, true, names }
	}
	if got := sh(t, e, privileged(false), script); got != "made\n/" {
		t.Errorf("with names of its own: %q", got)
	}
	if got := sh(t, e, privileged(true), script); !strings.HasPrefix(got, "made\n/") || got == "made\n/" {
		t.Errorf("with the machine's names: %q", got)
	}
}

func TestExecJoinsTheGroup(t *testing.T) {
	e := newExecutor(t)
	g := group(t, cgroup.Resources{Memory: 64 << 20})
	out := newScreen()
	p, err := e.Start(t.Context(), &Spec{
		Root: newImage(t, base(t)).root,
		Command: Command{
			Args: []string{"sh", "-c", "echo ready; exec sleep 1000"}, Env: []string{"PATH=/bin"}, Stdout: out, Cgroup: g,
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	out.wait(t, "ready")
	in, typed := io.Pipe()
	x, err := e.Exec(t.Context(), Target{PID: p.PID()}, &Command{Args: []string{"cat"}, Env: []string{"PATH=/bin"}, Stdin: in})
	if err != nil {
		t.Fatal(err)
	}
	list, err := g.Procs()
	if err != nil || len(list) != 2 {
		t.Errorf("processes in the group: %v, %v", list, err)
	}
	if s, err := g.Stats(); err != nil || s.Pids != 2 || s.Memory == 0 || s.MemoryLimit != 64<<20 {
		t.Errorf("got %+v, %v", s, err)
	}
	typed.Close()
	if s, err := x.Wait(); err != nil || s.ExitCode != 0 {
		t.Errorf("got %+v, %v", s, err)
	}
	if err := p.Signal(unix.SIGKILL); err != nil {
		t.Error(err)
	}
	if _, err := p.Wait(); err != nil {
		t.Error(err)
	}
}

// A step without limits makes no group.
func TestNoGroupByDefault(t *testing.T) {
	e := newExecutor(t)
	before := groups(t)
	out := newScreen()
	p, _ := container(t, e, out, idle)
	if after := groups(t); after != before {
		t.Errorf("control groups: before %d, now %d", before, after)
	}
	own, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		t.Fatal(err)
	}
	its, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(p.PID()), "cgroup"))
	if err != nil || string(own) != string(its) {
		t.Errorf("the step lies in\n%s, this process in\n%s%v", its, own, err)
	}
}

func groups(t *testing.T) int {
	t.Helper()
	list, err := filepath.Glob("/sys/fs/cgroup/*/strata*")
	if err != nil {
		t.Fatal(err)
	}
	return len(list)
}

// The v2 part of a hybrid machine serves to test what only v2 has: a child that
// is born in its group, and the mount that shows it.
func TestUnifiedCgroup(t *testing.T) {
	e := newExecutor(t)
	initial(t)
	const mountpoint = "/sys/fs/cgroup/unified"
	if _, err := os.Stat(mountpoint); err != nil {
		t.Skip("MISSING: no hybrid control groups; on v2, the other tests do the same")
	}
	e.cgroups = cgroup.Unified
	dir := filepath.Join(mountpoint, "strata-executor-"+strconv.Itoa(os.Getpid()))
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	h, err := cgroup.Detect()
	if err != nil {
		t.Fatal(err)
	}
	g, err := h.Load("unified=" + dir)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := g.Delete(context.Background()); err != nil {
			t.Error(err)
		}
	}()
	got := sh(t, e, func(s *Spec) { s.Cgroup = g }, `grep ^0:: /proc/self/cgroup; stat -f -c %t /sys/fs/cgroup; cat /sys/fs/cgroup/cgroup.procs | head -1; (echo 0 > /sys/fs/cgroup/cgroup.procs) 2>/dev/null || echo read-only`)
	if want := "0::/\n63677270\n1\nread-only"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := sh(t, e, nil, "grep ^0:: /proc/self/cgroup; ls /sys/fs/cgroup | grep -c cgroup.procs"); got != "0::/\n1" {
		t.Errorf("without a group: got %q", got)
	}
}
