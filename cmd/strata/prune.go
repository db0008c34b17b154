package main

import (
	"context"
	"fmt"

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
