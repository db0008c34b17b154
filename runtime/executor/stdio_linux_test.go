package executor

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestInput(t *testing.T) {
	e := newExecutor(t)
	r := run(t, e, func(s *Spec) { s.Stdin = strings.NewReader("one\ntwo\n") }, "wc", "-l")
	if strings.TrimSpace(r.stdout) != "2" || r.err != nil {
		t.Errorf("got %q, %v", r.stdout, r.err)
	}
	f, err := os.Open("/etc/passwd")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if r := run(t, e, func(s *Spec) { s.Stdin = f }, "head", "-c", "4"); r.stdout != "root" {
		t.Errorf("got %q, %v", r.stdout, r.err)
	}
	if r := run(t, e, nil, "cat"); r.stdout != "" || r.err != nil {
		t.Errorf("without input: got %q, %v", r.stdout, r.err)
	}
	// A reader that never ends must not keep a command that has ended.
	pr, pw := io.Pipe()
	defer pw.Close()
	if r := run(t, e, func(s *Spec) { s.Stdin = pr }, "true"); r.err != nil || r.ExitCode != 0 {
		t.Errorf("got %+v", r)
	}
}

func TestOutput(t *testing.T) {
	e := newExecutor(t)
	const size = 10 << 20
	r := run(t, e, nil, "sh", "-c", "head -c 10485760 /dev/zero; echo end >&2")
	if len(r.stdout) != size || r.stderr != "end\n" || r.err != nil {
		t.Errorf("got %d bytes, %q, %v", len(r.stdout), r.stderr, r.err)
	}
	// Both in one place keep their order.
	var both bytes.Buffer
	run(t, e, func(s *Spec) { s.Stdout, s.Stderr = &both, &both }, "sh", "-c", "for i in 1 2 3 4; do echo out $i; echo err $i >&2; done")
	if want := "out 1\nerr 1\nout 2\nerr 2\nout 3\nerr 3\nout 4\nerr 4\n"; both.String() != want {
		t.Errorf("got %q", both.String())
	}
}

func TestOutputToFile(t *testing.T) {
	e := newExecutor(t)
	f, err := os.Create(filepath.Join(t.TempDir(), "out"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	run(t, e, func(s *Spec) { s.Stdout, s.Stderr = f, f }, "sh", "-c", "echo a; echo b >&2")
	text, err := os.ReadFile(f.Name())
	if string(text) != "a\nb\n" || err != nil {
		t.Errorf("got %q, %v", text, err)
	}
}

// The last bytes are there, although the writer ended at once; and a process
// that is left behind with the pipe open keeps nobody waiting.
func TestLastBytesAndStragglers(t *testing.T) {
	e := newExecutor(t)
	dir := base(t)
	for i := range 30 {
		r := run(t, e, func(s *Spec) { s.Root = newImage(t, dir).root }, "sh", "-c", "sleep 1000 & sleep 1000 & printf last")
		if r.stdout != "last" || r.err != nil {
			t.Fatalf("run %d: got %q, %v", i, r.stdout, r.err)
		}
	}
}

type brokenWriter struct{}

func (brokenWriter) Write([]byte) (int, error) { return 0, errors.New("disk is full") }

func TestBrokenOutput(t *testing.T) {
	e := newExecutor(t)
	r := run(t, e, func(s *Spec) { s.Stdout = brokenWriter{} }, "sh", "-c", "yes; exit 7")
	if r.err == nil || !strings.Contains(r.err.Error(), "disk is full") {
		t.Errorf("got %v", r.err)
	}
}
