package executor

import (
	"os"
	"testing"

	"github.com/strata-build/strata/internal/testenv"
)

// TestMainThreadStays: the mount namespace of the process, which is that of its
// main thread, is the one that it was started in, whatever thread the launcher
// is offered. `exec` of an ordinary user's containers joins it.
func TestMainThreadStays(t *testing.T) {
	testenv.Root(t)
	before := mountNamespace(t)
	for range 200 {
		l, err := newLauncher(false)
		if err != nil {
			t.Fatal(err)
		}
		now := mountNamespace(t)
		l.close()
		if now != before {
			t.Fatalf("the main thread is in the mount namespace %s, and was in %s", now, before)
		}
	}
}

func mountNamespace(t *testing.T) string {
	t.Helper()
	ns, err := os.Readlink("/proc/self/ns/mnt")
	if err != nil {
		t.Fatal(err)
	}
	return ns
}
