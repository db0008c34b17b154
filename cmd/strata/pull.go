package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/containerd/platforms"
	"github.com/distribution/reference"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/spf13/cobra"

	"github.com/strata-build/strata/runtime/engine"
	"github.com/strata-build/strata/runtime/image"
	"github.com/strata-build/strata/runtime/registry"
)

type pullOptions struct {
	allTags, quiet bool
	platforms      []string
	jobs           int
}

func (a *app) pullCommand() *cobra.Command {
	var o pullOptions
	cmd := &cobra.Command{
		Use:   "pull [flags] NAME[:TAG|@DIGEST]",
		Short: "Fetch an image from a registry",
		Long: "Fetch an image from a registry, its layers in parallel, and unpack it. What the store has is not\n" +
			"fetched again; a download that was cut is taken up where it ended, also by the next pull.",
		Args: exactly(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withEngine(cmd.Context(), func(e *engine.Engine) error { return a.pull(cmd.Context(), e, o, args[0]) })
		},
	}
	f := cmd.Flags()
	f.BoolVarP(&o.allTags, "all-tags", "a", false, "fetch all tags of the repository")
	f.BoolVarP(&o.quiet, "quiet", "q", false, "print only the image's name")
	f.StringSliceVar(&o.platforms, "platform", nil, "platforms to fetch, such as linux/arm64, or all; default: this machine's")
	f.IntVar(&o.jobs, "jobs", 3, "layers to fetch at a time")
	return cmd
}

func (a *app) pull(ctx context.Context, e *engine.Engine, o pullOptions, name string) error {
	req := image.PullRequest{Unpack: true, Jobs: o.jobs}
	if len(o.platforms) == 1 && o.platforms[0] == "all" {
		req.AllPlatforms = true
	} else {
		var err error
		if req.Platforms, err = parsePlatforms(o.platforms); err != nil {
			return err
		}
	}
	refs, err := a.pullTargets(ctx, e, o, name)
	if err != nil {
		return err
	}
	if o.allTags {
		for _, ref := range refs {
			if err := a.pullOne(ctx, e, o, req, ref); err != nil {
				return err
			}
		}
		return nil
	}
	return a.pullFirst(ctx, e, o, req, refs)
}

// pullTargets are the references that a name stands for: all tags, or the
// candidates of a name without a registry.
func (a *app) pullTargets(ctx context.Context, e *engine.Engine, o pullOptions, name string) ([]reference.Named, error) {
	candidates, err := e.Registry.Candidates(name)
	if err != nil {
		return nil, misuse("%v", err)
	}
	if !o.allTags {
		if isBare(name) && !o.quiet {
			fmt.Fprintln(a.stderr, "Using default tag: latest")
		}
		return candidates, nil
	}
	if !isBare(name) {
		return nil, misuse("--all-tags fetches all tags of a repository: leave tag and digest out of %q", name)
	}
	repo := reference.TrimNamed(candidates[0])
	tags, err := e.Registry.Tags(ctx, repo)
	if err != nil {
		return nil, err
	}
	var refs []reference.Named
	for _, tag := range tags {
		ref, err := reference.WithTag(repo, tag)
		if err != nil {
			return nil, fmt.Errorf("the registry lists a malformed tag %q: %w", tag, err)
		}
		refs = append(refs, ref)
	}
	if len(refs) == 0 {
		err = fmt.Errorf("%s has no tags", reference.FamiliarName(repo))
	}
	return refs, err
}

// isBare reports whether a name has neither tag nor digest.
func isBare(name string) bool {
	ref, err := reference.ParseNormalizedNamed(name)
	return err == nil && reference.IsNameOnly(ref)
}

// pullFirst takes the first candidate that exists.
func (a *app) pullFirst(ctx context.Context, e *engine.Engine, o pullOptions, req image.PullRequest, refs []reference.Named) error {
	var errs []error
	for _, ref := range refs {
		err := a.pullOne(ctx, e, o, req, ref)
		if err == nil {
			return nil
		}
		errs = append(errs, err)
		if !errors.Is(err, registry.ErrNotFound) && !errors.Is(err, registry.ErrUnauthorized) {
			break
		}
	}
	return errors.Join(errs...)
}

// pullOne fetches one image and says so in docker's words.
func (a *app) pullOne(ctx context.Context, e *engine.Engine, o pullOptions, req image.PullRequest, ref reference.Named) error {
	before, err := e.Images.Get(ref.String())
	if err != nil && !errors.Is(err, image.ErrNotFound) {
		return err
	}
	if !o.quiet {
		fmt.Fprintf(a.stderr, "%s: Pulling from %s\n", tagOrDigest(ref), reference.Path(ref))
	}
	t := a.newTransfer(o.quiet)
	req.Ref = ref
	req.Progress = func(desc ocispec.Descriptor, offset int64) {
		next := transferItem{state: "Downloading", offset: offset, total: desc.Size}
		if offset >= desc.Size {
			next.state, next.done = "Pull complete", true
		}
		t.update(desc.Digest, next)
	}
	img, err := e.Images.Pull(ctx, req)
	if err != nil {
		return err
	}
	if o.quiet {
		_, err := fmt.Fprintln(a.stdout, ref)
		return err
	}
	return a.pulled(ctx, e, req, ref, img, before.Desc.Digest == img.Desc.Digest)
}

func (a *app) pulled(ctx context.Context, e *engine.Engine, req image.PullRequest, ref reference.Named, img image.Image, same bool) error {
	status := "Downloaded newer image for "
	if same {
		status = "Image is up to date for "
	}
	fmt.Fprintf(a.stdout, "Digest: %s\nStatus: %s%s\n%s\n", img.Desc.Digest, status, reference.FamiliarString(ref), ref)
	m, err := e.Images.Load(ctx, img.Desc, nil, nil)
	if err == nil && len(req.Platforms) == 0 && !platforms.Only(e.Platform()).Match(m.Platform()) {
		fmt.Fprintf(a.stderr, "strata: %s is for %s, and this machine is %s: running it needs an emulator\n",
			reference.FamiliarString(ref), platforms.Format(m.Platform()), platforms.Format(e.Platform()))
	}
	return nil
}

func tagOrDigest(ref reference.Named) string {
	switch r := ref.(type) {
	case reference.Tagged:
		return r.Tag()
	case reference.Digested:
		return r.Digest().String()
	}
	return strings.TrimPrefix(ref.String(), ref.Name())
}
