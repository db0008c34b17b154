package buildcmd

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/strata-build/strata/cmd/strata/cli"
	"github.com/strata-build/strata/runtime/engine"
	"github.com/strata-build/strata/solver"
)

func (a *app) whyCommand() *cobra.Command {
	var form string
	cmd := &cobra.Command{
		Use:   "why TARGET",
		Short: "Say why each step of the last build was cached or ran",
		Long:  "Compare the last build of a target with the one before it, and name for each step the first\nthing that differs.",
		Args:  cli.Exactly(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.WithEngine(cmd.Context(), func(e *engine.Engine) error {
				return a.why(cmd.Context(), e, args[0], form)
			})
		},
	}
	cmd.Flags().StringVar(&form, "format", "text", "text or json")
	return cmd
}

func (a *app) why(ctx context.Context, e *engine.Engine, target, form string) error {
	why, err := solver.Why(ctx, e.Records(), target)
	if err != nil {
		return err
	}
	switch form {
	case "text":
		_, err := fmt.Fprint(a.Stdout, why)
		return err
	case "json":
		return json.NewEncoder(a.Stdout).Encode(why)
	}
	return cli.Misuse("--format %s is not known: it takes text or json", form)
}
