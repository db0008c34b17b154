// Package testenv states what a test needs from the machine, in one way: in
// the fast suite (STRATA_TEST=fast, `make check`) such a test is skipped by
// name, in the full suite (STRATA_TEST=full, `make test`) a missing
// requirement is a failure, and in a bare `go test` it is a skip.
package testenv

import (
	"os"
	"os/exec"
	"testing"
)

// Variable is the environment variable that names the suite.
const Variable = "STRATA_TEST"

// Root marks a test that needs root, mounts and namespaces.
func Root(t testing.TB) {
	t.Helper()
	full(t, "root")
	if os.Geteuid() != 0 {
		missing(t, "root")
	}
}

// Full marks a test that belongs to the full suite only: it is slow, or needs
// the kernel's help, but no special user.
func Full(t testing.TB, why string) {
	t.Helper()
	full(t, why)
}

// Tool returns the path of a program that the test runs, which
// scripts/install-test-deps installs.
func Tool(t testing.TB, name string) string {
	t.Helper()
	full(t, name)
	path, err := exec.LookPath(name)
	if err != nil {
		missing(t, name)
	}
	return path
}

func full(t testing.TB, need string) {
	t.Helper()
	if os.Getenv(Variable) == "fast" {
		t.Skipf("FAST SUITE: not run, it needs %s; `make test` runs it", need)
	}
}

func missing(t testing.TB, need string) {
	t.Helper()
	if os.Getenv(Variable) == "full" {
		t.Fatalf("this machine lacks %s, which the full suite needs: run scripts/install-test-deps", need)
	}
	t.Skipf("MISSING: %s; run scripts/install-test-deps", need)
}
