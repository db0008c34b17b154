package executor

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/strata-build/strata/internal/testenv"
	"github.com/strata-build/strata/runtime/mount"
)

func TestMain(m *testing.M) {
	InitMain()
	os.Exit(m.Run())
}

// image is a root file system: a busybox image, and an upper directory that
// shows what a step wrote.
type image struct {
	root  *os.File
	upper string
}

// base unpacks busybox into a directory.
func base(t testing.TB) string {
	t.Helper()
	busybox := testenv.Tool(t, "busybox")
	dir := t.TempDir()
	for _, d := range []string{"bin", "etc", "proc", "sys", "dev", "tmp", "root"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile(busybox)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "bin/busybox"), text, 0o755); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(busybox, "--install", "-s", filepath.Join(dir, "bin")).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	// The links name the host's busybox.
	links, err := filepath.Glob(filepath.Join(dir, "bin/*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range links {
		if filepath.Base(l) == "busybox" {
			continue
		}
		if err := errors.Join(os.Remove(l), os.Symlink("busybox", l)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(filepath.Join(dir, "tmp"), 0o1777); err != nil {
		t.Fatal(err)
	}
	return dir
}

// newImage opens an overlay of layers, the first one lowest.
func newImage(t testing.TB, layers ...string) *image {
	t.Helper()
	dir := t.TempDir()
	upper, work := filepath.Join(dir, "upper"), filepath.Join(dir, "work")
	for _, d := range []string{upper, work} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	root, err := mount.Tree{Lower: layers, Upper: upper, Work: work, UserXattr: os.Getenv(nestedVariable) != ""}.Open()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { root.Close() })
	return &image{root: root, upper: upper}
}

// nestedVariable is set where the tests run again in a user namespace.
const nestedVariable = "STRATA_TEST_NESTED"

func newExecutor(t testing.TB) *Executor {
	t.Helper()
	if os.Getenv(nestedVariable) == "" {
		testenv.Root(t)
	}
	e, err := New(Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	return e
}

// result is what a step did.
type result struct {
	Status
	stdout, stderr string
	err            error
}

// run runs a command on a new overlay of the base.
func run(t testing.TB, e *Executor, change func(*Spec), args ...string) result {
	t.Helper()
	var out, errOut bytes.Buffer
	s := &Spec{
		Command: Command{
			Args: args, Env: []string{"PATH=/bin"}, Stdout: &out, Stderr: &errOut,
		},
	}
	if change != nil {
		change(s)
	}
	if s.Root == nil {
		s.Root = newImage(t, base(t)).root
	}
	status, err := e.Run(t.Context(), s)
	return result{status, out.String(), errOut.String(), err}
}

// sh runs a script that must succeed, and returns what it wrote.
func sh(t testing.TB, e *Executor, change func(*Spec), script string) string {
	t.Helper()
	r := run(t, e, change, "sh", "-c", script)
	if r.err != nil || r.ExitCode != 0 {
		t.Fatalf("%s: exit code %d, %v\n%s%s", script, r.ExitCode, r.err, r.stdout, r.stderr)
	}
	return strings.TrimSuffix(r.stdout, "\n")
}
