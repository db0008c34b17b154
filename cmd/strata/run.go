package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/strata-build/strata/runtime/container"
	"github.com/strata-build/strata/runtime/engine"
	"github.com/strata-build/strata/runtime/executor"
	"github.com/strata-build/strata/runtime/network"
)

// docker's exit codes for containers that did not run.
const (
	exitEngine        = 125
	exitNotExecutable = 126
	exitNotFound      = 127
)

type runOptions struct {
	remove, interactive, tty bool
	env                      []string
	workdir, user, hostname  string
	entrypoint, network      string
	readOnly                 bool
}

func (a *app) runCommand() *cobra.Command {
	var o runOptions
	cmd := &cobra.Command{
		Use:   "run --rm [flags] IMAGE [COMMAND [ARG]...]",
		Short: "Run a command in a new container",
		Long:  "Run an image in the foreground, and remove the container when it has ended.",
		Args:  cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			var entrypoint *string
			if cmd.Flags().Changed("entrypoint") {
				entrypoint = &o.entrypoint
			}
			return a.run(cmd.Context(), &o, entrypoint, args)
		},
	}
	f := cmd.Flags()
	f.SetInterspersed(false) // what follows the image is the container's
	f.BoolVar(&o.remove, "rm", false, "remove the container when it has ended (required)")
	f.BoolVarP(&o.interactive, "interactive", "i", false, "connect standard input")
	f.BoolVarP(&o.tty, "tty", "t", false, "give the container a terminal")
	f.StringArrayVarP(&o.env, "env", "e", nil, "NAME=VALUE: set a variable; NAME alone takes the environment's")
	f.StringVarP(&o.workdir, "workdir", "w", "", "working directory")
	f.StringVarP(&o.user, "user", "u", "", "user[:group], by name or number")
	f.StringVar(&o.hostname, "hostname", "", "host name")
	f.StringVar(&o.entrypoint, "entrypoint", "", "replace the image's entrypoint")
	f.StringVar(&o.network, "network", "private", "private, none or host")
	f.BoolVar(&o.readOnly, "read-only", false, "make the root file system read-only")
	return cmd
}

func (a *app) run(ctx context.Context, o *runOptions, entrypoint *string, args []string) error {
	if !o.remove {
		return misuse("containers are not kept after they end: give --rm")
	}
	modes := map[string]network.Mode{"private": network.Private, "none": network.None, "host": network.Host}
	mode, ok := modes[o.network]
	if !ok {
		return misuse("--network %s is not known: it takes private, none or host", o.network)
	}
	req := container.Request{
		Image: args[0], Args: args[1:], Entrypoint: entrypoint, Env: a.variables(o.env),
		Workdir: o.workdir, User: o.user, Hostname: o.hostname, Network: mode, ReadOnly: o.readOnly,
		Stdout: a.stdout, Stderr: a.stderr,
	}
	if o.interactive {
		req.Stdin = a.stdin
	}
	restore, err := a.terminal(o, &req)
	if err != nil {
		return err
	}
	var status executor.Status
	err = a.withEngine(ctx, func(e *engine.Engine) error {
		var err error
		status, err = container.Run(ctx, e, req)
		return err
	})
	if err := errors.Join(err, restore()); err != nil {
		return runError(err)
	}
	if status.ExitCode != 0 {
		return &exitError{code: status.ExitCode}
	}
	return nil
}

// runError gives the error of a container that could not be run docker's code.
func runError(err error) error {
	var decided *exitError
	switch {
	case errors.As(err, &decided):
		return decided
	case errors.Is(err, executor.ErrNotFound):
		return &exitError{exitNotFound, err}
	case errors.Is(err, executor.ErrNotExecutable):
		return &exitError{exitNotExecutable, err}
	}
	return &exitError{exitEngine, err}
}

// variables reads -e; a name alone takes the environment's value.
func (a *app) variables(specs []string) []string {
	var env []string
	for _, spec := range specs {
		if !strings.Contains(spec, "=") {
			value, ok := a.env[spec]
			if !ok {
				continue
			}
			spec += "=" + value
		}
		env = append(env, spec)
	}
	return env
}

// terminal gives the container a terminal of this one's size, and puts this
// one into raw mode while it runs.
func (a *app) terminal(o *runOptions, req *container.Request) (restore func() error, err error) {
	restore = func() error { return nil }
	if !o.tty {
		return restore, nil
	}
	req.Terminal = &executor.Terminal{Rows: 24, Cols: 80}
	in, ok := a.stdin.(*os.File)
	if !ok || !term.IsTerminal(int(in.Fd())) {
		if o.interactive {
			return nil, misuse("standard input is no terminal: leave -t out")
		}
		return restore, nil
	}
	if cols, rows, err := term.GetSize(int(in.Fd())); err == nil {
		req.Terminal = &executor.Terminal{Rows: uint16(rows), Cols: uint16(cols)}
	}
	state, err := term.MakeRaw(int(in.Fd()))
	if err != nil {
		return nil, fmt.Errorf("set terminal: %w", err)
	}
	return func() error { return term.Restore(int(in.Fd()), state) }, nil
}
