package containercmd

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/strata-build/strata/cmd/strata/cli"
	"github.com/strata-build/strata/runtime/container"
)

func (a *app) startCommand() *cobra.Command {
	var attach, interactive bool
	cmd := &cobra.Command{
		Use:   "start [flags] CONTAINER...",
		Short: "Start containers that were made or have ended",
		Args:  cli.AtLeast(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if attach || interactive {
				if len(args) > 1 {
					return cli.Misuse("only one container can be attached to")
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
	err = a.peekContainers(ctx, func(s *container.Set) error {
		for _, name := range names {
			rec, err := s.Find(ctx, name)
			if err != nil {
				continue // said later
			}
			other := rec.Config.Network.Container
			if beside != "" && other != "" && other != beside {
				return errors.New("these share the networks of different containers: start them one after the other")
			}
			beside = cmp.Or(beside, other)
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
		Args:  cli.AtLeast(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			wait, err := stopWait(cmd, timeout)
			if err != nil {
				return err
			}
			return a.peekContainers(cmd.Context(), func(s *container.Set) error {
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
		return cli.Misuse("--signal: %v", err)
	}
	return s.Stop(ctx, rec.ID, container.StopOptions{Timeout: wait, Signal: number})
}

func (a *app) restartCommand() *cobra.Command {
	var timeout int
	cmd := &cobra.Command{
		Use:   "restart [flags] CONTAINER...",
		Short: "Stop containers and start them again",
		Args:  cli.AtLeast(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			wait, err := stopWait(cmd, timeout)
			if err != nil {
				return err
			}
			ctx := cmd.Context()
			// Stopping is done outside of a user namespace, and again inside,
			// where there is nothing left to do.
			err = a.peekContainers(ctx, func(s *container.Set) error {
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
		Args:  cli.AtLeast(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			number, err := container.ParseSignal(sig)
			if err != nil {
				return cli.Misuse("--signal: %v", err)
			}
			return a.peekContainers(cmd.Context(), func(s *container.Set) error {
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
		Args:  cli.AtLeast(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.peekContainers(cmd.Context(), func(s *container.Set) error {
				return a.forEach(cmd.Context(), s, args, func(rec container.Record) error { return do(s, cmd.Context(), rec.ID) })
			})
		},
	}
}

func (a *app) waitCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "wait CONTAINER...",
		Short: "Wait until containers have ended, and print their exit codes",
		Args:  cli.AtLeast(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.peekContainers(cmd.Context(), func(s *container.Set) error {
				var errs []error
				for _, name := range args {
					rec, err := s.Find(cmd.Context(), name)
					if err == nil {
						rec, err = s.Wait(cmd.Context(), rec.ID)
					}
					if err == nil {
						_, err = fmt.Fprintln(a.Stdout, rec.State.ExitCode)
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
		Args:  cli.AtLeast(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			if o.Force {
				// What runs is killed outside of a user namespace: there its
				// owner may, whoever the processes are inside.
				err := a.peekContainers(ctx, func(s *container.Set) error { return a.killAll(ctx, s, args) })
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
		Args:  cli.Exactly(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.peekContainers(cmd.Context(), func(s *container.Set) error {
				rec, err := s.Find(cmd.Context(), args[0])
				if err != nil {
					return err
				}
				return s.Rename(cmd.Context(), rec.ID, args[1])
			})
		},
	}
}
