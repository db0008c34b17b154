package imagecmd

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/strata-build/strata/cmd/strata/cli"
	"github.com/strata-build/strata/cmd/strata/output"
	"github.com/strata-build/strata/internal/printable"
	"github.com/strata-build/strata/runtime/engine"
	"github.com/strata-build/strata/runtime/image"
	"github.com/strata-build/strata/runtime/layer"
)

// layersDescription is what `inspect --layers` says of an image.
type layersDescription struct {
	ID          string
	Name        string
	Layers      []layerDescription
	Wasted      []layer.Waste
	WastedBytes int64
	Bytes       int64
	Efficiency  float64
}

type layerDescription struct {
	Digest, DiffID, CreatedBy string
	layer.Content
}

// inspectLayers lists what the layers of images do.
func (a *app) inspectLayers(ctx context.Context, e *engine.Engine, o inspectOptions, names []string) error {
	if o.kind == "container" {
		return cli.Misuse("--layers is about images: `strata diff` lists what a container changed")
	}
	for _, name := range names {
		d, err := describeLayers(ctx, e, o, name)
		if err != nil {
			return err
		}
		if o.format != "" {
			err = output.PrintObject(a.Stdout, d, o.format)
		} else {
			err = d.write(a.Stdout)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func describeLayers(ctx context.Context, e *engine.Engine, o inspectOptions, name string) (*layersDescription, error) {
	f, err := imageFacts(ctx, e, name, o.platform)
	if err != nil {
		return nil, err
	}
	contents, err := readContents(ctx, e, f.Main)
	if err != nil {
		return nil, fmt.Errorf("inspect layers of %s: %w", name, err)
	}
	d := &layersDescription{
		ID: f.ID.String(), Name: f.Name, Wasted: contents.Wasted, WastedBytes: contents.WastedBytes,
		Bytes: contents.Bytes, Efficiency: contents.Efficiency(),
	}
	steps := layerSteps(f.Main)
	for i, c := range contents.Layers {
		one := layerDescription{Digest: f.Main.Layers[i].Digest.String(), DiffID: f.Main.Config.RootFS.DiffIDs[i].String(), Content: c}
		if i < len(steps) {
			one.CreatedBy = steps[i]
		}
		d.Layers = append(d.Layers, one)
	}
	return d, nil
}

// readContents reads the layers' blobs. One that was not fetched is an error
// that says so.
func readContents(ctx context.Context, e *engine.Engine, m image.Manifest) (*layer.Contents, error) {
	opens := make([]func() (io.ReadCloser, error), len(m.Layers))
	for i, desc := range m.Layers {
		opens[i] = func() (io.ReadCloser, error) { return e.Layers.Read(desc.Digest) }
	}
	return layer.ReadContents(ctx, opens)
}

// layerSteps are the commands that made the layers.
func layerSteps(m image.Manifest) []string {
	var steps []string
	for _, h := range m.Config.History {
		if !h.EmptyLayer {
			steps = append(steps, h.CreatedBy)
		}
	}
	return steps
}

// write prints the description for people.
func (d *layersDescription) write(w io.Writer) error {
	b := bufio.NewWriter(w)
	fmt.Fprintf(b, "%s %s\n", orNone(d.Name), d.ID)
	for i, l := range d.Layers {
		fmt.Fprintf(b, "\nlayer %d of %d  %s  %s  %s\n", i+1, len(d.Layers), l.DiffID, output.Size(l.Bytes), output.Ellipsis(oneLine(output.Plain(l.CreatedBy)), 2*commandWidth))
		writeFiles(b, "A", l.Added)
		writeFiles(b, "C", l.Changed)
		writeFiles(b, "D", l.Hidden)
	}
	fmt.Fprintf(b, "\nwasted: %s of %s (efficiency %.1f %%)\n", output.Size(d.WastedBytes), output.Size(d.Bytes), 100*d.Efficiency)
	for _, waste := range d.Wasted {
		how := "replaced"
		if waste.Removed {
			how = "removed"
		}
		fmt.Fprintf(b, "%10s  %s  of layer %d, %s by layer %d\n", output.Size(waste.Size), printable.Quoted(waste.Path), waste.Layer, how, waste.By)
	}
	return b.Flush()
}

func writeFiles(w io.Writer, letter string, files []layer.File) {
	for _, f := range files {
		size := output.Size(f.Size)
		if letter != "D" && strings.HasSuffix(f.Path, "/") {
			size = ""
		}
		fmt.Fprintf(w, "  %s %10s  %s\n", letter, size, printable.Quoted(f.Path))
	}
}

func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }

func orNone(s string) string {
	if s == "" {
		return none
	}
	return s
}
