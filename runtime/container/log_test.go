package container

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func newLog(t *testing.T) *logFile {
	t.Helper()
	f, err := os.OpenFile(filepath.Join(t.TempDir(), LogName), os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return &logFile{f: f}
}

// read returns the entries of a log, as `logs` shows them.
func (l *logFile) read(t *testing.T, opt LogOptions) []LogEntry {
	t.Helper()
	f, err := os.Open(l.f.Name())
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var all []LogEntry
	r := newLogReader(f, opt, func(e LogEntry) error {
		all = append(all, e)
		return nil
	})
	if err := r.run(context.Background()); err != nil {
		t.Fatal(err)
	}
	return all
}

func text(entries []LogEntry) string {
	var b strings.Builder
	for _, e := range entries {
		b.WriteString(e.Log)
	}
	return b.String()
}

// Whole lines are logged as they come, long ones in pieces of 16 KiB, and what
// has no end at the end.
func TestLogLines(t *testing.T) {
	l := newLog(t)
	out, errs := &stream{log: l, name: "stdout"}, &stream{log: l, name: "stderr"}
	long := strings.Repeat("x", 2*maxLogLine+5)
	for _, w := range []struct {
		to   *stream
		text string
	}{{out, "one\ntw"}, {errs, "error\n"}, {out, "o\n\n"}, {out, long}, {out, "\n"}, {out, "<&>\xff no end"}} {
		if n, err := w.to.Write([]byte(w.text)); n != len(w.text) || err != nil {
			t.Fatalf("got %d, %v", n, err)
		}
	}
	out.flush(true)
	errs.flush(true)
	var got []string
	for _, e := range l.read(t, LogOptions{Tail: -1}) {
		got = append(got, fmt.Sprintf("%s %d %.6q", e.Stream, len(e.Log), e.Log))
		if time.Since(e.Time) > time.Minute {
			t.Errorf("time %s", e.Time)
		}
	}
	want := []string{
		`stdout 4 "one\n"`, `stderr 6 "error\n"`, `stdout 4 "two\n"`, `stdout 1 "\n"`,
		fmt.Sprintf(`stdout %d "xxxxxx"`, maxLogLine), fmt.Sprintf(`stdout %d "xxxxxx"`, maxLogLine), `stdout 6 "xxxxx\n"`,
		`stdout 13 "<&>` + "\ufffd" + ` n"`,
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestLogTail(t *testing.T) {
	l := newLog(t)
	out := &stream{log: l, name: "stdout"}
	// So many that the file is read backwards in several blocks.
	for i := range 3000 {
		fmt.Fprintf(out, "line %d %s\n", i, strings.Repeat("y", 50))
	}
	for _, n := range []int{0, 1, 2, 999, 2999, 3000, 3001, 100000} {
		got := l.read(t, LogOptions{Tail: n})
		if len(got) != min(n, 3000) {
			t.Errorf("--tail %d: got %d lines", n, len(got))
		}
		if len(got) > 0 && !strings.HasPrefix(got[0].Log, fmt.Sprintf("line %d ", 3000-len(got))) {
			t.Errorf("--tail %d begins with %q", n, got[0].Log)
		}
	}
	if got := newLog(t).read(t, LogOptions{Tail: 3}); len(got) != 0 {
		t.Errorf("an empty log has %d lines", len(got))
	}
}

func TestLogSinceAndUntil(t *testing.T) {
	l := newLog(t)
	at := func(second int) time.Time { return time.Date(2026, 1, 2, 3, 4, second, 0, time.UTC) }
	for i := range 10 {
		l.append([]LogEntry{{Log: fmt.Sprintln(i), Stream: "stdout", Time: at(i)}})
	}
	for _, c := range []struct {
		opt  LogOptions
		want string
	}{
		{LogOptions{Tail: -1, Since: at(8)}, "8\n9\n"},
		{LogOptions{Tail: -1, Until: at(1)}, "0\n1\n"},
		{LogOptions{Tail: -1, Since: at(3), Until: at(4)}, "3\n4\n"},
		{LogOptions{Tail: 3, Until: at(7)}, "7\n"},
		{LogOptions{Tail: -1, Since: at(20)}, ""},
	} {
		if got := text(l.read(t, c.opt)); got != c.want {
			t.Errorf("%+v: got %q, want %q", c.opt, got, c.want)
		}
	}
}

// A line of which only the beginning is there is shown once it is whole.
func TestLogPartialEntry(t *testing.T) {
	l := newLog(t)
	l.append([]LogEntry{{Log: "whole\n", Stream: "stdout"}})
	if _, err := l.f.WriteString(`{"log":"half`); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(l.f.Name())
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var got bytes.Buffer
	r := newLogReader(f, LogOptions{Tail: -1}, func(e LogEntry) error {
		_, err := got.WriteString(e.Log)
		return err
	})
	if err := r.drain(); err != nil || got.String() != "whole\n" {
		t.Fatalf("got %q, %v", &got, err)
	}
	if _, err := l.f.WriteString(" a line\\n\",\"stream\":\"stdout\"}\nnonsense\n"); err != nil {
		t.Fatal(err)
	}
	if err := r.drain(); err != nil || got.String() != "whole\nhalf a line\n" {
		t.Errorf("got %q, %v", &got, err)
	}
}

// Where nothing can be written, the container goes on, and it is known.
func TestLogOnAFullDisk(t *testing.T) {
	f, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	l := &logFile{f: f}
	var onward bytes.Buffer
	s := &stream{log: l, name: "stdout", onward: &onward}
	for range 3 {
		if n, err := s.Write([]byte("line\n")); n != 5 || err != nil {
			t.Errorf("got %d, %v", n, err)
		}
	}
	if l.err == nil || !strings.Contains(l.err.Error(), "no space left") || onward.String() != "line\nline\nline\n" {
		t.Errorf("got %v and %q", l.err, &onward)
	}
}

type broken struct{}

func (broken) Write([]byte) (int, error) { return 0, os.ErrClosed }

// Who looks on may go away: the container is told so, and it is no error of it.
func TestStreamWhoseReaderGoes(t *testing.T) {
	hungUp := false
	l := newLog(t)
	s := &stream{log: l, name: "stdout", onward: broken{}, hangUp: func() { hungUp = true }}
	_, err := s.Write([]byte("line\n"))
	if err == nil || !s.gone || !hungUp {
		t.Errorf("got %v, gone %v, hung up %v", err, s.gone, hungUp)
	}
	if got := text(l.read(t, LogOptions{Tail: -1})); got != "line\n" {
		t.Errorf("logged %q", got)
	}
	other := errors.New("other")
	for _, c := range []struct{ err, want error }{
		{nil, nil}, {fmt.Errorf("write: %w", err), nil}, {errors.Join(err, fmt.Errorf("x: %w", err)), nil},
		{other, other}, {errors.Join(err, other), other}, {io.EOF, io.EOF},
	} {
		if got := withoutGone(c.err); !errors.Is(got, c.want) || (got == nil) != (c.want == nil) || errors.Is(got, errGone) {
			t.Errorf("%v: got %v", c.err, got)
		}
	}
}
