package containercmd

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/strata-build/strata/cmd/strata/cli"
	"github.com/strata-build/strata/runtime/container"
	"github.com/strata-build/strata/runtime/engine"
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
