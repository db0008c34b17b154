package containercmd

import (
	"github.com/spf13/cobra"

	"github.com/strata-build/strata/cmd/strata/cli"
	"github.com/strata-build/strata/runtime/container"
)

func (a *app) updateCommand() *cobra.Command {
	var o containerFlags
	cmd := &cobra.Command{
		Use:   "update [flags] CONTAINER...",
		Short: "Change the limits and the restart policy of containers",
		Args:  cli.AtLeast(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			req, err := o.changes(a)
			if err != nil {
				return err
			}
			return a.peekContainers(cmd.Context(), func(s *container.Set) error {
				return a.forEach(cmd.Context(), s, args, func(rec container.Record) error {
					req.ID = rec.ID
					return s.Update(cmd.Context(), req)
				})
			})
		},
	}
	o.set = cmd.Flags()
	o.addResources(o.set)
	o.set.StringVar(&o.restart, "restart", "", "no, on-failure[:MAX], always or unless-stopped")
	return cmd
}

// changes reads the flags of `update`.
func (o *containerFlags) changes(a *app) (container.UpdateRequest, error) {
	var req container.Request
	if err := o.readLimits(a, &req); err != nil {
		return container.UpdateRequest{}, err
	}
	update := container.UpdateRequest{Resources: req.Config.Resources}
	if o.restart != "" {
		if err := o.readLife(a, &req); err != nil {
			return container.UpdateRequest{}, err
		}
		update.Restart = &req.Config.Restart
	}
	if update.Restart == nil && update.Resources.IsZero() {
		return update, cli.Misuse("nothing is to be changed: give a flag, such as --memory 1g")
	}
	return update, nil
}
