package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/strata-build/strata/internal/testenv"
	"github.com/strata-build/strata/internal/testimage"
)

// terminal is one that a person sits at, with strata in it.
type terminal struct {
	t      *testing.T
	master *os.File
	before unix.Termios
	cmd    *exec.Cmd
	ended  chan error

	mu   sync.Mutex
	seen bytes.Buffer
}

// terminals runs strata in terminals, on a store with busybox.
type terminals struct {
	t             *testing.T
	program, root string
}

// in is for a subtest: what fails there fails that.
func (m *terminals) in(t *testing.T) *terminals { return &terminals{t, m.program, m.root} }

func newTerminals(t *testing.T) *terminals {
	t.Helper()
	if containerKind() == asRoot {
		testenv.Root(t)
	}
	root, err := os.MkdirTemp("", "strata-terminals-")
	if err != nil {
		t.Fatal(err)
	}
	dir := containerProgram(t)
	m := &terminals{t, filepath.Join(dir, "strata"), root}
	t.Cleanup(func() {
		nothingLeft(t, dir, root)
		os.RemoveAll(root)
	})
	image := testimage.Push(t, testimage.Registry(t), "busybox:1", testimage.Busybox(t))
	for _, args := range [][]string{{"pull", "-q", image}, {"tag", image, "busybox"}} {
		m.strata(args...)
	}
	return m
}

func (m *terminals) strata(args ...string) string {
	m.t.Helper()
	cmd := exec.Command(m.program, args...)
	cmd.Env = append(os.Environ(), "STRATA_ROOT="+m.root)
	out, err := cmd.CombinedOutput()
	if err != nil {
		m.t.Fatalf("strata %v: %v\n%s", args, err, out)
	}
	return string(out)
}

// start runs strata in a new terminal of 33 lines and 111 columns.
func (m *terminals) start(args ...string) *terminal {
	m.t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		m.t.Fatal(err)
	}
	number, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0)
	}
	if err != nil {
		m.t.Fatal(err)
	}
	slave, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		m.t.Fatal(err)
	}
	term := &terminal{t: m.t, master: master, ended: make(chan error, 1)}
	term.resize(33, 111)
	state, err := unix.IoctlGetTermios(int(master.Fd()), unix.TCGETS)
	if err != nil {
		m.t.Fatal(err)
	}
	term.before = *state
	term.cmd = exec.Command(m.program, args...)
	term.cmd.Env = append(os.Environ(), "STRATA_ROOT="+m.root)
	term.cmd.Stdin, term.cmd.Stdout, term.cmd.Stderr = slave, slave, slave
	term.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := term.cmd.Start(); err != nil {
		m.t.Fatal(err)
	}
	// The slave stays open, so that the terminal can be looked at afterwards.
	go term.read()
	go func() { term.ended <- term.cmd.Wait() }()
	m.t.Cleanup(func() {
		_ = term.cmd.Process.Kill() // it has ended, where all is well
		slave.Close()
		master.Close()
	})
	return term
}

func (c *terminal) read() {
	buf := make([]byte, 4096)
	for {
		n, err := c.master.Read(buf)
		c.mu.Lock()
		c.seen.Write(buf[:n])
		c.mu.Unlock()
		if err != nil {
			return
		}
	}
}

func (c *terminal) resize(rows, cols uint16) {
	c.t.Helper()
	if err := unix.IoctlSetWinsize(int(c.master.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: rows, Col: cols}); err != nil {
		c.t.Fatal(err)
	}
}

func (c *terminal) text() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.seen.String()
}

// expect waits until the text appears, and forgets what was before.
func (c *terminal) expect(text string) {
	c.t.Helper()
	for range 400 {
		c.mu.Lock()
		if i := strings.Index(c.seen.String(), text); i >= 0 {
			c.seen.Next(i + len(text))
			c.mu.Unlock()
			return
		}
		c.mu.Unlock()
		time.Sleep(25 * time.Millisecond)
	}
	c.t.Fatalf("%q did not appear in %q", text, c.text())
}

func (c *terminal) write(text string) {
	c.t.Helper()
	if _, err := c.master.WriteString(text); err != nil {
		c.t.Fatal(err)
	}
}

// code waits for the end, and makes sure that the terminal is as it was.
func (c *terminal) code() int {
	c.t.Helper()
	var err error
	select {
	case err = <-c.ended:
	case <-time.After(15 * time.Second):
		c.t.Fatalf("strata %v goes on: %q", c.cmd.Args[1:], c.text())
	}
	state, stateErr := unix.IoctlGetTermios(int(c.master.Fd()), unix.TCGETS)
	if stateErr != nil || *state != c.before {
		c.t.Errorf("the terminal is not as it was: %+v (%v)", state, stateErr)
	}
	var failed *exec.ExitError
	if errors.As(err, &failed) {
		return failed.ExitCode()
	}
	if err != nil {
		c.t.Fatal(err)
	}
	return 0
}

const (
	ctrlC = "\x03"
	ctrlD = "\x04"
)

// TestTerminals uses containers at a terminal, as people do.
func TestTerminals(t *testing.T) {
	m := newTerminals(t)
	t.Run("shell", func(t *testing.T) { shellAtTerminal(m.in(t), 3, "run", "--rm", "-it", "busybox", "sh") })
	t.Run("exec", func(t *testing.T) {
		m := m.in(t)
		m.strata("run", "-d", "--name", "c", "busybox", "sleep", "1000")
		shellAtTerminal(m, 3, "exec", "-it", "c", "sh")
	})
	t.Run("start", func(t *testing.T) {
		m := m.in(t)
		m.strata("create", "-it", "--name", "made", "busybox", "sh")
		shellAtTerminal(m, 3, "start", "-ai", "made")
	})
	t.Run("debug", func(t *testing.T) {
		dir := t.TempDir()
		dockerfile := filepath.Join(dir, "Dockerfile")
		if err := os.WriteFile(dockerfile, []byte("FROM busybox\nRUN false\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		shellAtTerminal(m.in(t), 1, "debug", "-f", dockerfile, dir) // the build has failed
		// The terminal is closed: nobody could end the shell any more.
		c := m.in(t).start("debug", "-f", dockerfile, dir)
		c.expect("# ")
		if err := c.cmd.Process.Signal(syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
		if code := c.code(); code != 1 {
			t.Errorf("hung up: got %d", code)
		}
	})
	// ^C is passed on, and the third one kills what does not listen.
	for name, args := range map[string][]string{
		"interrupts":                      {"run", "--rm", "busybox", "sh", "-c", `trap "echo caught" INT; echo ready; while :; do sleep 0.05; done`},
		"interrupts with output only":     {"run", "--rm", "-t", "busybox", "sh", "-c", `trap "echo caught" INT; echo ready; while :; do sleep 0.05; done`},
		"interrupts of foreground starts": {"start", "-a", "listens"},
	} {
		t.Run(name, func(t *testing.T) {
			m := m.in(t)
			if args[0] == "start" {
				m.strata("create", "--name", "listens", "busybox", "sh", "-c", `trap "echo caught" INT; echo ready; while :; do sleep 0.05; done`)
			}
			c := m.start(args...)
			c.expect("ready")
			for range 2 {
				c.write(ctrlC)
				c.expect("caught")
			}
			c.write(ctrlC)
			if code := c.code(); code != 137 {
				t.Errorf("got %d", code)
			}
		})
	}
	t.Run("input without a terminal", func(t *testing.T) {
		m := m.in(t)
		c := m.start("run", "--rm", "-i", "busybox", "sh", "-c", "tty; echo ready; cat; echo end")
		c.expect("not a tty") // this one is not the container's
		c.expect("ready")
		c.write("typed\n")
		c.expect("typed\r\ntyped")
		c.write(ctrlD)
		c.expect("end")
		if code := c.code(); code != 0 {
			t.Errorf("got %d", code)
		}
	})
}

// shellAtTerminal types at a shell in a container: the terminal has its size
// and changes of it, and its keys reach the programs, ^P^Q too, which detaches
// under docker: here a container that is connected to a command ends with it.
func shellAtTerminal(m *terminals, want int, args ...string) {
	m.t.Helper()
	c := m.start(args...)
	const prompt = "# " // what is typed before may be dropped
	c.expect(prompt)
	c.write("stty size; echo re'a'dy\n")
	c.expect("33 111")
	c.expect("ready")
	c.expect(prompt)
	c.resize(40, 100)
	c.write("while [ \"$(stty size)\" != '40 100' ]; do sleep 0.02; done; echo resi'z'ed\n")
	c.expect("resized")
	c.expect(prompt)
	// It says so itself: ^C is then for it, and not yet or still for the shell.
	c.write("sh -c 'echo sleep\"\"ing; exec sleep 1000'\n")
	c.expect("sleeping")
	c.write(ctrlC)
	c.expect(prompt)
	c.write("echo awa'k'e; stty raw -echo; echo r'a'w; dd bs=1 count=2 2>/dev/null | od -An -tx1; stty sane\n")
	c.expect("awake")
	c.expect("raw")
	c.write("\x10\x11")
	c.expect("10 11")
	c.expect(prompt)
	c.write("exit 3\n")
	if code := c.code(); code != want {
		m.t.Errorf("%v: got %d", args, code)
	}
}
