package containercmd

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"golang.org/x/term"

	"github.com/strata-build/strata/cmd/strata/cli"
	"github.com/strata-build/strata/runtime/container"
	"github.com/strata-build/strata/runtime/engine"
	"github.com/strata-build/strata/runtime/executor"
	"github.com/strata-build/strata/runtime/executor/userns"
)

// withContainers runs fn with the containers of the store. As an ordinary user
// it is done inside of a user namespace: that of the container called beside,
// where there is one, since only from there can it be entered.
func (a *app) withContainers(ctx context.Context, beside string, fn func(*container.Set) error) error {
	if err := a.joinContainer(ctx, beside); err != nil {
		return err
	}
	return a.WithEngine(ctx, func(e *engine.Engine) error { return fn(container.New(e)) })
}

// joinContainer enters the user namespace of a running container. In it, the
// command runs again from its beginning.
func (a *app) joinContainer(ctx context.Context, name string) error {
	if name == "" {
		return nil
	}
	inside, err := userns.Sufficient()
	if err != nil || inside {
		return err
	}
	monitor := 0
	err = a.peekContainers(ctx, func(s *container.Set) error {
		rec, err := s.Find(ctx, name)
		monitor = rec.State.Monitor
		return err
	})
	if err != nil || monitor == 0 {
		return err
	}
	out, err := userns.Join(ctx, monitor)
	if err == nil && out.Replaced {
		err = &cli.ExitError{Code: out.ExitCode}
	}
	return err
}

// peekContainers runs fn with the containers of the store without entering a
// user namespace.
func (a *app) peekContainers(ctx context.Context, fn func(*container.Set) error) error {
	return a.Peek(ctx, func(e *engine.Engine) error { return fn(container.New(e)) })
}

// forEach does something to each container of the command line, prints the
// names of those where it succeeded, and goes on after an error.
func (a *app) forEach(ctx context.Context, s *container.Set, names []string, fn func(container.Record) error) error {
	var errs []error
	for _, name := range names {
		rec, err := s.Find(ctx, name)
		if err == nil {
			err = fn(rec)
		}
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if _, err := fmt.Fprintln(a.Stdout, name); err != nil {
			return err
		}
	}
	return errors.Join(errs...)
}

// variables reads -e; a name alone takes the environment's value.
func (a *app) variables(specs []string) ([]string, error) {
	var env []string
	for _, spec := range specs {
		name, _, hasValue := strings.Cut(spec, "=")
		if name == "" {
			return nil, cli.Misuse("--env %q: it is NAME=VALUE, or NAME", spec)
		}
		if value, ok := a.Env[name]; ok && !hasValue {
			spec += "=" + value
		}
		env = append(env, spec)
	}
	return env, nil
}

// streams connects a container to this command. With a terminal, this one is
// put into raw mode until restore is called, and its changes of size are
// passed on.
func (a *app) streams(tty, interactive bool) (streams container.IO, restore func() error, err error) {
	streams = container.IO{Stdout: a.Stdout, Stderr: a.Stderr}
	restore = func() error { return nil }
	if interactive {
		streams.Stdin = a.Stdin
	}
	if !tty {
		return streams, restore, nil
	}
	streams.Size = defaultSize
	if err := a.checkTerminal(tty, interactive); err != nil {
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

// defaultSize is that of a terminal that nobody looks at.
var defaultSize = executor.Terminal{Rows: 24, Cols: 80}

// checkTerminal makes sure that a terminal that is to be typed at is one.
func (a *app) checkTerminal(tty, interactive bool) error {
	if !tty || !interactive {
		return nil
	}
	if in, ok := a.Stdin.(*os.File); ok && term.IsTerminal(int(in.Fd())) {
		return nil
	}
	return cli.Misuse("standard input is no terminal: leave -t out")
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
