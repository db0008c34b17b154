package imagecmd

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/strata-build/strata/cmd/strata/cli"
	"github.com/strata-build/strata/runtime/engine"
)

func (a *app) tagCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "tag SOURCE_IMAGE[:TAG] TARGET_IMAGE[:TAG]",
		Short: "Give an image another name",
		Long:  "Give an image a further name. What had the name before loses it.",
		Args:  cli.Exactly(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := cli.CheckImageName(args[1]); err != nil {
				return err
			}
			return a.WithEngine(cmd.Context(), func(e *engine.Engine) error { return tag(cmd.Context(), e, args[0], args[1]) })
		},
	}
}

func tag(ctx context.Context, e *engine.Engine, source, target string) error {
	img, err := e.Images.Resolve(ctx, source)
	if err != nil {
		return err
	}
	_, err = e.Images.Put(ctx, target, img.Desc)
	return err
}
