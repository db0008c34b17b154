package imagecmd

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	digest "github.com/opencontainers/go-digest"
	"github.com/spf13/cobra"

	"github.com/strata-build/strata/cmd/strata/cli"
	"github.com/strata-build/strata/runtime/engine"
	"github.com/strata-build/strata/runtime/exporter"
	"github.com/strata-build/strata/runtime/image"
)

type saveOptions struct{ output, format, compress, platform string }

func (a *app) saveCommand() *cobra.Command {
	var o saveOptions
	cmd := &cobra.Command{
		Use:   "save [flags] IMAGE...",
		Short: "Save images into an archive",
		Long: "Save images into one archive, for `load` of Strata, docker and podman: a docker archive, which is\n" +
			"an OCI layout too, or an OCI archive. It goes to standard output unless --output names a file.",
		Args: cli.AtLeast(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := o.check(); err != nil {
				return err
			}
			if o.output == "" && a.ArchiveStream() == nil {
				return cli.Misuse("an archive is not for a terminal: give -o FILE, or pipe it on")
			}
			return a.WithEngine(cmd.Context(), func(e *engine.Engine) error { return save(cmd.Context(), e, o, args) })
		},
	}
	f := cmd.Flags()
	f.StringVarP(&o.output, "output", "o", "", "file to write")
	f.StringVar(&o.format, "format", "docker-archive", "docker-archive or oci-archive")
	f.StringVar(&o.compress, "compress", "", "gzip or zstd; default: by the file's suffix (.gz, .tgz, .zst, .tzst)")
	f.StringVar(&o.platform, "platform", "", "save only this platform of an image of several")
	return cmd
}

func (o *saveOptions) check() error {
	if o.format != "docker-archive" && o.format != "oci-archive" {
		return cli.Misuse("--format %s is not known: it takes docker-archive or oci-archive", o.format)
	}
	if !slices.Contains([]string{"", "none", "gzip", "zstd"}, o.compress) {
		return cli.Misuse("--compress %s is not known: it takes gzip, zstd or none", o.compress)
	}
	for _, other := range []string{".xz", ".txz", ".bz2", ".tbz2", ".lz4"} {
		if o.compress == "" && strings.HasSuffix(o.output, other) {
			return cli.Misuse("-o %s: %s is not written: end the name in .gz or .zst, or in .tar for no compression", o.output, other)
		}
	}
	return nil
}

// compression is what is asked for, or what the file's name says.
func (o *saveOptions) compression() string {
	if o.compress != "" {
		return strings.TrimSuffix(o.compress, "none")
	}
	for kind, suffixes := range map[string][]string{"gzip": {".gz", ".tgz"}, "zstd": {".zst", ".zstd", ".tzst"}} {
		if slices.ContainsFunc(suffixes, func(s string) bool { return strings.HasSuffix(o.output, s) }) {
			return kind
		}
	}
	return ""
}

func save(ctx context.Context, e *engine.Engine, o saveOptions, refs []string) error {
	req := exporter.SaveRequest{Docker: o.format == "docker-archive", Compression: o.compression(), Dest: o.output}
	if req.Dest == "" {
		req.Dest = "-"
	}
	platform, err := onePlatform(o.platform)
	if err != nil {
		return err
	}
	for _, ref := range refs {
		img, byID, err := e.Images.Find(ctx, ref)
		if err != nil {
			return err
		}
		if platform != nil {
			if _, err := e.ImageFacts(ctx, img, platform); err != nil {
				return fmt.Errorf("save %s: %w", ref, err)
			}
		}
		saved := exporter.Saved{Desc: img.Desc, Platform: platform, Single: platform != nil}
		if !byID && img.Name != "" {
			saved.Names = []string{img.Name}
		}
		req.Images = addSaved(req.Images, saved)
	}
	return e.Exporter.Save(ctx, req)
}

// addSaved joins the names of an image that is given by several.
func addSaved(list []exporter.Saved, add exporter.Saved) []exporter.Saved {
	i := slices.IndexFunc(list, func(s exporter.Saved) bool { return s.Desc.Digest == add.Desc.Digest })
	if i < 0 {
		return append(list, add)
	}
	for _, name := range add.Names {
		if !slices.Contains(list[i].Names, name) {
			list[i].Names = append(list[i].Names, name)
		}
	}
	return list
}

type loadOptions struct {
	input string
	quiet bool
}

func (a *app) loadCommand() *cobra.Command {
	var o loadOptions
	cmd := &cobra.Command{
		Use:   "load [flags]",
		Short: "Load images from an archive",
		Long: "Load the images of an archive that `save` of Strata, docker or podman, or skopeo, has written, in\n" +
			"any compression; or of the directory of an OCI layout. It is read from standard input unless\n" +
			"--input names it.",
		Args: cli.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if o.fromStdin() {
				if err := a.checkPiped("name the archive with -i, or pipe it in"); err != nil {
					return err
				}
			}
			return a.WithEngine(cmd.Context(), func(e *engine.Engine) error { return a.load(cmd.Context(), e, o) })
		},
	}
	cmd.Flags().StringVarP(&o.input, "input", "i", "", "archive to read")
	cmd.Flags().BoolVarP(&o.quiet, "quiet", "q", false, "print names only")
	return cmd
}

func (o loadOptions) fromStdin() bool { return o.input == "" || o.input == "-" }

func (a *app) load(ctx context.Context, e *engine.Engine, o loadOptions) error {
	images, err := a.readArchive(ctx, e, o)
	if err != nil {
		return err
	}
	for _, img := range images {
		if err := a.keepLoaded(ctx, e, o, img); err != nil {
			return err
		}
	}
	return nil
}

// readArchive reads all images before any of them gets its name.
func (a *app) readArchive(ctx context.Context, e *engine.Engine, o loadOptions) ([]image.Imported, error) {
	if o.fromStdin() {
		return e.Images.Import(ctx, a.Stdin)
	}
	if info, err := os.Stat(o.input); err == nil && info.IsDir() {
		return e.Images.ImportLayout(ctx, o.input)
	}
	src, err := openFile(o.input)
	if err != nil {
		return nil, err
	}
	images, err := e.Images.Import(ctx, src)
	return images, errors.Join(err, src.Close())
}

// keepLoaded names an image, and says so in docker's words.
func (a *app) keepLoaded(ctx context.Context, e *engine.Engine, o loadOptions, img image.Imported) error {
	names := img.Names
	if len(names) == 0 {
		names = []string{""}
	}
	for _, name := range names {
		before, err := replaced(e, name)
		if err != nil {
			return err
		}
		kept, err := e.Images.Put(ctx, name, img.Desc)
		if err != nil {
			return err
		}
		if before != "" && before != kept.ID && !o.quiet {
			fmt.Fprintf(a.Stderr, "the name %s stood for %s so far\n", kept.Name, shortID(before))
		}
		if kept.Name != "" {
			fmt.Fprintf(a.Stdout, "Loaded image: %s\n", kept.Name)
			continue
		}
		fmt.Fprintf(a.Stdout, "Loaded image ID: %s\n", kept.ID)
		if !o.quiet {
			fmt.Fprintf(a.Stderr, "it has no name in the archive: `strata tag %s NAME` gives it one\n", shortID(kept.ID))
		}
	}
	return nil
}

// replaced is the id of the image that has a name; "" of a name that is new.
func replaced(e *engine.Engine, name string) (digest.Digest, error) {
	if name == "" {
		return "", nil
	}
	img, err := e.Images.Get(name)
	if errors.Is(err, image.ErrNotFound) {
		return "", nil
	}
	return img.ID, err
}
