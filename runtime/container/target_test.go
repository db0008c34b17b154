package container

import (
	"errors"
	"os"
	"testing"

	"github.com/strata-build/strata/internal/testenv"
)

// TestRootOfAnotherProcess: where a container's process has ended and its
// number is another's, that one's files are not taken for the container's.
func TestRootOfAnotherProcess(t *testing.T) {
	testenv.Root(t)
	rec := &Record{Name: "c", State: State{PID: os.Getpid(), StartTime: 1}}
	root, err := processRoot(rec)
	if err == nil {
		root.Close()
	}
	if !errors.Is(err, os.ErrProcessDone) {
		t.Errorf("opened the root of a process that began at another time: %v", err)
	}
}
