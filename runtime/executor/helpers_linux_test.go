package executor

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/strata-build/strata/internal/testenv"
	"github.com/strata-build/strata/runtime/executor/userns"
	"github.com/strata-build/strata/runtime/mount"
)

func TestMain(m *testing.M) {
	InitMain()
	if os.Getenv(lonelyVariable) != "" {
		os.Exit(lonely())
	}
	if os.Getenv(nestedVariable) != "" {
		// As strata does it, for an ordinary user.
		out, err := userns.Ensure(context.Background())
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		if out.Replaced {
			os.Exit(out.ExitCode)
		}
	}
	code := m.Run()
	if dir := sharedBase.dir; dir != "" {
		os.RemoveAll(dir)
	}
	os.Exit(code)
}

// image is a root file system: a busybox image, and an upper directory that
// shows what a step wrote.
type image struct {
	root  *os.File
	upper string
}

// sharedBase is the busybox image, which no test changes: it is a lower layer.
var sharedBase struct {
	once sync.Once
	dir  string
	err  error
}

// base is the layer with busybox.
func base(t testing.TB) string {
	t.Helper()
	busybox := testenv.Tool(t, "busybox")
	sharedBase.once.Do(func() { sharedBase.dir, sharedBase.err = unpackBusybox(busybox) })
	if sharedBase.err != nil {
		t.Fatal(sharedBase.err)
	}
	return sharedBase.dir
}

func unpackBusybox(busybox string) (string, error) {
	dir, err := os.MkdirTemp("", "strata-busybox-")
	if err != nil {
		return "", err
	}
	for _, d := range []string{"bin", "etc", "proc", "sys", "dev", "tmp", "root"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o755); err != nil {
			return dir, err
		}
	}
	text, err := os.ReadFile(busybox)
	if err != nil {
		return dir, err
	}
	list, err := exec.Command(busybox, "--list").Output()
	if err != nil {
		return dir, err
	}
	for name := range strings.FieldsSeq(string(list)) {
		if name != "busybox" {
			err = errors.Join(err, os.Symlink("busybox", filepath.Join(dir, "bin", name)))
		}
	}
	return dir, errors.Join(err, os.WriteFile(filepath.Join(dir, "bin/busybox"), text, 0o755),
		os.Chmod(filepath.Join(dir, "tmp"), 0o1777), os.Chmod(dir, 0o755))
}

// layer makes a layer to put upon the base. A name that ends in a slash is a
// directory, content that begins with "-> " a symlink.
func layer(t testing.TB, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, content := range files {
		p := filepath.Join(dir, name)
		err := os.MkdirAll(filepath.Dir(p), 0o755)
		target, link := strings.CutPrefix(content, "-> ")
		switch {
		case strings.HasSuffix(name, "/"):
			err = errors.Join(err, os.MkdirAll(p, 0o755))
		case link:
			err = errors.Join(err, os.Symlink(target, p))
		default:
			err = errors.Join(err, os.WriteFile(p, []byte(content), 0o755))
		}
		if err != nil {
			t.Fatal(err)
		}
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

// initial marks a test of what an ordinary user cannot have.
func initial(t testing.TB) {
	t.Helper()
	if kind := os.Getenv(nestedVariable); kind != "" {
		t.Skipf("not in a user namespace (%s)", kind)
	}
}

// singleID says that one user ID is mapped.
func singleID() bool { return os.Getenv(nestedVariable) == single }

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

// run runs a command, on a new overlay of the base unless change says
// otherwise.
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
