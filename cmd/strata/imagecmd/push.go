package imagecmd

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/containerd/platforms"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/spf13/cobra"

	"github.com/strata-build/strata/cmd/strata/cli"
	"github.com/strata-build/strata/runtime/engine"
	"github.com/strata-build/strata/runtime/image"
	"github.com/strata-build/strata/runtime/registry"
)

type pushOptions struct {
	allTags, quiet bool
	platform       string
}

func (a *app) pushCommand() *cobra.Command {
	var o pushOptions
	cmd := &cobra.Command{
		Use:   "push [flags] NAME[:TAG]",
		Short: "Upload an image to its registry",
		Long: "Upload an image of the store to the registry that its name begins with: only the layers that the\n" +
			"registry lacks. `strata tag` gives an image the name that it shall be pushed to.",
		Args: cli.Exactly(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.WithEngine(cmd.Context(), func(e *engine.Engine) error { return a.push(cmd.Context(), e, o, args[0]) })
		},
	}
	f := cmd.Flags()
	f.BoolVarP(&o.allTags, "all-tags", "a", false, "push all tags of the repository that the store has")
	f.BoolVarP(&o.quiet, "quiet", "q", false, "print only the name")
	f.StringVar(&o.platform, "platform", "", "push only this platform of an image of several")
	return cmd
}

func (a *app) push(ctx context.Context, e *engine.Engine, o pushOptions, name string) error {
	if err := cli.CheckImageName(name); err != nil {
		return err
	}
	images, err := pushSources(ctx, e, o, name)
	if err != nil {
		return err
	}
	for _, img := range images {
		if err := a.pushOne(ctx, e, o, img); err != nil {
			return err
		}
	}
	return nil
}

// pushSources are the images to push.
func pushSources(ctx context.Context, e *engine.Engine, o pushOptions, name string) ([]image.Image, error) {
	if !o.allTags {
		img, byID, err := e.Images.Find(ctx, name)
		if err == nil && byID {
			err = fmt.Errorf("push %s: it is an id: give the image a name with `strata tag %s REGISTRY/NAME`, and push that", name, name)
		}
		return []image.Image{img}, err
	}
	if !isBare(name) {
		return nil, cli.Misuse("--all-tags pushes all tags of a repository: leave the tag out of %q", name)
	}
	all, err := e.Images.List()
	if err != nil {
		return nil, err
	}
	repository, _ := splitName(name)
	all = slices.DeleteFunc(all, func(img image.Image) bool {
		have, tag := splitName(img.Name)
		return img.Name == "" || have != repository || tag == none
	})
	if len(all) == 0 {
		return nil, fmt.Errorf("%s: %w: no tag of it is in the store", repository, image.ErrNotFound)
	}
	return all, nil
}

func (a *app) pushOne(ctx context.Context, e *engine.Engine, o pushOptions, img image.Image) error {
	named, err := registry.ParseReference(img.Name)
	if err != nil {
		return err
	}
	desc, err := a.pushed(ctx, e, o, img)
	if err != nil {
		return err
	}
	if !o.quiet {
		fmt.Fprintf(a.Stderr, "The push refers to repository [%s]\n", named.Name())
	}
	t := a.newTransfer()
	t.quiet = o.quiet
	progress := func(u registry.Update) {
		if isLayer(u.Desc) {
			t.update(u.Desc.Digest, pushItem(u))
		}
	}
	if err := e.Images.Push(ctx, image.PushRequest{Name: img.Name, Desc: desc, Progress: progress}); err != nil {
		return err
	}
	if o.quiet {
		_, err = fmt.Fprintln(a.Stdout, named)
		return err
	}
	_, err = fmt.Fprintf(a.Stdout, "%s: digest: %s size: %d\n", tagOrDigest(named), desc.Digest, desc.Size)
	return err
}

// isLayer tells layers, which people are shown, from the documents of an
// image.
func isLayer(desc ocispec.Descriptor) bool {
	return strings.Contains(desc.MediaType, ".layer.") || strings.Contains(desc.MediaType, ".rootfs.")
}

func pushItem(u registry.Update) transferItem {
	item := transferItem{offset: u.Offset, total: u.Desc.Size, done: true}
	switch u.State {
	case registry.Uploading:
		item.state, item.done = "Pushing", false
	case registry.Uploaded:
		item.state = "Pushed"
	case registry.Existing:
		item.state = "Layer already exists"
	case registry.Mounted:
		item.state = "Mounted from another repository"
	}
	return item
}

// pushed is what of an image is pushed: one platform if that is asked for, or
// if no other was fetched; else all of it.
func (a *app) pushed(ctx context.Context, e *engine.Engine, o pushOptions, img image.Image) (ocispec.Descriptor, error) {
	platform, err := onePlatform(o.platform)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	if platform != nil {
		f, err := e.ImageFacts(ctx, img, platform)
		if err != nil {
			return ocispec.Descriptor{}, fmt.Errorf("push %s: %w", img.Name, err)
		}
		return f.Main.Desc, nil
	}
	whole, err := e.Images.Complete(ctx, img.Desc)
	if err != nil || whole {
		return img.Desc, err
	}
	manifests, err := e.Images.LoadAll(ctx, img.Desc, nil)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	if len(manifests) != 1 {
		return img.Desc, nil // Push says which platform is missing
	}
	fmt.Fprintf(a.Stderr, "strata: only %s of %s was fetched, and only that is pushed; `strata pull --platform all` fetches the others\n",
		platforms.Format(manifests[0].Platform()), img.Name)
	return manifests[0].Desc, nil
}
