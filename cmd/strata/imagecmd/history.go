package imagecmd

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/spf13/cobra"

	"github.com/strata-build/strata/cmd/strata/cli"
	"github.com/strata-build/strata/cmd/strata/output"
	"github.com/strata-build/strata/runtime/engine"
)

type historyOptions struct {
	human, noTrunc, quiet bool
	format, platform      string
}

func (a *app) historyCommand() *cobra.Command {
	var o historyOptions
	cmd := &cobra.Command{
		Use:   "history [flags] IMAGE",
		Short: "Show the steps that made an image",
		Long: "Show the steps that made an image, the last one first, with the size of the layer that each\n" +
			"of them added. Only the image as a whole has an id: the steps below it are <missing>.",
		Args: cli.Exactly(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.WithEngine(cmd.Context(), func(e *engine.Engine) error { return a.history(cmd.Context(), e, o, args[0]) })
		},
	}
	f := cmd.Flags()
	f.BoolVarP(&o.human, "human", "H", true, "print sizes and times for people to read")
	f.BoolVar(&o.noTrunc, "no-trunc", false, "print whole ids and commands")
	f.BoolVarP(&o.quiet, "quiet", "q", false, "print ids only")
	f.StringVar(&o.format, "format", "", "table, json, or a Go template for each step")
	f.StringVar(&o.platform, "platform", "", "platform of an image of several, such as linux/arm64")
	return cmd
}

// historyRow is what --format can name.
type historyRow struct{ Author, Comment, CreatedAt, CreatedBy, CreatedSince, ID, Size string }

var historyHeaders = map[string]string{
	"Author": "AUTHOR", "Comment": "COMMENT", "CreatedAt": "CREATED AT", "CreatedBy": "CREATED BY", "CreatedSince": "CREATED",
	"ID": "IMAGE", "Size": "SIZE",
}

func (a *app) history(ctx context.Context, e *engine.Engine, o historyOptions, ref string) error {
	f, err := imageFacts(ctx, e, ref, o.platform)
	if err != nil {
		return err
	}
	l := output.Listing{Table: "{{.ID}}\t{{.CreatedSince}}\t{{.CreatedBy}}\t{{.Size}}\t{{.Comment}}", Headers: historyHeaders}
	if !o.human {
		l.Table = strings.Replace(l.Table, "CreatedSince", "CreatedAt", 1)
	}
	if o.quiet && o.format == "" {
		o.format = "{{.ID}}"
	}
	for _, row := range historyRows(f, o) {
		l.Rows = append(l.Rows, row)
	}
	return l.Print(a.Stdout, o.format)
}

// imageFacts describes an image of the store, for a platform if one is named.
func imageFacts(ctx context.Context, e *engine.Engine, ref, platform string) (engine.ImageFacts, error) {
	want, err := onePlatform(platform)
	if err != nil {
		return engine.ImageFacts{}, err
	}
	img, err := e.Images.Resolve(ctx, ref)
	if err != nil {
		return engine.ImageFacts{}, err
	}
	return e.ImageFacts(ctx, img, want)
}

// onePlatform reads --platform; nil where it is not given.
func onePlatform(name string) (*ocispec.Platform, error) {
	if name == "" {
		return nil, nil
	}
	list, err := cli.ParsePlatforms([]string{name})
	if err != nil {
		return nil, err
	}
	return &list[0], nil
}

// historyRows pairs the steps with layers: a step that is not empty has made
// the next one. The last step comes first.
func historyRows(f engine.ImageFacts, o historyOptions) []historyRow {
	sizes := f.LayerSizes
	var rows []historyRow
	for _, h := range f.Main.Config.History {
		size := int64(0)
		if !h.EmptyLayer && len(sizes) > 0 {
			size, sizes = sizes[0], sizes[1:]
		}
		rows = append(rows, stepRow(h, size, o))
	}
	for _, size := range sizes { // layers that the history does not speak of
		rows = append(rows, stepRow(ocispec.History{}, size, o))
	}
	slices.Reverse(rows)
	if len(rows) > 0 {
		rows[0].ID = shortID(f.ID)
		if o.noTrunc {
			rows[0].ID = wholeID(f.ID)
		}
	}
	return rows
}

// commandWidth is how much of a command the table shows.
const commandWidth = 45

func stepRow(h ocispec.History, size int64, o historyOptions) historyRow {
	row := historyRow{
		Author: output.Plain(h.Author), Comment: output.Plain(h.Comment), ID: "<missing>", Size: o.size(size),
		CreatedBy: output.Plain(h.CreatedBy),
	}
	if h.Created != nil && !h.Created.IsZero() {
		row.CreatedAt, row.CreatedSince = h.Created.UTC().Format(time.RFC3339), output.Since(*h.Created)
	}
	if !o.human {
		row.CreatedSince = row.CreatedAt
	}
	if !o.noTrunc {
		row.CreatedBy = output.Ellipsis(row.CreatedBy, commandWidth)
	}
	return row
}

// size is that of a layer, or "N/A" of one that was not fetched.
func (o historyOptions) size(size int64) string {
	switch {
	case size < 0:
		return "N/A"
	case o.human:
		return output.Size(size)
	}
	return strconv.FormatInt(size, 10)
}
