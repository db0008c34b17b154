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

	nobody = 65534
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
	if os.Getuid() != 0 {
		return nil
	}
	if err := os.Chown(tmp, nobody, nobody); err != nil {
		t.Fatal(err)
	}
	return &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
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
		t.Fatalf("%s: %v\n%s", stage, err, out)
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
