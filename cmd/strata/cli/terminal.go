package cli

import (
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/term"

	"github.com/strata-build/strata/runtime/container"
	"github.com/strata-build/strata/runtime/executor"
)

// Streams connects a process to this command. With a terminal, this one is
// put into raw mode until restore is called, and its changes of size are
// passed on.
func (a *App) Streams(tty, interactive bool) (streams container.IO, restore func() error, err error) {
	streams = container.IO{Stdout: a.Stdout, Stderr: a.Stderr}
	restore = func() error { return nil }
	if interactive {
		streams.Stdin = a.Stdin
	}
	if !tty {
		return streams, restore, nil
	}
	streams.Size = DefaultSize
	if err := a.CheckTerminal(tty, interactive); err != nil {
		return streams, nil, err
	}
	in, ok := a.Stdin.(*os.File)
	if !ok || !term.IsTerminal(int(in.Fd())) {
		return streams, restore, nil
	}
	resized, stop := resizes(in)
	streams.Resized = resized
	if size, err := terminalSize(in); err == nil {
		streams.Size = size
	}
	if !interactive { // ^C is for this command, which gets no input otherwise
		return streams, func() error { stop(); return nil }, nil
	}
	state, err := term.MakeRaw(int(in.Fd()))
	if err != nil {
		stop()
		return streams, nil, fmt.Errorf("set terminal: %w", err)
	}
	return streams, func() error { stop(); return term.Restore(int(in.Fd()), state) }, nil
}

// DefaultSize is that of a terminal that nobody looks at.
var DefaultSize = executor.Terminal{Rows: 24, Cols: 80}

// CheckTerminal makes sure that a terminal that is to be typed at is one.
func (a *App) CheckTerminal(tty, interactive bool) error {
	if !tty || !interactive {
		return nil
	}
	if in, ok := a.Stdin.(*os.File); ok && term.IsTerminal(int(in.Fd())) {
		return nil
	}
	return Misuse("standard input is no terminal: leave -t out")
}

func terminalSize(f *os.File) (executor.Terminal, error) {
	cols, rows, err := term.GetSize(int(f.Fd()))
	return executor.Terminal{Rows: uint16(rows), Cols: uint16(cols)}, err
}

// resizes sends the terminal's size whenever it changes.
func resizes(f *os.File) (<-chan executor.Terminal, func()) {
	changed := make(chan os.Signal, 1)
	signal.Notify(changed, syscall.SIGWINCH)
	sizes := make(chan executor.Terminal, 1)
	done := make(chan struct{})
	go func() {
		for {
			select {
			case <-done:
				return
			case <-changed:
			}
			if size, err := terminalSize(f); err == nil {
				select {
				case sizes <- size:
				case <-done:
				}
			}
		}
	}()
	return sizes, func() { signal.Stop(changed); close(done) }
}

// Signals are those of this process that are passed on to a container. A third ^C kills
// it, for programs that do not listen.
func Signals() (signals <-chan os.Signal, stop func()) {
	in := make(chan os.Signal, 16)
	for _, sig := range []os.Signal{
		syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGTERM, syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGALRM, syscall.SIGCONT,
	} {
		if !signal.Ignored(sig) {
			signal.Notify(in, sig)
		}
	}
	out := make(chan os.Signal, 16)
	done := make(chan struct{})
	go func() {
		for interrupts := 0; ; {
			select {
			case sig := <-in:
				if sig == syscall.SIGINT {
					if interrupts++; interrupts >= 3 {
						sig = syscall.SIGKILL
					}
				}
				out <- sig
			case <-done:
				return
			}
		}
	}()
	return out, func() { signal.Stop(in); close(done) }
}
