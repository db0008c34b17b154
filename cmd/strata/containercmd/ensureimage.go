package containercmd

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/distribution/reference"

	"github.com/strata-build/strata/runtime/container"
	"github.com/strata-build/strata/runtime/engine"
	"github.com/strata-build/strata/runtime/image"
	"github.com/strata-build/strata/runtime/registry"
	"github.com/strata-build/strata/runtime/store"
)

// ensureImage pulls the image where it is not in the store, or always.
func (a *app) ensureImage(ctx context.Context, e *engine.Engine, req *container.Request, pull string) error {
	if pull == "always" {
		return a.pullImage(ctx, e, req)
	}
	err := haveImage(ctx, e, req)
	if pull == "never" || !isMissing(err) {
		return err
	}
	if found, err := haveCandidate(ctx, e, req); found || err != nil {
		return err
	}
	if pullErr := a.pullImage(ctx, e, req); pullErr != nil {
		return whyNotHere(e, req.Image, pullErr, err)
	}
	return nil
}

// isMissing reports whether an image can be had by a pull.
func isMissing(err error) bool {
	return errors.Is(err, image.ErrNotFound) || errors.Is(err, image.ErrNoPlatform) || errors.Is(err, store.ErrNotFound)
}

// haveCandidate looks for what a name without a registry stands for, as `pull`
// has named it.
func haveCandidate(ctx context.Context, e *engine.Engine, req *container.Request) (bool, error) {
	candidates, err := e.Registry.Candidates(req.Image)
	if err != nil {
		return false, err
	}
	for _, ref := range candidates {
		named := *req
		named.Image = asWritten(req.Image, ref)
		if err := haveImage(ctx, e, &named); err == nil || !isMissing(err) {
			req.Image = named.Image
			return err == nil, err
		}
	}
	return false, nil
}

// pullImage fetches the first candidate that a registry has.
func (a *app) pullImage(ctx context.Context, e *engine.Engine, req *container.Request) error {
	candidates, err := e.Registry.Candidates(req.Image)
	if err != nil {
		return err
	}
	pr := image.PullRequest{Unpack: true}
	if req.Platform != nil {
		pr.Platforms = append(pr.Platforms, *req.Platform)
	}
	fmt.Fprintf(a.Stderr, "pulling %s\n", req.Image)
	return registry.First(candidates, func(ref reference.Named) error {
		pr.Ref = ref
		_, err := e.Images.Pull(ctx, pr)
		if err == nil {
			req.Image = asWritten(req.Image, ref)
		}
		return err
	})
}

// asWritten is the user's own name of an image where it means just that image.
func asWritten(name string, ref reference.Named) string {
	if plain, err := registry.ParseReference(name); err == nil && plain.String() == ref.String() {
		return name
	}
	return reference.FamiliarString(ref)
}

// whyNotHere adds to a failed pull what the store has instead.
func whyNotHere(e *engine.Engine, name string, pullErr, localErr error) error {
	if errors.Is(localErr, image.ErrNoPlatform) {
		return fmt.Errorf("%w; and of the one in the store: %w", pullErr, localErr)
	}
	near, err := e.Images.Near(name)
	if err != nil || len(near) == 0 {
		return errors.Join(pullErr, err)
	}
	return fmt.Errorf("%w; of the images in the store, did you mean %s?", pullErr, strings.Join(near, ", "))
}

// haveImage tells whether the image is in the store, for the platform that was
// asked for.
func haveImage(ctx context.Context, e *engine.Engine, req *container.Request) error {
	img, err := e.Images.Resolve(ctx, req.Image)
	if err != nil || req.Platform == nil {
		return err
	}
	m, err := e.Images.Load(ctx, img.Desc, req.Platform, nil)
	if err == nil {
		err = m.RunsOn(*req.Platform)
	}
	if err != nil {
		return fmt.Errorf("image %s: %w", req.Image, err)
	}
	return nil
}
