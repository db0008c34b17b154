package imagecmd

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/containerd/platforms"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/spf13/cobra"

	"github.com/strata-build/strata/cmd/strata/cli"
	"github.com/strata-build/strata/cmd/strata/containercmd"
	"github.com/strata-build/strata/cmd/strata/output"
	"github.com/strata-build/strata/runtime/container"
	"github.com/strata-build/strata/runtime/engine"
	"github.com/strata-build/strata/runtime/image"
)

type inspectOptions struct {
	format, kind, platform string
	size, layers           bool
}

func (a *app) inspectCommand() *cobra.Command {
	var o inspectOptions
	cmd := &cobra.Command{
		Use:   "inspect [flags] NAME...",
		Short: "Describe images and containers as JSON",
		Long: "Describe containers and images by name or id, as a JSON list or by a Go template.\n" +
			"With --layers, list the files that each layer of an image adds, changes and hides, and the\n" +
			"space that is wasted by files which a later layer replaces or removes.",
		Args: cli.AtLeast(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := o.check(); err != nil {
				return err
			}
			return a.WithEngine(cmd.Context(), func(e *engine.Engine) error {
				if o.layers {
					return a.inspectLayers(cmd.Context(), e, o, args)
				}
				return a.inspect(cmd.Context(), e, o, args)
			})
		},
	}
	f := cmd.Flags()
	f.StringVarP(&o.format, "format", "f", "", "json, or a Go template")
	f.StringVar(&o.kind, "type", "", "image or container")
	f.StringVar(&o.platform, "platform", "", "platform of an image of several, such as linux/arm64")
	f.BoolVarP(&o.size, "size", "s", false, "add the sizes of containers; images have them in any case")
	f.BoolVar(&o.layers, "layers", false, "list the files of each layer, and the wasted space")
	return cmd
}

func (o *inspectOptions) check() error {
	switch o.kind {
	case "", "image", "container":
		return nil
	}
	return cli.Misuse("--type %s is not known: it takes image or container", o.kind)
}

// inspect describes what it finds, and then says what it did not find.
func (a *app) inspect(ctx context.Context, e *engine.Engine, o inspectOptions, names []string) error {
	found := []any{}
	var errs []error
	for _, name := range names {
		value, err := a.inspectOne(ctx, e, o, name)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if o.format != "" {
			if err := output.PrintObject(a.Stdout, value, o.format); err != nil {
				return err
			}
		}
		found = append(found, value)
	}
	if o.format == "" {
		errs = append(errs, output.WriteJSON(a.Stdout, found, "    "))
	}
	return errors.Join(errs...)
}

// inspectOne describes a container of that name, else an image.
func (a *app) inspectOne(ctx context.Context, e *engine.Engine, o inspectOptions, name string) (any, error) {
	if o.kind != "image" {
		value, err := containercmd.Describe(ctx, e, name, o.size)
		if !errors.Is(err, container.ErrNotFound) || o.kind == "container" {
			return value, err
		}
	}
	f, err := imageFacts(ctx, e, name, o.platform)
	if errors.Is(err, image.ErrNotFound) && o.kind == "" {
		return nil, unknownObject(ctx, e, name)
	}
	if err != nil {
		return nil, err
	}
	return describeImage(e, f)
}

// unknownObject says what was probably meant with a name.
func unknownObject(ctx context.Context, e *engine.Engine, name string) error {
	near, err := e.Images.Near(name)
	if err != nil {
		return err
	}
	containers, err := container.New(e).Near(ctx, name)
	if err != nil {
		return err
	}
	if near = append(near, containers...); len(near) > 0 {
		return fmt.Errorf("%s: no such image or container; did you mean %s?", name, strings.Join(near, ", "))
	}
	return fmt.Errorf("%s: no such image or container; `strata images` and `strata ps -a` list them", name)
}

// imageDescription is docker's, field for field.
type imageDescription struct {
	Id            string
	RepoTags      []string
	RepoDigests   []string
	Parent        string
	Comment       string
	DockerVersion string
	Created       string
	Author        string
	Architecture  string
	Variant       string `json:",omitempty"`
	Os            string
	OsVersion     string `json:",omitempty"`
	Size          int64
	GraphDriver   graphDriver
	RootFS        rootFS
	Metadata      imageMetadata
	Descriptor    ocispec.Descriptor
	Config        dockerspec.DockerOCIImageConfig
	Annotations   map[string]string     `json:",omitempty"`
	Platforms     []platformDescription `json:",omitempty"`
}

type graphDriver struct {
	Name string
	Data map[string]string
}

type rootFS struct {
	Type   string
	Layers []string
}

type imageMetadata struct{ LastTagTime time.Time }

// platformDescription is one platform of an image of several.
type platformDescription struct {
	Platform string
	Digest   string
}

func describeImage(e *engine.Engine, f engine.ImageFacts) (*imageDescription, error) {
	m := f.Main
	var config struct {
		Config dockerspec.DockerOCIImageConfig
	}
	if err := json.Unmarshal(m.RawConfig, &config); err != nil {
		return nil, fmt.Errorf("read config of %s: %w", f.ID, err)
	}
	d := &imageDescription{
		Id: f.ID.String(), RepoTags: []string{}, RepoDigests: []string{}, Author: m.Config.Author,
		Architecture: m.Config.Architecture, Variant: m.Config.Variant, Os: m.Config.OS, OsVersion: m.Config.OSVersion,
		Size: f.Size, RootFS: rootFS{Type: "layers", Layers: []string{}}, Metadata: imageMetadata{f.Image.Created},
		Descriptor: f.Desc, Config: config.Config, Annotations: m.Annotations,
	}
	if n := len(m.Config.History); n > 0 {
		d.Comment = m.Config.History[n-1].Comment
	}
	if m.Config.Created != nil {
		d.Created = m.Config.Created.Format(time.RFC3339Nano)
	}
	for _, diffID := range m.Config.RootFS.DiffIDs {
		d.RootFS.Layers = append(d.RootFS.Layers, diffID.String())
	}
	d.addNames(f)
	if len(f.Manifests) > 1 {
		for _, one := range f.Manifests {
			d.Platforms = append(d.Platforms, platformDescription{platforms.Format(one.Platform()), one.Desc.Digest.String()})
		}
	}
	var err error
	d.GraphDriver, err = driverOf(e, m)
	return d, err
}

func (d *imageDescription) addNames(f engine.ImageFacts) {
	seen := map[string]bool{}
	for _, name := range f.Names {
		if name.Name == "" {
			continue
		}
		repository, tag := splitName(name.Name)
		if tag != none {
			d.RepoTags = append(d.RepoTags, name.Name)
		}
		if full := repository + "@" + name.Desc.Digest.String(); !seen[full] {
			seen[full] = true
			d.RepoDigests = append(d.RepoDigests, full)
		}
		if name.Created.After(d.Metadata.LastTagTime) {
			d.Metadata.LastTagTime = name.Created
		}
	}
}

// driverOf tells where the layers are unpacked, if they are.
func driverOf(e *engine.Engine, m image.Manifest) (graphDriver, error) {
	g := graphDriver{Name: e.Snapshots.Name()}
	ids := e.Layers.Unpacked(m.Config.RootFS.DiffIDs)
	if len(ids) == 0 || len(ids) < len(m.Layers) {
		return g, nil
	}
	dirs := make([]string, len(ids))
	for i, id := range ids { // docker lists the top first
		dir, err := e.Layers.Layer(id)
		if err != nil {
			return g, err
		}
		dirs[len(ids)-1-i] = filepath.Clean(dir)
	}
	g.Data = map[string]string{"UpperDir": dirs[0]}
	if len(dirs) > 1 {
		g.Data["LowerDir"] = strings.Join(dirs[1:], ":")
	}
	return g, nil
}
