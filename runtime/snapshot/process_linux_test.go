package snapshot_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/strata-build/strata/internal/testenv"
	"github.com/strata-build/strata/runtime/snapshot"
	"github.com/strata-build/strata/runtime/store"
)

const (
	roleVariable = "STRATA_TEST_ROLE"
	rootVariable = "STRATA_TEST_ROOT"
	filesInLayer = 20
)

// TestMain lets the test binary be the process that is killed.
func TestMain(m *testing.M) {
	if os.Getenv(roleVariable) == "" {
		os.Exit(m.Run())
	}
	if err := makeLayers(os.Getenv(rootVariable), os.Getenv(roleVariable)); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// makeLayers makes layers until it is killed, and says which are complete.
func makeLayers(root, driver string) error {
	st, err := store.Open(root)
	if err != nil {
		return err
	}
	s, err := snapshot.Open(st, snapshot.Options{Driver: driver})
	if err != nil {
		return err
	}
	for i := 0; ; i++ {
		id := fmt.Sprintf("l%d-%d", os.Getpid(), i)
		if err := makeLayer(s, id); err != nil {
			return err
		}
		fmt.Println(id)
	}
}

func makeLayer(s snapshot.Snapshotter, id string) error {
	ctx := context.Background()
	tree, err := s.Prepare(ctx, id, nil)
	if err != nil {
		return err
	}
	f, err := tree.Open()
	if err != nil {
		return err
	}
	for i := range filesInLayer {
		name := fmt.Sprintf("/proc/self/fd/%d/%d", f.Fd(), i)
		if err := os.WriteFile(name, []byte("content"), 0o600); err != nil {
			return err
		}
	}
	return errors.Join(f.Close(), s.Commit(ctx, id, id))
}

// kill -9 at any moment leaves whole layers and litter, which Reap removes.
func TestKilledAtAnyMoment(t *testing.T) {
	testenv.Root(t)
	for _, driver := range []string{snapshot.DriverOverlay, snapshot.DriverCopy} {
		st := newStore(t)
		s := opener(driver, false)(t, st)
		var said []string
		for round := range 12 {
			said = append(said, killAfter(t, st.Root(), driver, round)...)
		}
		for _, id := range said {
			_, err := s.Layer(id)
			must(t, err)
		}
		must(t, s.Reap(context.Background()))
		layers := 0
		must(t, s.Walk(context.Background(), func(i snapshot.Info) error {
			if i.Active {
				t.Errorf("an active is left: %s", i.ID)
				return nil
			}
			layers++
			entries, err := os.ReadDir(i.Dir)
			if len(entries) != filesInLayer {
				t.Errorf("layer %s has %d files", i.ID, len(entries))
			}
			return err
		}))
		if layers < len(said) {
			t.Errorf("%d layers, want the %d that were complete", layers, len(said))
		}
		if trash, err := os.ReadDir(filepath.Join(st.Root(), "snapshots/trash")); err != nil || len(trash) != 0 {
			t.Errorf("in the trash: %v, %v", trash, err)
		}
	}
}

// killAfter kills a process after it has made n layers, and returns them.
func killAfter(t *testing.T, root, driver string, n int) []string {
	t.Helper()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), roleVariable+"="+driver, rootVariable+"="+root)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	lines := bufio.NewReader(out)
	var ids []string
	for len(ids) <= n {
		line, err := lines.ReadString('\n')
		must(t, err)
		ids = append(ids, strings.TrimSpace(line))
	}
	must(t, cmd.Process.Kill())
	_ = cmd.Wait() // it says that it was killed
	return ids
}
