package buildcmd

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"syscall"

	"github.com/moby/buildkit/client"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/strata-build/strata/cmd/strata/cli"
	"github.com/strata-build/strata/internal/printable"
	"github.com/strata-build/strata/runtime/engine"
	"github.com/strata-build/strata/runtime/executor"
	"github.com/strata-build/strata/runtime/exporter"
	"github.com/strata-build/strata/runtime/worker"
)

// debugShell is what a step is entered with unless the user says otherwise.
const debugShell = "/bin/sh"

func (a *app) debugCommand() *cobra.Command {
	var o buildOptions
	cmd := &cobra.Command{
		Use:   "debug [flags] [PATH|FILE|URL]... [-- COMMAND [ARG]...]",
		Short: "Build, and enter the step that fails",
		Long: "Build what `strata build` builds, without an image at the end. If a step fails, a shell\n" +
			"(or COMMAND) runs in its place, with all that the step has: its files as it left them, its\n" +
			"mounts, secrets, variables, user, directory and network. What the shell changes is lost.",
		Example: "  strata debug ./app.cue\n" +
			"  strata debug --build-arg VERSION=1.2 .\n" +
			"  strata debug . -- cat config.log",
		RunE: func(cmd *cobra.Command, args []string) error {
			var command []string
			if n := cmd.ArgsLenAtDash(); n >= 0 {
				args, command = args[:n], args[n:]
			}
			o.paths = args
			return a.debug(cmd.Context(), &o, command)
		},
	}
	explainFlags(cmd, a.buildFlag)
	o.inputOptions.register(cmd.Flags())
	o.registerSteps(cmd.Flags())
	return cmd
}

// debug is `strata debug`.
func (a *app) debug(ctx context.Context, o *buildOptions, command []string) error {
	if err := o.checkJobs(); err != nil {
		return err
	}
	if o.file == "-" || slices.Contains(o.paths, "-") {
		return cli.Misuse("standard input is for what runs in the step: write what is to be built to a file")
	}
	if len(command) == 0 && !a.atTerminal() {
		return cli.Misuse("there is no terminal for a shell: say what to run in the step, as in `strata debug . -- ls -l`")
	}
	if len(command) == 0 {
		command = []string{debugShell}
	}
	show, err := a.newDisplay(o.progress)
	if err != nil {
		return err
	}
	return a.WithEngine(ctx, func(e *engine.Engine) error {
		in, err := a.compile(ctx, e, &o.inputOptions)
		if err != nil {
			return err
		}
		req, err := a.request(o, in, []exporter.Output{{Type: exporter.CacheOnly}})
		if err == nil {
			err = a.buildAndEnter(ctx, e, req, show, command)
		}
		return errors.Join(err, in.close())
	})
}

// buildAndEnter builds, and runs command in the step that fails.
func (a *app) buildAndEnter(ctx context.Context, e *engine.Engine, req engine.Request, show *display, command []string) error {
	var entered *cli.ExitError // what it ends with, once it was entered
	req.Failed = func(step *worker.FailedStep, err error) error {
		a.Report(buildError(err, show.wait(false)))
		entered = &cli.ExitError{Code: cli.ExitFailed, Err: a.enter(ctx, step, command)}
		return nil
	}
	req.Status = make(chan *client.SolveStatus, 64)
	show.start(req.Status)
	_, err := e.Build(ctx, req)
	if entered != nil {
		return entered
	}
	shown := show.wait(err == nil)
	if err = buildError(err, shown); err != nil {
		return unentered(ctx, err)
	}
	_, err = fmt.Fprintln(a.Stderr, "all steps end well: there is none to enter")
	return err
}

// unentered says why nothing is entered after a step has failed.
func unentered(ctx context.Context, err error) error {
	var steps *stepsError
	if ctx.Err() != nil || !errors.As(err, &steps) {
		return err
	}
	return errors.Join(err, errors.New("there is nothing to enter: that is a step whose command was run, or looked for in vain"))
}

// enter runs a command in a step. Where there is a terminal, it gets that.
func (a *app) enter(ctx context.Context, step *worker.FailedStep, command []string) error {
	tty := a.atTerminal()
	if tty {
		fmt.Fprintf(a.Stderr, "%s runs in the step %s; what it changes is lost at its end.\n", command[0], printable.Text(step.Step.Name, ' '))
	}
	streams, restore, err := a.Streams(tty, true)
	if err != nil {
		return err
	}
	signals, stop := cli.Signals()
	defer stop()
	shell := worker.Shell{
		Args: command, Stdin: streams.Stdin, Stdout: streams.Stdout, Stderr: streams.Stderr,
		Resized: streams.Resized, Signals: signals,
	}
	if tty {
		shell.Terminal, shell.Term = &streams.Size, a.Env["TERM"]
	}
	// Signals are the shell's, but one that is the first process of the step
	// ignores that its terminal is gone, and nobody would ever end it.
	ctx, here := signal.NotifyContext(context.WithoutCancel(ctx), syscall.SIGHUP)
	defer here()
	status, err := step.Enter(ctx, shell)
	if errors.Is(err, executor.ErrNotFound) {
		err = fmt.Errorf("%w: name a program that is in the files of the step, as in `strata debug . -- /busybox sh`", err)
	}
	if err = errors.Join(err, restore()); err == nil && !tty && status.ExitCode != 0 {
		err = fmt.Errorf("%s ended with exit code %d", command[0], status.ExitCode)
	}
	return err
}

// atTerminal tells whether somebody sits at a terminal, to type and to read.
func (a *app) atTerminal() bool {
	for _, stream := range []any{a.Stdin, a.Stdout} {
		if f, ok := stream.(*os.File); !ok || !term.IsTerminal(int(f.Fd())) {
			return false
		}
	}
	return true
}
