package program

import (
	"errors"
	"io"
	"os"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// run starts p and returns what its process wrote to standard output, its
// exit code, and the call that failed.
func run(t *testing.T, write func(p *Program, stdout int)) (string, int, error) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var p Program
	defer p.Release()
	write(&p, int(w.Fd()))
	c, err := p.Start(Options{})
	w.Close()
	if err != nil {
		return "", -1, err
	}
	code := wait(t, c)
	out, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(out), code, c.Failure()
}

func wait(t *testing.T, c *Child) int {
	t.Helper()
	defer unix.Close(c.PIDFD)
	var ws unix.WaitStatus
	if _, err := unix.Wait4(c.PID, &ws, 0, nil); err != nil {
		t.Fatal(err)
	}
	return ws.ExitStatus()
}

func stdout(p *Program, fd int) {
	p.Do(Call{What: "set standard output", Number: unix.SYS_DUP3, Args: Args{Int(fd), Int(1)}})
}

func shell(p *Program, script string) {
	p.Do(Call{
		What:   "execute the shell",
		Number: unix.SYS_EXECVE,
		Args:   Args{p.String("/bin/sh"), p.Strings([]string{"sh", "-c", script}), p.Strings([]string{"WORD=there"})},
	})
}

func TestExecute(t *testing.T) {
	out, code, err := run(t, func(p *Program, fd int) {
		stdout(p, fd)
		shell(p, `echo hello $WORD; exit 7`)
	})
	if out != "hello there\n" || code != 7 || err != nil {
		t.Errorf("got %q, exit code %d, %v", out, code, err)
	}
}

func TestRegisters(t *testing.T) {
	name := t.TempDir() + "/f"
	if err := os.WriteFile(name, []byte("content"), 0o600); err != nil {
		t.Fatal(err)
	}
	out, _, err := run(t, func(p *Program, fd int) {
		stdout(p, fd)
		f := p.Add(Call{What: "open", Number: unix.SYS_OPENAT, Args: Args{Int(unix.AT_FDCWD), p.String(name)}})
		p.Do(Call{What: "set standard input", Number: unix.SYS_DUP3, Args: Args{f, Int(0)}})
		shell(p, `read x; echo $x`)
	})
	if out != "content\n" || err != nil {
		t.Errorf("got %q, %v", out, err)
	}
}

func TestFailureNamesTheCall(t *testing.T) {
	_, code, err := run(t, func(p *Program, fd int) {
		stdout(p, fd)
		p.Do(Call{What: "enter the moon", Number: unix.SYS_CHDIR, Args: Args{p.String("/moon/none")}})
		shell(p, `echo unreachable`)
	})
	var e *Error
	if !errors.As(err, &e) || e.Index != 1 || !errors.Is(err, unix.ENOENT) {
		t.Fatalf("got %#v", err)
	}
	if err.Error() != "enter the moon: no such file or directory" || code != 253 {
		t.Errorf("got %q, exit code %d", err, code)
	}
}

func TestIgnoredErrorGoesOn(t *testing.T) {
	out, _, err := run(t, func(p *Program, fd int) {
		stdout(p, fd)
		missing := Call{What: "enter", Number: unix.SYS_CHDIR, Args: Args{p.String("/moon/none")}}
		missing.Ignore = []unix.Errno{unix.EACCES, unix.ENOENT}
		p.Do(missing)
		var over Label
		missing.Else = &over
		p.Do(missing)
		shell(p, `echo not skipped`)
		p.Place(&over)
		shell(p, `echo skipped`)
	})
	if out != "skipped\n" || err != nil {
		t.Errorf("got %q, %v", out, err)
	}
}

func TestZero(t *testing.T) {
	_, _, err := run(t, func(p *Program, _ int) {
		p.Do(Call{What: "ask for the process number", Number: unix.SYS_GETPID, Zero: true})
		shell(p, `true`)
	})
	if !errors.Is(err, unix.EPROTO) {
		t.Errorf("got %v", err)
	}
}

func TestProgramThatEndsWithoutExecuting(t *testing.T) {
	_, _, err := run(t, func(p *Program, fd int) { stdout(p, fd) })
	if !errors.Is(err, unix.ENOEXEC) {
		t.Errorf("got %v", err)
	}
}

// With a copy of the memory, the program may wait for the parent.
func TestCopy(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	var p Program
	defer p.Release()
	space := p.Space(8)
	p.Do(Call{What: "wait for the parent", Number: unix.SYS_READ, Args: Args{Int(int(r.Fd())), space, Int(8)}})
	p.Do(Call{What: "enter", Number: unix.SYS_CHDIR, Args: Args{space}})
	shell(&p, "true")
	c, err := p.Start(Options{Copy: true})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.WriteString("/moon"); err != nil {
		t.Fatal(err)
	}
	wait(t, c)
	if err := c.Failure(); err == nil || err.Error() != "enter: no such file or directory" {
		t.Errorf("got %v", err)
	}
}

// A program may fork: what the parent of the two does comes last.
func TestFork(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var p Program
	defer p.Release()
	var parent Label
	p.Do(Call{
		What: "fork", Number: unix.SYS_CLONE, Args: Args{Int(unix.CLONE_PARENT | int(unix.SIGCHLD))}, NonZero: &parent, Report: true,
	})
	stdout(&p, int(w.Fd()))
	shell(&p, `echo $$; exit 3`)
	p.Place(&parent)
	p.Do(Call{What: "end", Number: unix.SYS_EXIT, Args: Args{Int(4)}})
	c, err := p.Start(Options{Copy: true})
	w.Close()
	if err != nil {
		t.Fatal(err)
	}
	out, err := io.ReadAll(r)
	if code := wait(t, c); code != 4 || err != nil {
		t.Errorf("the first process ended with %d, %v", code, err)
	}
	if err := c.Failure(); err != nil {
		t.Error(err)
	}
	if strings.TrimSpace(string(out)) != strconv.Itoa(c.Reported()) {
		t.Errorf("the second process is %q, reported as %d", out, c.Reported())
	}
	var ws unix.WaitStatus
	if _, err := unix.Wait4(c.Reported(), &ws, 0, nil); err != nil || ws.ExitStatus() != 3 {
		t.Errorf("the second process ended with %d, %v", ws.ExitStatus(), err)
	}
}

func TestRefusedPrograms(t *testing.T) {
	var over Label
	for name, write := range map[string]func(p *Program){
		"empty":   func(*Program) {},
		"jump":    func(p *Program) { p.Do(Call{Number: unix.SYS_GETPID, Else: &over}) },
		"ignored": func(p *Program) { p.Do(Call{Ignore: make([]unix.Errno, 5)}) },
		"length":  func(p *Program) { manyCalls(p, maxCalls+1) },
	} {
		var p Program
		write(&p)
		if _, err := p.Start(Options{}); err == nil {
			t.Errorf("%s: program was accepted", name)
		}
	}
}

func manyCalls(p *Program, n int) (last Arg) {
	for range n {
		last = p.Add(Call{Number: unix.SYS_GETPID})
	}
	return last
}

func TestLongProgram(t *testing.T) {
	out, _, err := run(t, func(p *Program, fd int) {
		stdout(p, fd)
		pid := manyCalls(p, 5000)
		p.Do(Call{What: "set the process group", Number: unix.SYS_SETPGID, Args: Args{pid}})
		shell(p, "echo done")
	})
	if out != "done\n" || err != nil {
		t.Errorf("got %q, %v", out, err)
	}
}

// Strings and tables keep their contents and alignment over many chunks.
func TestMemory(t *testing.T) {
	words := []string{strings.Repeat("x", 3*chunkSize)}
	for i := range 2000 {
		words = append(words, strings.Repeat("y", i%17))
	}
	out, _, err := run(t, func(p *Program, fd int) {
		stdout(p, fd)
		args := []string{"sh", "-c", `printf '%s' "$@" | wc -c`, "sh"}
		p.Do(Call{
			What:   "execute the shell",
			Number: unix.SYS_EXECVE,
			Args:   Args{p.String("/bin/sh"), p.Strings(append(args, words...)), p.Strings([]string{"PATH=/usr/bin:/bin"})},
		})
	})
	n := 0
	for _, w := range words {
		n += len(w)
	}
	if err != nil || strings.TrimSpace(out) != strconv.Itoa(n) {
		t.Errorf("got %q, %v; want %d", out, err, n)
	}
}

func BenchmarkTrue(b *testing.B) {
	for b.Loop() {
		var p Program
		p.Do(Call{Number: unix.SYS_EXECVE, Args: Args{p.String("/bin/true"), p.Strings([]string{"true"}), p.Strings(nil)}})
		c, err := p.Start(Options{})
		if err != nil {
			b.Fatal(err)
		}
		if _, err := unix.Wait4(c.PID, nil, 0, nil); err != nil {
			b.Fatal(err)
		}
		unix.Close(c.PIDFD)
		p.Release()
	}
}
