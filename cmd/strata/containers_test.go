package main

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/strata-build/strata/internal/testenv"
	"github.com/strata-build/strata/internal/testimage"
)

// Who the suite of containers runs as. As an ordinary user it runs again as a
// whole, in a process of that user.
const (
	asRoot   = "root"
	asSingle = "single" // an ordinary user with one mapped id
	asRanges = "ranges" // an ordinary user with subordinate ids
)

// The environment of the processes that are an ordinary user's.
const (
	kindVariable    = "STRATA_CONTAINERS_KIND"
	programVariable = "STRATA_CONTAINERS_PROGRAM"
)

// containerKind is who this process is.
func containerKind() string { return cmp.Or(os.Getenv(kindVariable), asRoot) }

// containerProgram is the directory of the real program: the first process of
// `run --init` has to be static, which a test program need not be.
func containerProgram(t *testing.T) string {
	t.Helper()
	if dir := os.Getenv(programVariable); dir != "" {
		return dir
	}
	dir, err := os.MkdirTemp("", "strata-containers-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(testenv.Tool(t, "go"), "build", "-o", filepath.Join(dir, "strata"), ".")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return dir
}

// TestContainers runs testdata/containers against real containers, as the user
// that this process is. After each script, nothing may be left of them.
func TestContainers(t *testing.T) {
	kind := containerKind()
	if kind == asRoot {
		testenv.Root(t)
	}
	dir := containerProgram(t)
	busybox := testimage.Busybox(t)
	testscript.Run(t, testscript.Params{
		Dir: "testdata/containers", RequireUniqueNames: true,
		Condition: func(cond string) (bool, error) {
			switch cond {
			case asRoot, asSingle, asRanges:
				return cond == kind, nil
			}
			return false, fmt.Errorf("unknown condition %q", cond)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"code": exitCode, "eventually": eventually, "match": matchOutput,
		},
		Setup: func(env *testscript.Env) error {
			host := testimage.Registry(t)
			env.Setenv("REGISTRY", host)
			env.Setenv("PATH", dir+":"+env.Getenv("PATH"))
			env.Setenv("HOME", env.WorkDir)
			env.Setenv("BUSYBOX", testimage.Push(t, host, "busybox:1", busybox))
			root := env.WorkDir + ".store"
			env.Setenv("STRATA_ROOT", root)
			env.Defer(func() { nothingLeft(t, dir, root) })
			return prepare(env, root)
		},
	})
}

// prepare makes the store, with the image as busybox.
func prepare(env *testscript.Env, root string) error {
	if err := os.Mkdir(root, 0o700); err != nil {
		return err
	}
	image := env.Getenv("BUSYBOX")
	for _, args := range [][]string{{"pull", "-q", image}, {"tag", image, "busybox"}} {
		cmd := exec.Command("strata", args...)
		cmd.Path = filepath.Join(strings.Split(env.Getenv("PATH"), ":")[0], "strata")
		cmd.Env = env.Vars
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("strata %v: %w\n%s", args, err, out)
		}
	}
	return nil
}

// nothingLeft removes all containers, and looks for what they left.
func nothingLeft(t testing.TB, dir, root string) {
	t.Helper()
	strata := func(args ...string) string {
		cmd := exec.Command(filepath.Join(dir, "strata"), args...)
		cmd.Env = append(os.Environ(), "STRATA_ROOT="+root)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Errorf("strata %v: %v\n%s", args, err, out)
		}
		return string(out)
	}
	ids := strings.Fields(strata("ps", "-aq", "--no-trunc"))
	if len(ids) > 0 {
		strata(append([]string{"rm", "-f", "-v"}, ids...)...)
	}
	emptyBelow(t, root, "containers", "snapshots/kept")
	strata("prune") // what killed processes were about to make or remove
	emptyBelow(t, root, "snapshots/active", "snapshots/trash", "tmp")
	if mounts, err := os.ReadFile("/proc/self/mountinfo"); err != nil || strings.Contains(string(mounts), root) {
		t.Errorf("mounts are left (%v):\n%s", err, mounts)
	}
	processes(t, root)
	if left, err := filepath.Glob("/sys/fs/cgroup/*/strata-*"); err != nil {
		t.Error(err)
	} else {
		for _, group := range left {
			for _, id := range ids {
				if strings.HasSuffix(group, id[:12]) {
					t.Errorf("%s is left", group)
				}
			}
		}
	}
}

func emptyBelow(t testing.TB, root string, names ...string) {
	t.Helper()
	for _, name := range names {
		entries, err := os.ReadDir(filepath.Join(root, name))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Error(err)
		}
		for _, e := range entries {
			t.Errorf("%s/%s is left", name, e.Name())
		}
	}
}

// processes looks for monitors of a store. They may take a moment to go.
func processes(t testing.TB, root string) {
	t.Helper()
	var left []string
	for range 100 {
		left = nil
		lines, err := filepath.Glob("/proc/[0-9]*/cmdline")
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range lines {
			if line, err := os.ReadFile(name); err == nil && strings.Contains(string(line), root) {
				left = append(left, strings.ReplaceAll(string(line), "\x00", " "))
			}
		}
		if left == nil {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Errorf("processes are left: %q", left)
}

// exitCode runs a command and checks its exit code: code 125 strata run …
func exitCode(ts *testscript.TestScript, _ bool, args []string) {
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	err = ts.Exec(args[1], args[2:]...)
	got := 0
	var failed *exec.ExitError
	switch {
	case errors.As(err, &failed):
		got = failed.ExitCode()
	case err != nil:
		ts.Fatalf("%v", err)
	}
	if got != want {
		ts.Fatalf("exit code %d, not %d", got, want)
	}
}

// eventually runs a command until what it prints matches: eventually RE strata ps
func eventually(ts *testscript.TestScript, neg bool, args []string) {
	re, err := regexp.Compile("(?m)" + args[0])
	ts.Check(err)
	for range 200 {
		// What it prints decides, whatever its code is.
		_ = ts.Exec(args[1], args[2:]...)
		if re.MatchString(strings.TrimSpace(ts.ReadFile("stdout")+ts.ReadFile("stderr"))) != neg {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	ts.Fatalf("%q did not come to match %q", args[1:], args[0])
}

// matchOutput runs a command and checks what it prints on one line, without
// the space around it: match '2 2' strata run …
func matchOutput(ts *testscript.TestScript, neg bool, args []string) {
	ts.Check(ts.Exec(args[1], args[2:]...))
	got := strings.Join(strings.Fields(ts.ReadFile("stdout")), " ")
	re, err := regexp.Compile("^(?:" + args[0] + ")$")
	ts.Check(err)
	if re.MatchString(got) == neg {
		ts.Fatalf("printed %q, want %q", got, args[0])
	}
}

// TestContainersRootless runs the suite as an ordinary user.
func TestContainersRootless(t *testing.T) {
	if containerKind() != asRoot {
		t.Skip("this is the suite again")
	}
	testenv.Root(t)
	program := containerProgram(t)
	for kind, ids := range map[string]string{asSingle: "", asRanges: strconv.Itoa(nobody) + ":1000000:65536\n"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			out, err := containersAs(t, kind, ids, program)
			if err != nil || !strings.Contains(out, "--- PASS: TestContainers") {
				t.Errorf("%v\n%s", err, testenv.Failures(out))
			}
		})
	}
}

// containersAs runs this test program again as an ordinary user whose
// subordinate ids are those given.
func containersAs(t *testing.T, kind, ids, program string) (string, error) {
	t.Helper()
	setpriv := testenv.Tool(t, "setpriv")
	testenv.Tool(t, "newuidmap")
	dir := forNobody(t, map[string]string{"sub": ids})
	// By the name of the program it would run as that.
	suite := filepath.Join(dir, "suite")
	if err := os.Link(filepath.Join(dir, "strata"), suite); err != nil {
		t.Fatal(err)
	}
	wd, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	id := strconv.Itoa(nobody)
	cmd := exec.Command("unshare", "-m", "sh", "-c",
		`mount --bind "$0/sub" /etc/subuid && mount --bind "$0/sub" /etc/subgid && exec "$@"`, dir,
		setpriv, "--reuid", id, "--regid", id, "--clear-groups",
		suite, "-test.v", "-test.run", "^TestContainers$|^TestTerminals$")
	cmd.Dir = wd
	cmd.Env = append(os.Environ(), kindVariable+"="+kind, programVariable+"="+program,
		"TMPDIR="+filepath.Join(dir, "home"), "HOME="+filepath.Join(dir, "home"))
	out, err := cmd.CombinedOutput()
	return string(out), err
}
