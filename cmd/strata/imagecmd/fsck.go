package imagecmd

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/strata-build/strata/cmd/strata/cli"
	"github.com/strata-build/strata/runtime/engine"
	"github.com/strata-build/strata/runtime/store"
)

func (a *app) fsckCommand() *cobra.Command {
	var o store.FsckOptions
	cmd := &cobra.Command{
		Use:   "fsck",
		Short: "Check the store for damage",
		Long: "Read everything in the store and compare it with its digests and checksums. With --repair,\n" +
			"damaged content is removed: what is lost is made or fetched again when it is needed.",
		Args: cli.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.WithEngine(cmd.Context(), func(e *engine.Engine) error { return a.fsck(cmd.Context(), e, o) })
		},
	}
	cmd.Flags().BoolVar(&o.Repair, "repair", false, "remove what is damaged")
	return cmd
}

func (a *app) fsck(ctx context.Context, e *engine.Engine, o store.FsckOptions) error {
	problems, err := e.Fsck(ctx, o)
	left := 0
	for _, p := range problems {
		state := ""
		if p.Repaired {
			state = " (removed)"
		} else {
			left++
		}
		fmt.Fprintf(a.Stdout, "%s %s%s\n", p.Ref, p.What, state)
	}
	switch {
	case err != nil:
		return err
	case left > 0 && o.Repair:
		return fmt.Errorf("%s left: images lack their content, and only you can pull or build them again, or remove them", countProblems(left))
	case left > 0:
		return fmt.Errorf("the store has %s: `strata fsck --repair` removes what is damaged", countProblems(left))
	case len(problems) == 0:
		_, err = fmt.Fprintln(a.Stderr, "the store is in order")
	}
	return err
}

func countProblems(n int) string {
	if n == 1 {
		return "1 problem"
	}
	return fmt.Sprintf("%d problems", n)
}
