package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/strata-build/strata/runtime/engine"
)

func (a *app) fsckCommand() *cobra.Command {
	var repair bool
	cmd := &cobra.Command{
		Use:   "fsck",
		Short: "Check the store for damage",
		Long: "Read everything in the store and compare it with its digests and checksums. With --repair,\n" +
			"damaged content is removed: what is lost is made or fetched again when it is needed.",
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.withEngine(cmd.Context(), func(e *engine.Engine) error { return a.fsck(cmd.Context(), e, repair) })
		},
	}
	cmd.Flags().BoolVar(&repair, "repair", false, "remove what is damaged")
	return cmd
}

func (a *app) fsck(ctx context.Context, e *engine.Engine, repair bool) error {
	problems, err := e.Fsck(ctx, repair)
	left := 0
	for _, p := range problems {
		state := ""
		if p.Repaired {
			state = " (removed)"
		} else {
			left++
		}
		fmt.Fprintf(a.stdout, "%s %s%s\n", p.Ref, p.What, state)
	}
	switch {
	case err != nil:
		return err
	case left > 0 && repair:
		return fmt.Errorf("%d problems are left: they are of images, which only you can pull or build again, or remove", left)
	case left > 0:
		return fmt.Errorf("the store has %d problems: `strata fsck --repair` removes what is damaged", left)
	case len(problems) == 0:
		_, err = fmt.Fprintln(a.stderr, "the store is in order")
	}
	return err
}
