package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/strata-build/strata/runtime/container"
	"github.com/strata-build/strata/runtime/network"
)

func (a *app) startCommand() *cobra.Command {
	var attach, interactive bool
	cmd := &cobra.Command{
		Use:   "start [flags] CONTAINER...",
		Short: "Start containers that were made or have ended",
		Args:  atLeast(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if attach || interactive {
				if len(args) > 1 {
					return misuse("only one container can be attached to")
				}
				return runError(a.startAttached(cmd.Context(), args[0], interactive))
			}
			return a.startAll(cmd.Context(), args)
		},
	}
	cmd.Flags().BoolVarP(&attach, "attach", "a", false, "stay in the foreground, and show what the container writes")
	cmd.Flags().BoolVarP(&interactive, "interactive", "i", false, "stay in the foreground, and connect standard input too")
	return cmd
}

func (a *app) startAll(ctx context.Context, names []string) error {
	beside, err := a.besideOf(ctx, names)
	if err != nil {
		return err
	}
	return a.withContainers(ctx, beside, func(s *container.Set) error {
		return a.forEach(ctx, s, names, func(rec container.Record) error { return a.startOne(s, rec) })
	})
}

// besideOf is the container whose network those of the command line share,
// and whose user namespace they have to be started in. "" is none.
func (a *app) besideOf(ctx context.Context, names []string) (beside string, err error) {
	err = a.peek(ctx, func(s *container.Set) error {
		for _, name := range names {
			rec, err := s.Find(ctx, name)
			if err != nil {
				continue // said later
			}
			other := rec.Config.Network.Container
			if beside != "" && other != "" && other != beside {
				return errors.New("these share the networks of different containers: start them one after the other")
			}
			beside = orElse(beside, other)
		}
		return nil
	})
	return beside, err
}

// startOne starts a container in the background. One that runs stays as it is,
// also where somebody else has just started it.
func (a *app) startOne(s *container.Set, rec container.Record) error {
	if rec.State.Live() {
		return nil
	}
	err := a.startMonitor(rec.ID)
	if err == nil {
		return nil
	}
	if now, getErr := s.Get(rec.ID); getErr == nil && now.State.Status == container.Running {
		return nil
	}
	// The codes of `run` are not those of `start`, as in docker.
	return fmt.Errorf("start %s: %w", rec.Name, errors.New(err.Error()))
}

func (a *app) startAttached(ctx context.Context, name string, interactive bool) error {
	beside, err := a.besideOf(ctx, []string{name})
	if err != nil {
		return err
	}
	return a.withContainers(ctx, beside, func(s *container.Set) error {
		rec, err := s.Find(ctx, name)
		if err != nil {
			return err
		}
		if rec.State.Live() {
			return fmt.Errorf("%s: %w already: `strata logs -f %s` shows what it writes", rec.Name, container.ErrRunning, rec.Name)
		}
		return a.attached(ctx, s, rec, attachment{stdin: interactive && rec.Config.OpenStdin, sigProxy: true})
	})
}

func (a *app) stopCommand() *cobra.Command {
	var timeout int
	var sig string
	cmd := &cobra.Command{
		Use:   "stop [flags] CONTAINER...",
		Short: "Ask containers to end, and kill those that do not",
		Args:  atLeast(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			wait, err := stopWait(cmd, timeout)
			if err != nil {
				return err
			}
			return a.peek(cmd.Context(), func(s *container.Set) error {
				return a.forEach(cmd.Context(), s, args, func(rec container.Record) error {
					return a.stopOne(cmd.Context(), s, rec, sig, wait)
				})
			})
		},
	}
	cmd.Flags().IntVarP(&timeout, "time", "t", 10, "seconds until they are killed")
	cmd.Flags().IntVar(&timeout, "timeout", 10, "seconds until they are killed")
	cmd.Flags().StringVarP(&sig, "signal", "s", "", "signal to send in place of the container's stop signal")
	return cmd
}

// stopWait is how long to wait: the container's own time unless it is given; a
// negative number is for ever.
func stopWait(cmd *cobra.Command, seconds int) (time.Duration, error) {
	if !cmd.Flags().Changed("time") && !cmd.Flags().Changed("timeout") {
		return -1, nil
	}
	if seconds < 0 {
		return container.Forever, nil
	}
	return time.Duration(seconds) * time.Second, nil
}

func (a *app) stopOne(ctx context.Context, s *container.Set, rec container.Record, sig string, wait time.Duration) error {
	if sig == "" {
		return s.Stop(ctx, rec.ID, container.StopOptions{Timeout: wait})
	}
	number, err := container.ParseSignal(sig)
	if err != nil {
		return misuse("--signal: %v", err)
	}
	return s.Stop(ctx, rec.ID, container.StopOptions{Timeout: wait, Signal: number})
}

func (a *app) restartCommand() *cobra.Command {
	var timeout int
	cmd := &cobra.Command{
		Use:   "restart [flags] CONTAINER...",
		Short: "Stop containers and start them again",
		Args:  atLeast(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			wait, err := stopWait(cmd, timeout)
			if err != nil {
				return err
			}
			ctx := cmd.Context()
			// Stopping is done outside of a user namespace, and again inside,
			// where there is nothing left to do.
			err = a.peek(ctx, func(s *container.Set) error {
				for _, name := range args {
					rec, err := s.Find(ctx, name)
					if err == nil {
						err = s.Stop(ctx, rec.ID, container.StopOptions{Timeout: wait})
					}
					if err != nil {
						return err
					}
				}
				return nil
			})
			if err != nil {
				return err
			}
			return a.startAll(ctx, args)
		},
	}
	cmd.Flags().IntVarP(&timeout, "time", "t", 10, "seconds until they are killed")
	cmd.Flags().IntVar(&timeout, "timeout", 10, "seconds until they are killed")
	return cmd
}

func (a *app) killCommand() *cobra.Command {
	sig := "KILL"
	cmd := &cobra.Command{
		Use:   "kill [flags] CONTAINER...",
		Short: "Send a signal to running containers",
		Args:  atLeast(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			number, err := container.ParseSignal(sig)
			if err != nil {
				return misuse("--signal: %v", err)
			}
			return a.peek(cmd.Context(), func(s *container.Set) error {
				return a.forEach(cmd.Context(), s, args, func(rec container.Record) error {
					return s.Signal(cmd.Context(), rec.ID, number)
				})
			})
		},
	}
	cmd.Flags().StringVarP(&sig, "signal", "s", sig, "signal, by name or number")
	return cmd
}

func (a *app) pauseCommand() *cobra.Command {
	return a.eachCommand("pause", "Stop all processes of containers for a while", (*container.Set).Freeze)
}

func (a *app) unpauseCommand() *cobra.Command {
	return a.eachCommand("unpause", "Let the processes of paused containers go on", (*container.Set).Thaw)
}

// eachCommand is a command that does one thing to each container.
func (a *app) eachCommand(name, short string, do func(*container.Set, context.Context, string) error) *cobra.Command {
	return &cobra.Command{
		Use:   name + " CONTAINER...",
		Short: short,
		Args:  atLeast(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.peek(cmd.Context(), func(s *container.Set) error {
				return a.forEach(cmd.Context(), s, args, func(rec container.Record) error { return do(s, cmd.Context(), rec.ID) })
			})
		},
	}
}

func (a *app) waitCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "wait CONTAINER...",
		Short: "Wait until containers have ended, and print their exit codes",
		Args:  atLeast(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.peek(cmd.Context(), func(s *container.Set) error {
				var errs []error
				for _, name := range args {
					rec, err := s.Find(cmd.Context(), name)
					if err == nil {
						rec, err = s.Wait(cmd.Context(), rec.ID)
					}
					if err == nil {
						_, err = fmt.Fprintln(a.stdout, rec.State.ExitCode)
					}
					errs = append(errs, err)
				}
				return errors.Join(errs...)
			})
		},
	}
}

func (a *app) rmCommand() *cobra.Command {
	var o container.RemoveOptions
	cmd := &cobra.Command{
		Use:   "rm [flags] CONTAINER...",
		Short: "Remove containers",
		Args:  atLeast(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			if o.Force {
				// What runs is killed outside of a user namespace: there its
				// owner may, whoever the processes are inside.
				err := a.peek(ctx, func(s *container.Set) error { return a.killAll(ctx, s, args) })
				if err != nil {
					return err
				}
			}
			return a.withContainers(ctx, "", func(s *container.Set) error {
				err := a.forEach(ctx, s, args, func(rec container.Record) error { return s.Remove(ctx, rec.ID, o) })
				if o.Force {
					return ignore(err, container.ErrNotFound)
				}
				return err
			})
		},
	}
	cmd.Flags().BoolVarP(&o.Force, "force", "f", false, "kill those that run; one that is not there is no error")
	cmd.Flags().BoolVarP(&o.Volumes, "volumes", "v", false, "remove their anonymous volumes too")
	return cmd
}

func (a *app) killAll(ctx context.Context, s *container.Set, names []string) error {
	var errs []error
	for _, name := range names {
		rec, err := s.Find(ctx, name)
		if err == nil {
			err = s.Kill(ctx, rec.ID)
		}
		errs = append(errs, ignore(err, container.ErrNotFound))
	}
	return errors.Join(errs...)
}

func (a *app) renameCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "rename CONTAINER NAME",
		Short: "Give a container another name",
		Args:  exactly(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.peek(cmd.Context(), func(s *container.Set) error {
				rec, err := s.Find(cmd.Context(), args[0])
				if err != nil {
					return err
				}
				return s.Rename(cmd.Context(), rec.ID, args[1])
			})
		},
	}
}

func (a *app) portCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "port CONTAINER [PORT[/PROTOCOL]]",
		Short: "List the ports that a container publishes",
		Args:  between(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.peek(cmd.Context(), func(s *container.Set) error {
				rec, err := s.Find(cmd.Context(), args[0])
				if err != nil {
					return err
				}
				if len(args) == 1 {
					return a.ports(rec.State.Ports)
				}
				return a.onePort(&rec, args[1])
			})
		},
	}
}

func (a *app) ports(ports []network.Port) error {
	for _, p := range ports {
		if _, err := fmt.Fprintf(a.stdout, "%d/%s -> %s\n", p.ContainerPort, p.Protocol, p.HostAddress()); err != nil {
			return err
		}
	}
	return nil
}

func (a *app) onePort(rec *container.Record, spec string) error {
	number, protocol, _ := strings.Cut(spec, "/")
	found := false
	for _, p := range rec.State.Ports {
		if strconv.Itoa(int(p.ContainerPort)) != number || p.Protocol != orElse(protocol, "tcp") {
			continue
		}
		found = true
		if _, err := fmt.Fprintln(a.stdout, p.HostAddress()); err != nil {
			return err
		}
	}
	if !found {
		return fmt.Errorf("container %s publishes no port %s", rec.Name, spec)
	}
	return nil
}

func (a *app) logsCommand() *cobra.Command {
	var follow, timestamps bool
	tail, sinceText, untilText := "all", "", ""
	cmd := &cobra.Command{
		Use:   "logs [flags] CONTAINER",
		Short: "Show what a container has written to its standard streams",
		Args:  exactly(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			o := container.LogOptions{Follow: follow, Tail: -1}
			if n, err := strconv.Atoi(tail); err == nil {
				o.Tail = n
			} else if tail != "all" {
				return misuse("--tail %s: it takes a number of lines, or all", tail)
			}
			var err error
			if o.Since, err = parseTime("--since", sinceText); err != nil {
				return err
			}
			if o.Until, err = parseTime("--until", untilText); err != nil {
				return err
			}
			return a.peek(cmd.Context(), func(s *container.Set) error { return a.logs(cmd.Context(), s, args[0], o, timestamps) })
		},
	}
	f := cmd.Flags()
	f.BoolVarP(&follow, "follow", "f", false, "go on until the container has ended")
	f.BoolVarP(&timestamps, "timestamps", "t", false, "print the time of each line")
	f.StringVarP(&tail, "tail", "n", tail, "begin with the last lines only")
	f.StringVar(&sinceText, "since", "", "from a time (2026-01-02T15:04:05Z, Unix seconds), or a duration ago (10m)")
	f.StringVar(&untilText, "until", "", "up to a time, or a duration ago")
	return cmd
}

func (a *app) logs(ctx context.Context, s *container.Set, name string, o container.LogOptions, timestamps bool) error {
	rec, err := s.Find(ctx, name)
	if err != nil {
		return err
	}
	return s.Logs(ctx, rec.ID, o, func(e container.LogEntry) error {
		w := a.stdout
		if e.Stream == "stderr" {
			w = a.stderr
		}
		if timestamps {
			if _, err := fmt.Fprintf(w, "%s ", e.Time.Format("2006-01-02T15:04:05.000000000Z07:00")); err != nil {
				return err
			}
		}
		_, err := fmt.Fprint(w, e.Log)
		return err
	})
}

// parseTime reads a time as docker's logs do: a date, Unix seconds, or how long
// ago. "" is no bound.
func parseTime(flag, text string) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	if d, err := time.ParseDuration(text); err == nil {
		return time.Now().Add(-d), nil
	}
	if seconds, err := strconv.ParseFloat(text, 64); err == nil {
		return time.Unix(0, int64(seconds*float64(time.Second))), nil
	}
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05", "2006-01-02T15:04", "2006-01-02"} {
		if t, err := time.ParseInLocation(layout, text, time.Local); err == nil {
			return t, nil
		}
	}
	return time.Time{}, misuse("%s %s: it takes a time such as 2026-01-02T15:04:05Z, Unix seconds, or a duration such as 10m", flag, text)
}

func (a *app) execCommand() *cobra.Command {
	var req container.ExecRequest
	var detach bool
	var envFiles []string
	cmd := &cobra.Command{
		Use:   "exec [flags] CONTAINER COMMAND [ARG]...",
		Short: "Run a command in a running container",
		Args:  atLeast(2),
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
		streams, restore, err := a.streams(req.Terminal, req.Stdin)
		if err != nil {
			return err
		}
		signals, stop := proxied()
		defer stop()
		req.IO, req.Signals = streams, signals
		status, err := s.Exec(context.WithoutCancel(ctx), req)
		if err := errors.Join(err, restore()); err != nil {
			if code := runCode(err); code != exitEngine {
				return &exitError{code, err}
			}
			return err
		}
		if status.ExitCode != 0 {
			return &exitError{code: status.ExitCode}
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
		Args:   noArgs,
		RunE:   func(cmd *cobra.Command, _ []string) error { return a.execMonitor(cmd.Context()) },
	}
}

func (a *app) execMonitor(ctx context.Context) error {
	report := openReport()
	debug.SetGCPercent(monitorGC)
	err := a.withContainers(context.WithoutCancel(ctx), "", func(s *container.Set) error {
		var o order
		if err := json.NewDecoder(a.stdin).Decode(&o); err != nil {
			return fmt.Errorf("read what to run: %w", err)
		}
		_, err := s.Exec(context.WithoutCancel(ctx), container.ExecRequest{
			ID: o.ID, Args: o.Args, Env: o.Env, Workdir: o.Workdir, User: o.User, Privileged: o.Privileged, Terminal: o.Terminal,
			IO: container.IO{Size: defaultSize}, Started: func() { report.tell(started{}); shrink() },
		})
		return err
	})
	if err != nil {
		code := runCode(err)
		if code == exitEngine {
			code = exitFailed
		}
		report.tell(started{Error: err.Error(), Code: code})
	}
	return nil
}
