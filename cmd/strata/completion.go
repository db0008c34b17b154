package main

import (
	"strings"

	"github.com/spf13/cobra"
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
