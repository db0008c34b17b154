package worker

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
)

// tailSize is how much of the end of a step's output an error shows.
const tailSize = 4 << 10

// stepLog keeps all output of a step in a file, which stays if the step fails.
// The file is made with the first byte: most steps that end well say little.
type stepLog struct {
	dir, name string

	mu   sync.Mutex
	file *os.File
	end  []byte
	err  error
}

// openLog prepares the log of a run.
func (r *execRun) openLog() (*stepLog, error) {
	return &stepLog{dir: r.w.opt.LogDir, name: r.w.newKey("step") + ".log"}, nil
}

func (l *stepLog) path() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.file == nil {
		return ""
	}
	return filepath.Join(l.dir, l.name)
}

func (l *stepLog) tail() []byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	return bytes.Clone(l.end)
}

// tee returns a writer that writes to w and to the log.
func (l *stepLog) tee(w io.Writer) io.Writer { return &teeWriter{log: l, w: w} }

type teeWriter struct {
	log *stepLog
	w   io.Writer
}

// Write implements io.Writer. Trouble with the log does not stop the step; it
// is reported when the step has ended.
func (t *teeWriter) Write(p []byte) (int, error) {
	t.log.write(p)
	return t.w.Write(p)
}

func (l *stepLog) write(p []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.end = append(l.end, p...)
	if over := len(l.end) - tailSize; over > tailSize {
		l.end = append(l.end[:0], l.end[over:]...)
	}
	if l.err != nil {
		return
	}
	if l.file == nil {
		l.file, l.err = os.OpenFile(filepath.Join(l.dir, l.name), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
		if l.err != nil {
			return
		}
	}
	_, l.err = l.file.Write(p)
}

// keep closes the log of a failed step.
func (l *stepLog) keep() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.file == nil {
		return l.err
	}
	if err := errors.Join(l.err, l.file.Close()); err != nil {
		return fmt.Errorf("write the step's log: %w", err)
	}
	return nil
}

// discard removes the log of a step that ended well.
func (l *stepLog) discard() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.file == nil {
		return nil // an unwritable log is no reason to fail what went well
	}
	return errors.Join(l.file.Close(), os.Remove(l.file.Name()))
}
