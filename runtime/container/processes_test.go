package container

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/strata-build/strata/runtime/cgroup"
)

// TestParseProcess: a process may have any name, also one that looks like the
// rest of the line.
func TestParseProcess(t *testing.T) {
	boot := time.Unix(1000, 0)
	const line = "42 (a) S 1 (b)) R 7 42 42 34817 42 4194304 105 0 0 0 250 50 3 4 20 0 6 0 12345 5242880 100 18446744073709551615 1 1"
	var p Process
	name, err := p.parse(line, boot)
	if err != nil {
		t.Fatal(err)
	}
	want := Process{
		Parent: 7, Terminal: 34817, Threads: 6, CPU: 3 * time.Second, Reaped: 70 * time.Millisecond,
		Started: time.Unix(1123, 450_000_000), Memory: 100 * uint64(os.Getpagesize()),
	}
	if name != "a) S 1 (b)" || p != want {
		t.Errorf("got %q %+v, want %+v", name, p, want)
	}
	for _, bad := range []string{"", "42", "42 (a", "42 (a) S 1 2", strings.Replace(line, "12345", "x", 1)} {
		if _, err := p.parse(bad, boot); err == nil {
			t.Errorf("%q is understood", bad)
		}
	}
}

func TestCommandLine(t *testing.T) {
	for _, c := range []struct{ line, want string }{
		{"sh\x00-c\x00a b\x00", "sh -c a b"}, {"", "[name]"}, {"x\x1b[2Jy\n\x00", "x?[2Jy?"}, {"größe\x00", "größe"},
	} {
		if got := commandLine([]byte(c.line), "name"); got != c.want {
			t.Errorf("%q is shown as %q, want %q", c.line, got, c.want)
		}
	}
}

// TestOwnProcess reads what is known of this very process.
func TestOwnProcess(t *testing.T) {
	boot, err := bootTime()
	if err != nil {
		t.Fatal(err)
	}
	p, err := readProcess(os.Getpid(), boot)
	if err != nil {
		t.Fatal(err)
	}
	if p.Parent != os.Getppid() || p.UID != uint32(os.Geteuid()) || p.Memory == 0 || p.Threads == 0 ||
		time.Since(p.Started) < -2*time.Second || time.Since(p.Started) > time.Hour || !strings.Contains(p.Command, "container.test") {
		t.Errorf("this process (%d of %d) is seen as %+v", os.Getpid(), os.Getppid(), p)
	}
	pids, err := namespacePIDs(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, pid := range pids {
		if pid == os.Getpid() {
			found++
		}
	}
	if found != 1 {
		t.Errorf("this process is %d times in its pid namespace: %v", found, pids)
	}
}

func TestCPUPercent(t *testing.T) {
	at := time.Unix(100, 0)
	before := Stats{Read: at, Stats: cgroup.Stats{CPU: 5 * time.Second}}
	for _, c := range []struct {
		after time.Duration
		cpu   time.Duration
		want  float64
	}{
		{time.Second, 6 * time.Second, 100}, {2 * time.Second, 8 * time.Second, 150}, {time.Second, 5 * time.Second, 0},
		{time.Second, time.Second, 0}, {0, 6 * time.Second, 0},
	} {
		now := Stats{Read: at.Add(c.after), Stats: cgroup.Stats{CPU: c.cpu}}
		if got := now.CPUPercent(before); got != c.want {
			t.Errorf("%s of processor after %s are %f %%, want %f", c.cpu, c.after, got, c.want)
		}
		if got := now.CPUPercent(Stats{}); got != 0 {
			t.Errorf("without an earlier reading there are %f %%", got)
		}
	}
}

func TestOverlayResources(t *testing.T) {
	old := cgroup.Resources{Memory: 1, MemorySwap: 2, CPUShares: 3, CPUSetCPUs: "0", Pids: 4}
	got := overlayResources(old, cgroup.Resources{Memory: 10, CPUQuota: 5, CPUPeriod: 6, CPUSetMems: "1", Pids: -1})
	want := cgroup.Resources{
		Memory: 10, MemorySwap: 2, CPUQuota: 5, CPUPeriod: 6, CPUShares: 3, CPUSetCPUs: "0", CPUSetMems: "1", Pids: -1,
	}
	if got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}
