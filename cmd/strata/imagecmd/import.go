package imagecmd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/strata-build/strata/cmd/strata/cli"
	dockerfilecompat "github.com/strata-build/strata/dockerfile-compat"
	"github.com/strata-build/strata/runtime/engine"
	"github.com/strata-build/strata/runtime/layer"
)

type importOptions struct {
	changes           []string
	message, platform string
}

func (a *app) importCommand() *cobra.Command {
	var o importOptions
	cmd := &cobra.Command{
		Use:   "import [flags] FILE|URL|- [REPOSITORY[:TAG]]",
		Short: "Make an image of a root file system's tar",
		Long: "Make an image of one layer from the tar of a root file system: a file, an http URL, or \"-\" for\n" +
			"standard input. It may be compressed with gzip, bzip2, xz or zstd. The same tar gives the same\n" +
			"image, whatever its compression. `strata load` reads images that `save` has written.",
		Args: cli.Between(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error { return a.importTar(cmd.Context(), o, args) },
	}
	f := cmd.Flags()
	f.StringArrayVarP(&o.changes, "change", "c", nil, "Dockerfile instruction for the config, such as 'CMD [\"sh\"]' (several allowed)")
	f.StringVarP(&o.message, "message", "m", "", "comment for the history")
	f.StringVar(&o.platform, "platform", "", "platform of what is in the tar; default: this machine's")
	return cmd
}

// importComment is what the history says unless --message does. It does not
// name the source: the same tar is the same image.
const importComment = "Imported from a tar archive"

func (a *app) importTar(ctx context.Context, o importOptions, args []string) error {
	req, err := a.importRequest(o, args[1:])
	if err == nil && args[0] == "-" {
		err = a.checkPiped("give a file, or pipe the tar in")
	}
	if err != nil {
		return err
	}
	return a.WithEngine(ctx, func(e *engine.Engine) error {
		src, err := a.openSource(ctx, e, args[0])
		if err != nil {
			return err
		}
		res, err := e.ImportTar(ctx, src, req)
		if err := errors.Join(err, src.Close()); err != nil {
			return importError(args[0], err)
		}
		_, err = fmt.Fprintln(a.Stdout, res.ConfigDigest)
		return err
	})
}

// importRequest checks all that is given before anything is read.
func (a *app) importRequest(o importOptions, names []string) (engine.AssembleRequest, error) {
	req := engine.AssembleRequest{Comment: importComment, Config: &dockerspec.DockerOCIImageConfig{}}
	if o.message != "" {
		req.Comment = o.message
	}
	for _, name := range names {
		full, err := cli.FullImageName(name)
		if err != nil {
			return req, err
		}
		req.Names = append(req.Names, full)
	}
	platform, err := onePlatform(o.platform)
	if err != nil {
		return req, err
	}
	if platform != nil {
		req.Platform = *platform
	}
	if req.Created, err = a.Epoch(nil); err != nil {
		return req, err
	}
	if err := dockerfilecompat.ApplyChanges(req.Config, o.changes); err != nil {
		return req, cli.Misuse("--change: %v", err)
	}
	return req, nil
}

// openSource opens a file, a URL, or standard input.
func (a *app) openSource(ctx context.Context, e *engine.Engine, name string) (io.ReadCloser, error) {
	switch {
	case name == "-":
		return io.NopCloser(a.Stdin), nil
	case strings.HasPrefix(name, "http://"), strings.HasPrefix(name, "https://"):
		return e.Download(ctx, name)
	}
	return openFile(name)
}

// checkPiped refuses a terminal as standard input: nobody types an archive.
func (a *app) checkPiped(hint string) error {
	if f, ok := a.Stdin.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		return cli.Misuse("standard input is a terminal: %s", hint)
	}
	return nil
}

func openFile(name string) (*os.File, error) {
	f, err := os.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("there is no file %s", name)
	}
	if err != nil {
		return nil, err
	}
	if info, err := f.Stat(); err != nil || info.IsDir() {
		return nil, errors.Join(fmt.Errorf("%s is a directory, not an archive: pack it with `tar -C %s -c .`", name, name), err, f.Close())
	}
	return f, nil
}

// importError says what to do about what is not a tar.
func importError(name string, err error) error {
	if errors.Is(err, layer.ErrNotTar) {
		return fmt.Errorf("import %s: it is not the tar of a root file system, compressed or not", name)
	}
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("import %s: the archive is cut short: copy or pack it again (%w)", name, err)
	}
	return fmt.Errorf("import %s: %w", name, err)
}
