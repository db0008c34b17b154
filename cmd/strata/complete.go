package main

import (
	"context"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/strata-build/strata/runtime/container"
)

// completeContainers completes names of containers.
func completeContainers(a *app) cobra.CompletionFunc {
	return a.complete(func(ctx context.Context, s *container.Set) ([]string, error) {
		var names []string
		all, err := s.List(ctx)
		for _, rec := range all {
			names = append(names, rec.Name)
		}
		return names, err
	})
}

// completeVolumes completes names of volumes.
func completeVolumes(a *app) cobra.CompletionFunc {
	return a.complete(func(_ context.Context, s *container.Set) ([]string, error) {
		var names []string
		all, err := s.Volumes()
		for _, v := range all {
			names = append(names, v.Name)
		}
		return names, err
	})
}

// complete completes the names that list finds.
func (a *app) complete(list func(context.Context, *container.Set) ([]string, error)) cobra.CompletionFunc {
	return func(cmd *cobra.Command, _ []string, begun string) ([]string, cobra.ShellCompDirective) {
		var names []string
		err := a.peekContainers(cmd.Context(), func(s *container.Set) (err error) {
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
