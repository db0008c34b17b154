package container

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// exitName is a file in a container's directory for how it has ended, where the
// record cannot say so: it is gone, of a container that is removed when it ends
// (who waits for it has the file open), or there was no room to write it. The
// file has its size from the beginning, so that writing it needs no room.
const exitName = "exit"

// exitBlank is in the file until then.
const exitBlank = "    "

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
	_, err = f.WriteString(exitBlank)
	return errors.Join(s.e.Store.Explain(err), f.Close())
}

// leaveExit writes the code.
func (s *Set) leaveExit(id string, code int) error {
	return s.writeExit(id, fmt.Sprintf("%-*d", len(exitBlank), code))
}

// clearExit forgets the code.
func (s *Set) clearExit(id string) error { return s.writeExit(id, exitBlank) }

func (s *Set) writeExit(id, text string) error {
	dir, err := s.dir(id)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(filepath.Join(dir, exitName), os.O_WRONLY, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // it was removed by force, or an earlier version made it
	}
	if err != nil {
		return err
	}
	_, err = f.WriteAt([]byte(text), 0)
	return errors.Join(err, f.Close())
}

// openExit opens the file before the end; nil where there is none.
func (s *Set) openExit(id string) (*os.File, error) {
	dir, err := s.dir(id)
	if err != nil {
		return nil, err
	}
	f, err := os.Open(filepath.Join(dir, exitName))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return f, err
}

// readExit reads the code; ok is false where none was left.
func readExit(f *os.File) (code int, ok bool, err error) {
	if f == nil {
		return 0, false, nil
	}
	text, err := io.ReadAll(io.LimitReader(f, 16))
	trimmed := strings.TrimSpace(string(text))
	if err != nil || trimmed == "" {
		return 0, false, err
	}
	if code, err = strconv.Atoi(trimmed); err != nil {
		return 0, false, fmt.Errorf("read exit code: %w", err)
	}
	return code, true, nil
}

// leftExit reads the code that was left of a container.
func (s *Set) leftExit(id string) (code int, ok bool, err error) {
	f, err := s.openExit(id)
	if f == nil || err != nil {
		return 0, false, err
	}
	code, ok, err = readExit(f)
	return code, ok, errors.Join(err, f.Close())
}
