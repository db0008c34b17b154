package containercmd

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/strata-build/strata/cmd/strata/cli"
	"github.com/strata-build/strata/cmd/strata/output"
	"github.com/strata-build/strata/runtime/container"
)

// containerCommand is docker's group, as far as its commands have no short
// form.
func (a *app) containerCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "container",
		Short: "Remove all containers that do not run (container prune)",
		Long: "`strata container prune` removes all containers that do not run. docker's other commands of this\n" +
			"group have their short form alone: `strata ps`, `strata rm`, `strata inspect` and so on.",
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return cli.Misuse("`strata container` has no %q: it has prune, and the others are `strata ps`, `strata rm` and so on", args[0])
			}
			return cmd.Help()
		},
	}
	cmd.AddCommand(a.containerPruneCommand())
	return cmd
}

func (a *app) containerPruneCommand() *cobra.Command {
	var force bool
	var filters []string
	cmd := &cobra.Command{
		Use:   "prune [flags]",
		Short: "Remove all containers that do not run",
		Args:  cli.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			filter, err := parseContainerFilter(filters)
			if err != nil {
				return err
			}
			return a.withContainers(cmd.Context(), "", func(s *container.Set) error {
				if !force {
					if ok, err := a.confirm("This removes all containers that do not run."); err != nil || !ok {
						return err
					}
				}
				return a.pruneContainers(cmd.Context(), s, filter)
			})
		},
	}
	cmd.Flags().BoolVarP(&force, "force", "f", false, "do not ask")
	cmd.Flags().StringArrayVar(&filters, "filter", nil, "the filters of ps: label=, name=, before=, since=, exited= …")
	return cmd
}

func (a *app) pruneContainers(ctx context.Context, s *container.Set, filter containerFilter) error {
	all, err := s.List(ctx)
	if err == nil {
		all, err = filter.apply(s, all)
	}
	if err != nil {
		return err
	}
	var freed int64
	for _, rec := range all {
		if rec.State.Live() {
			continue
		}
		size, err := s.Size(ctx, rec.ID)
		if err == nil {
			err = s.Remove(ctx, rec.ID, container.RemoveOptions{})
		}
		if errors.Is(err, container.ErrRunning) || errors.Is(err, container.ErrNotFound) {
			continue // started or removed meanwhile
		}
		if err != nil {
			return err
		}
		freed += size
		if _, err := fmt.Fprintln(a.Stdout, rec.ID); err != nil {
			return err
		}
	}
	_, err = fmt.Fprintf(a.Stdout, "Total reclaimed space: %s\n", output.Size(freed))
	return err
}
