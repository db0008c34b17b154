package executor

import (
	"bytes"
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/strata-build/strata/runtime/mount"
	"github.com/strata-build/strata/runtime/rootfs"
	"golang.org/x/sys/unix"
)

func TestExitCodes(t *testing.T) {
	e := newExecutor(t)
	dir := base(t)
	for script, want := range map[string]Status{
		"exit 0":                      {ExitCode: 0},
		"exit 3":                      {ExitCode: 3},
		"exit 255":                    {ExitCode: 255},
		"sh -c 'kill -9 $$'; exit $?": {ExitCode: 137},
	} {
		r := run(t, e, func(s *Spec) { s.Root = newImage(t, dir).root }, "sh", "-c", script)
		if r.err != nil || r.ExitCode != want.ExitCode || r.Signal != 0 {
			t.Errorf("%s: got %+v, %v", script, r.Status, r.err)
		}
	}
}

func TestSignals(t *testing.T) {
	e := newExecutor(t)
	for _, sig := range []unix.Signal{unix.SIGKILL, unix.SIGTERM} {
		// The first process of a namespace gets only signals that it handles,
		// and SIGKILL.
		r, w := io.Pipe()
		p, err := e.Start(t.Context(), &Spec{
			Root: newImage(t, base(t)).root,
			Command: Command{
				Args: []string{"sh", "-c", "trap 'echo caught; exit 5' TERM; echo ready; while :; do sleep 1 & wait $!; done"},
				Env:  []string{"PATH=/bin"}, Stdout: w,
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		line := make([]byte, 6)
		if _, err := io.ReadFull(r, line); err != nil {
			t.Fatal(err)
		}
		go func() { _, _ = io.Copy(io.Discard, r) }()
		if err := p.Signal(sig); err != nil {
			t.Fatal(err)
		}
		s, err := p.Wait()
		want := Status{ExitCode: 5}
		if sig == unix.SIGKILL {
			want = Status{ExitCode: 137, Signal: unix.SIGKILL}
		}
		if err != nil || s.ExitCode != want.ExitCode || s.Signal != want.Signal {
			t.Errorf("%v: got %+v, %v", sig, s, err)
		}
		if err := p.Signal(sig); !errors.Is(err, os.ErrProcessDone) {
			t.Errorf("signal after the end: got %v", err)
		}
	}
}

func TestCommandThatCannotBeExecuted(t *testing.T) {
	e := newExecutor(t)
	const garbage = "\x00\x01\x02\x03"
	top := layer(t, map[string]string{"bin/plain": garbage, "bin/garbage": garbage, "bin/script": "#!/none\n"})
	if err := os.Chmod(filepath.Join(top, "bin/plain"), 0o644); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]error{
		"missing":     ErrNotFound,
		"/missing":    ErrNotFound,
		"/etc/x/y":    ErrNotFound,
		"/bin/script": ErrNotFound,
		"plain":       ErrNotFound,
		"":            ErrNotFound,
		"/bin/plain":  ErrNotExecutable,
		"/bin":        ErrNotExecutable,
		"garbage":     ErrNotExecutable,
	} {
		r := run(t, e, func(s *Spec) { s.Root = newImage(t, base(t), top).root }, name)
		if !errors.Is(r.err, want) {
			t.Errorf("%s: got %v, want %v", name, r.err, want)
		}
	}
	r := run(t, e, func(s *Spec) { s.Root = newImage(t, base(t), top).root }, "missing")
	if want := `command not found: there is no program "missing" in the PATH (/bin)`; r.err == nil || r.err.Error() != want {
		t.Errorf("got %v, want %s", r.err, want)
	}
}

func TestRefusedSpecs(t *testing.T) {
	e := newExecutor(t)
	dir := base(t)
	for name, change := range map[string]func(*Spec){
		"no command":     func(s *Spec) { s.Args = nil },
		"empty command":  func(s *Spec) { s.Args = []string{""} },
		"zero in args":   func(s *Spec) { s.Args = []string{"true", "a\x00b"} },
		"zero in env":    func(s *Spec) { s.Env = []string{"A=\x00"} },
		"relative cwd":   func(s *Spec) { s.Cwd = "tmp" },
		"long host name": func(s *Spec) { s.Hostname = strings.Repeat("x", 65) },
		"capability":     func(s *Spec) { s.Security.Capabilities = []string{"CAP_MAGIC"} },
		"limit":          func(s *Spec) { s.Rlimits = []Rlimit{{Name: "beer", Soft: 1, Hard: 1}} },
		"limit order":    func(s *Spec) { s.Rlimits = []Rlimit{{Name: "nofile", Soft: 2, Hard: 1}} },
		"network":        func(s *Spec) { s.Network.Mode = NetworkNS },
	} {
		r := run(t, e, func(s *Spec) { s.Root = newImage(t, dir).root; change(s) }, "true")
		if r.err == nil {
			t.Errorf("%s: was accepted", name)
		}
	}
	if _, err := e.Run(t.Context(), &Spec{Command: Command{Args: []string{"true"}}}); err == nil {
		t.Error("a step without root was accepted")
	}
}

func TestEnvironment(t *testing.T) {
	e := newExecutor(t)
	r := run(t, e, func(s *Spec) { s.Env = []string{"PATH=/none", "PATH=/bin", "A=1 2", "B="} }, "env")
	if r.stdout != "PATH=/none\nPATH=/bin\nA=1 2\nB=\n" {
		t.Errorf("got %q, %v", r.stdout, r.err)
	}
	if r := run(t, e, func(s *Spec) { s.Env = nil }, "env"); r.stdout != "" || r.err != nil {
		t.Errorf("without environment: got %q, %v", r.stdout, r.err)
	}
}

func TestUsers(t *testing.T) {
	e := newExecutor(t)
	u := rootfs.User{UID: 1234, GID: 56, Groups: []uint32{7, 8}}
	got := sh(t, e, func(s *Spec) { s.User = u }, `id -u; id -g; id -G; echo x > /dev/stdout; touch /tmp/f; stat -c %u:%g:%a /tmp/f`)
	want := "1234\n56\n56 7 8\nx\n1234:56:644"
	if singleID() {
		want = "1234\n56\n56\nx\n1234:56:644" // nobody can join a group
	}
	if got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := sh(t, e, nil, "id -u; id -g; id -G"); got != "0\n0\n0" {
		t.Errorf("root: got %q", got)
	}
}

func TestWorkingDirectory(t *testing.T) {
	e := newExecutor(t)
	top := layer(t, map[string]string{"abs": "-> /tmp", "out": "-> ../../../../../../../../tmp"})
	for cwd, want := range map[string]string{"": "/", "/tmp": "/tmp", "/abs": "/tmp", "/out": "/tmp", "/../etc/../tmp/.": "/tmp"} {
		got := sh(t, e, func(s *Spec) { s.Root, s.Cwd = newImage(t, base(t), top).root, cwd }, "pwd -P")
		if got != want {
			t.Errorf("%q: got %q, want %q", cwd, got, want)
		}
	}
	for _, cwd := range []string{"/none", "/bin/busybox"} {
		r := run(t, e, func(s *Spec) { s.Root, s.Cwd = newImage(t, base(t), top).root, cwd }, "pwd")
		if !errors.Is(r.err, ErrCwd) || !strings.Contains(r.err.Error(), cwd) {
			t.Errorf("%q: got %v", cwd, r.err)
		}
	}
}

func TestNamespaces(t *testing.T) {
	e := newExecutor(t)
	got := sh(t, e, func(s *Spec) { s.Hostname = "box" }, `hostname; echo $$; ls /proc | grep -c '^[0-9]'; cat /proc/self/cgroup | head -1 | cut -d: -f3; ip link | grep -c UP`)
	f := strings.Fields(got)
	if len(f) != 5 || f[0] != "box" || f[1] != "1" || f[3] != "/" || f[4] != "1" {
		t.Errorf("got %q", got)
	}
	for _, ns := range []string{"mnt", "pid", "ipc", "uts", "net", "cgroup"} {
		own, err := os.Readlink("/proc/self/ns/" + ns)
		if err != nil {
			t.Fatal(err)
		}
		if got := sh(t, e, nil, "readlink /proc/self/ns/"+ns); got == own || !strings.HasPrefix(got, ns) {
			t.Errorf("%s: got %s, and outside it is %s", ns, got, own)
		}
	}
}

func TestHostNetwork(t *testing.T) {
	e := newExecutor(t)
	own, err := os.Readlink("/proc/self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	got := sh(t, e, func(s *Spec) { s.Network.Mode = NetworkHost }, "readlink /proc/self/ns/net; ls /sys/class/net | grep -c lo")
	if got != own+"\n1" {
		t.Errorf("got %q, want %s", got, own)
	}
}

func TestNetworkNamespace(t *testing.T) {
	e := newExecutor(t)
	ns := newNetwork(t)
	want, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", ns.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	got := sh(t, e, func(s *Spec) { s.Network = Network{Mode: NetworkNS, NS: ns} }, "readlink /proc/self/ns/net; ls /sys/class/net")
	if got != want+"\nlo" {
		t.Errorf("got %q, want %s", got, want)
	}
}

// newNetwork makes a network namespace, which no process is in.
func newNetwork(t *testing.T) *os.File {
	t.Helper()
	type made struct {
		ns  *os.File
		err error
	}
	done := make(chan made)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends
		err := unix.Unshare(unix.CLONE_NEWNET)
		ns, openErr := os.Open("/proc/thread-self/ns/net")
		done <- made{ns, errors.Join(err, openErr)}
	}()
	m := <-done
	if m.err != nil {
		t.Fatal(m.err)
	}
	t.Cleanup(func() { m.ns.Close() })
	return m.ns
}

func TestSignalsAreReset(t *testing.T) {
	e := newExecutor(t)
	signal.Ignore(unix.SIGHUP) // as under nohup
	defer signal.Reset(unix.SIGHUP)
	r := run(t, e, nil, "grep", "-E", "^Sig(Blk|Ign)", "/proc/self/status")
	if r.stdout != "SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\n" {
		t.Errorf("got %q, %v", r.stdout, r.err)
	}
}

func TestUmaskAndLimits(t *testing.T) {
	e := newExecutor(t)
	old := unix.Umask(0o077)
	got := sh(t, e, nil, "umask; ulimit -n; ulimit -Hn")
	unix.Umask(old)
	if f := strings.Fields(got); f[0] != "0022" || f[1] != "1024" {
		t.Errorf("got %q", got)
	}
	got = sh(t, e, func(s *Spec) { s.Rlimits = []Rlimit{{"nofile", 77, 99}, {"core", 0, 0}} }, "ulimit -n; ulimit -Hn; ulimit -c")
	if got != "77\n99\n0" {
		t.Errorf("got %q", got)
	}
}

// TestLimitAboveOwn: who asks for more than there is is told how much there is.
func TestLimitAboveOwn(t *testing.T) {
	e := newExecutor(t)
	var own unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &own); err != nil {
		t.Fatal(err)
	}
	// No process may have so many files, whatever its capabilities.
	r := run(t, e, func(s *Spec) { s.Rlimits = []Rlimit{{"nofile", 5, 1 << 40}} }, "true")
	want := fmt.Sprintf("set limit nofile to 5:1099511627776, above Strata's own of %d: operation not permitted", own.Max)
	if r.err == nil || r.err.Error() != want {
		t.Errorf("got %v\nwant %s", r.err, want)
	}
}

func TestOOMScore(t *testing.T) {
	e := newExecutor(t)
	score := 321
	got := sh(t, e, func(s *Spec) { s.OOMScoreAdj = &score }, "cat /proc/self/oom_score_adj")
	own, err := os.ReadFile("/proc/self/oom_score_adj")
	if got != "321" || err != nil || strings.TrimSpace(string(own)) == "321" {
		t.Errorf("got %q; this process has %q, %v", got, own, err)
	}
}

func TestCancel(t *testing.T) {
	e := newExecutor(t)
	why := errors.New("the user has had enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	r, w := io.Pipe()
	p, err := e.Start(ctx, &Spec{
		Root: newImage(t, base(t)).root,
		Command: Command{
			Args: []string{"sh", "-c", "trap '' TERM INT HUP; sleep 1000 & echo ready; sleep 1000"}, Env: []string{"PATH=/bin"}, Stdout: w,
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(r, make([]byte, 6)); err != nil {
		t.Fatal(err)
	}
	cancel(why)
	s, err := p.Wait()
	if !errors.Is(err, why) || s.Signal != unix.SIGKILL {
		t.Errorf("got %+v, %v", s, err)
	}
	if _, err := e.Start(ctx, &Spec{}); !errors.Is(err, why) {
		t.Errorf("start with a cancelled context: got %v", err)
	}
}

func TestCloseKills(t *testing.T) {
	e := newExecutor(t)
	other, err := New(Options{})
	if err != nil {
		t.Fatal(err)
	}
	p, err := other.Start(t.Context(), &Spec{
		Root: newImage(t, base(t)).root, Command: Command{Args: []string{"sleep", "1000"}, Env: []string{"PATH=/bin"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := other.Close(); err != nil {
		t.Fatal(err)
	}
	if s, err := p.Wait(); err != nil || s.Signal != unix.SIGKILL {
		t.Errorf("got %+v, %v", s, err)
	}
	if r := run(t, other, nil, "true"); !errors.Is(r.err, errClosed) {
		t.Errorf("after Close: got %v", r.err)
	}
	sh(t, e, nil, "true")
}

// lonelyVariable names the base image for a process that starts a step and
// waits to be killed.
const lonelyVariable = "STRATA_TEST_LONELY"

func lonely() int {
	e, err := New(Options{})
	if err != nil {
		return 1
	}
	root, err := mount.Tree{Dir: os.Getenv(lonelyVariable)}.Open()
	if err != nil {
		return 2
	}
	_, err = e.Run(context.Background(), &Spec{Root: root, Command: Command{
		Args: []string{"sh", "-c", "sleep 1000 & echo ready; sleep 1000"}, Env: []string{"PATH=/bin"}, Stdout: os.Stdout,
	}})
	fmt.Fprintln(os.Stderr, err)
	return 3
}

// Strata is killed: its steps end, whoever they run as.
func TestDiesWithParent(t *testing.T) {
	newExecutor(t)
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), lonelyVariable+"="+base(t))
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(out, make([]byte, 6)); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	// The step's processes have the pipe; its end is their end.
	if rest, err := io.ReadAll(out); err != nil || len(rest) != 0 {
		t.Errorf("got %q, %v", rest, err)
	}
	_ = cmd.Wait()
}

func TestUsage(t *testing.T) {
	e := newExecutor(t)
	r := run(t, e, nil, "sh", "-c", "i=0; while [ $i -lt 30000 ]; do i=$((i+1)); done")
	if r.User+r.System < time.Millisecond || r.MaxRSS < 100<<10 {
		t.Errorf("got %+v", r.Status)
	}
}

// static says that this test program can run in the busybox image. With cgo,
// which the race detector needs, it cannot; Strata is always built without.
func static(t *testing.T) {
	t.Helper()
	f, err := elf.Open("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			t.Skip("NOT STATIC: this test needs CGO_ENABLED=0, as the Makefile has it")
		}
	}
}

// Lookups below a root are given up by the kernel while anything is renamed
// anywhere, if there is a '..' in the path: a start is not.
func TestWorkingDirectoryInAStormOfRenames(t *testing.T) {
	e := newExecutor(t)
	done := make(chan struct{})
	var storm sync.WaitGroup
	for range 2 {
		from := t.TempDir() + "/a"
		if err := os.Mkdir(from, 0o755); err != nil {
			t.Fatal(err)
		}
		storm.Go(func() {
			for to := from + "b"; ; from, to = to, from {
				select {
				case <-done:
					return
				default:
				}
				if err := os.Rename(from, to); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	cwd := strings.Repeat("/etc/../tmp/..", 100)
	for range 20 {
		if r := run(t, e, func(s *Spec) { s.Cwd = cwd }, "true"); r.err != nil || r.ExitCode != 0 {
			t.Errorf("exit code %d, %v", r.ExitCode, r.err)
		}
	}
	close(done)
	storm.Wait()
}

func TestInit(t *testing.T) {
	static(t)
	e := newExecutor(t)
	initOn := func(s *Spec) { s.Init = true }
	// An orphan is reaped: it does not stay as a zombie.
	got := sh(t, e, initOn, `sh -c 'sleep 0 & echo $! > /tmp/pid'; cat /proc/1/comm; while [ -e /proc/$(cat /tmp/pid) ]; do :; done; echo gone`)
	if !strings.HasSuffix(got, "\ngone") {
		t.Errorf("got %q", got)
	}
	for script, want := range map[string]int{"exit 9": 9, "kill -TERM $$": 143} {
		if r := run(t, e, initOn, "sh", "-c", script); r.ExitCode != want || r.err != nil {
			t.Errorf("%s: got %+v", script, r)
		}
	}
	if r := run(t, e, initOn, "missing"); r.ExitCode != 127 {
		t.Errorf("missing: got %+v", r)
	}
}

func TestInitPassesSignalsOn(t *testing.T) {
	static(t)
	e := newExecutor(t)
	r, w := io.Pipe()
	p, err := e.Start(t.Context(), &Spec{
		Root: newImage(t, base(t)).root, Init: true,
		Command: Command{
			Args: []string{"sh", "-c", "trap 'exit 44' TERM; echo ready; while :; do sleep 1 & wait $!; done"}, Env: []string{"PATH=/bin"}, Stdout: w,
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(r, make([]byte, 6)); err != nil {
		t.Fatal(err)
	}
	if err := p.Signal(unix.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if s, err := p.Wait(); err != nil || s.ExitCode != 44 {
		t.Errorf("got %+v, %v", s, err)
	}
}

// 200 starts, some at the same time, leave nothing behind.
func TestNothingIsLeft(t *testing.T) {
	e := newExecutor(t)
	dir := base(t)
	before := traces(t)
	slots := make(chan struct{}, 8)
	failed := make(chan error, 200)
	for i := range 200 {
		slots <- struct{}{}
		go func() {
			defer func() { <-slots }()
			failed <- oneOfMany(t, e, dir, i)
		}()
	}
	for range 200 {
		if err := <-failed; err != nil {
			t.Error(err)
		}
	}
	if after := traces(t); after != before {
		t.Errorf("before: %+v\nafter: %+v", before, after)
	}
}

func oneOfMany(t *testing.T, e *Executor, dir string, i int) error {
	im := newImage(t, dir)
	defer im.root.Close()
	var out bytes.Buffer
	args := []string{"sh", "-c", "sleep 1000 & echo " + strconv.Itoa(i)}
	if i%5 == 0 {
		args = []string{"missing"}
	}
	s, err := e.Run(t.Context(), &Spec{Root: im.root, Command: Command{Args: args, Env: []string{"PATH=/bin"}, Stdout: &out}})
	switch {
	case i%5 == 0 && !errors.Is(err, ErrNotFound):
		return errors.Join(errors.New("a missing command was executed"), err)
	case i%5 != 0 && (err != nil || s.ExitCode != 0 || out.String() != strconv.Itoa(i)+"\n"):
		return errors.Join(errors.New("got "+out.String()), err)
	}
	return nil
}

// trace is what a step could leave behind. The mounts are those of this test's
// directories: other programs mount as they like.
type trace struct{ files, mounts, children int }

func traces(t *testing.T) trace {
	t.Helper()
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	tasks, err := filepath.Glob("/proc/self/task/*/children")
	if err != nil {
		t.Fatal(err)
	}
	children := 0
	for _, task := range tasks {
		text, _ := os.ReadFile(task)
		children += len(strings.Fields(string(text)))
	}
	return trace{len(fds), bytes.Count(mounts, []byte("/"+t.Name())), children}
}
