package imagecmd

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/containerd/platforms"
	"github.com/distribution/reference"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/spf13/cobra"

	"github.com/strata-build/strata/cmd/strata/cli"
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
		Args: cli.Exactly(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.WithEngine(cmd.Context(), func(e *engine.Engine) error { return a.pull(cmd.Context(), e, o, args[0]) })
		},
	}
	f := cmd.Flags()
	f.BoolVarP(&o.allTags, "all-tags", "a", false, "fetch all tags of the repository")
	f.BoolVarP(&o.quiet, "quiet", "q", false, "print only the image's name")
	f.StringSliceVar(&o.platforms, "platform", nil, "platforms to fetch, such as linux/arm64, or all; default: this machine's")
	f.IntVar(&o.jobs, "jobs", 3, "layers to fetch at a time")
	return cmd
}

// puller is one pull command at work.
type puller struct {
	*app
	e   *engine.Engine
	o   pullOptions
	req image.PullRequest
}

func (a *app) pull(ctx context.Context, e *engine.Engine, o pullOptions, name string) error {
	p := &puller{app: a, e: e, o: o, req: image.PullRequest{Unpack: true, Jobs: o.jobs}}
	if len(o.platforms) == 1 && o.platforms[0] == "all" {
		p.req.AllPlatforms = true
	} else {
		var err error
		if p.req.Platforms, err = cli.ParsePlatforms(o.platforms); err != nil {
			return err
		}
	}
	refs, err := p.targets(ctx, name)
	if err != nil {
		return err
	}
	if !o.allTags {
		return registry.First(refs, func(ref reference.Named) error { return p.one(ctx, ref) })
	}
	for _, ref := range refs {
		if err := p.one(ctx, ref); err != nil {
			return err
		}
	}
	return nil
}

// targets are the references that a name stands for: all tags, or the
// candidates of a name without a registry.
func (p *puller) targets(ctx context.Context, name string) ([]reference.Named, error) {
	candidates, err := p.e.Registry.Candidates(name)
	if err != nil {
		return nil, cli.Misuse("%v", err)
	}
	if p.o.allTags {
		if !isBare(name) {
			return nil, cli.Misuse("--all-tags fetches all tags of a repository: leave tag and digest out of %q", name)
		}
		return p.allTags(ctx, reference.TrimNamed(candidates[0]))
	}
	if isBare(name) && !p.o.quiet {
		fmt.Fprintln(p.Stderr, "Using default tag: latest")
	}
	return candidates, nil
}

func (p *puller) allTags(ctx context.Context, repo reference.Named) ([]reference.Named, error) {
	tags, err := p.e.Registry.Tags(ctx, repo)
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

// one fetches one image and says so in docker's words.
func (p *puller) one(ctx context.Context, ref reference.Named) error {
	before, err := p.e.Images.Get(ref.String())
	if err != nil && !errors.Is(err, image.ErrNotFound) {
		return err
	}
	if !p.o.quiet {
		fmt.Fprintf(p.Stderr, "%s: Pulling from %s\n", tagOrDigest(ref), reference.Path(ref))
	}
	t := p.newTransfer()
	t.quiet = p.o.quiet
	req := p.req
	req.Ref = ref
	req.Progress = func(desc ocispec.Descriptor, offset int64) { t.update(desc.Digest, pullItem(desc, offset)) }
	img, err := p.e.Images.Pull(ctx, req)
	if err != nil {
		return err
	}
	if p.o.quiet {
		_, err := fmt.Fprintln(p.Stdout, ref)
		return err
	}
	status := "Image is up to date for "
	if before.Desc.Digest != img.Desc.Digest {
		status = "Downloaded newer image for "
		p.tellPresent(ctx, t, img)
	}
	_, err = fmt.Fprintf(p.Stdout, "Digest: %s\nStatus: %s%s\n%s\n", img.Desc.Digest, status, reference.FamiliarString(ref), ref)
	return err
}

func pullItem(desc ocispec.Descriptor, offset int64) transferItem {
	if offset >= desc.Size {
		return transferItem{state: "Pull complete", done: true}
	}
	return transferItem{state: "Downloading", offset: offset, total: desc.Size}
}

// tellPresent names the layers that were there already, and warns of an image
// that this machine cannot run by itself.
func (p *puller) tellPresent(ctx context.Context, t *transfer, img image.Image) {
	m, err := p.e.Images.Load(ctx, img.Desc, nil, nil)
	if err != nil {
		return // it is for another platform, as was asked for
	}
	for _, desc := range m.Layers {
		if !t.has(desc.Digest) {
			t.update(desc.Digest, transferItem{state: "Already exists", done: true})
		}
	}
	if len(p.req.Platforms) == 0 && !platforms.Only(p.e.Platform()).Match(m.Platform()) {
		fmt.Fprintf(p.Stderr, "strata: %s is for %s, and this machine is %s: running it needs an emulator\n",
			img.Name, platforms.Format(m.Platform()), platforms.Format(p.e.Platform()))
	}
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
