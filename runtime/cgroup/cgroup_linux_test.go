package cgroup

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/moby/sys/mountinfo"
	"github.com/strata-build/strata/internal/testenv"
)

func TestParse(t *testing.T) {
	root := t.TempDir()
	for _, dir := range []string{"memory/a/b", "cpu,cpuacct/a", "unified/session", "v2/session"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	mount := func(kind, dir, in, opts string) *mountinfo.Info {
		return &mountinfo.Info{FSType: kind, Mountpoint: filepath.Join(root, dir), Root: in, VFSOptions: opts}
	}
	v1 := []*mountinfo.Info{
		mount("cgroup", "memory", "/", "rw,memory"),
		mount("cgroup", "cpu,cpuacct", "/docker/1", "rw,cpu,cpuacct"),
	}
	v2 := mount("cgroup2", "unified", "/", "rw")
	for name, c := range map[string]struct {
		text    string
		mounts  []*mountinfo.Info
		mode    Mode
		v1      map[string]string
		unified string
	}{
		"v1": {
			text: "4:memory:/a/b\n2:cpu,cpuacct:/docker/1/a\n1:name=systemd:/\n", mounts: v1, mode: Legacy,
			v1: map[string]string{"memory": "memory/a/b", "cpu": "cpu,cpuacct/a", "cpuacct": "cpu,cpuacct/a"},
		},
		"hybrid": {
			text: "4:memory:/a/b\n0::/session\n", mounts: append(v1, v2), mode: Hybrid,
			v1: map[string]string{"memory": "memory/a/b"}, unified: "unified/session",
		},
		"v2":                                   {text: "0::/session\n", mounts: []*mountinfo.Info{v2}, mode: Unified, unified: "unified/session"},
		"a group that the mount does not show": {text: "0::/../other\n", mounts: []*mountinfo.Info{v2}, mode: Unavailable},
		"none":                                 {text: "", mode: Unavailable},
	} {
		h, err := parse(strings.NewReader(c.text), c.mounts)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if h.Mode() != c.mode {
			t.Errorf("%s: got mode %s, want %s", name, h.Mode(), c.mode)
		}
		for controller, dir := range c.v1 {
			if h.v1[controller] != filepath.Join(root, dir) {
				t.Errorf("%s: %s is at %q, want %q", name, controller, h.v1[controller], dir)
			}
		}
		if c.unified != "" && h.unified != filepath.Join(root, c.unified) {
			t.Errorf("%s: unified is at %q, want %q", name, h.unified, c.unified)
		}
	}
	if _, err := parse(strings.NewReader("nonsense\n"), nil); err == nil {
		t.Error("a malformed line was accepted")
	}
}

func FuzzParse(f *testing.F) {
	f.Add("4:memory:/a\n0::/b\n")
	f.Add("::\n1:name=x:../..\n")
	f.Fuzz(func(t *testing.T, text string) {
		root := t.TempDir()
		h, err := parse(strings.NewReader(text), []*mountinfo.Info{
			{FSType: "cgroup2", Mountpoint: root, Root: "/"}, {FSType: "cgroup", Mountpoint: root, Root: "/", VFSOptions: "rw,memory"},
		})
		if err != nil {
			return
		}
		for _, dir := range []string{h.unified, h.v1["memory"]} {
			if dir != "" && dir != root && !strings.HasPrefix(dir, root+"/") {
				t.Errorf("%q leads to %s", text, dir)
			}
		}
	})
}

func TestRefusedConfigs(t *testing.T) {
	h := &Hierarchy{v1: map[string]string{"pids": t.TempDir()}}
	for _, name := range []string{"", ".", "..", "../x", "a/b", ".hidden", "a\nb", strings.Repeat("x", 201)} {
		if _, err := h.Create(Config{Name: name}); err == nil {
			t.Errorf("name %q was accepted", name)
		}
	}
	for _, r := range []Resources{{Memory: -5}, {Memory: 10, MemorySwap: 5}, {MemorySwap: 5}, {CPUQuota: -7}} {
		if _, err := h.Create(Config{Name: "x", Resources: r}); err == nil {
			t.Errorf("%+v was accepted", r)
		}
	}
	for _, id := range []string{"", "memory", "memory=relative", "memory=/a/../../etc", "memory=/"} {
		if _, err := h.Load(id); err == nil || errors.Is(err, ErrNotExist) {
			t.Errorf("ID %q: got %v", id, err)
		}
	}
	if _, err := h.Load("memory=/etc"); !errors.Is(err, ErrNotExist) {
		t.Errorf("a directory that is no control group: got %v", err)
	}
}

func TestLimitWithoutController(t *testing.T) {
	h := &Hierarchy{v1: map[string]string{"pids": t.TempDir()}}
	_, err := h.Create(Config{Name: "x", Resources: Resources{Memory: 1 << 20}})
	if !errors.Is(err, ErrUnavailable) {
		t.Errorf("got %v", err)
	}
	h = &Hierarchy{unified: t.TempDir(), mount: "/"}
	_, err = h.Create(Config{Name: "x", Resources: Resources{Memory: 1 << 20}})
	if !errors.Is(err, ErrUnavailable) || !strings.Contains(err.Error(), "controllers memory") {
		t.Errorf("got %v", err)
	}
}

// Each field of Resources reaches a file of the group, on both versions. The
// files are plain ones here, so that their contents can be read back.
func TestLimitsAreWritten(t *testing.T) {
	all := Resources{
		Memory: 1 << 30, MemorySwap: 3 << 30, CPUQuota: 50000, CPUPeriod: 200000, CPUShares: 512,
		CPUSetCPUs: "0-1", CPUSetMems: "0", Pids: 77,
	}
	for name, c := range map[string]struct {
		layout func(dir string) layout
		files  map[string]string
	}{
		"v1": {
			func(dir string) layout {
				return legacy{dirs: map[string]string{memory: dir, cpu: dir, cpuset: dir, pids: dir}}
			},
			map[string]string{
				"memory.limit_in_bytes": "1073741824", "memory.memsw.limit_in_bytes": "3221225472",
				"cpu.cfs_quota_us": "50000", "cpu.cfs_period_us": "200000", "cpu.shares": "512",
				"cpuset.cpus": "0-1", "cpuset.mems": "0", "pids.max": "77",
			},
		},
		"v2": {
			func(dir string) layout { return unified{dir: dir} },
			map[string]string{
				"memory.max": "1073741824", "memory.swap.max": "2147483648", "cpu.max": "50000 200000",
				"cpu.weight": "20", "cpuset.cpus": "0-1", "cpuset.mems": "0", "pids.max": "77",
			},
		},
	} {
		dir := t.TempDir()
		for file := range c.files {
			if err := os.WriteFile(filepath.Join(dir, file), nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if err := c.layout(dir).apply(all); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		for file, want := range c.files {
			if got, _ := read(dir, file); got != want {
				t.Errorf("%s: %s is %q, want %q", name, file, got, want)
			}
		}
	}
}

// What the kernel would call invalid is said in words, on both versions.
func TestSetsAreChecked(t *testing.T) {
	parent := t.TempDir()
	dir := filepath.Join(parent, "group")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{"cpuset.cpus", "cpuset.cpus.effective", "group/cpuset.cpus", "group/cpuset.mems"} {
		if err := os.WriteFile(filepath.Join(parent, file), []byte("0-2,5\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for cpus, want := range map[string]string{
		"1,5": "", "2": "", "0-2": "",
		"4-5":        `processors "4-5": there is no number 4, only 0-2,5`,
		"x":          `processors "x": it takes numbers and ranges, such as 0-2,4`,
		"2-1":        `processors "2-1": it takes numbers and ranges, such as 0-2,4`,
		"0-99999999": `processors "0-99999999": it takes numbers and ranges, such as 0-2,4`,
		"-1":         `processors "-1": it takes numbers and ranges, such as 0-2,4`,
	} {
		for _, l := range []layout{legacy{dirs: map[string]string{cpuset: dir}}, unified{dir: dir}} {
			got := ""
			if err := l.apply(Resources{CPUSetCPUs: cpus}); err != nil {
				got = err.Error()
			}
			if got != want {
				t.Errorf("%T: %q, want %q", l, got, want)
			}
		}
	}
}

func TestPeriod(t *testing.T) {
	for period, good := range map[uint64]bool{0: true, 999: false, 1000: true, 1_000_000: true, 1_000_001: false} {
		if err := (Resources{CPUPeriod: period}).validate(); (err == nil) != good {
			t.Errorf("%d: %v", period, err)
		}
	}
}

func TestWeight(t *testing.T) {
	for shares, want := range map[uint64]uint64{0: 1, 2: 1, 1024: 39, 262144: 10000, 1 << 40: 10000} {
		if got := weight(shares); got != want {
			t.Errorf("%d shares: got weight %d, want %d", shares, got, want)
		}
	}
}

// sleeper starts a process that waits for its standard input to end.
func sleeper(t *testing.T) *exec.Cmd {
	t.Helper()
	cmd := exec.Command("cat")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		_ = cmd.Process.Kill()
	})
	return cmd
}

func enter(t *testing.T, g *Group, pid int) {
	t.Helper()
	for _, dir := range g.paths() {
		if err := write(dir, "cgroup.procs", strconv.Itoa(pid)); err != nil {
			t.Fatal(err)
		}
	}
}

// hierarchies are those of this machine: its own, and where it is hybrid, its
// v2 part too, which has the core's files though no controllers.
func hierarchies(t *testing.T) map[string]*Hierarchy {
	testenv.Root(t)
	h, err := Detect()
	if err != nil {
		t.Fatal(err)
	}
	if h.Mode() == Unavailable {
		t.Fatal("this machine has no control groups")
	}
	list := map[string]*Hierarchy{h.Mode().String(): h}
	if h.Mode() == Hybrid {
		list["v2 part"] = &Hierarchy{unified: h.unified, mount: h.mount}
	}
	return list
}

func name(t *testing.T, part string) string {
	return "strata-test-" + part + "-" + strconv.Itoa(os.Getpid()) + "-" + strconv.FormatInt(time.Now().UnixNano(), 36)
}

func create(t *testing.T, h *Hierarchy, c Config) *Group {
	t.Helper()
	c.Name = name(t, "group")
	g, err := h.Create(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := g.Delete(context.Background()); err != nil {
			t.Error(err)
		}
		for _, dir := range g.paths() {
			if _, err := os.Stat(dir); err == nil {
				t.Errorf("%s is left behind", dir)
			}
		}
	})
	return g
}

func TestLifeOfAGroup(t *testing.T) {
	for which, h := range hierarchies(t) {
		t.Run(which, func(t *testing.T) {
			g, err := h.Create(Config{Name: name(t, "life"), Accounting: true})
			if err != nil {
				t.Fatal(err)
			}
			cmd := sleeper(t)
			enter(t, g, cmd.Process.Pid)
			again, err := h.Load(g.ID())
			if err != nil {
				t.Fatal(err)
			}
			found, ok, err := Of(cmd.Process.Pid)
			if err != nil || !ok {
				t.Errorf("the group of the process: %v, %v", ok, err)
			} else if !strings.Contains(found.ID(), g.paths()[0]) {
				t.Errorf("the process lies in %s, want %s", found.ID(), g.ID())
			}
			if list, err := again.Procs(); err != nil || len(list) != 1 || list[0] != cmd.Process.Pid {
				t.Errorf("processes: got %v, %v", list, err)
			}
			checkFreezing(t, again)
			if err := again.Kill(t.Context()); err != nil {
				t.Error(err)
			}
			_ = cmd.Wait()
			if ws := cmd.ProcessState.Sys().(syscall.WaitStatus); ws.Signal() != syscall.SIGKILL {
				t.Errorf("process ended with %v", cmd.ProcessState)
			}
			if err := g.Delete(t.Context()); err != nil {
				t.Error(err)
			}
			if _, err := h.Load(g.ID()); !errors.Is(err, ErrNotExist) {
				t.Errorf("after Delete, Load gives %v", err)
			}
		})
	}
}

func checkFreezing(t *testing.T, g *Group) {
	t.Helper()
	if err := g.Freeze(t.Context()); err != nil {
		t.Error(err)
	}
	if on, err := g.layout.frozen(); !on || err != nil {
		t.Errorf("frozen: got %v, %v", on, err)
	}
	if err := g.Thaw(t.Context()); err != nil {
		t.Error(err)
	}
	// Killing a frozen group must work, too.
	if err := g.Freeze(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestOfThisProcess(t *testing.T) {
	if _, ok, err := Of(os.Getpid()); ok || err != nil {
		t.Errorf("got %v, %v", ok, err)
	}
}

func TestGroupsBelowAGroup(t *testing.T) {
	for which, h := range hierarchies(t) {
		t.Run(which, func(t *testing.T) {
			g := create(t, h, Config{Resources: Resources{}})
			cmd := sleeper(t)
			for _, dir := range g.paths() {
				if err := os.MkdirAll(filepath.Join(dir, "a", "b"), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := write(filepath.Join(dir, "a", "b"), "cgroup.procs", strconv.Itoa(cmd.Process.Pid)); err != nil {
					t.Fatal(err)
				}
			}
			go func() { _ = cmd.Wait() }()
			if err := g.Kill(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestDeleteOfABusyGroupFails(t *testing.T) {
	for which, h := range hierarchies(t) {
		t.Run(which, func(t *testing.T) {
			g := create(t, h, Config{})
			cmd := sleeper(t)
			enter(t, g, cmd.Process.Pid)
			if err := g.remove(); !errors.Is(err, syscall.EBUSY) {
				t.Errorf("got %v", err)
			}
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		})
	}
}

func TestRealLimits(t *testing.T) {
	testenv.Root(t)
	h, err := Detect()
	if err != nil {
		t.Fatal(err)
	}
	g := create(t, h, Config{Accounting: true, Resources: Resources{
		Memory: 64 << 20, MemorySwap: 64 << 20, CPUQuota: 50000, CPUShares: 512, CPUSetCPUs: "0", Pids: 9,
	}})
	s, err := g.Stats()
	if err != nil || s.MemoryLimit != 64<<20 || s.PidsLimit != 9 {
		t.Errorf("got %+v, %v", s, err)
	}
	if n, err := g.OOMKills(); n != 0 || err != nil {
		t.Errorf("killed for lack of memory: %d, %v", n, err)
	}
	// Raising both limits, and lowering both.
	for _, size := range []int64{256 << 20, 32 << 20} {
		if err := g.Update(Resources{Memory: size, MemorySwap: size}); err != nil {
			t.Error(err)
		}
		if s, err := g.Stats(); err != nil || s.MemoryLimit != uint64(size) {
			t.Errorf("got %+v, %v", s, err)
		}
	}
	// The process limit holds.
	cmd := exec.Command("/bin/sh", "-c", "read x; for i in 1 2 3 4 5 6 7 8 9 10 11 12; do sleep 5 & done")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	enter(t, g, cmd.Process.Pid)
	if _, err := in.Write([]byte("go\n")); err != nil {
		t.Fatal(err)
	}
	if cmd.Wait() == nil {
		t.Error("12 processes were started in a group of 9")
	}
	if err := g.Kill(t.Context()); err != nil {
		t.Error(err)
	}
}

// A place among systemd's hierarchies is where this machine has them.
func TestServices(t *testing.T) {
	for which, h := range hierarchies(t) {
		t.Run(which, func(t *testing.T) {
			cmd, g := sleeper(t), create(t, h, Config{Services: true})
			enter(t, g, cmd.Process.Pid)
			wants := map[string]string{}
			if own, ok := h.v1[namedSystemd]; ok {
				wants[systemd] = own
			}
			if h.unified != "" {
				wants[unifiedKey] = h.unified
			}
			for name, own := range wants {
				if dir := g.Dirs()[name]; filepath.Dir(dir) != own {
					t.Errorf("%s is in %q, want a directory in %s", name, dir, own)
				}
			}
			if again, err := h.Load(g.ID()); err != nil || again.ID() != g.ID() {
				t.Errorf("loaded: %v", err)
			}
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		})
	}
}

func TestSameNameTwice(t *testing.T) {
	testenv.Root(t)
	h, err := Detect()
	if err != nil {
		t.Fatal(err)
	}
	g := create(t, h, Config{})
	twice := Config{Name: filepath.Base(g.paths()[0])}
	if _, err := h.Create(twice); !errors.Is(err, os.ErrExist) {
		t.Errorf("got %v", err)
	}
}

func BenchmarkGroup(b *testing.B) {
	testenv.Root(b)
	h, err := Detect()
	if err != nil {
		b.Fatal(err)
	}
	r := Resources{Memory: 1 << 30, CPUQuota: 50000, Pids: 100}
	for b.Loop() {
		g, err := h.Create(Config{Name: "strata-bench-" + strconv.Itoa(os.Getpid()), Resources: r})
		if err != nil {
			b.Fatal(err)
		}
		if err := g.Delete(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
}

// slowLayout is a group whose processes never stand still.
type slowLayout struct {
	layout
	asked []bool
}

func (s *slowLayout) freeze(on bool) error { s.asked = append(s.asked, on); return nil }

func (s *slowLayout) frozen() (bool, error) { return false, nil }

// Who gives up freezing a group, as by an interrupt, does not leave it frozen
// later on: nobody would know.
func TestFreezeGivenUp(t *testing.T) {
	slow := &slowLayout{}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err := (&Group{layout: slow}).Freeze(ctx)
	if !errors.Is(err, context.Canceled) || !slices.Equal(slow.asked, []bool{true, false}) {
		t.Errorf("%v after %v, want it canceled and taken back", err, slow.asked)
	}
}

// A frozen process that was killed ends when it is thawed, and its group may be
// removed before anybody looks at it again.
func TestThawWhatIsGone(t *testing.T) {
	for which, h := range hierarchies(t) {
		t.Run(which, func(t *testing.T) {
			g := create(t, h, Config{Accounting: true})
			if err := g.Freeze(t.Context()); err != nil {
				t.Fatal(err)
			}
			if err := g.Delete(t.Context()); err != nil {
				t.Fatal(err)
			}
			if err := g.Thaw(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
}
