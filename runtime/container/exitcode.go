package container

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
)

// exitName is a file in the directory of a container that is removed when it
// ends. Who waits for it has the file open, and reads there how it ended, when
// all else is gone.
const exitName = "exit"

// makeExit makes the file.
func (s *Set) makeExit(id string) error {
	dir, err := s.dir(id)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(filepath.Join(dir, exitName), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return s.e.Store.Explain(err)
	}
	return f.Close()
}

// leaveExit writes the code for those who wait.
func (s *Set) leaveExit(rec *Record) error {
	dir, err := s.dir(rec.ID)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(filepath.Join(dir, exitName), os.O_WRONLY, 0)
	if errors.Is(err, os.ErrNotExist) {
		return nil // it was removed by force
	}
	if err != nil {
		return err
	}
	_, err = f.WriteString(strconv.Itoa(rec.State.ExitCode))
	return errors.Join(err, f.Close())
}

// openExit opens the file before the end; nil where there is none.
func (s *Set) openExit(id string) (*os.File, error) {
	dir, err := s.dir(id)
	if err != nil {
		return nil, err
	}
	f, err := os.Open(filepath.Join(dir, exitName))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	return f, err
}

// readExit reads the code of a container that is gone. One that was removed by
// force was killed.
func readExit(f *os.File) (int, error) {
	if f == nil {
		return killedCode, nil
	}
	text, err := io.ReadAll(io.LimitReader(f, 16))
	if err != nil || len(text) == 0 {
		return killedCode, err
	}
	code, err := strconv.Atoi(string(text))
	if err != nil {
		return 0, fmt.Errorf("read exit code: %w", err)
	}
	return code, nil
}
