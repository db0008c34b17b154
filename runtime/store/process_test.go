package store_test

import (
	"bufio"
	"context"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/strata-build/strata/runtime/store"
)

// roleVariable makes the test binary play another process.
const (
	roleVariable = "STRATA_TEST_ROLE"
	rootVariable = "STRATA_TEST_ROOT"
)

// TestMain lets the test binary be the other processes that tests need.
func TestMain(m *testing.M) {
	role := os.Getenv(roleVariable)
	if role == "" {
		os.Exit(m.Run())
	}
	s, err := store.Open(os.Getenv(rootVariable))
	if err == nil {
		err = play(s, role)
	}
	if err != nil {
		_, _ = io.WriteString(os.Stderr, role+": "+err.Error()+"\n")
		os.Exit(1)
	}
	os.Exit(0)
}

func play(s *store.Store, role string) error {
	switch role {
	case "builder":
		return build(s, os.Getpid(), 60)
	case "collector":
		return collect(s, 60)
	case "holder":
		return hold(s)
	}
	return os.ErrInvalid
}

// hold takes a lock, a temporary directory and a lease, says so, and keeps
// them until it is killed.
func hold(s *store.Store) error {
	if _, err := s.Lock(context.Background(), "held"); err != nil {
		return err
	}
	if _, err := s.TempDir(); err != nil {
		return err
	}
	if err := s.LeaseMade("layer:leased"); err != nil {
		return err
	}
	_, _ = os.Stdout.WriteString("ready\n")
	_, err := io.Copy(io.Discard, os.Stdin)
	return err
}

// start runs another process on a store.
func start(t *testing.T, s *store.Store, role string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), roleVariable+"="+role, rootVariable+"="+s.Root())
	cmd.Stderr = os.Stderr
	return cmd
}

// startHolder runs a process that holds things, and returns it with a
// function that kills it as kill -9 does.
func startHolder(t *testing.T, s *store.Store) (pid int, kill func()) {
	t.Helper()
	cmd := start(t, s, "holder")
	stdin, err := cmd.StdinPipe()
	must(t, err)
	t.Cleanup(func() { stdin.Close() })
	stdout, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	if _, err := bufio.NewReader(stdout).ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	return cmd.Process.Pid, func() {
		must(t, cmd.Process.Kill())
		_ = cmd.Wait() // it says that it was killed
	}
}

// What a process holds is safe while it lives, and litter once it is killed.
func TestKilledProcess(t *testing.T) {
	s := newStore(t)
	ctx := context.Background()
	pid, kill := startHolder(t, s)
	if _, ok, err := s.TryLock("held"); ok || err != nil {
		t.Errorf("the lock of a living process: %v, %v", ok, err)
	}
	if h, ok := s.Holder("held"); !ok || h.PID != pid || h.Command == "" {
		t.Errorf("holder %+v, %v, want process %d", h, ok, pid)
	}
	must(t, s.Reap(ctx))
	if entries, _ := os.ReadDir(s.Root() + "/tmp"); len(entries) != 1 {
		t.Errorf("temporary files of the living process: %v", entries)
	}
	kill()
	l, ok, err := s.TryLock("held")
	if !ok || err != nil {
		t.Fatalf("the lock of a killed process: %v, %v", ok, err)
	}
	must(t, l.Unlock())
	must(t, s.Reap(ctx))
	own, err := s.Owner()
	must(t, err)
	for _, dir := range []string{"tmp", "leases", "owners"} {
		for _, path := range files(t, s, dir) {
			if filepath.Base(path) != own {
				t.Errorf("of the killed process there is still %s", path)
			}
		}
		entries, err := os.ReadDir(filepath.Join(s.Root(), dir))
		if err != nil || len(entries) > 1 {
			t.Errorf("of the killed process there is still one of %v, %v", entries, err)
		}
	}
}
