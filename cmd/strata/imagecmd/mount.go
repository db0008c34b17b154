package imagecmd

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/strata-build/strata/cmd/strata/cli"
	"github.com/strata-build/strata/cmd/strata/output"
	"github.com/strata-build/strata/runtime/container"
	"github.com/strata-build/strata/runtime/engine"
	"github.com/strata-build/strata/runtime/image"
)

type mountOptions struct {
	platform, format string
	command          []string // to run while it is mounted
}

func (a *app) mountCommand() *cobra.Command {
	var o mountOptions
	cmd := &cobra.Command{
		Use:   "mount [flags] [IMAGE [DIR]] [-- COMMAND [ARG]...]",
		Short: "Mount an image's merged file tree, read-only",
		Long: "Mount the merged tree of an image's layers, read-only, without setuid programs and devices: at\n" +
			"DIR, or at a directory that is printed. It stays, and the store keeps its layers, until `umount`.\n" +
			"With a command, the tree is mounted while that runs, with its path in $STRATA_MOUNT. This is how\n" +
			"ordinary users mount: their mounts end with the command. Without an image, list what is mounted.",
		Args: func(cmd *cobra.Command, args []string) error {
			if dash := cmd.ArgsLenAtDash(); dash >= 0 {
				return cli.Between(1, 2)(cmd, args[:dash])
			}
			return cli.AtMost(2)(cmd, args)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if dash := cmd.ArgsLenAtDash(); dash >= 0 {
				args, o.command = args[:dash], args[dash:]
				if len(o.command) == 0 {
					return cli.Misuse("there is no command after --")
				}
			}
			return a.WithEngine(cmd.Context(), func(e *engine.Engine) error {
				if len(args) == 0 {
					return a.listMounts(cmd.Context(), e, o)
				}
				return a.mount(cmd.Context(), e, o, args)
			})
		},
	}
	cmd.Flags().StringVar(&o.platform, "platform", "", "platform of an image of several, such as linux/arm64")
	cmd.Flags().StringVar(&o.format, "format", "", "table, json, or a Go template for each mount")
	return cmd
}

func (a *app) mount(ctx context.Context, e *engine.Engine, o mountOptions, args []string) error {
	rootless, _ := e.Rootless()
	if rootless && o.command == nil {
		return fmt.Errorf("mount %[1]s: an ordinary user's mounts end with the command that made them: give one to run, such as `strata mount %[1]s -- sh -c 'ls $STRATA_MOUNT'`", args[0])
	}
	f, err := imageFacts(ctx, e, args[0], o.platform)
	if err != nil {
		return err
	}
	req := engine.MountRequest{Image: f.Image, Ref: args[0], Manifest: f.Main, Passing: rootless}
	if len(args) > 1 {
		req.Dir = args[1]
	}
	m, err := e.MountImage(ctx, req)
	if err != nil {
		return err
	}
	if o.command == nil {
		_, err = fmt.Fprintln(a.Stdout, m.Dir)
		return err
	}
	err = a.runIn(ctx, m.Dir, o.command)
	return errors.Join(err, e.Detach(context.WithoutCancel(ctx), m))
}

// runIn runs a command that knows where the tree is. Its exit code is ours.
func (a *app) runIn(ctx context.Context, dir string, command []string) error {
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = a.Stdin, a.Stdout, a.Stderr
	cmd.Env = append(os.Environ(), "STRATA_MOUNT="+dir)
	// It decides what a signal means: a shell goes on after ^C, which the
	// terminal sends to it as well.
	cmd.Cancel = func() error {
		return errors.Join(os.ErrProcessDone, cmd.Process.Signal(syscall.SIGTERM))
	}
	return runInError(command[0], cmd.Run())
}

// runInError is the exit code that a shell would give.
func runInError(name string, err error) error {
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit) && exit.ExitCode() > 0:
		return &cli.ExitError{Code: exit.ExitCode()}
	case errors.As(err, &exit):
		status, _ := exit.Sys().(syscall.WaitStatus)
		return &cli.ExitError{Code: 128 + int(status.Signal())}
	case errors.Is(err, exec.ErrNotFound):
		return &cli.ExitError{Code: container.CodeNotFound, Err: fmt.Errorf("there is no program %q in the PATH of this machine", name)}
	case errors.Is(err, fs.ErrNotExist):
		return &cli.ExitError{Code: container.CodeNotFound, Err: fmt.Errorf("there is no program %s on this machine", name)}
	case errors.Is(err, fs.ErrPermission):
		return &cli.ExitError{Code: container.CodeNotExecutable, Err: fmt.Errorf("%s cannot be executed: %w", name, fs.ErrPermission)}
	}
	return err
}

// mountRow is what --format can name.
type mountRow struct{ Image, ID, Dir string }

func (a *app) listMounts(ctx context.Context, e *engine.Engine, o mountOptions) error {
	mounts, err := e.Mounts(ctx)
	if err != nil {
		return err
	}
	l := output.Listing{
		Table:   "{{.Image}}\t{{slice .ID 7 19}}\t{{.Dir}}",
		Headers: map[string]string{"Image": "IMAGE", "ID": "IMAGE ID", "Dir": "DIRECTORY"},
	}
	for _, m := range mounts {
		l.Rows = append(l.Rows, mountRow{m.Image, m.ID, m.Dir})
	}
	return l.Print(a.Stdout, o.format)
}

type umountOptions struct{ force, all bool }

func (a *app) umountCommand() *cobra.Command {
	var o umountOptions
	cmd := &cobra.Command{
		Use:     "umount [flags] IMAGE|DIR...",
		Aliases: []string{"unmount"},
		Short:   "Unmount images",
		Args: func(cmd *cobra.Command, args []string) error {
			if o.all {
				return cli.NoArgs(cmd, args)
			}
			return cli.AtLeast(1)(cmd, args)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.WithEngine(cmd.Context(), func(e *engine.Engine) error { return a.umount(cmd.Context(), e, o, args) })
		},
	}
	cmd.Flags().BoolVarP(&o.force, "force", "f", false, "unmount even where processes are at work: they go on, nobody else sees it")
	cmd.Flags().BoolVarP(&o.all, "all", "a", false, "unmount all images")
	return cmd
}

func (a *app) umount(ctx context.Context, e *engine.Engine, o umountOptions, names []string) error {
	mounts, err := e.Mounts(ctx)
	if err != nil {
		return err
	}
	if !o.all {
		if mounts, err = selectMounts(ctx, e, mounts, names); err != nil {
			return err
		}
	}
	end := e.Unmount
	if o.force {
		end = e.Detach
	}
	var errs []error
	for _, m := range mounts {
		err := end(ctx, m)
		if err == nil {
			_, err = fmt.Fprintln(a.Stdout, m.Dir)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// selectMounts finds the mounts that each name stands for: a directory, or an
// image with all its mounts.
func selectMounts(ctx context.Context, e *engine.Engine, mounts []engine.Mount, names []string) ([]engine.Mount, error) {
	var chosen []engine.Mount
	for _, name := range names {
		matches := matcher(ctx, e, name)
		found := false
		for _, m := range mounts {
			if matches(m) {
				found = true
				if !slices.Contains(chosen, m) {
					chosen = append(chosen, m)
				}
			}
		}
		if !found {
			return nil, fmt.Errorf("%s: %w; `strata mount` lists what is mounted", name, engine.ErrNotMounted)
		}
	}
	return chosen, nil
}

func matcher(ctx context.Context, e *engine.Engine, name string) func(engine.Mount) bool {
	dir := realPath(name)
	id := ""
	// An image that is gone can still be mounted: then its name tells.
	if img, err := e.Images.Resolve(ctx, name); err == nil {
		id = img.ID.String()
	} else if !errors.Is(err, image.ErrNotFound) {
		id = name
	}
	return func(m engine.Mount) bool { return m.Dir == dir || m.Image == name || m.ID == id }
}

// realPath is a path without links, as the kernel names mounts; what is not
// there stays as it is.
func realPath(name string) string {
	abs, err := filepath.Abs(name)
	if err != nil {
		return name
	}
	if real, err := filepath.EvalSymlinks(abs); err == nil {
		return real
	}
	return abs
}
