package imagecmd

import (
	"context"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/docker/go-units"
	digest "github.com/opencontainers/go-digest"
	"github.com/spf13/cobra"

	"github.com/strata-build/strata/cmd/strata/cli"
	"github.com/strata-build/strata/cmd/strata/containercmd"
	"github.com/strata-build/strata/cmd/strata/output"
	"github.com/strata-build/strata/runtime/engine"
	"github.com/strata-build/strata/runtime/snapshot"
	"github.com/strata-build/strata/runtime/store"
)

func (a *app) duCommand() *cobra.Command {
	var verbose bool
	var format string
	cmd := &cobra.Command{
		Use:   "du",
		Short: "Show what the store holds, and what images share",
		Long: "Show what the store holds on disk, by kind. A layer is there once, however many images have it:\n" +
			"the line on images adds up their sizes, and says how much of that is shared. With -v, list the\n" +
			"images with what each of them shares with others and has alone, the containers and volumes, and\n" +
			"then each object.",
		Args: cli.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.WithEngine(cmd.Context(), func(e *engine.Engine) error {
				if format != "" {
					return a.duImages(cmd.Context(), e, format)
				}
				return a.du(cmd.Context(), e, verbose)
			})
		},
	}
	cmd.Flags().BoolVarP(&verbose, "verbose", "v", false, "list each image and each object")
	cmd.Flags().StringVar(&format, "format", "", "table, json, or a Go template for each image")
	return cmd
}

// duTable is the table of images.
const duTable = "{{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}\t{{.SharedSize}}\t{{.UniqueSize}}"

func (a *app) duImages(ctx context.Context, e *engine.Engine, format string) error {
	all, err := e.ImageList(ctx)
	if err != nil {
		return err
	}
	return duListing(all).Print(a.Stdout, format)
}

func duListing(all []engine.ImageFacts) output.Listing {
	sortImages(all)
	l := output.Listing{Table: duTable, Headers: imageHeaders}
	for _, f := range all {
		l.Rows = append(l.Rows, rowOf(f, shortID))
	}
	return l
}

func (a *app) du(ctx context.Context, e *engine.Engine, verbose bool) error {
	images, err := e.ImageList(ctx)
	if err != nil {
		return err
	}
	usage, err := e.Usage(ctx)
	if err != nil {
		return err
	}
	owners, err := containercmd.Objects(ctx, e, usage)
	if err != nil {
		return err
	}
	if verbose {
		for _, l := range []output.Listing{duListing(images), owners.Containers, owners.Volumes} {
			if err := l.Print(a.Stdout, ""); err != nil {
				return err
			}
			fmt.Fprintln(a.Stdout)
		}
	}
	w := tabwriter.NewWriter(a.Stdout, 0, 8, 2, ' ', 0)
	if verbose {
		writeItems(w, usage, owners.Names)
	} else {
		writeTotals(w, usage)
	}
	fmt.Fprintf(w, "Total:\t%s\n", units.HumanSize(float64(usage.Total)))
	fmt.Fprintf(w, "Reclaimable:\t%s\n", units.HumanSize(float64(usage.Reclaimable)))
	if err := w.Flush(); err != nil {
		return err
	}
	_, err = fmt.Fprintln(a.Stdout, sharingLine(images))
	return err
}

// sharingLine sums the images up.
func sharingLine(images []engine.ImageFacts) string {
	seen := map[digest.Digest]bool{}
	var apart int64
	for _, f := range images {
		if !seen[f.ID] {
			seen[f.ID] = true
			apart += f.Size
		}
	}
	stored := engine.StoredSize(images)
	if stored == apart {
		return fmt.Sprintf("Images: %d, of %s uncompressed", len(seen), output.Size(apart))
	}
	return fmt.Sprintf("Images: %d, of %s uncompressed; layers that they share are stored once, which saves %s",
		len(seen), output.Size(apart), output.Size(apart-stored))
}

func writeItems(w io.Writer, usage store.Usage, names map[store.Ref]string) {
	fmt.Fprintln(w, "ID\tTYPE\tSIZE\tIN USE\tLAST USED\tOF")
	for _, item := range usage.Items {
		used := "-"
		if !item.LastUsed.IsZero() {
			used = units.HumanDuration(time.Since(item.LastUsed)) + " ago"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%t\t%s\t%s\n", item.Ref, item.Type, units.HumanSize(float64(item.Size)), item.InUse, used, names[item.Ref])
	}
}

func writeTotals(w io.Writer, usage store.Usage) {
	type total struct {
		count int
		size  int64
	}
	totals := map[string]total{}
	var order []string
	for _, item := range usage.Items {
		kind := kindOf(item.Type)
		t, seen := totals[kind]
		if !seen {
			order = append(order, kind)
		}
		totals[kind] = total{t.count + 1, t.size + item.Size}
	}
	fmt.Fprintln(w, "TYPE\tCOUNT\tSIZE")
	for _, kind := range order {
		fmt.Fprintf(w, "%s\t%d\t%s\n", kind, totals[kind].count, units.HumanSize(float64(totals[kind].size)))
	}
}

// kindOf says in the totals what the store's words for the parts of containers
// stand for.
func kindOf(kind string) string {
	switch kind {
	case strings.TrimSuffix(snapshot.KeptPrefix, ":"):
		return "container (written files)"
	case strings.TrimSuffix(engine.ContainerPrefix, ":"):
		return "container (logs)"
	case engine.BucketContainers:
		return "container (records)"
	case engine.BucketVolumes:
		return "volume (records)"
	}
	return kind
}
