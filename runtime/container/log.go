package container

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// The log is docker's json-file: one object a line, which other tools read
// too.
//
//	{"log":"a line\n","stream":"stdout","time":"2026-01-02T03:04:05.000000006Z"}

// LogName is the log's file in a container's directory.
const LogName = "log.json"

// maxLogLine is where a line without an end is cut, as docker does.
const maxLogLine = 16 << 10

// LogEntry is one entry of a log: a line, or a piece of a very long one.
type LogEntry struct {
	Log    string    `json:"log"`
	Stream string    `json:"stream"`
	Time   time.Time `json:"time"`
}

// logFile is an open log that the streams of a container write to.
type logFile struct {
	mu sync.Mutex
	f  *os.File
	// err is the first error of writing. The container goes on without a log.
	err error
}

func (s *Set) openLog(id string) (*logFile, error) {
	dir, err := s.dir(id)
	if err != nil {
		return nil, err
	}
	f, err := os.OpenFile(filepath.Join(dir, LogName), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, s.e.Store.Explain(err)
	}
	return &logFile{f: f}, nil
}

// append writes entries at once, so that a reader sees whole lines.
func (l *logFile) append(entries []LogEntry) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.write(entries); err != nil && l.err == nil {
		l.err = fmt.Errorf("write log: %w", err)
	}
}

func (l *logFile) write(entries []LogEntry) error {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	for _, e := range entries {
		if err := enc.Encode(e); err != nil {
			return err
		}
	}
	before, err := l.f.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	if _, err := l.f.Write(b.Bytes()); err != nil {
		// No piece of a line stays, which the next one would be added to.
		return errors.Join(err, l.f.Truncate(before))
	}
	return nil
}

// stream is the writer of one stream of a container: into the log, line by
// line, and to whoever looks on, at once.
type stream struct {
	log    *logFile
	name   string
	onward io.Writer // may be nil
	rest   []byte
	gone   bool // the reader of onward
	// hangUp is called then, where the container has a terminal and would
	// not notice. May be nil.
	hangUp func()
}

// errGone says that nobody reads the output any more.
var errGone = errors.New("nobody reads the output")

// Write implements io.Writer. When who looks on goes away, the container gets
// to know it as by a pipe (`strata run … | head`).
func (s *stream) Write(p []byte) (int, error) {
	s.rest = append(s.rest, p...)
	s.flush(false)
	if s.onward == nil {
		return len(p), nil
	}
	if _, err := s.onward.Write(p); err != nil {
		s.gone = true
		if s.hangUp != nil {
			s.hangUp()
		}
		return 0, errGone
	}
	return len(p), nil
}

// withoutGone drops errGone: a container that was told so ends in its own way.
func withoutGone(err error) error {
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		if errors.Is(err, errGone) {
			return nil
		}
		return err
	}
	var errs []error
	for _, e := range joined.Unwrap() {
		errs = append(errs, withoutGone(e))
	}
	return errors.Join(errs...)
}

// flush logs the whole lines, and at the end what is left.
func (s *stream) flush(end bool) {
	var entries []LogEntry
	now := time.Now().UTC()
	for len(s.rest) > 0 {
		n := bytes.IndexByte(s.rest, '\n') + 1
		switch {
		case n > 0 && n <= maxLogLine:
		case len(s.rest) >= maxLogLine:
			n = maxLogLine
		case end:
			n = len(s.rest)
		default:
			n = 0
		}
		if n == 0 {
			break
		}
		entries = append(entries, LogEntry{Log: string(s.rest[:n]), Stream: s.name, Time: now})
		s.rest = s.rest[n:]
	}
	if len(entries) == 0 {
		return
	}
	s.rest = append([]byte(nil), s.rest...)
	s.log.append(entries)
}

// LogOptions select entries of a log.
type LogOptions struct {
	// Follow goes on until the container has ended.
	Follow bool
	// Tail is how many of the last lines to begin with; negative is all.
	Tail int
	// Since and Until bound the time, unless zero.
	Since, Until time.Time
}

// logPoll is how often a followed log is looked at.
const logPoll = 50 * time.Millisecond

// Logs calls fn for the entries of a container's log.
func (s *Set) Logs(ctx context.Context, id string, opt LogOptions, fn func(LogEntry) error) error {
	dir, err := s.dir(id)
	if err != nil {
		return err
	}
	f, err := os.Open(filepath.Join(dir, LogName))
	if errors.Is(err, os.ErrNotExist) && !opt.Follow {
		return nil // it never ran
	}
	for errors.Is(err, os.ErrNotExist) {
		if err = s.pause(ctx, id); err == nil {
			f, err = os.Open(filepath.Join(dir, LogName))
		}
	}
	if errors.Is(err, io.EOF) {
		return nil
	}
	if err != nil {
		return err
	}
	r := newLogReader(f, opt, fn)
	r.pause = func(ctx context.Context) error { return s.pause(ctx, id) }
	return errors.Join(r.run(ctx), f.Close())
}

// pause waits for more of a log; the error is io.EOF when there is none to come.
func (s *Set) pause(ctx context.Context, id string) error {
	if !s.held(id) {
		return io.EOF
	}
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(logPoll):
		return nil
	}
}

type logReader struct {
	opt LogOptions
	// pause waits for more; io.EOF says that there is none to come.
	pause func(context.Context) error
	f     *os.File
	r     *bufio.Reader
	fn    func(LogEntry) error
	// partial is the beginning of a line that is being written.
	partial []byte
}

func newLogReader(f *os.File, opt LogOptions, fn func(LogEntry) error) *logReader {
	return &logReader{opt: opt, f: f, r: bufio.NewReader(f), fn: fn}
}

func (r *logReader) run(ctx context.Context) error {
	if r.opt.Tail >= 0 {
		if err := r.skip(); err != nil {
			return err
		}
	}
	for {
		if err := r.drain(); err != nil || !r.opt.Follow {
			return err
		}
		err := r.pause(ctx)
		if errors.Is(err, io.EOF) { // ended: what it wrote last is there now
			return r.drain()
		}
		if err != nil {
			return err
		}
	}
}

// drain passes on what is there.
func (r *logReader) drain() error {
	for {
		line, err := r.r.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			r.partial = append(r.partial, line...)
			return nil
		}
		if err != nil {
			return fmt.Errorf("read log: %w", err)
		}
		line = append(r.partial, line...)
		r.partial = nil
		if err := r.pass(line); err != nil {
			return err
		}
	}
}

func (r *logReader) pass(line []byte) error {
	var e LogEntry
	if json.Unmarshal(line, &e) != nil {
		return nil //nolint:nilerr // a line that a full disk cut short
	}
	if e.Time.Before(r.opt.Since) || !r.opt.Until.IsZero() && e.Time.After(r.opt.Until) {
		return nil
	}
	return r.fn(e)
}

// skip goes to where the last lines begin, reading the file backwards.
func (r *logReader) skip() error {
	end, err := r.f.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	const block = 64 << 10
	buf := make([]byte, block)
	lines := 0
	for pos := end; pos > 0; {
		n := min(block, pos)
		pos -= n
		if _, err := r.f.ReadAt(buf[:n], pos); err != nil && !errors.Is(err, io.EOF) {
			return fmt.Errorf("read log: %w", err)
		}
		for i := n - 1; i >= 0; i-- {
			if buf[i] != '\n' || pos+i == end-1 && r.opt.Tail > 0 {
				continue
			}
			if lines++; lines > r.opt.Tail-1 {
				return r.seek(pos + i + 1)
			}
		}
	}
	return r.seek(0)
}

func (r *logReader) seek(pos int64) error {
	if _, err := r.f.Seek(pos, io.SeekStart); err != nil {
		return err
	}
	r.r.Reset(r.f)
	return nil
}
