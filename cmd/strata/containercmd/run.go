package containercmd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/strata-build/strata/cmd/strata/cli"
	"github.com/strata-build/strata/runtime/container"
)

func (a *app) runCommand() *cobra.Command {
	var o containerFlags
	var detach, sigProxy bool
	cmd := &cobra.Command{
		Use:   "run [flags] IMAGE [COMMAND [ARG]...]",
		Short: "Run a command in a new container",
		Long: "Run a command in a new container, in the foreground or with -d in the background, where a\n" +
			"small monitor process stays with it. An image that is not in the store is pulled.",
		Args: cli.AtLeast(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.start = true
			if detach && cmd.Flags().Changed("sig-proxy") {
				return &cli.ExitError{Code: container.CodeEngine, Err: errors.New("-d and --sig-proxy contradict each other: leave one out")}
			}
			if detach {
				return runError(a.runDetached(cmd.Context(), &o, args))
			}
			return runError(a.runForeground(cmd.Context(), &o, args, sigProxy))
		},
	}
	engineErrors(cmd)
	o.add(cmd.Flags())
	cmd.Flags().BoolVarP(&detach, "detach", "d", false, "run in the background, and print the container's id")
	cmd.Flags().BoolVar(&sigProxy, "sig-proxy", true, "pass signals on to the container")
	return cmd
}

func (a *app) createCommand() *cobra.Command {
	var o containerFlags
	cmd := &cobra.Command{
		Use:   "create [flags] IMAGE [COMMAND [ARG]...]",
		Short: "Make a container without starting it",
		Args:  cli.AtLeast(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withContainers(cmd.Context(), a.beside(&o), func(s *container.Set) error {
				rec, err := a.create(cmd.Context(), s, &o, args)
				if err != nil {
					return err
				}
				_, err = fmt.Fprintln(a.Stdout, rec.ID)
				return err
			})
		},
	}
	o.add(cmd.Flags())
	return cmd
}

// beside is the container whose user namespace a new one has to be in.
func (a *app) beside(o *containerFlags) string {
	req := container.Request{}
	if o.readNetwork(a, &req) != nil {
		return "" // said later
	}
	return req.Config.Network.Container
}

// create makes the container that the command line describes.
func (a *app) create(ctx context.Context, s *container.Set, o *containerFlags, args []string) (container.Record, error) {
	req, err := o.request(a, args)
	if err != nil {
		return container.Record{}, err
	}
	if n := &req.Config.Network; n.Mode == container.NetworkHost && (len(n.Ports) > 0 || req.PublishAll) {
		// As in docker, whose users write both.
		fmt.Fprintln(a.Stderr, "strata: with --network host no ports are published: all that the container listens on is the host's")
		n.Ports, req.PublishAll = nil, false
	}
	if err := a.ensureImage(ctx, s.Engine(), &req, o.pull); err != nil {
		return container.Record{}, err
	}
	if o.cidFile == "" {
		return s.Create(ctx, req)
	}
	f, err := os.OpenFile(o.cidFile, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	if errors.Is(err, os.ErrExist) {
		return container.Record{}, fmt.Errorf("--cidfile %s is there already: remove it, or make sure that its container has ended", o.cidFile)
	}
	if err != nil {
		return container.Record{}, fmt.Errorf("--cidfile: %w", err)
	}
	rec, err := s.Create(ctx, req)
	if err != nil { // no id, no file
		return rec, errors.Join(err, f.Close(), os.Remove(o.cidFile))
	}
	_, err = f.WriteString(rec.ID)
	return rec, errors.Join(err, f.Close())
}

// runForeground runs the container as its monitor.
func (a *app) runForeground(ctx context.Context, o *containerFlags, args []string, sigProxy bool) error {
	if err := a.CheckTerminal(o.tty, o.interactive); err != nil {
		return err
	}
	return a.withContainers(ctx, a.beside(o), func(s *container.Set) error {
		rec, err := a.create(ctx, s, o, args)
		if err != nil {
			return err
		}
		return a.attached(ctx, s, rec, attachment{stdin: o.interactive, sigProxy: sigProxy})
	})
}

// attachment says what of this command a container is connected to.
type attachment struct{ stdin, sigProxy bool }

// attached runs a container in the foreground, connected to this command.
func (a *app) attached(ctx context.Context, s *container.Set, rec container.Record, to attachment) error {
	streams, restore, err := a.Streams(rec.Config.Terminal, to.stdin)
	if err != nil {
		return err
	}
	// Whoever reads the output may go away: then the container ends, and this
	// command after it.
	signal.Ignore(syscall.SIGPIPE)
	var signals <-chan os.Signal
	if to.sigProxy {
		// The container gets them, and decides.
		var stop func()
		ctx = context.WithoutCancel(ctx)
		signals, stop = cli.Signals()
		defer stop()
	}
	out, errs := &lossy{w: streams.Stdout}, &lossy{w: streams.Stderr}
	streams.Stdout, streams.Stderr = out, errs
	rec, err = s.Run(ctx, container.RunRequest{ID: rec.ID, IO: streams, Signals: signals})
	if err := errors.Join(err, restore()); err != nil {
		return err
	}
	if rec.State.Error != "" {
		fmt.Fprintf(a.Stderr, "strata: %s\n", rec.State.Error)
	}
	if rec.State.OOMKilled {
		fmt.Fprintf(a.Stderr, "strata: %s\n", outOfMemory(&rec))
	}
	lost := errors.Join(out.err, errs.err)
	if rec.State.ExitCode != 0 {
		return &cli.ExitError{Code: rec.State.ExitCode, Err: lost}
	}
	return lost
}

// lossy notes what kept the container's output from being written, but for a
// reader who has gone away: that is how `strata run … | head` ends.
type lossy struct {
	w   io.Writer
	err error
}

// Write implements io.Writer.
func (l *lossy) Write(p []byte) (int, error) {
	n, err := l.w.Write(p)
	if err != nil && l.err == nil && !errors.Is(err, syscall.EPIPE) {
		l.err = fmt.Errorf("the container's output is lost: %w", err)
	}
	return n, err
}

// outOfMemory says that the kernel has killed something in the container.
func outOfMemory(rec *container.Record) string {
	limit := cli.ByteSize(rec.Config.Resources.Memory)
	if limit == 0 {
		return "a process of the container was killed: the machine has no memory left"
	}
	return fmt.Sprintf("a process of the container was killed: it needed more memory than the limit of %s (--memory)", limit.String())
}

// runDetached leaves the container to a monitor process.
func (a *app) runDetached(ctx context.Context, o *containerFlags, args []string) error {
	return a.withContainers(ctx, a.beside(o), func(s *container.Set) error {
		rec, err := a.create(ctx, s, o, args)
		if err != nil {
			return err
		}
		if err := a.startMonitor(rec.ID); err != nil {
			if rec.Config.AutoRemove {
				err = errors.Join(err, ignore(s.Remove(ctx, rec.ID, container.RemoveOptions{Volumes: true}), container.ErrNotFound))
			}
			return err
		}
		_, err = fmt.Fprintln(a.Stdout, rec.ID)
		return err
	})
}

// ignore drops one kind of error.
func ignore(err, kind error) error {
	if errors.Is(err, kind) {
		return nil
	}
	return err
}

// runError gives the error of a container that could not be run docker's code.
func runError(err error) error {
	var decided *cli.ExitError
	if err == nil || errors.As(err, &decided) && (decided.Code != cli.ExitMisuse || decided.Err == nil) {
		return err // the container's own code may be that of misuse, too
	}
	return &cli.ExitError{Code: container.StartCode(err), Err: err}
}
