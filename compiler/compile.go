package compiler

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/platforms"
	"github.com/distribution/reference"
	"github.com/moby/buildkit/client/llb"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/strata-build/strata/schema"
)

// epochArg is the build argument that sets the creation time, as in a
// Dockerfile build.
const epochArg = "SOURCE_DATE_EPOCH"

// Compile translates the images of a Spec, each for each of its platforms.
func Compile(ctx context.Context, spec *schema.Spec, opts Options) (*Plan, error) {
	c, err := newCompilation(opts)
	if err != nil {
		return nil, err
	}
	jobs, err := c.jobs(spec)
	if err != nil {
		return nil, c.explain(err, "")
	}
	c.prefetch(ctx, jobs)
	plan := &Plan{Targets: make([]Target, 0, len(jobs))}
	for _, j := range jobs {
		t, err := c.target(ctx, j)
		if err != nil {
			return nil, c.explain(err, j.image.Path)
		}
		plan.Targets = append(plan.Targets, *t)
	}
	return plan, nil
}

// compilation is the state of one Compile. Stages are memoised by image and
// platform, so that an image that a hundred others start from is translated
// once.
type compilation struct {
	opts     Options
	args     map[string]string
	epoch    *time.Time
	proxy    *llb.ProxyEnv
	named    map[string]*schema.From
	multi    bool // more than one platform: names of steps carry theirs
	resolver *resolver
	dirs     *directories
	stores   *stores
	sources  *sourceMaps
	marshal  *marshaller
	stages   map[stageKey]*stage
}

// job is one target to compile.
type job struct {
	image    *schema.Image
	platform ocispecs.Platform
	implicit bool // nobody named a platform
}

func newCompilation(opts Options) (*compilation, error) {
	if opts.BuildPlatform.OS == "" {
		opts.BuildPlatform = platforms.Normalize(platforms.DefaultSpec())
	}
	c := &compilation{
		opts:     opts,
		args:     maps.Clone(opts.Args),
		epoch:    opts.Epoch,
		resolver: newResolver(opts.Meta, opts.ResolveMode),
		dirs:     newDirectories(opts.Ignore),
		stores:   newStores(),
		sources:  newSourceMaps(opts.Source),
		marshal:  newMarshaller(opts.LocalUnique),
		stages:   map[stageKey]*stage{},
	}
	c.proxy = proxyFromArgs(c.args)
	if err := c.setEpoch(); err != nil {
		return nil, err
	}
	return c, c.setNamed(opts.NamedContexts)
}

// setEpoch takes the creation time from the build argument where no other is
// given, and keeps both the same.
func (c *compilation) setEpoch() error {
	v, ok := c.args[epochArg]
	switch {
	case c.epoch != nil:
	case ok && v == "":
		delete(c.args, epochArg)
	case ok:
		sec, err := strconv.ParseInt(v, 10, 64)
		if err != nil {
			return fmt.Errorf("build argument %s=%s: a number of seconds since 1970 is needed", epochArg, v)
		}
		t := time.Unix(sec, 0).UTC()
		c.epoch = &t
	}
	if ok && c.epoch != nil {
		c.args[epochArg] = strconv.FormatInt(c.epoch.Unix(), 10)
	}
	return nil
}

// setNamed takes the named contexts by their familiar names, so that
// `alpine` also stands for docker.io/library/alpine:latest.
func (c *compilation) setNamed(named map[string]*schema.From) error {
	c.named = make(map[string]*schema.From, len(named))
	for name, from := range named {
		key, err := familiar(name)
		if err != nil {
			return fmt.Errorf("build context %q: %w", name, err)
		}
		c.named[key] = from
	}
	return nil
}

// familiar is the short name of a reference, without the default tag.
func familiar(name string) (string, error) {
	ref, err := reference.ParseNormalizedNamed(name)
	if err != nil {
		return "", err
	}
	return strings.TrimSuffix(reference.FamiliarString(ref), ":latest"), nil
}

// override returns the named context that takes the place of name.
func (c *compilation) override(name string) *schema.From {
	if len(c.named) == 0 || name == "" || name == scratch {
		return nil
	}
	key, err := familiar(name)
	if err != nil {
		return nil
	}
	return c.named[key]
}

// jobs lists the targets of a Spec. The context of the first image is the
// main one of the plan.
func (c *compilation) jobs(spec *schema.Spec) ([]job, error) {
	var jobs []job
	for _, img := range spec.Images {
		c.dirs.main(img.Context)
		list, err := c.platforms(img)
		if err != nil {
			return nil, err
		}
		for _, p := range list {
			jobs = append(jobs, job{image: img, platform: p})
		}
		if len(list) == 0 {
			jobs = append(jobs, job{image: img, platform: c.opts.BuildPlatform, implicit: true})
		}
		c.multi = c.multi || len(list) > 1
	}
	return jobs, nil
}

// target compiles one job.
func (c *compilation) target(ctx context.Context, j job) (*Target, error) {
	s, err := c.stage(ctx, j.image, place{target: j.platform, platform: j.platform, implicit: j.implicit})
	if err != nil {
		return nil, err
	}
	config, below, err := c.config(s, j)
	if err != nil {
		return nil, err
	}
	def, names, err := c.marshal.definition(ctx, s, j.platform)
	if err != nil {
		return nil, because(j.image.Pos, err, "marshal %s", j.image.Path)
	}
	return &Target{
		Name: j.image.Name, Path: j.image.Path, Pos: j.image.Pos,
		Platform:    platforms.Normalize(j.platform),
		Definition:  def,
		Config:      config,
		BaseConfig:  below,
		Tags:        slices.Clone(j.image.Tags),
		Annotations: maps.Clone(s.annotations),
		Locals:      c.dirs.used(names.locals),
		Stores:      c.stores.used(names.stores),
	}, nil
}

// config returns the image config of a finished stage as a target, and that
// of the registry image below it.
func (c *compilation) config(s *stage, j job) (config, below []byte, err error) {
	img := cloneImage(s.config)
	if len(c.opts.Labels) != 0 && img.Config.Labels == nil {
		img.Config.Labels = make(map[string]string, len(c.opts.Labels))
	}
	maps.Copy(img.Config.Labels, c.opts.Labels)
	if !j.implicit {
		setPlatform(&img.Platform, j.platform)
	}
	img.Platform = platforms.Normalize(img.Platform)
	if config, err = json.Marshal(img); err != nil {
		return nil, nil, fmt.Errorf("marshal image config: %w", err)
	}
	if s.below != nil {
		if below, err = json.Marshal(s.below); err != nil {
			return nil, nil, fmt.Errorf("marshal base image config: %w", err)
		}
	}
	return config, below, nil
}
