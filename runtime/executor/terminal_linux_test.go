package executor

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/strata-build/strata/runtime/rootfs"
	"golang.org/x/sys/unix"
)

// screen collects what a terminal shows, and lets a test wait for a text.
type screen struct {
	mu      sync.Mutex
	text    bytes.Buffer
	changed *sync.Cond
}

func newScreen() *screen {
	s := &screen{}
	s.changed = sync.NewCond(&s.mu)
	return s
}

func (s *screen) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	defer s.changed.Broadcast()
	return s.text.Write(b)
}

// patience is longer than anything takes that works.
const patience = time.Minute

func (s *screen) wait(t *testing.T, text string) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	late := false
	timer := time.AfterFunc(patience, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		late = true
		s.changed.Broadcast()
	})
	defer timer.Stop()
	for !strings.Contains(s.text.String(), text) {
		if late {
			t.Fatalf("there is no %q in %q", text, s.text.String())
		}
		s.changed.Wait()
	}
}

func TestTerminal(t *testing.T) {
	e := newExecutor(t)
	for _, user := range []rootfs.User{{}, {UID: 1000, GID: 1000}} {
		r := run(t, e, func(s *Spec) {
			s.Terminal, s.User = &Terminal{Rows: 33, Cols: 99}, user
		}, "sh", "-c", `tty; stty size; stat -c %u /dev/pts/0; echo err >&2; [ -t 0 ] && [ -t 2 ] && echo x > /dev/tty && echo y > /dev/pts/0; echo z > /dev/console; ps -o pid,tty | grep -c 136`)
		want := "/dev/pts/0\r\n33 99\r\n" + map[uint32]string{0: "0", 1000: "1000"}[user.UID] + "\r\nerr\r\nx\r\ny\r\nz\r\n"
		if !strings.HasPrefix(r.stdout, want) || r.err != nil {
			t.Errorf("got %q, %q, %v", r.stdout, r.stderr, r.err)
		}
	}
}

func TestTerminalOutputIsComplete(t *testing.T) {
	e := newExecutor(t)
	for range 20 {
		r := run(t, e, func(s *Spec) { s.Terminal = &Terminal{24, 80} }, "sh", "-c", "seq 1 20000; printf last")
		if !strings.HasSuffix(r.stdout, "20000\r\nlast") || len(r.stdout) != 128898 {
			t.Fatalf("got %d bytes, ending in %q", len(r.stdout), r.stdout[max(0, len(r.stdout)-20):])
		}
	}
}

func TestTerminalInputAndResize(t *testing.T) {
	e := newExecutor(t)
	in, typed := io.Pipe()
	out := newScreen()
	p, err := e.Start(t.Context(), &Spec{
		Root: newImage(t, base(t)).root,
		Command: Command{
			// By default ^C also throws away what was not yet read of the output.
			Args:  []string{"sh", "-c", `stty noflsh; trap 'stty size' WINCH; trap 'echo interrupted; exit 3' INT; echo ready; while :; do read x && echo "got $x"; done`},
			Env:   []string{"PATH=/bin"},
			Stdin: in, Stdout: out, Terminal: &Terminal{24, 80},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	out.wait(t, "ready")
	write := func(s string) {
		if _, err := io.WriteString(typed, s); err != nil {
			t.Error(err)
		}
	}
	write("hello\r")
	out.wait(t, "got hello")
	if err := p.Resize(Terminal{50, 120}); err != nil {
		t.Error(err)
	}
	write("\r")
	out.wait(t, "50 120")
	write("again\r")
	// Back at reading, with no stty that would get the ^C too.
	out.wait(t, "got again")
	write("\x03")
	write("\r") // if the signal came just before the shell began to wait
	out.wait(t, "interrupted")
	if s, err := p.Wait(); s.ExitCode != 3 || err != nil {
		t.Errorf("got %+v, %v", s, err)
	}
	if p.Resize(Terminal{1, 1}) == nil {
		t.Error("the terminal of a process that has ended was resized")
	}
}

func TestResizeWithoutTerminal(t *testing.T) {
	e := newExecutor(t)
	p, err := e.Start(t.Context(), &Spec{
		Root: newImage(t, base(t)).root, Command: Command{Args: []string{"true"}, Env: []string{"PATH=/bin"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	if p.Resize(Terminal{1, 1}) == nil {
		t.Error("a terminal that is not there was resized")
	}
	if _, err := p.Wait(); err != nil {
		t.Error(err)
	}
}

func TestTerminalWithoutPts(t *testing.T) {
	e := newExecutor(t)
	r := run(t, e, func(s *Spec) {
		s.Terminal = &Terminal{24, 80}
		s.Mounts = []Mount{{Target: "/dev/pts", Source: bind(t, t.TempDir())}}
	}, "true")
	if r.err == nil || !strings.Contains(r.err.Error(), "/dev/pts") {
		t.Errorf("got %v", r.err)
	}
}

// idle waits, as the first process of a container.
const idle = "cd /tmp; echo ready; exec sleep 1000"

// container starts a process that Exec can join, and that says "ready".
func container(t *testing.T, e *Executor, out *screen, script string) (*Process, Target) {
	t.Helper()
	s := &Spec{
		Root: newImage(t, base(t)).root, Hostname: "container",
		Command: Command{Args: []string{"sh", "-c", script}, Env: []string{"PATH=/bin"}, Stdout: out},
	}
	p, err := e.Start(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = p.Signal(unix.SIGKILL)
		if s, err := p.Wait(); s.Signal != unix.SIGKILL && s.ExitCode != 137 {
			t.Errorf("container: %+v, %v", s, err)
		}
	})
	out.wait(t, "ready")
	start, err := p.StartTime()
	if err != nil {
		t.Fatal(err)
	}
	return p, Target{PID: p.PID(), StartTime: start}
}

func execIn(t *testing.T, e *Executor, target Target, c *Command) (string, Status, error) {
	t.Helper()
	var out bytes.Buffer
	c.Env, c.Stdout = append(c.Env, "PATH=/bin"), &out
	if c.Terminal == nil {
		c.Stderr = &out
	}
	p, err := e.Exec(t.Context(), target, c)
	if err != nil {
		return "", Status{}, err
	}
	s, err := p.Wait()
	return out.String(), s, err
}

func TestExec(t *testing.T) {
	e := newExecutor(t)
	_, target := container(t, e, newScreen(), idle)
	script := `hostname; [ -d /proc/1 ] && [ $$ != 1 ] && echo beside; pwd; id -u; for p in self 1; do readlink /proc/$p/ns/pid; done | uniq | wc -l; grep -E '^CapEff|^Seccomp:' /proc/self/status; for f in $(seq 0 99); do [ -L /proc/$$/fd/$f ] && echo -n $f; done; echo; exit 4`
	got, s, err := execIn(t, e, target, &Command{Args: []string{"sh", "-c", script}, Cwd: "/tmp"})
	lines := strings.Split(strings.TrimSpace(got), "\n")
	if err != nil || s.ExitCode != 4 || len(lines) != 8 {
		t.Fatalf("got %q, %+v, %v", got, s, err)
	}
	want := []string{"container", "beside", "/tmp", "0", "1", "CapEff:\t00000000a80425fb", "Seccomp:\t2", "012"}
	for i := range want {
		if lines[i] != want[i] {
			t.Errorf("line %d: got %q, want %q", i, lines[i], want[i])
		}
	}
	// Another start comes from the namespace that it should.
	if got := sh(t, e, nil, "echo $$"); got != "1" {
		t.Errorf("after Exec, a step is process %s", got)
	}
}

func TestExecUserAndTerminal(t *testing.T) {
	e := newExecutor(t)
	_, target := container(t, e, newScreen(), idle)
	got, _, err := execIn(t, e, target, &Command{
		Args: []string{"sh", "-c", "id -u; tty; stty size; echo x > $(tty)"}, User: rootfs.User{UID: 1000, GID: 1000}, Terminal: &Terminal{11, 22},
	})
	if got != "1000\r\n/dev/pts/0\r\n11 22\r\nx\r\n" || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestExecErrors(t *testing.T) {
	e := newExecutor(t)
	p, target := container(t, e, newScreen(), idle)
	for name, c := range map[string]struct {
		target Target
		cmd    Command
		want   error
	}{
		"missing":            {target, Command{Args: []string{"missing"}}, ErrNotFound},
		"directory outside":  {target, Command{Args: []string{"true"}, Cwd: "/proc/self/fd/3"}, ErrCwd},
		"another process":    {Target{target.PID, target.StartTime + 1}, Command{Args: []string{"true"}}, nil},
		"no process":         {Target{PID: 1 << 22}, Command{Args: []string{"true"}}, unix.ESRCH},
		"nothing to execute": {target, Command{}, nil},
	} {
		_, _, err := execIn(t, e, c.target, &c.cmd)
		if err == nil || (c.want != nil && !errors.Is(err, c.want)) {
			t.Errorf("%s: got %v, want %v", name, err, c.want)
		}
	}
	if err := p.Signal(unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Wait(); err != nil {
		t.Fatal(err)
	}
	if _, _, err := execIn(t, e, target, &Command{Args: []string{"true"}}); err == nil {
		t.Error("a container that has ended was entered")
	}
}

func TestExecCancel(t *testing.T) {
	e := newExecutor(t)
	first, target := container(t, e, newScreen(), idle)
	why := errors.New("enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	out := newScreen()
	p, err := e.Exec(ctx, target, &Command{
		Args: []string{"sh", "-c", "trap '' TERM; echo ready; sleep 1000"}, Env: []string{"PATH=/bin"}, Stdout: out,
	})
	if err != nil {
		t.Fatal(err)
	}
	out.wait(t, "ready")
	cancel(why)
	if s, err := p.Wait(); !errors.Is(err, why) || s.Signal != unix.SIGKILL {
		t.Errorf("got %+v, %v", s, err)
	}
	// The container goes on.
	if err := first.Signal(0); err != nil {
		t.Error(err)
	}
	if _, err := e.Exec(ctx, target, &Command{Args: []string{"true"}}); !errors.Is(err, why) {
		t.Errorf("with a cancelled context: got %v", err)
	}
}

// A process that is left behind holds the output; nobody waits for it, and it
// ends with the container.
func TestExecStraggler(t *testing.T) {
	e := newExecutor(t)
	_, target := container(t, e, newScreen(), idle)
	got, s, err := execIn(t, e, target, &Command{Args: []string{"sh", "-c", "sleep 1000 & echo done"}})
	if got != "done\n" || s.ExitCode != 0 || err != nil {
		t.Errorf("got %q, %+v, %v", got, s, err)
	}
}

// CVE-2016-9962: a process of the container looks at the one that joins it.
// The one that joins cannot be traced at any moment, so that none of its open
// files can be read; the container has the capability that the default has not.
func TestExecCannotBeTraced(t *testing.T) {
	e := newExecutor(t)
	spy := `
		while :; do
			for p in /proc/[0-9]*; do
				[ $p = /proc/1 ] && continue
				l=$(readlink $p/exe) 2>/dev/null || continue
				case $l in /bin/*) ;; ?*) echo "saw $l";; esac
			done
		done`
	out := newScreen()
	_, target := container(t, e, out, "echo ready; "+spy)
	for range 100 {
		if _, _, err := execIn(t, e, target, &Command{Args: []string{"true"}}); err != nil {
			t.Fatal(err)
		}
	}
	out.mu.Lock()
	defer out.mu.Unlock()
	if strings.Contains(out.text.String(), "saw") {
		t.Errorf("the container saw %q", out.text.String())
	}
}
