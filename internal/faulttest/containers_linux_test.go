package faulttest

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// sleeper is a command that ends when it is asked to, and not before.
var sleeper = []string{"sh", "-c", "trap 'exit 0' TERM; sleep 1000 & wait"}

// traces is all that a container could leave: what is in the store, and the
// namespaces of the machine.
type traces struct {
	store      []string
	namespaces int
}

// traces looks for what is there. It prunes nothing: who removes a container
// is done with it.
func (m *machine) traces() traces {
	m.t.Helper()
	m.nothingRuns()
	m.nothingMounted()
	return traces{m.entries(), namespaces(m.t)}
}

// warmed pulls the image, and makes what the first container and the first
// prune make for good.
func (m *machine) warmed(image string) traces {
	m.t.Helper()
	m.succeed("run", "--rm", image, "true")
	m.nothingHalfDone()
	m.succeed("run", "--rm", image, "true")
	m.succeed("run", "--rm", "-v", "/volume", image, "true")
	return m.traces()
}

// entries are the store's files and directories.
func (m *machine) entries() []string {
	m.t.Helper()
	var all []string
	err := filepath.WalkDir(m.store, func(path string, _ fs.DirEntry, err error) error {
		all = append(all, path)
		return err
	})
	if err != nil {
		m.t.Fatal(err)
	}
	return all
}

// namespaces counts those of the machine that containers have and nothing else
// has many of.
func namespaces(t *testing.T) int {
	t.Helper()
	data, err := os.ReadFile("/proc/slabinfo")
	if err != nil {
		t.Fatal(err)
	}
	count := 0
	for line := range strings.Lines(string(data)) {
		f := strings.Fields(line)
		if f[0] == "net_namespace" || f[0] == "pid_namespace" {
			n, err := strconv.Atoi(f[1])
			if err != nil {
				t.Fatal(err)
			}
			count += n
		}
	}
	if count == 0 {
		t.Fatal("the kernel does not count its namespaces")
	}
	return count
}

// nothingSince wants no more than there was before the containers.
func (m *machine) nothingSince(before traces, containers int) {
	m.t.Helper()
	now := m.traces()
	left := slices.DeleteFunc(now.store, func(name string) bool { return slices.Contains(before.store, name) })
	if len(left) > 0 {
		m.t.Errorf("%d files and directories are left in the store:\n%s", len(left), strings.Join(left[:min(len(left), 20)], "\n"))
	}
	// The kernel takes its time to take namespaces down, counts roughly, and
	// other processes have some too.
	deadline := time.Now().Add(bound)
	for n := now.namespaces; n > before.namespaces+containers/2; n = namespaces(m.t) {
		if time.Now().After(deadline) {
			m.t.Fatalf("there are %d namespaces after %d containers, and there were %d before", n, containers, before.namespaces)
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// containers lists those of the store.
func (m *machine) containers() []string {
	m.t.Helper()
	return strings.Fields(m.succeed("ps", "-aq", "--no-trunc"))
}

// state is what the program says of a container.
type state struct {
	State struct {
		Status   string
		Running  bool
		Pid      int
		ExitCode int
	}
	RestartCount int
}

func (m *machine) inspect(name string) state {
	m.t.Helper()
	var all []state
	text := m.succeed("inspect", name)
	if err := json.Unmarshal([]byte(text), &all); err != nil || len(all) != 1 {
		m.t.Fatalf("strata inspect wrote %v:\n%s", err, text)
	}
	return all[0]
}

// TestManyContainers runs 200 containers in the foreground and 200 in the
// background, several at a time, and wants nothing of them to be left.
func TestManyContainers(t *testing.T) {
	const containers, together = 200, 4
	image := busybox(t)
	for _, c := range []struct {
		name string
		run  func(m *machine, i int)
	}{
		{"foreground", func(m *machine, i int) {
			text := strconv.Itoa(i)
			if got := m.run("run", "--rm", image, "sh", "-c", "echo $0 > /file; cat /file", text); got.code != 0 || got.output != text+"\n" {
				m.t.Errorf("container %d ended with exit code %d, and wrote %q", i, got.code, got.output)
			}
		}},
		{"background", func(m *machine, i int) {
			name := fmt.Sprintf("c%d", i)
			ends := [][]string{{"stop", name}, {"rm", name}}
			more := []string{}
			switch i % 4 {
			case 1:
				ends = [][]string{{"rm", "-f", name}}
			case 2:
				ends = [][]string{{"kill", name}, {"wait", name}, {"rm", name}}
			case 3:
				more = []string{"--rm", "-v", "/volume", "-p", "127.0.0.1::80"}
				ends = [][]string{{"exec", name, "true"}, {"stop", name}}
			}
			args := append(append([]string{"run", "-d", "--name", name}, more...), image)
			for _, args := range append([][]string{append(args, sleeper...)}, ends...) {
				if got := m.run(args...); got.code != 0 {
					m.t.Errorf("strata %s ended with exit code %d:\n%s", strings.Join(args, " "), got.code, got.output)
				}
			}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := newMachine(t)
			before := m.warmed(image)
			var all sync.WaitGroup
			for worker := range together {
				all.Go(func() {
					for i := worker; i < containers; i += together {
						c.run(m, i)
					}
				})
			}
			all.Wait()
			if left := m.containers(); len(left) > 0 {
				t.Errorf("containers are left: %v", left)
			}
			m.nothingSince(before, containers)
		})
	}
}

// TestKilledMonitors kills the processes that stand by containers. A container
// ends with its monitor, everyone sees so, and it can be started again.
func TestKilledMonitors(t *testing.T) {
	m := newMachine(t)
	image := busybox(t)
	before := m.warmed(image)
	const containers = 10
	for i := range containers {
		name := fmt.Sprintf("c%d", i)
		m.succeed(append([]string{"run", "-d", "--name", name, "-v", "/volume", image}, sleeper...)...)
		m.killMonitor(name)
		if got := m.inspect(name).State; got.Running || got.ExitCode != 137 {
			t.Errorf("after its monitor was killed, the container is %+v", got)
		}
		m.succeed("exec", m.startedAgain(name), "true")
		m.killMonitor(name)
		m.succeed("rm", "-v", name)
		m.succeed(append([]string{"run", "-d", "--rm", "--name", name, image}, sleeper...)...)
		m.killMonitor(name) // nobody is left to remove it
	}
	if left := m.containers(); len(left) > 0 {
		t.Errorf("containers with --rm are left: %v", left)
	}
	m.nothingHalfDone() // what a killed process leaves falls to prune
	m.nothingSince(before, containers)
}

func (m *machine) startedAgain(name string) string {
	m.t.Helper()
	m.succeed("start", name)
	return name
}

// killMonitor kills the parent of a container's first process, and waits until
// both have ended.
func (m *machine) killMonitor(name string) {
	m.t.Helper()
	pid := m.inspect(name).State.Pid
	monitor := parent(m.t, pid)
	if err := unix.Kill(monitor, unix.SIGKILL); err != nil {
		m.t.Fatal(err)
	}
	for _, pid := range []int{pid, monitor} {
		if err := awaitExit(pid, time.Now().Add(bound)); err != nil {
			m.t.Fatalf("the container did not end with its monitor: process %d: %v", pid, err)
		}
	}
}

// parent reads the number of a process's parent.
func parent(t *testing.T, pid int) int {
	t.Helper()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	// The name may have any character; the state and the parent follow.
	f := strings.Fields(string(data[strings.LastIndexByte(string(data), ')')+1:]))
	n, err := strconv.Atoi(f[1])
	if err != nil || n <= 1 {
		t.Fatalf("process %d has the parent %q", pid, f[1])
	}
	return n
}

// TestRestartsLeaveNothingOpen wants a monitor to have the same descriptors
// after several restarts of its container.
func TestRestartsLeaveNothingOpen(t *testing.T) {
	m := newMachine(t)
	m.succeed(append([]string{"run", "-d", "--restart", "always", "--name", "c", "-p", "127.0.0.1::80", busybox(t)}, sleeper...)...)
	monitor := parent(t, m.inspect("c").State.Pid)
	var first int
	for restarts := range 5 {
		pid := m.awaitRun("c", restarts)
		open, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", monitor))
		if err != nil {
			t.Fatal(err)
		}
		if restarts == 1 {
			first = len(open)
		}
		if restarts > 1 && len(open) > first {
			t.Errorf("after %d restarts the monitor has %d descriptors, after the first %d", restarts, len(open), first)
		}
		if err := unix.Kill(pid, unix.SIGKILL); err != nil {
			t.Fatal(err)
		}
	}
	m.succeed("rm", "-f", "c")
	m.nothingRuns()
}

// awaitRun waits until a container runs after a number of restarts, and
// returns its process.
func (m *machine) awaitRun(name string, restarts int) int {
	m.t.Helper()
	for deadline := time.Now().Add(bound); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if got := m.inspect(name); got.RestartCount == restarts && got.State.Status == "running" {
			return got.State.Pid
		}
	}
	m.t.Fatalf("container %s does not run again: %+v", name, m.inspect(name))
	return 0
}

// TestPruneBesideContainers removes all that nobody needs while containers
// run, and while others come and go: what a container has, somebody needs.
func TestPruneBesideContainers(t *testing.T) {
	const rounds = 10
	m := newMachine(t)
	image := busybox(t)
	m.succeed(append([]string{"run", "-d", "--name", "long", "-v", "/volume", image, "sh", "-c",
		"echo kept > /mine; echo kept > /volume/mine; exec \"$@\"", "sh"}, sleeper...)...)
	m.succeed("create", "--name", "waits", image, "echo", "started")
	ending, over := make(chan struct{}), sync.WaitGroup{}
	prunes := 0
	over.Go(func() {
		for {
			select {
			case <-ending:
				return
			default:
			}
			if got := m.run("prune", "--all"); got.code != 0 {
				t.Errorf("prune --all ended with exit code %d:\n%s", got.code, got.output)
			}
			prunes++
		}
	})
	for i := range rounds {
		if got := m.run("run", "--rm", image, "cat", "/bin/busybox"); got.code != 0 {
			t.Errorf("container %d beside prune ended with exit code %d:\n%s", i, got.code, got.output)
		}
		if got := m.run("exec", "long", "sh", "-c", "cat /mine /volume/mine && cat /bin/busybox > /copy && cmp /copy /bin/busybox"); got.code != 0 || got.output != "kept\nkept\n" {
			t.Errorf("in the running container, beside prune: exit code %d:\n%s", got.code, got.output)
		}
	}
	close(ending)
	over.Wait()
	if prunes == 0 {
		t.Error("nothing was pruned beside the containers")
	}
	t.Logf("%d prunes beside %d containers", prunes, rounds)
	if got := m.run("start", "-a", "waits"); got.code != 0 || got.output != "started\n" {
		t.Errorf("the container that was not started yet ended with exit code %d:\n%s", got.code, got.output)
	}
	m.succeed("stop", "long")
	m.succeed("start", "long")
	if got := m.succeed("exec", "long", "cat", "/mine", "/volume/mine"); got != "kept\nkept\n" {
		t.Errorf("after a restart the container has %q", got)
	}
	m.succeed("rm", "-f", "-v", "long", "waits")
	m.nothingRuns()
	m.nothingMounted()
	m.nothingHalfDone()
}

// TestSameName starts containers of one name at once: one wins, the others
// say what is wrong, and leave nothing.
func TestSameName(t *testing.T) {
	m := newMachine(t)
	image := busybox(t)
	before := m.warmed(image)
	const rounds, each = 5, 3
	for range rounds {
		got := make([]outcome, each)
		together(each, func(i int) {
			got[i] = m.run(append([]string{"run", "-d", "--name", "same", image}, sleeper...)...)
		})
		winners := 0
		for _, o := range got {
			if o.code == 0 {
				winners++
			} else if o.code != 125 || !strings.Contains(o.output, `"same"`) || !strings.Contains(o.output, "in use") {
				t.Errorf("a loser ended with exit code %d:\n%s", o.code, o.output)
			}
		}
		if left := m.containers(); winners != 1 || len(left) != 1 {
			t.Errorf("%d containers were started, and %d are there, want one", winners, len(left))
		}
		m.succeed("rm", "-f", "same")
	}
	m.nothingSince(before, rounds*each)
}

// TestContainersOnAFullDisk runs out of space in a container, and before one
// can be made. It says so, and with space all is well again.
func TestContainersOnAFullDisk(t *testing.T) {
	const says = "no space left on device"
	m := newMachine(t)
	disk := newDisk(t, 20)
	m.store = filepath.Join(disk.dir, "strata")
	image := busybox(t)
	before := m.warmed(image)
	fill := []string{"dd", "if=/dev/zero", "of=/big", "bs=1M"}
	got := m.run(append([]string{"run", "--rm", image}, fill...)...)
	if got.code == 0 || !strings.Contains(strings.ToLower(got.output), says) {
		t.Errorf("dd on a full disk ended with exit code %d:\n%s", got.code, got.output)
	}
	m.nothingSince(before, 1)

	got = m.run(append([]string{"run", "--name", "full", image}, fill...)...)
	if got.code == 0 || !strings.Contains(strings.ToLower(got.output), says) {
		t.Errorf("a container that fills the disk ended with exit code %d:\n%s", got.code, got.output)
	}
	ballast := filepath.Join(disk.dir, "ballast")
	if err := os.WriteFile(ballast, noise(20<<20), 0o600); err == nil {
		t.Fatal("the disk is not full")
	}
	got = m.run("run", "-d", "--name", "none", image, "true")
	if got.code != 125 || !strings.Contains(strings.ToLower(got.output), says) {
		t.Errorf("a container without a disk ended with exit code %d:\n%s", got.code, got.output)
	}
	m.sane(got.output)
	m.nothingRuns()
	m.nothingMounted()
	m.succeed("rm", "full") // removing makes room, and needs none
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	if left := m.containers(); len(left) > 0 {
		t.Errorf("containers are left: %v", left)
	}
	m.succeed("run", "--rm", image, "true")
	m.nothingSince(before, 3)
}
