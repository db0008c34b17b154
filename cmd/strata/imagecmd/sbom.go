package imagecmd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/containerd/platforms"
	"github.com/distribution/reference"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/spf13/cobra"

	"github.com/strata-build/strata/cmd/strata/cli"
	"github.com/strata-build/strata/runtime/engine"
	"github.com/strata-build/strata/runtime/inventory"
	"github.com/strata-build/strata/runtime/sbom"
)

type sbomOptions struct {
	format, output, platform string
}

func (a *app) sbomCommand() *cobra.Command {
	var o sbomOptions
	cmd := &cobra.Command{
		Use:   "sbom IMAGE",
		Short: "Write a bill of materials: what is installed in an image",
		Long: "Write what is installed in an image as SPDX or CycloneDX: the packages of dpkg, apk and rpm, the\n" +
			"modules of Go programs, npm's packages, and Python's. The same image gives the same bytes.",
		Args: cli.Exactly(1),
		RunE: func(cmd *cobra.Command, args []string) error { return a.sbom(cmd.Context(), o, args[0]) },
	}
	f := cmd.Flags()
	f.StringVar(&o.format, "format", string(sbom.Formats()[0]), strings.Join(formatNames(), ", "))
	f.StringVarP(&o.output, "output", "o", "", "file to write to, instead of standard output")
	addImagePlatform(cmd, &o.platform)
	return cmd
}

// addImagePlatform adds the flag that chooses from an image of several
// platforms.
func addImagePlatform(cmd *cobra.Command, platform *string) {
	cmd.Flags().StringVar(platform, "platform", "", "platform of the image, such as linux/arm64")
}

func formatNames() []string {
	var names []string
	for _, format := range sbom.Formats() {
		names = append(names, string(format))
	}
	return names
}

func (a *app) sbom(ctx context.Context, o sbomOptions, ref string) error {
	if !slices.Contains(formatNames(), o.format) {
		return cli.Misuse("--format %s is not known: it takes %s", o.format, strings.Join(formatNames(), ", "))
	}
	found, err := a.installed(ctx, ref, o.platform)
	if err != nil {
		return err
	}
	doc := sbom.Document{Image: found.image, Found: found.packages, Tool: "strata", ToolVersion: cli.Version()}
	var out bytes.Buffer
	if err := doc.Write(&out, sbom.Format(o.format)); err != nil {
		return err
	}
	if o.output != "" && o.output != "-" {
		return cli.WriteFile(o.output, out.Bytes())
	}
	_, err = a.Stdout.Write(out.Bytes())
	return err
}

// installed is an image with what is installed in it.
type installed struct {
	image    sbom.Image
	packages inventory.Inventory
}

// installed reads an image's tree, and tells what it could not read.
func (a *app) installed(ctx context.Context, ref, platform string) (found installed, err error) {
	want, err := imagePlatform(platform)
	if err != nil {
		return found, err
	}
	err = a.WithEngine(ctx, func(e *engine.Engine) (err error) {
		view, err := e.View(ctx, ref, want)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, view.Close()) }()
		found.image = described(view)
		found.packages, err = inventory.ReadApart(ctx, view.Root)
		return err
	})
	if err != nil {
		return found, err
	}
	for _, p := range found.packages.Problems {
		fmt.Fprintf(a.Stderr, "warning: /%s was not read: %s\n", p.Path, p.Reason)
	}
	return found, nil
}

// imagePlatform reads --platform of a command on one image; nil without it.
func imagePlatform(text string) (*ocispec.Platform, error) {
	if text == "" {
		return nil, nil
	}
	platform, err := platforms.Parse(text)
	if err != nil {
		return nil, cli.Misuse("--platform: %v", err)
	}
	return &platform, nil
}

// described is how documents name the image of a view.
func described(v *engine.View) sbom.Image {
	image := sbom.Image{
		Digest: v.Manifest.Desc.Digest, Platform: platforms.Format(v.Manifest.Platform()), Created: time.Unix(0, 0),
	}
	if named, err := reference.ParseNormalizedNamed(v.Image.Name); err == nil {
		image.Repository = reference.FamiliarName(named)
	}
	if created := v.Manifest.Config.Created; created != nil {
		image.Created = *created
	}
	return image
}
