package imagecmd

import (
	"context"
	"errors"
	"fmt"
	"slices"

	digest "github.com/opencontainers/go-digest"
	"github.com/spf13/cobra"

	"github.com/strata-build/strata/cmd/strata/cli"
	"github.com/strata-build/strata/runtime/container"
	"github.com/strata-build/strata/runtime/engine"
	"github.com/strata-build/strata/runtime/image"
	"github.com/strata-build/strata/runtime/store"
)

type rmiOptions struct{ force, noPrune bool }

func (a *app) rmiCommand() *cobra.Command {
	var o rmiOptions
	cmd := &cobra.Command{
		Use:   "rmi [flags] IMAGE...",
		Short: "Remove images",
		Long: "Remove names of images, and with its last name the image: content that nothing else needs is\n" +
			"deleted. An image given by its id must have one name only, or --force removes all of them.",
		Args: cli.AtLeast(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.WithEngine(cmd.Context(), func(e *engine.Engine) error { return a.rmi(cmd.Context(), e, o, args) })
		},
	}
	cmd.Flags().BoolVarP(&o.force, "force", "f", false, "remove all names of an id, and images that stopped containers use")
	cmd.Flags().BoolVar(&o.noPrune, "no-prune", false, "leave the content to the next prune")
	return cmd
}

// rmi removes what it can, and then says what it could not.
func (a *app) rmi(ctx context.Context, e *engine.Engine, o rmiOptions, refs []string) error {
	var errs []error
	var gone []image.Image
	for _, ref := range refs {
		removed, err := a.removeImage(ctx, e, o, ref)
		errs = append(errs, err)
		gone = append(gone, removed...)
	}
	if len(gone) > 0 && !o.noPrune {
		errs = append(errs, a.deleteContent(ctx, e, gone))
	}
	return errors.Join(errs...)
}

// removeImage removes a name, or an image by its id. It returns the images
// that have no name any more.
func (a *app) removeImage(ctx context.Context, e *engine.Engine, o rmiOptions, ref string) ([]image.Image, error) {
	img, byID, err := e.Images.Find(ctx, ref)
	if err != nil {
		if o.force && errors.Is(err, image.ErrNotFound) {
			fmt.Fprintf(a.Stderr, "strata: %v\n", err)
			return nil, nil
		}
		return nil, err
	}
	all, err := e.Images.SameID(img.ID)
	if err != nil {
		return nil, err
	}
	names := []image.Image{img}
	if byID {
		names = all
	}
	if byID && len(all) > 1 && !o.force {
		return nil, fmt.Errorf("remove %s: it has %d names (%s, …): remove them one by one, or all with --force",
			ref, len(all), displayName(engine.ImageFacts{Image: all[0]}))
	}
	last := len(names) == len(all)
	if last {
		users, err := imageUsers(ctx, e, img)
		if err == nil {
			err = o.checkUsers(ref, users)
		}
		if err != nil {
			return nil, err
		}
	}
	for _, name := range names {
		if err := a.untag(ctx, e, name); err != nil {
			return nil, err
		}
	}
	if !last {
		return nil, nil
	}
	fmt.Fprintf(a.Stdout, "Deleted: %s\n", img.ID)
	return []image.Image{img}, nil
}

// untag removes one name and says so.
func (a *app) untag(ctx context.Context, e *engine.Engine, name image.Image) error {
	if err := e.Images.Untag(ctx, name); err != nil {
		return err
	}
	if name.Name != "" {
		fmt.Fprintf(a.Stdout, "Untagged: %s\n", name.Name)
	}
	return nil
}

// checkUsers refuses to remove an image that containers were made of: running
// ones in any case, others without --force.
func (o rmiOptions) checkUsers(ref string, users []imageUser) error {
	if i := slices.IndexFunc(users, func(u imageUser) bool { return u.Running }); i >= 0 {
		return fmt.Errorf("remove %s: the running container %s uses it: stop and remove that first", ref, users[i].Name)
	}
	if len(users) > 0 && !o.force {
		return fmt.Errorf("remove %s: the container %s uses it: remove that first, or give --force", ref, users[0].Name)
	}
	return nil
}

// deleteContent frees what only the removed images needed, and says which of
// their layers went.
func (a *app) deleteContent(ctx context.Context, e *engine.Engine, gone []image.Image) error {
	mine := map[store.Ref]digest.Digest{}
	for _, img := range gone {
		manifests, err := e.Images.LoadAll(ctx, img.Desc, nil)
		if err != nil {
			continue // it was damaged: its layers are not known
		}
		for _, m := range manifests {
			for i, desc := range m.Layers {
				mine[store.BlobRef(desc.Digest)] = m.Config.RootFS.DiffIDs[i]
			}
		}
	}
	if err := e.Store.ReleaseMade(); err != nil { // reading manifests has held them
		return err
	}
	rep, err := e.Sweep(ctx)
	for _, item := range rep.Removed {
		if diffID, ok := mine[item.Ref]; ok {
			fmt.Fprintf(a.Stdout, "Deleted: %s\n", diffID)
		}
	}
	return err
}

// imageUser is a container that uses an image.
type imageUser struct {
	Name    string
	Running bool
}

// imageUsers names the containers that were made of an image.
func imageUsers(ctx context.Context, e *engine.Engine, img image.Image) ([]imageUser, error) {
	all, err := container.New(e).List(ctx)
	if err != nil {
		return nil, err
	}
	var users []imageUser
	for _, rec := range all {
		if rec.Image.ID == img.ID.String() || rec.Image.Manifest.Digest == img.Desc.Digest {
			users = append(users, imageUser{Name: rec.Name, Running: rec.State.Live()})
		}
	}
	return users, nil
}
