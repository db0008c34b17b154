package faulttest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
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
	"github.com/strata-build/strata/runtime/cgroup"
)

// bound is how long anything may take before it counts as hanging. Nothing
// here waits for it unless something is wrong.
const bound = 3 * time.Minute

// binary is the program, compiled when a test first needs it.
type binary struct {
	once sync.Once
	dir  string
	err  error
}

var strata binary

// path compiles the program, once, and returns its name.
func (b *binary) path() (string, error) {
	b.once.Do(func() {
		if b.dir, b.err = os.MkdirTemp("", "strata-faulttest-"); b.err != nil {
			return
		}
		cmd := exec.Command("go", "build", "-o", filepath.Join(b.dir, "strata"), "../../cmd/strata")
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			b.err = fmt.Errorf("compile strata: %w\n%s", err, out)
		}
	})
	return filepath.Join(b.dir, "strata"), b.err
}

func TestMain(m *testing.M) {
	code := m.Run()
	if strata.dir != "" {
		if err := os.RemoveAll(strata.dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
	}
	os.Exit(code)
}

// machine is a working directory, a store, and a control group in which the
// program runs.
type machine struct {
	t       *testing.T
	program string
	dir     string // where build files and outputs are
	store   string
	group   *cgroup.Group
}

// newMachine makes the directories and the control group.
func newMachine(t *testing.T) *machine {
	t.Helper()
	testenv.Root(t)
	program, err := strata.path()
	if err != nil {
		t.Fatal(err)
	}
	m := &machine{t: t, program: program, dir: t.TempDir(), store: t.TempDir()}
	h, err := cgroup.Detect()
	if err != nil {
		t.Fatal(err)
	}
	name := fmt.Sprintf("strata-faulttest-%d-%s", os.Getpid(), strings.ReplaceAll(t.Name(), "/", "-"))
	if m.group, err = h.Create(cgroup.Config{Name: name, Accounting: true}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), bound)
		defer cancel()
		if err := errors.Join(m.group.Kill(ctx), m.group.Delete(ctx), m.group.Close()); err != nil {
			t.Errorf("remove the control group of the test: %v", err)
		}
	})
	return m
}

// fresh is the same machine with an empty store.
func (m *machine) fresh() *machine {
	other := *m
	other.store = m.t.TempDir()
	return &other
}

// write writes a file of the working directory.
func (m *machine) write(name, content string) {
	m.t.Helper()
	path := filepath.Join(m.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		m.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		m.t.Fatal(err)
	}
}

// enter is the shell's way into the control group before it becomes the
// program: it writes 0, which is the writer, to the files before "--".
const enter = `while [ "$1" != -- ]; do echo 0 >"$1" || exit 99; shift; done; shift; exec "$@"`

// command prepares the program, in the control group, on the store.
func (m *machine) command(ctx context.Context, args ...string) *exec.Cmd {
	shell := []string{"-c", enter, "sh"}
	for _, dir := range m.group.Dirs() {
		shell = append(shell, filepath.Join(dir, "cgroup.procs"))
	}
	shell = append(shell, "--", m.program, "--root", m.store)
	cmd := exec.CommandContext(ctx, "/bin/sh", append(shell, args...)...)
	cmd.Dir = m.dir
	cmd.Env = append(os.Environ(), "HOME="+m.dir)
	cmd.WaitDelay = 10 * time.Second // a step that kept our pipe would hold Wait for ever
	return cmd
}

// outcome is what became of a run of the program.
type outcome struct {
	code   int // -1 when a signal ended it
	output string
}

// run runs the program to its end.
func (m *machine) run(args ...string) outcome {
	m.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), bound)
	defer cancel()
	cmd := m.command(ctx, args...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	if ctx.Err() != nil {
		m.t.Fatalf("strata %s did not end within %v:\n%s", strings.Join(args, " "), bound, out.String())
	}
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		m.t.Fatalf("strata %s: %v", strings.Join(args, " "), err)
	}
	return outcome{cmd.ProcessState.ExitCode(), out.String()}
}

// succeed runs the program, and wants exit code 0.
func (m *machine) succeed(args ...string) string {
	m.t.Helper()
	got := m.run(args...)
	if got.code != 0 {
		m.t.Fatalf("strata %s ended with exit code %d:\n%s", strings.Join(args, " "), got.code, got.output)
	}
	return got.output
}

// fail runs the program, and wants exit code 1 and each of the texts.
func (m *machine) fail(texts []string, args ...string) {
	m.t.Helper()
	got := m.run(args...)
	if got.code != 1 {
		m.t.Fatalf("strata %s ended with exit code %d, want 1:\n%s", strings.Join(args, " "), got.code, got.output)
	}
	for _, text := range texts {
		if !strings.Contains(strings.ToLower(got.output), strings.ToLower(text)) {
			m.t.Errorf("the error does not name %q:\n%s", text, got.output)
		}
	}
	m.sane(got.output)
}

// sane wants no traces of a crash in what the program wrote.
func (m *machine) sane(output string) {
	m.t.Helper()
	for _, trace := range []string{"panic:", "goroutine ", "SIGSEGV", "fatal error:"} {
		if strings.Contains(output, trace) {
			m.t.Errorf("the program crashed:\n%s", output)
			return
		}
	}
}

// digest builds, and returns the image's digest.
func (m *machine) digest(args ...string) string {
	m.t.Helper()
	meta := filepath.Join(m.t.TempDir(), "meta.json")
	out := m.succeed(append([]string{"build", "--progress", "plain", "--metadata-file", meta}, args...)...)
	d, err := readDigest(meta)
	if err != nil {
		m.t.Fatalf("%v\n%s", err, out)
	}
	return d
}

func readDigest(meta string) (string, error) {
	data, err := os.ReadFile(meta)
	if err != nil {
		return "", err
	}
	var image struct {
		Digest string `json:"containerimage.digest"`
	}
	if err := json.Unmarshal(data, &image); err != nil {
		return "", err
	}
	if image.Digest == "" {
		return "", fmt.Errorf("no digest in %s", data)
	}
	return image.Digest, nil
}

// nothingRuns wants the control group to become empty: no process of the
// program or of its steps, and no group below.
func (m *machine) nothingRuns() {
	m.t.Helper()
	deadline := time.Now().Add(bound)
	for {
		pids, err := m.group.Procs()
		if err != nil {
			m.t.Fatal(err)
		}
		if len(pids) == 0 {
			break
		}
		for _, pid := range pids {
			if err := awaitExit(pid, deadline); err != nil {
				cmdline, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
				m.t.Fatalf("process %d (%q) is left: %v", pid, cmdline, err)
			}
		}
	}
	for _, dir := range m.group.Dirs() {
		entries, err := os.ReadDir(dir)
		if err != nil {
			m.t.Fatal(err)
		}
		for _, e := range entries {
			if e.IsDir() {
				m.t.Errorf("control group %s is left in %s", e.Name(), dir)
			}
		}
	}
}

// awaitExit waits for the end of a process that is nobody's child here.
func awaitExit(pid int, deadline time.Time) error {
	fd, err := unix.PidfdOpen(pid, 0)
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	for {
		left := time.Until(deadline)
		if left <= 0 {
			return errors.New("it does not end")
		}
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int(left.Milliseconds()))
		if n > 0 {
			return nil
		}
		if err != nil && !errors.Is(err, syscall.EINTR) {
			return err
		}
	}
}

// nothingMounted wants no mount of the store around this process.
func (m *machine) nothingMounted() {
	m.t.Helper()
	data, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		m.t.Fatal(err)
	}
	for line := range strings.Lines(string(data)) {
		if strings.Contains(line, m.store+"/") {
			m.t.Errorf("a mount is left: %s", line)
		}
	}
}

// nothingHalfDone prunes, and wants no unfinished work in the store. What was
// downloaded of a blob may stay in "ingest": the next pull goes on there.
func (m *machine) nothingHalfDone() {
	m.t.Helper()
	m.succeed("prune")
	for _, name := range []string{"snapshots/active", "snapshots/trash", "tmp", "trash"} {
		entries, err := os.ReadDir(filepath.Join(m.store, name))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			m.t.Fatal(err)
		}
		for _, e := range entries {
			m.t.Errorf("%s/%s is left in the store", name, e.Name())
		}
	}
}

// busybox serves busybox on loopback, and returns its name.
func busybox(t *testing.T) string {
	t.Helper()
	return testimage.Push(t, testimage.Registry(t), "busybox:1", testimage.Busybox(t))
}
