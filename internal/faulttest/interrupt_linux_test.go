package faulttest

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// TestSignals ends a build in the middle of a step that would run for a long
// time. Where the program can say so it does, and no process of the step
// outlives it in any case.
func TestSignals(t *testing.T) {
	base := "base=" + busybox(t)
	for _, signal := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGKILL} {
		name := unix.SignalName(signal)
		t.Run(name, func(t *testing.T) {
			m := newMachine(t)
			m.write("app.cue", `
_base: string @tag(base)
images: app: {from: _base, steps: ["sleep 1000 & echo the step r''uns; sleep 1000"]}
`)
			ctx, cancel := context.WithTimeout(context.Background(), bound)
			defer cancel()
			cmd := m.command(ctx, "build", "--progress", "plain", "--set", base, "./app.cue")
			stderr, err := cmd.StderrPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			var before, after bytes.Buffer
			lines := bufio.NewReader(stderr)
			for !strings.Contains(before.String(), "the step runs") {
				line, err := lines.ReadString('\n')
				before.WriteString(line)
				if err != nil {
					t.Fatalf("the step did not begin: %v\n%s", err, before.String())
				}
			}
			if err := cmd.Process.Signal(signal); err != nil {
				t.Fatal(err)
			}
			if _, err := io.Copy(&after, lines); err != nil {
				t.Fatal(err)
			}
			err = cmd.Wait()
			if ctx.Err() != nil {
				t.Fatalf("the program did not end after %s:\n%s%s", name, before.String(), after.String())
			}
			if signal != syscall.SIGKILL {
				if err == nil || cmd.ProcessState.ExitCode() <= 0 {
					t.Errorf("the program ended with %v, want an exit code of its own", cmd.ProcessState)
				}
				said := strings.ToLower(after.String())
				if !strings.Contains(said, "interrupt") && !strings.Contains(said, "terminated") {
					t.Errorf("the program does not say that it was interrupted:\n%s", after.String())
				}
			}
			m.sane(after.String())
			m.nothingRuns()
			m.nothingMounted()
			m.nothingHalfDone()
		})
	}
}
