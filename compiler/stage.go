package compiler

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/containerd/platforms"
	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/frontend/dockerfile/shell"
	"github.com/moby/buildkit/util/system"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/strata-build/strata/schema"
)

// historyComment marks the history entries, as in a Dockerfile build.
const historyComment = "buildkit.dockerfile.v0"

// place is where a stage is compiled for: target is the platform of the image
// that is built in the end, which the arguments TARGET* tell, and platform
// that of the stage unless it says otherwise.
type place struct {
	target, platform ocispecs.Platform
	implicit         bool // nobody named the target
}

// stageKey is the identity of a stage in one compilation.
type stageKey struct {
	image            *schema.Image
	target, platform string
	implicit         bool
}

func (p place) key(img *schema.Image) stageKey {
	return stageKey{img, platforms.FormatAll(p.target), platforms.FormatAll(p.platform), p.implicit}
}

// stage is an image, or a stage of one, while and after it is translated. Its
// fields are those of a Dockerfile stage: the LLB state carries what steps
// see (env, directory, user, network), the config what the image records.
type stage struct {
	c     *compilation
	image *schema.Image
	label string // names it in the progress
	at    place

	state       llb.State
	config      dockerspec.DockerOCIImage
	below       *dockerspec.DockerOCIImage // config of the registry image at the bottom
	platform    ocispecs.Platform
	annotations map[string]string
	args        []argument // declared so far, the base's first
	cmdSet      bool       // this stage has set cmd, so entrypoint keeps it
	noCache     bool
	started     bool // the base is taken
	done        bool

	// uses are the paths that the steps read of context directories, and
	// needs the stages whose uses belong to this one's.
	uses  map[*directory]map[string]struct{}
	needs []*stage

	step, steps int // number of the current step and their count, for names
	onbuild     bool
}

// argument is a declared ARG; value is nil where it has none.
type argument struct {
	name  string
	value *string
}

// stage translates an image, or returns what was translated before.
func (c *compilation) stage(ctx context.Context, img *schema.Image, at place) (*stage, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	key := at.key(img)
	if s, ok := c.stages[key]; ok {
		if !s.done {
			return nil, &Error{Mistake: schema.Error{Pos: img.Pos, Path: img.Path, Width: 1, Message: "the image is built from itself"}}
		}
		return s, nil
	}
	if err := checkImage(img); err != nil {
		return nil, err
	}
	s := &stage{
		c: c, image: img, at: at, label: label(img.Path),
		uses:    map[*directory]map[string]struct{}{},
		noCache: c.opts.NoCache || slices.Contains(c.opts.NoCacheFilter, img.Name),
		steps:   countSteps(img),
	}
	c.stages[key] = s
	if err := s.build(ctx); err != nil {
		return nil, c.explain(err, img.Path)
	}
	s.done = true
	return s, nil
}

// build translates the image: base, triggers of the base, the config that
// steps see, the steps, and the rest of the config.
func (s *stage) build(ctx context.Context) error {
	at, err := s.basePlace()
	if err != nil {
		return err
	}
	if from := s.c.override(s.image.Name); from != nil {
		return s.take(s.open(ctx, from, at))
	}
	if err := s.take(s.base(ctx, at)); err != nil {
		return err
	}
	triggers := s.takeTriggers()
	if err := s.begin(); err != nil {
		return because(s.image.Pos, err, "start from the base image")
	}
	if err := s.triggers(ctx, triggers); err != nil {
		return err
	}
	if err := s.leading(ctx); err != nil {
		return err
	}
	for i, step := range s.image.Steps {
		if err := s.apply(ctx, step); err != nil {
			return s.c.explain(err, fmt.Sprintf("%s.steps[%d]", s.image.Path, i))
		}
	}
	return s.trailing(ctx)
}

// takeTriggers removes the ONBUILD triggers of the base from the config, which
// only a Dockerfile's result keeps: there they are those of the image itself.
func (s *stage) takeTriggers() []string {
	if s.image.Dockerfile != nil {
		return nil
	}
	lines := s.config.Config.OnBuild
	s.config.Config.OnBuild = nil
	return lines
}

// basePlace is the place that the base is compiled for: the platform of the
// stage, where it names one.
func (s *stage) basePlace() (place, error) {
	if s.image.Platform == "" {
		return s.at, nil
	}
	p, err := s.c.parsePlatform(s.image, s.image.Platform, s.at.target)
	return place{target: s.at.target, platform: p, implicit: s.at.implicit}, err
}

// take continues from a base.
func (s *stage) take(b *base, err error) error {
	if err != nil {
		return err
	}
	s.state, s.config, s.platform = b.state, b.config, b.platform
	s.below, s.args, s.started = b.below, slices.Clone(b.args), true
	return nil
}

// begin gives the state what the config of the base says, as the Dockerfile
// front end does at each FROM.
func (s *stage) begin() error {
	cfg := &s.config.Config
	if _, ok := shell.EnvsFromSlice(cfg.Env).Get("PATH"); !ok && s.platform.OS != "windows" {
		cfg.Env = append(cfg.Env, "PATH="+system.DefaultPathEnv(s.platform.OS))
	}
	for _, kv := range cfg.Env {
		k, v, _ := strings.Cut(kv, "=")
		s.state = s.state.AddEnv(k, v)
	}
	if host := s.c.hostname(); host != "" {
		s.state = s.state.Hostname(host)
	}
	if cfg.WorkingDir != "" {
		if err := s.chdir(cfg.WorkingDir); err != nil {
			return err
		}
	}
	if cfg.User != "" {
		s.state = s.state.User(cfg.User)
	}
	s.state = s.state.Network(s.c.opts.Network)
	return nil
}

// chdir makes dir, relative to the present one, the working directory.
func (s *stage) chdir(dir string) error {
	wd, err := system.NormalizeWorkdir(s.config.Config.WorkingDir, dir, s.platform.OS)
	if err != nil {
		return fmt.Errorf("working directory %q: %w", dir, err)
	}
	s.config.Config.WorkingDir = wd
	s.state = s.state.Dir(system.ToSlash(wd, s.platform.OS))
	return nil
}

// env is the environment of the state, for expansion and history.
func (s *stage) env(ctx context.Context) (*llb.EnvList, error) {
	return s.state.Env(ctx)
}

// dir is the directory that relative paths of steps start from.
func (s *stage) dir(ctx context.Context) (string, error) {
	return s.state.GetDir(ctx, llb.Platform(s.platform))
}

// inStage resolves a path of the image against the working directory.
func (s *stage) inStage(ctx context.Context, p string) (string, error) {
	dir, err := s.dir(ctx)
	if err != nil {
		return "", err
	}
	if p, err = system.CheckSystemDriveAndRemoveDriveLetter(p, s.platform.OS, true); err != nil {
		return "", err
	}
	if system.IsAbs(p, s.platform.OS) {
		return system.NormalizePath("/", p, s.platform.OS, true)
	}
	if p == "." || p == "" {
		p = "./"
	}
	return system.NormalizePath(dir, p, s.platform.OS, true)
}

// history records a step in the config. A step with a layer is marked as the
// front end marks those that it passes a state for.
func (s *stage) history(layer layerKind, format string, args ...any) {
	msg := fmt.Sprintf(format, args...)
	if layer == stepLayer {
		msg += " # buildkit"
	}
	s.config.History = append(s.config.History, ocispecs.History{
		CreatedBy:  msg,
		Comment:    historyComment,
		EmptyLayer: layer == noLayer,
		Created:    s.epoch(),
	})
}

func (s *stage) epoch() *time.Time { return s.c.epoch }

// layerKind says what a history entry stands for.
type layerKind int

const (
	noLayer      layerKind = iota
	stepLayer              // a layer of run, copy, ...
	workdirLayer           // the layer of a workdir, which carries no mark
)

// use notes that a step reads a path of a context directory.
func (s *stage) use(d *directory, p string) {
	if s.uses[d] == nil {
		s.uses[d] = map[string]struct{}{}
	}
	s.uses[d][p] = struct{}{}
}

// need notes that a step reads another stage.
func (s *stage) need(other *stage) {
	if !slices.Contains(s.needs, other) {
		s.needs = append(s.needs, other)
	}
}

// title is the custom name of the next step.
func (s *stage) title(text string) llb.ConstraintsOpt {
	return llb.WithCustomName(s.prefix() + text)
}

// fromTitle is the custom name of an image: that of a step for the base, and
// without a number for others that steps read.
func (s *stage) fromTitle(ref string) llb.ConstraintsOpt {
	if s.started {
		return llb.WithCustomName("FROM " + ref)
	}
	return s.title("FROM " + ref)
}

// prefix is the `[label 2/7] ` of the next step.
func (s *stage) prefix() string {
	s.step++
	s.steps = max(s.steps, s.step)
	width := int(1 + math.Log10(float64(s.steps)))
	var b strings.Builder
	b.WriteByte('[')
	if s.c.multi {
		b.WriteString(platforms.FormatAll(s.platform) + " ")
	}
	if s.label != "" {
		b.WriteString(s.label + " ")
	}
	fmt.Fprintf(&b, "%*d/%d] ", width, s.step, s.steps)
	if s.onbuild {
		b.WriteString("ONBUILD ")
	}
	return b.String()
}

// label shortens a CUE path for the progress: images.api.stages.build is
// api.build.
func label(path string) string {
	path = strings.TrimPrefix(strings.ReplaceAll(path, `"`, ""), "images.")
	return strings.ReplaceAll(path, ".stages.", ".")
}

// countSteps is the number of named vertices of an image.
func countSteps(img *schema.Image) int {
	n := 0
	if img.From != nil && img.From.Ref != "" && img.From.Ref != scratch {
		n++
	}
	if img.Config.Workdir != nil {
		n++
	}
	for _, step := range img.Steps {
		switch {
		case step.Verb == schema.VerbArg:
		case step.Verb == schema.VerbSet:
			if step.Set != nil && step.Set.Workdir != nil {
				n++
			}
		case step.Verb == schema.VerbFile && step.To != "":
			n++
		default:
			n += max(1, len(step.Pairs))
		}
	}
	return n
}
