package containercmd

import (
	"context"
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/strata-build/strata/cmd/strata/cli"
	"github.com/strata-build/strata/cmd/strata/output"
	"github.com/strata-build/strata/internal/printable"
	"github.com/strata-build/strata/runtime/container"
)

type cpOptions struct {
	archive, followLink, quiet bool
}

func (a *app) cpCommand() *cobra.Command {
	var o cpOptions
	cmd := &cobra.Command{
		Use:   "cp [flags] CONTAINER:SRC DST|- | SRC|- CONTAINER:DST",
		Short: "Copy files between a container and the machine",
		Long: "Copy files or directories out of a container or into it, whether it runs or not; its volumes and\n" +
			"binds are seen. A path that ends in /. stands for the contents of a directory. As DST, - writes a\n" +
			"tar stream to standard output; as SRC, it unpacks one from standard input in a directory.\n\n" +
			"What is copied into a container belongs to root there, and what is copied out belongs to you.\n" +
			"With -a it belongs to the user and group of the same number as before. A tar stream says itself\n" +
			"whom its files belong to.",
		Args: cli.Exactly(2),
		RunE: func(cmd *cobra.Command, args []string) error { return a.cp(cmd.Context(), &o, args[0], args[1]) },
	}
	f := cmd.Flags()
	f.BoolVarP(&o.archive, "archive", "a", false, "keep user and group")
	f.BoolVarP(&o.followLink, "follow-link", "L", false, "copy what SRC leads to, when it is a symlink")
	f.BoolVarP(&o.quiet, "quiet", "q", false, "do not say what was copied")
	return cmd
}

// cpArg is a side of a copy: a path of a container, or of this machine.
type cpArg struct{ container, path string }

// parseCpArg reads CONTAINER:PATH as docker does: a path that begins with a
// slash or a dot is this machine's, whatever colons it has.
func parseCpArg(arg string) cpArg {
	name, path, ok := strings.Cut(arg, ":")
	if !ok || filepath.IsAbs(arg) || strings.HasPrefix(arg, ".") {
		return cpArg{path: arg}
	}
	return cpArg{name, path}
}

func (a *app) cp(ctx context.Context, o *cpOptions, from, to string) error {
	src, dst := parseCpArg(from), parseCpArg(to)
	switch {
	case src.path == "" || dst.path == "":
		return cli.Misuse("a path is empty: a container's is written CONTAINER:/PATH")
	case src.container != "" && dst.container != "":
		return cli.Misuse("files are not copied between two containers: `strata cp %s - | strata cp - %s` does it", from, to)
	case src.container != "":
		return a.cpFrom(ctx, o, src, dst.path)
	case dst.container != "":
		return a.cpTo(ctx, o, src.path, dst)
	}
	return cli.Misuse("neither side is a container's: one is written CONTAINER:/PATH")
}

func (a *app) cpFrom(ctx context.Context, o *cpOptions, src cpArg, dst string) error {
	if dst == "-" && a.ArchiveStream() == nil {
		return cli.Misuse("a tar stream would be written to your terminal: redirect it, or name a directory")
	}
	req, err := o.request(a, src, dst)
	if err != nil {
		return err
	}
	return a.copying(ctx, src.container, &req, func(s *container.Set) error {
		if dst == "-" {
			return s.PackFrom(ctx, req, a.Stdout)
		}
		size, err := s.CopyFrom(ctx, req)
		return a.copied(o, size, dst, err)
	})
}

func (a *app) cpTo(ctx context.Context, o *cpOptions, src string, dst cpArg) error {
	req, err := o.request(a, dst, src)
	if err != nil {
		return err
	}
	return a.copying(ctx, dst.container, &req, func(s *container.Set) error {
		if src == "-" {
			return s.UnpackTo(ctx, req, interruptible(ctx, a.Stdin))
		}
		size, err := s.CopyTo(ctx, req)
		return a.copied(o, size, dst.container+":"+dst.path, err)
	})
}

// interruptible reads until the context ends, also when nothing comes.
func interruptible(ctx context.Context, r io.Reader) io.Reader {
	in, out := io.Pipe()
	go func() {
		_, err := io.Copy(out, r)
		_ = out.CloseWithError(err) // it always returns nil
	}()
	context.AfterFunc(ctx, func() { _ = out.CloseWithError(context.Cause(ctx)) })
	return in
}

// request describes a copy.
func (o *cpOptions) request(a *app, inside cpArg, outside string) (container.CopyRequest, error) {
	local, err := absolute(outside)
	return container.CopyRequest{
		Path: inside.path, Local: local, FollowLink: o.followLink, KeepOwners: o.archive,
		Skipped: func(path string, _ error) {
			fmt.Fprintf(a.Stderr, "strata: %s was left out: you may not make devices\n", printable.Quoted(path))
		},
	}, err
}

// absolute makes a path absolute that may end in "/" or "/.", which count.
func absolute(path string) (string, error) {
	whole, err := filepath.Abs(path)
	switch {
	case path == "." || strings.HasSuffix(path, "/."):
		whole = strings.TrimSuffix(whole, "/") + "/."
	case strings.HasSuffix(path, "/"):
		whole = strings.TrimSuffix(whole, "/") + "/"
	}
	return whole, err
}

// copying runs fn beside the container.
func (a *app) copying(ctx context.Context, name string, req *container.CopyRequest, fn func(*container.Set) error) error {
	return a.withContainers(ctx, name, func(s *container.Set) error {
		rec, err := s.Find(ctx, name)
		if err != nil {
			return err
		}
		req.ID, req.Name = rec.ID, rec.Name
		return fn(s)
	})
}

func (a *app) copied(o *cpOptions, size int64, to string, err error) error {
	if err != nil || o.quiet {
		return err
	}
	_, err = fmt.Fprintf(a.Stderr, "Successfully copied %s to %s\n", output.Size(size), to)
	return err
}
