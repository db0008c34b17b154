package containercmd

import (
	"context"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/strata-build/strata/cmd/strata/cli"
	"github.com/strata-build/strata/runtime/container"
)

// CompleteContainers completes names of containers.
func CompleteContainers(a *cli.App) cobra.CompletionFunc {
	return complete(a, func(ctx context.Context, s *container.Set) ([]string, error) {
		var names []string
		all, err := s.List(ctx)
		for _, rec := range all {
			names = append(names, rec.Name)
		}
		return names, err
	})
}

// CompleteVolumes completes names of volumes.
func CompleteVolumes(a *cli.App) cobra.CompletionFunc {
	return complete(a, func(_ context.Context, s *container.Set) ([]string, error) {
		var names []string
		all, err := s.Volumes()
		for _, v := range all {
			names = append(names, v.Name)
		}
		return names, err
	})
}

// complete completes the names that list finds.
func complete(a *cli.App, list func(context.Context, *container.Set) ([]string, error)) cobra.CompletionFunc {
	return func(cmd *cobra.Command, _ []string, begun string) ([]string, cobra.ShellCompDirective) {
		var names []string
		err := (&app{a}).peekContainers(cmd.Context(), func(s *container.Set) (err error) {
			names, err = list(cmd.Context(), s)
			return err
		})
		if err != nil {
			return nil, cobra.ShellCompDirectiveError
		}
		names = slices.DeleteFunc(names, func(name string) bool { return !strings.HasPrefix(name, begun) })
		return names, cobra.ShellCompDirectiveNoFileComp
	}
}
