package compiler

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/containerd/platforms"
	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/util/system"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/strata-build/strata/schema"
)

// scratch is the reference that stands for nothing.
const scratch = "scratch"

// base is what a stage starts from, or what a copy or mount reads.
type base struct {
	state    llb.State
	config   dockerspec.DockerOCIImage
	below    *dockerspec.DockerOCIImage
	platform ocispecs.Platform
	args     []argument
}

// base finds what the image starts from.
func (s *stage) base(ctx context.Context, at place) (*base, error) {
	if s.image.Dockerfile != nil {
		return s.fromDockerfile(ctx, at)
	}
	from, err := s.c.decide(s.image, s.image.From, at.target)
	if err != nil {
		return nil, err
	}
	b, err := s.find(ctx, from, at)
	if err != nil {
		return nil, err
	}
	if from != nil && from.Image != nil && s.image.Platform != "" && !samePlatform(b.platform, at.platform) {
		return nil, mistake(s.image.Pos, "leave one of the two out",
			"platform %q contradicts that of the image below, which is for %s", s.image.Platform, platforms.FormatAll(b.platform))
	}
	return b, nil
}

func samePlatform(a, b ocispecs.Platform) bool {
	return platforms.FormatAll(platforms.Normalize(a)) == platforms.FormatAll(platforms.Normalize(b))
}

// decide takes the case of a switch that the arguments name; any other `from`
// is what it is.
func (c *compilation) decide(img *schema.Image, from *schema.From, target ocispecs.Platform) (*schema.From, error) {
	if from == nil || from.Switch == nil {
		return from, nil
	}
	sw := from.Switch
	value, err := c.expandGlobal(img, sw.Word, target)
	if err != nil {
		return nil, because(sw.Pos, err, "expand switch %q", sw.Word)
	}
	var values []string
	for _, k := range sw.Cases {
		if k.Value == value {
			return c.decide(img, k.From, target)
		}
		values = append(values, k.Value)
	}
	if sw.Default != nil {
		return c.decide(img, sw.Default, target)
	}
	return nil, mistake(sw.Pos, "add the case, or a default", "switch %q is %q, and the cases are %s", sw.Word, value, strings.Join(values, ", "))
}

// find opens what a `from` names, or the named context that takes its place.
func (s *stage) find(ctx context.Context, from *schema.From, at place) (*base, error) {
	if from != nil {
		if other := s.c.override(from.Ref); other != nil {
			return s.open(ctx, other, at)
		}
	}
	return s.open(ctx, from, at)
}

// open makes a base of exactly what a `from` says; nil is scratch.
func (s *stage) open(ctx context.Context, from *schema.From, at place) (*base, error) {
	switch {
	case from == nil || from.Ref == scratch:
		return &base{state: llb.Scratch(), config: emptyImage(at.platform), platform: at.platform}, nil
	case from.Image != nil:
		return s.openImage(ctx, from.Image, at)
	case from.Source != nil:
		return s.openSource(ctx, from.Source, at)
	}
	return s.openRef(ctx, from, at)
}

// openImage continues another image of the Spec.
func (s *stage) openImage(ctx context.Context, img *schema.Image, at place) (*base, error) {
	other, err := s.c.stage(ctx, img, at)
	if err != nil {
		return nil, err
	}
	s.need(other)
	return &base{
		state:    other.state,
		config:   cloneImage(other.config),
		below:    other.below,
		platform: other.platform,
		args:     other.args,
	}, nil
}

// openRef pins a registry image. One without layers is scratch.
func (s *stage) openRef(ctx context.Context, from *schema.From, at place) (*base, error) {
	name, err := s.c.expandGlobal(s.image, from.Ref, at.target)
	if err != nil {
		return nil, because(from.Pos, err, "expand reference %q", from.Ref)
	}
	img, err := s.c.resolver.resolve(ctx, name, at.platform)
	if err != nil {
		return nil, s.refError(from, err)
	}
	b := &base{state: llb.Scratch(), config: cloneImage(img.config), platform: at.platform}
	b.config.Created = nil
	below := cloneImage(img.config)
	b.below = &below
	if !img.empty {
		b.state = llb.Image(img.ref,
			llb.Platform(at.platform),
			s.c.opts.ResolveMode,
			s.fromTitle(img.ref),
			s.c.sources.at(from.Pos))
	}
	return b, nil
}

// refError adds what the author of a reference may have meant.
func (s *stage) refError(from *schema.From, err error) error {
	e := because(from.Pos, err, "base image %q", from.Ref)
	for _, st := range s.image.Stages {
		if st.Name == from.Ref {
			e.Mistake.Hint = fmt.Sprintf("a string is a registry image; the stage is `from: stages.%s`", st.Name)
		}
	}
	return e
}

// fromDockerfile lets the Dockerfile front end build the base.
func (s *stage) fromDockerfile(ctx context.Context, at place) (*base, error) {
	d := s.image.Dockerfile
	if s.c.opts.Dockerfiles == nil {
		return nil, mistake(d.Pos, "", "Dockerfiles cannot be built here")
	}
	opts := s.c.opts
	opts.Args, opts.Epoch = s.dockerfileArgs(), s.c.epoch
	platform := at.platform
	if at.implicit && platforms.FormatAll(platform) == platforms.FormatAll(at.target) {
		platform = ocispecs.Platform{} // so that the config keeps the platform of its base, as here
	}
	res, err := s.c.opts.Dockerfiles.Dockerfile(ctx, DockerfileRequest{
		Dockerfile: d, Context: s.image.Context, Platform: platform, Options: opts,
	})
	if err != nil {
		return nil, because(d.Pos, err, "compile the Dockerfile")
	}
	b, err := s.adopt(res)
	if err != nil {
		return nil, because(d.Pos, err, "use the Dockerfile's result")
	}
	return b, nil
}

// dockerfileArgs are the build arguments with those of the image, which give
// way to the ones from outside.
func (s *stage) dockerfileArgs() map[string]string {
	args := map[string]string{}
	for _, a := range s.image.Args {
		if !a.Unset {
			args[a.Name] = a.Value
		}
	}
	maps.Copy(args, s.c.args)
	return args
}

// adopt makes a base of a compiled Dockerfile, with the names of its local
// sources and stores replaced by those of this plan.
func (s *stage) adopt(res *DockerfileResult) (*base, error) {
	def, err := rename(res.Definition, s.c.dirs.rename(res.Locals), s.c.stores.rename(res.Stores))
	if err != nil {
		return nil, err
	}
	s.c.marshal.adopted = true
	b := &base{state: llb.Scratch()}
	if err := json.Unmarshal(res.Config, &b.config); err != nil {
		return nil, fmt.Errorf("parse image config: %w", err)
	}
	if len(res.BaseConfig) > 0 {
		b.below = &dockerspec.DockerOCIImage{}
		if err := json.Unmarshal(res.BaseConfig, b.below); err != nil {
			return nil, fmt.Errorf("parse base image config: %w", err)
		}
	}
	b.platform = b.config.Platform
	if def == nil || len(def.Def) == 0 {
		return b, nil
	}
	op, err := llb.NewDefinitionOp(def)
	if err != nil {
		return nil, err
	}
	b.state = llb.NewState(op.Output())
	return b, nil
}

// emptyImage is the config of scratch.
func emptyImage(p ocispecs.Platform) dockerspec.DockerOCIImage {
	var img dockerspec.DockerOCIImage
	img.Architecture, img.OS, img.OSVersion, img.Variant = p.Architecture, p.OS, p.OSVersion, p.Variant
	img.OSFeatures = slices.Clone(p.OSFeatures)
	img.RootFS.Type = "layers"
	img.Config.WorkingDir = "/"
	if p.OS != "windows" {
		img.Config.Env = []string{"PATH=" + system.DefaultPathEnv(p.OS)}
	}
	return img
}

// cloneImage copies all of a config that a stage may change.
func cloneImage(src dockerspec.DockerOCIImage) dockerspec.DockerOCIImage {
	img, cfg := src, &src.Config
	img.Config.Env = slices.Clone(cfg.Env)
	img.Config.Cmd = slices.Clone(cfg.Cmd)
	img.Config.Entrypoint = slices.Clone(cfg.Entrypoint)
	img.Config.OnBuild = slices.Clone(cfg.OnBuild)
	img.Config.ExposedPorts = maps.Clone(cfg.ExposedPorts)
	img.Config.Volumes = maps.Clone(cfg.Volumes)
	img.Config.Labels = maps.Clone(cfg.Labels)
	img.Config.Shell = slices.Clone(cfg.Shell)
	if cfg.Healthcheck != nil {
		hc := *cfg.Healthcheck
		hc.Test = slices.Clone(hc.Test)
		img.Config.Healthcheck = &hc
	}
	img.History = slices.Clone(src.History)
	return img
}
