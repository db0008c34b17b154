package imagecmd

import (
	"strings"

	"github.com/spf13/cobra"

	"github.com/strata-build/strata/cmd/strata/cli"
	"github.com/strata-build/strata/runtime/engine"
)

// CompleteImages completes names of images, for shells that have read what
// `strata completion` prints.
func CompleteImages(a *cli.App) cobra.CompletionFunc {
	return func(cmd *cobra.Command, _ []string, begun string) ([]string, cobra.ShellCompDirective) {
		var names []string
		err := a.WithEngine(cmd.Context(), func(e *engine.Engine) error {
			all, err := e.Images.List()
			for _, img := range all {
				if img.Name != "" && strings.HasPrefix(img.Name, begun) {
					names = append(names, img.Name)
				}
			}
			return err
		})
		if err != nil {
			return nil, cobra.ShellCompDirectiveError
		}
		return names, cobra.ShellCompDirectiveNoFileComp
	}
}
