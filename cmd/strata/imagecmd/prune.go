package imagecmd

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/docker/go-units"
	"github.com/spf13/cobra"

	"github.com/strata-build/strata/cmd/strata/cli"
	"github.com/strata-build/strata/runtime/engine"
	"github.com/strata-build/strata/runtime/store"
)

func (a *app) pruneCommand() *cobra.Command {
	var keep cli.ByteSize
	var all, force bool
	var filters []string
	cmd := &cobra.Command{
		Use:   "prune",
		Short: "Remove what no image and no build needs",
		Long: "Remove damaged and unreferenced content, and with --keep-storage the least recently used\n" +
			"results until the store is no larger than that. Running builds keep what they use. Images stay,\n" +
			"unless a filter selects them as in docker's `image prune`: dangling=true those without a name,\n" +
			"dangling=false all that no container uses, label=… and label!=… fewer of them.",
		Args: cli.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			images, rest, err := splitPruneFilters(filters)
			if err != nil {
				return err
			}
			filter, err := store.ParseFilter(rest)
			if err != nil {
				return cli.Misuse("--filter: %v", err)
			}
			return a.WithEngine(cmd.Context(), func(e *engine.Engine) error {
				if err := a.pruneImages(cmd.Context(), e, images); err != nil {
					return err
				}
				return a.prune(cmd.Context(), e, engine.PruneRequest{KeepBytes: int64(keep), All: all, Filter: filter})
			})
		},
	}
	f := cmd.Flags()
	f.Var(&keep, "keep-storage", "size that the store may keep, such as 10g")
	f.BoolVarP(&all, "all", "a", false, "remove all results that no image needs")
	f.BoolVarP(&force, "force", "f", false, "as in docker; nothing is asked in any case")
	f.StringArrayVar(&filters, "filter", nil, "until=24h, id=…, type=…; dangling=…, label=…, label!=… to remove images")
	return cmd
}

func (a *app) prune(ctx context.Context, e *engine.Engine, req engine.PruneRequest) error {
	rep, err := e.Prune(ctx, req)
	if err != nil {
		return err
	}
	for _, item := range rep.Removed {
		fmt.Fprintf(a.Stdout, "%s\t%s\n", item.Ref, units.HumanSize(float64(item.Size)))
	}
	fmt.Fprintf(a.Stderr, "removed %d objects, %s\n", len(rep.Removed), units.HumanSize(float64(rep.Bytes)))
	return nil
}

// splitPruneFilters takes out the filters that select images; nil if there are
// none. A time counts for images and for results.
func splitPruneFilters(filters []string) (images *imageFilter, rest []string, err error) {
	var mine []string
	selects := false
	for _, text := range filters {
		key, _, _ := strings.Cut(text, "=")
		switch key {
		case "dangling", "label", "label!":
			mine, selects = append(mine, text), true
			continue
		case "until":
			mine = append(mine, text)
		case "id", "type":
		default:
			return nil, nil, cli.Misuse("--filter %s: the filters are until, id and type, and of images dangling and label", text)
		}
		rest = append(rest, text)
	}
	if !selects {
		return nil, rest, nil
	}
	if images, err = parseImageFilter(mine, nil); err != nil {
		return nil, nil, err
	}
	if images.dangling == nil {
		images.dangling = new(bool)
		*images.dangling = true
	} else if !*images.dangling {
		images.dangling = nil // named or not
	}
	return images, rest, nil
}

// pruneImages removes the images that a filter selects and no container uses.
func (a *app) pruneImages(ctx context.Context, e *engine.Engine, filter *imageFilter) error {
	if filter == nil {
		return nil
	}
	all, err := e.ImageList(ctx)
	if err != nil {
		return err
	}
	if all, err = filter.apply(ctx, e, all); err != nil {
		return err
	}
	var errs []error
	for _, f := range all {
		users, err := imageUsers(ctx, e, f.Image)
		if err == nil && len(users) == 0 {
			err = a.pruneImage(ctx, e, f)
		}
		errs = append(errs, err)
	}
	return errors.Join(append(errs, e.Store.ReleaseMade())...) // listing has held them
}

func (a *app) pruneImage(ctx context.Context, e *engine.Engine, f engine.ImageFacts) error {
	if err := a.untag(ctx, e, f.Image); err != nil {
		return err
	}
	if left, err := e.Images.SameID(f.ID); err != nil || len(left) > 0 {
		return err
	}
	_, err := fmt.Fprintf(a.Stdout, "Deleted: %s\n", f.ID)
	return err
}
