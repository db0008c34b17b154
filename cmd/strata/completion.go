package main

import (
	"strings"

	"github.com/spf13/cobra"

	"github.com/strata-build/strata/runtime/container"
)

// completeImages completes names of images, for shells that have read what
// `strata completion` prints.
func (a *app) completeImages(cmd *cobra.Command, _ []string, begun string) ([]string, cobra.ShellCompDirective) {
	e, err := a.open(cmd.Context())
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	defer e.Close()
	all, err := e.Images.List()
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	var names []string
	for _, img := range all {
		if img.Name != "" && strings.HasPrefix(img.Name, begun) {
			names = append(names, img.Name)
		}
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

// withImages makes commands complete names of images.
func (a *app) withImages(cmds ...*cobra.Command) []*cobra.Command {
	for _, cmd := range cmds {
		cmd.ValidArgsFunction = a.completeImages
	}
	return cmds
}

// completeContainers completes names of containers.
func (a *app) completeContainers(cmd *cobra.Command, _ []string, begun string) ([]string, cobra.ShellCompDirective) {
	var names []string
	err := a.peek(cmd.Context(), func(s *container.Set) error {
		all, err := s.List(cmd.Context())
		for _, rec := range all {
			if strings.HasPrefix(rec.Name, begun) {
				names = append(names, rec.Name)
			}
		}
		return err
	})
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

// completeVolumes completes names of volumes.
func (a *app) completeVolumes(cmd *cobra.Command, _ []string, begun string) ([]string, cobra.ShellCompDirective) {
	var names []string
	err := a.peek(cmd.Context(), func(s *container.Set) error {
		all, err := s.Volumes()
		for _, v := range all {
			if strings.HasPrefix(v.Name, begun) {
				names = append(names, v.Name)
			}
		}
		return err
	})
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

// completeNames makes the commands around containers complete what they take
// by name. `cp` takes files too.
func (a *app) completeNames(cmd *cobra.Command) {
	for _, c := range cmd.Commands() {
		takes := func(what string) bool { return strings.Contains(c.Use, " "+what) || strings.Contains(c.Use, "["+what) }
		switch {
		case c.ValidArgsFunction != nil || c.Name() == "cp":
		case takes("CONTAINER"):
			c.ValidArgsFunction = a.completeContainers
		case takes("VOLUME"):
			c.ValidArgsFunction = a.completeVolumes
		case takes("IMAGE"):
			c.ValidArgsFunction = a.completeImages
		}
		a.completeNames(c)
	}
}
