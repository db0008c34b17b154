package main

import (
	"context"
	"fmt"
	"text/tabwriter"
	"time"

	"github.com/docker/go-units"
	"github.com/spf13/cobra"

	"github.com/strata-build/strata/runtime/engine"
	"github.com/strata-build/strata/runtime/store"
)

func (a *app) pruneCommand() *cobra.Command {
	var keep byteSize
	var all bool
	var filters []string
	cmd := &cobra.Command{
		Use:   "prune",
		Short: "Remove what no image and no build needs",
		Long: "Remove damaged and unreferenced content, and with --keep-storage the least recently used\n" +
			"results until the store is no larger than that. Running builds keep what they use.",
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			filter, err := store.ParseFilter(filters)
			if err != nil {
				return misuse("--filter: %v", err)
			}
			return a.withEngine(cmd.Context(), func(e *engine.Engine) error {
				return a.prune(cmd.Context(), e, engine.PruneRequest{KeepBytes: int64(keep), All: all, Filter: filter})
			})
		},
	}
	f := cmd.Flags()
	f.Var(&keep, "keep-storage", "size that the store may keep, such as 10g")
	f.BoolVarP(&all, "all", "a", false, "remove all results that no image needs")
	f.StringArrayVar(&filters, "filter", nil, "until=24h, id=…, type=…")
	return cmd
}

func (a *app) prune(ctx context.Context, e *engine.Engine, req engine.PruneRequest) error {
	rep, err := e.Prune(ctx, req)
	if err != nil {
		return err
	}
	for _, item := range rep.Removed {
		fmt.Fprintf(a.stdout, "%s\t%s\n", item.Ref, units.HumanSize(float64(item.Size)))
	}
	fmt.Fprintf(a.stderr, "removed %d objects, %s\n", len(rep.Removed), units.HumanSize(float64(rep.Bytes)))
	return nil
}

func (a *app) duCommand() *cobra.Command {
	var verbose bool
	cmd := &cobra.Command{
		Use:   "du",
		Short: "Show what the store holds",
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.withEngine(cmd.Context(), func(e *engine.Engine) error {
				return a.du(cmd.Context(), e, verbose)
			})
		},
	}
	cmd.Flags().BoolVarP(&verbose, "verbose", "v", false, "list each object")
	return cmd
}

func (a *app) du(ctx context.Context, e *engine.Engine, verbose bool) error {
	usage, err := e.Usage(ctx)
	if err != nil {
		return err
	}
	w := tabwriter.NewWriter(a.stdout, 0, 8, 2, ' ', 0)
	if verbose {
		fmt.Fprintln(w, "ID\tTYPE\tSIZE\tIN USE\tLAST USED")
		for _, item := range usage.Items {
			used := "-"
			if !item.LastUsed.IsZero() {
				used = units.HumanDuration(time.Since(item.LastUsed)) + " ago"
			}
			fmt.Fprintf(w, "%s\t%s\t%s\t%t\t%s\n", item.Ref, item.Type, units.HumanSize(float64(item.Size)), item.InUse, used)
		}
	} else {
		writeTotals(w, usage)
	}
	fmt.Fprintf(w, "Total:\t%s\n", units.HumanSize(float64(usage.Total)))
	fmt.Fprintf(w, "Reclaimable:\t%s\n", units.HumanSize(float64(usage.Reclaimable)))
	return w.Flush()
}

func writeTotals(w *tabwriter.Writer, usage store.Usage) {
	type total struct {
		count int
		size  int64
	}
	totals := map[string]total{}
	var order []string
	for _, item := range usage.Items {
		t, seen := totals[item.Type]
		if !seen {
			order = append(order, item.Type)
		}
		totals[item.Type] = total{t.count + 1, t.size + item.Size}
	}
	fmt.Fprintln(w, "TYPE\tCOUNT\tSIZE")
	for _, kind := range order {
		fmt.Fprintf(w, "%s\t%d\t%s\n", kind, totals[kind].count, units.HumanSize(float64(totals[kind].size)))
	}
}
