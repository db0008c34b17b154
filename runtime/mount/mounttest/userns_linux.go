// Package mounttest lets a test run as an ordinary user.
//
// A user namespace can only be entered by a process with a single thread,
// which no Go program is, so the test binary runs itself again:
//
//	go test (root) ─▶ the same test, uid 65534 ─▶ the same test, root of a
//	                                              user namespace of uid 65534
//
// No subordinate ids are needed: exactly one uid and gid are mapped.
package mounttest

import (
	"errors"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/strata-build/strata/internal/testenv"
)

// stageVariable tells a re-run test which process of the chain it is.
const stageVariable = "STRATA_TEST_USERNS_STAGE"

const (
	stageUser   = "user"
	stageInside = "inside"

	nobody     = 65534
	rangeStart = 200_000
)

// Inside runs fn as root of a user namespace that belongs to an ordinary
// user, in which exactly that user is mapped, with a mount namespace of its
// own. t.TempDir is writable there. The calling test does nothing else.
func Inside(t *testing.T, fn func(t *testing.T)) {
	t.Helper()
	switch os.Getenv(stageVariable) {
	case stageInside:
		fn(t)
	case stageUser:
		rerun(t, stageInside, &syscall.SysProcAttr{
			Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS,
			UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
			GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
		})
	default:
		testenv.Full(t, "a user namespace")
		rerun(t, stageUser, becomeOrdinary(t))
	}
}

// InsideRange is like Inside, but 65536 ids are mapped, none of them root's,
// as newuidmap would do for an ordinary user. Only root can set this up.
func InsideRange(t *testing.T, fn func(t *testing.T)) {
	t.Helper()
	if os.Getenv(stageVariable) == stageInside {
		fn(t)
		return
	}
	testenv.Root(t)
	ids := []syscall.SysProcIDMap{{ContainerID: 0, HostID: rangeStart, Size: 65536}}
	makeTemp(t, rangeStart)
	rerun(t, stageInside, &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS,
		UidMappings: ids,
		GidMappings: ids,
		Credential:  &syscall.Credential{Uid: 0, Gid: 0},
	})
}

// AsUser runs fn as an ordinary user, without any namespace.
func AsUser(t *testing.T, fn func(t *testing.T)) {
	t.Helper()
	if os.Getenv(stageVariable) == stageUser {
		fn(t)
		return
	}
	testenv.Full(t, "an ordinary user")
	rerun(t, stageUser, becomeOrdinary(t))
}

// becomeOrdinary returns the change of user, if this is root, and gives that
// user a directory for temporary files.
func becomeOrdinary(t *testing.T) *syscall.SysProcAttr {
	t.Helper()
	if os.Getuid() != 0 {
		makeTemp(t, os.Getuid())
		return nil
	}
	makeTemp(t, nobody)
	return &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
}

// makeTemp makes the directory for temporary files of the processes to come.
func makeTemp(t *testing.T, owner int) {
	t.Helper()
	tmp, err := os.MkdirTemp("", "strata-user-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(tmp); err != nil {
			t.Error(err)
		}
	})
	t.Setenv("TMPDIR", tmp)
	if owner == os.Getuid() {
		return
	}
	if err := os.Chown(tmp, owner, owner); err != nil {
		t.Fatal(err)
	}
}

func rerun(t *testing.T, stage string, attr *syscall.SysProcAttr) {
	t.Helper()
	// /proc/self/exe, because the directory of the binary is another user's.
	cmd := exec.Command("/proc/self/exe", "-test.run="+pattern(t.Name()), "-test.v", "-test.count=1")
	cmd.Dir = os.TempDir()
	cmd.Env = append(os.Environ(), stageVariable+"="+stage)
	cmd.SysProcAttr = attr
	out, err := cmd.CombinedOutput()
	if errors.Is(err, syscall.EPERM) && os.Getenv(testenv.Variable) != "full" {
		t.Skipf("MISSING: unprivileged user namespaces: %v", err)
	}
	if err != nil {
		t.Fatalf("%s: %v\n%s", stage, err, testenv.Failures(string(out)))
	}
	if !strings.Contains(string(out), "--- PASS: "+t.Name()) {
		t.Fatalf("%s: the test did not run:\n%s", stage, out)
	}
	if testing.Verbose() {
		t.Logf("%s:\n%s", stage, out)
	}
}

// pattern selects exactly the test called name, which may be a subtest.
func pattern(name string) string {
	return "^" + strings.ReplaceAll(name, "/", "$/^") + "$"
}
