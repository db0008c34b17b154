package containercmd

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime/debug"

	"github.com/spf13/cobra"

	"github.com/strata-build/strata/cmd/strata/cli"
	"github.com/strata-build/strata/runtime/container"
)

func (a *app) execCommand() *cobra.Command {
	var req container.ExecRequest
	var detach bool
	var envFiles []string
	cmd := &cobra.Command{
		Use:   "exec [flags] CONTAINER COMMAND [ARG]...",
		Short: "Run a command in a running container",
		Args:  cli.AtLeast(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			fromFiles, err := readLines("--env-file", envFiles)
			if err != nil {
				return err
			}
			if req.Env, err = a.variables(append(fromFiles, req.Env...)); err != nil {
				return err
			}
			if err := checkWorkdir(req.Workdir); err != nil {
				return err
			}
			req.Args = args[1:]
			return a.exec(cmd.Context(), args[0], req, detach)
		},
	}
	f := cmd.Flags()
	f.SetInterspersed(false) // what follows the container is the command's
	f.BoolVarP(&req.Stdin, "interactive", "i", false, "connect standard input")
	f.BoolVarP(&req.Terminal, "tty", "t", false, "give the command a terminal")
	f.BoolVarP(&detach, "detach", "d", false, "leave the command in the background")
	f.StringArrayVarP(&req.Env, "env", "e", nil, "NAME=VALUE: set a variable; NAME alone takes the environment's")
	f.StringArrayVar(&envFiles, "env-file", nil, "file with a variable on each line")
	f.StringVarP(&req.Workdir, "workdir", "w", "", "working directory")
	f.StringVarP(&req.User, "user", "u", "", "user[:group], by name or number")
	f.BoolVar(&req.Privileged, "privileged", false, "give the command all capabilities")
	return cmd
}

func (a *app) exec(ctx context.Context, name string, req container.ExecRequest, detach bool) error {
	return a.withContainers(ctx, name, func(s *container.Set) error {
		rec, err := s.Find(ctx, name)
		if err != nil {
			return err
		}
		if detach {
			return a.execDetached(rec.ID, req)
		}
		req.ID = rec.ID
		streams, restore, err := a.Streams(req.Terminal, req.Stdin)
		if err != nil {
			return err
		}
		signals, stop := cli.Signals()
		defer stop()
		req.IO, req.Signals = streams, signals
		status, err := s.Exec(context.WithoutCancel(ctx), req)
		if err := errors.Join(err, restore()); err != nil {
			if code := container.StartCode(err); code != container.CodeEngine {
				return &cli.ExitError{Code: code, Err: err}
			}
			return err
		}
		if status.ExitCode != 0 {
			return &cli.ExitError{Code: status.ExitCode}
		}
		return nil
	})
}

// order is what a detached exec is told on its standard input: variables may
// be secrets, and everybody sees command lines.
type order struct {
	ID                   string
	Args, Env            []string
	Workdir, User        string
	Privileged, Terminal bool
}

// execDetached leaves the command to another process of this program.
func (a *app) execDetached(id string, req container.ExecRequest) error {
	text, err := json.Marshal(order{id, req.Args, req.Env, req.Workdir, req.User, req.Privileged, req.Terminal})
	if err != nil {
		return err
	}
	cmd, err := a.background(execMonitorName)
	if err != nil {
		return err
	}
	cmd.Stdin = bytes.NewReader(text)
	return launch(cmd)
}

// execMonitorName is the hidden command that is the parent of a detached exec.
const execMonitorName = "monitor-exec"

func (a *app) execMonitorCommand() *cobra.Command {
	return &cobra.Command{
		Use:    execMonitorName,
		Short:  "Be the parent of a command in a container",
		Hidden: true,
		Args:   cli.NoArgs,
		RunE:   func(cmd *cobra.Command, _ []string) error { return a.execMonitor(cmd.Context()) },
	}
}

func (a *app) execMonitor(ctx context.Context) error {
	report := openReport()
	debug.SetGCPercent(monitorGC)
	err := a.withContainers(context.WithoutCancel(ctx), "", func(s *container.Set) error {
		var o order
		if err := json.NewDecoder(a.Stdin).Decode(&o); err != nil {
			return fmt.Errorf("read what to run: %w", err)
		}
		_, err := s.Exec(context.WithoutCancel(ctx), container.ExecRequest{
			ID: o.ID, Args: o.Args, Env: o.Env, Workdir: o.Workdir, User: o.User, Privileged: o.Privileged, Terminal: o.Terminal,
			IO: container.IO{Size: cli.DefaultSize}, Started: func() { report.tell(started{}); shrink() },
		})
		return err
	})
	if err != nil {
		code := container.StartCode(err)
		if code == container.CodeEngine {
			code = cli.ExitFailed
		}
		report.tell(started{Error: err.Error(), Code: code})
	}
	return nil
}
