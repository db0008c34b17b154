package buildcmd

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/strata-build/strata/cmd/strata/cli"
	"github.com/strata-build/strata/compiler"
	"github.com/strata-build/strata/runtime/engine"
)

func (a *app) planCommand() *cobra.Command {
	var o inputOptions
	var form string
	cmd := &cobra.Command{
		Use:   "plan [PATH|FILE]...",
		Short: "Print what would be built",
		Long: "Compile the build description and print the graph: as text, JSON, dot (for Graphviz), or as\n" +
			"the raw LLB that `buildctl debug dump-llb` reads.",
		RunE: func(cmd *cobra.Command, args []string) error {
			o.paths = args
			return a.plan(cmd.Context(), &o, form)
		},
	}
	o.register(cmd.Flags())
	cmd.Flags().StringVar(&form, "format", "text", "text, json, dot or llb")
	return cmd
}

func (a *app) plan(ctx context.Context, o *inputOptions, form string) error {
	forms := map[string]func(*compiler.Plan, io.Writer) error{
		"text": (*compiler.Plan).Text, "json": (*compiler.Plan).JSON, "dot": (*compiler.Plan).Dot, "llb": (*compiler.Plan).LLB,
	}
	show, ok := forms[form]
	if !ok {
		return cli.Misuse("--format %s is not known: it takes text, json, dot or llb", form)
	}
	return a.withMetadata(ctx, o, func(e *engine.Engine) (err error) {
		in, err := a.compile(ctx, e, o)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, in.close()) }()
		if err := reproducible(in.plan); err != nil {
			return err
		}
		return show(in.plan, a.Stdout)
	})
}

// reproducible makes a plan the same each time, and that of a Dockerfile the
// one of its CUE.
func reproducible(plan *compiler.Plan) error {
	for i := range plan.Targets {
		def, err := compiler.Reproducible(plan.Targets[i].Definition)
		if err != nil {
			return fmt.Errorf("make the plan reproducible: %w", err)
		}
		plan.Targets[i].Definition = def
	}
	return nil
}
