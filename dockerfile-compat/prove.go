package dockerfilecompat

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/containerd/platforms"
	"github.com/moby/buildkit/client/llb/sourceresolver"
	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	digest "github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/strata-build/strata/compiler"
	"github.com/strata-build/strata/schema"
)

// probe is one set of arguments and platforms for which the Dockerfile and its
// CUE are compared.
type probe struct {
	options   compiler.Options
	platforms []ocispecs.Platform
	// assumed is true where arguments are made up: then a stage that fails
	// in the Dockerfile is not compared.
	assumed bool
}

// wanted is what a stage of the Dockerfile compiles to.
type wanted struct {
	targets []compiler.Target
	err     error
}

// difference is a stage whose CUE means something else.
type difference struct {
	stage, line int
	text        string
}

// probes are the sets to compare: what was asked for, and, where arguments or
// platforms can change anything, another value for each argument on another
// platform, with a base image that is the same for all references.
func (c *converter) probes() []probe {
	if c.tried == nil {
		c.tried = c.newProbes()
	}
	return c.tried
}

func (c *converter) newProbes() []probe {
	list := []probe{{options: c.req.Options, platforms: c.req.Platforms}}
	args := c.assumedArgs()
	if len(args) == 0 && !strings.Contains(string(c.s.src.Data), "PLATFORM") {
		return list
	}
	opts := c.req.Options
	opts.Args = maps.Clone(opts.Args)
	if opts.Args == nil {
		opts.Args = map[string]string{}
	}
	for name, value := range args {
		if _, ok := opts.Args[name]; !ok {
			opts.Args[name] = value
		}
	}
	opts.Meta = anyImage{}
	other := []ocispecs.Platform{c.otherPlatform()}
	return append(list, probe{options: opts, platforms: other, assumed: true})
}

// assumedArgs makes up a value for each argument that a Dockerfile declares.
// Those that the front end itself knows are left alone.
func (c *converter) assumedArgs() map[string]string {
	args := map[string]string{}
	add := func(list []instruction) {
		for _, in := range list {
			c, ok := in.cmd.(*instructions.ArgCommand)
			if !ok {
				continue
			}
			for _, a := range c.Args {
				if _, ok := platformArgs(ocispecs.Platform{})[a.Key]; ok || frontEndArg(a.Key) {
					continue
				}
				args[a.Key] = assumed(a.ValueString())
			}
		}
	}
	add(c.file.globals)
	for _, st := range c.file.stages {
		add(st.commands)
	}
	c.assumePlatforms(args)
	c.assumePicks(args)
	c.leaveChoices(args)
	return args
}

// assumePlatforms has the arguments that are a platform be another one.
func (c *converter) assumePlatforms(args map[string]string) {
	for _, st := range c.file.stages {
		m := variableForm.FindStringSubmatch(st.Platform)
		if m == nil || m[0] != st.Platform {
			continue
		}
		if _, ok := args[m[1]+m[2]]; ok {
			args[m[1]+m[2]] = "linux/ppc64le"
		}
	}
}

// assumePicks has arguments pick another stage, where there is one.
func (c *converter) assumePicks(args map[string]string) {
	for name, values := range c.picked() {
		now, _ := c.params.globals.Get(name)
		delete(args, name)
		for _, v := range values {
			if v != now {
				args[name] = v
			}
		}
	}
}

// leaveChoices leaves the arguments alone that choose among stages and nothing
// else: another value would choose none.
func (c *converter) leaveChoices(args map[string]string) {
	for _, st := range c.file.stages {
		ch, ok := c.choiceOf(st)
		if _, picks := c.pickOf(st); !ok || picks || ch.prefix+ch.suffix == "" && !c.params.dependsOnPlatform(ch.word) || !c.alwaysStage(ch) {
			continue
		}
		for _, m := range variableForm.FindAllStringSubmatch(ch.word, -1) {
			delete(args, m[1]+m[2])
		}
	}
}

func frontEndArg(name string) bool {
	return strings.HasPrefix(name, "BUILDKIT_") || strings.HasSuffix(strings.ToLower(name), "_proxy") || name == "SOURCE_DATE_EPOCH"
}

// numbered is what ends in a number of its own, such as a host with a port, and
// hexadecimal what ends in a digest.
var (
	numbered    = regexp.MustCompile(`^(|.*:)([0-9]{1,9})$`)
	hexadecimal = regexp.MustCompile(`[0-9a-f]{64}$`)
)

// assumed is a value of the same kind as a default: another number or digest,
// or the name with a letter more.
func assumed(value string) string {
	if m := numbered.FindStringSubmatch(value); m != nil {
		n, _ := strconv.Atoi(m[2])
		return m[1] + strconv.Itoa(n+1)
	}
	if hexadecimal.MatchString(value) {
		last := "0"
		if strings.HasSuffix(value, last) {
			last = "1"
		}
		return value[:len(value)-1] + last
	}
	if value == "" || strings.ContainsAny(value, "$\"'\\ ") {
		return "x"
	}
	return value + "x"
}

// anyImage resolves every reference to one and the same config.
type anyImage struct{}

// ResolveImageConfig implements llb.ImageMetaResolver.
func (anyImage) ResolveImageConfig(_ context.Context, ref string, opt sourceresolver.Opt) (string, digest.Digest, []byte, error) {
	p := platforms.Normalize(platforms.DefaultSpec())
	if opt.ImageOpt != nil && opt.ImageOpt.Platform != nil {
		p = *opt.ImageOpt.Platform
	}
	dt := fmt.Sprintf(`{"architecture":%q,"os":%q,"variant":%q,"config":{"Env":["PATH=/bin","IN_BASE=yes"],"WorkingDir":"/base","User":"base"},`+
		`"rootfs":{"type":"layers","diff_ids":["sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"]}}`, p.Architecture, p.OS, p.Variant)
	return ref, digest.FromString(ref), []byte(dt), nil
}

// compileDockerfile compiles each stage of the Dockerfile as it was asked for.
// The last one has to compile; others that do not are left out.
func (c *converter) compileDockerfile(ctx context.Context) error {
	last := len(c.file.stages) - 1
	for range c.probes() {
		c.want = append(c.want, make([]wanted, last+1))
	}
	for i := range c.file.stages {
		if w := c.wanted(ctx, 0, c.probes()[0], i); w.err != nil {
			c.left[i] = w.err
		}
	}
	return c.left[last]
}

// wanted compiles one stage of the Dockerfile for a probe, once.
func (c *converter) wanted(ctx context.Context, n int, p probe, i int) wanted {
	w := &c.want[n][i]
	if w.targets == nil && w.err == nil {
		w.targets, w.err = c.compileStage(ctx, n, p, i)
	}
	return *w
}

// compileStage compiles one stage by its name, or, where it has none of its
// own, as the last one of the Dockerfile up to there.
func (c *converter) compileStage(ctx context.Context, n int, p probe, i int) ([]compiler.Target, error) {
	st := c.file.stages[i]
	last := i == len(c.file.stages)-1
	named, ok := c.file.stageNamed(st.Name, len(c.file.stages))
	if !last && !(ok && named == st) {
		req := c.probeRequest(p, last)
		req.Text = []byte(strings.Join(c.file.raw[:st.last], "\n") + "\n")
		res, err := Compile(ctx, req)
		if err != nil {
			return nil, err
		}
		return res.Targets, nil
	}
	s, err := c.session(ctx, n, p, last)
	if err != nil {
		return nil, err
	}
	if last {
		return s.compile(ctx, "")
	}
	return s.compile(ctx, st.Name)
}

// sessionKey tells the sessions of a conversion apart.
type sessionKey struct {
	probe int
	last  bool
}

// session opens the Dockerfile for a probe, once.
func (c *converter) session(ctx context.Context, n int, p probe, last bool) (*session, error) {
	key := sessionKey{n, last}
	if s, ok := c.sessions[key]; ok {
		return s, nil
	}
	s, err := open(ctx, c.probeRequest(p, last))
	if err != nil {
		return nil, err
	}
	c.sessions[key] = s
	return s, nil
}

// probeRequest is the Dockerfile with the options of a probe. TARGETSTAGE is
// the last stage for all others too, as they are parts of it in CUE.
func (c *converter) probeRequest(p probe, last bool) Request {
	req := c.req.Request
	req.Options, req.Platforms, req.Target = p.options, p.platforms, ""
	if !last {
		req.Options.Args = withArg(req.Options.Args, targetStage, c.target())
	}
	return req
}

// withArg adds an argument that is not given.
func withArg(args map[string]string, name, value string) map[string]string {
	if _, ok := args[name]; ok {
		return args
	}
	out := map[string]string{name: value}
	maps.Copy(out, args)
	return out
}

// prove compiles the CUE and compares all stages, for all probes.
func (c *converter) prove(ctx context.Context, cue []byte) ([]difference, error) {
	var bad []difference
	c.compared = 0
	for n, p := range c.probes() {
		spec, err := c.load(ctx, cue, p)
		if err != nil {
			return c.blame(err)
		}
		if len(spec.Images) != 1 {
			return nil, fmt.Errorf("convert %s: the CUE has %d images", c.req.Filename, len(spec.Images))
		}
		found := c.compare(ctx, spec.Images[0], p, n)
		for _, d := range found {
			if !slices.ContainsFunc(bad, func(o difference) bool { return o.stage == d.stage }) {
				bad = append(bad, d)
			}
		}
	}
	return c.first(bad), nil
}

// load loads the CUE with the parameters that it has.
func (c *converter) load(ctx context.Context, cue []byte, p probe) (*schema.Spec, error) {
	var tags []string
	for _, param := range c.usedParams() {
		if v, ok := p.options.Args[param.Name]; ok {
			tags = append(tags, c.params.field(param.Name)+"="+v)
		}
	}
	return schema.Load(ctx, schema.LoadOptions{
		Args: []string{filepath.Base(c.req.File)}, Dir: filepath.Dir(c.req.File),
		Tags: tags, Overlay: map[string][]byte{c.req.File: cue},
	})
}

// blame finds the stages that keep the CUE from being loaded: what the schema
// refuses has no native form.
func (c *converter) blame(err error) ([]difference, error) {
	var list schema.Errors
	var one *schema.Error
	switch {
	case errors.As(err, &list):
	case errors.As(err, &one):
		list = schema.Errors{one}
	default:
		return nil, err
	}
	var bad []difference
	for _, e := range list {
		i := c.stageOf(e.Path)
		if i < 0 {
			return nil, fmt.Errorf("convert %s: %w", c.req.Filename, err)
		}
		if !slices.ContainsFunc(bad, func(d difference) bool { return d.stage == i }) {
			bad = append(bad, difference{stage: i, text: e.Message})
		}
	}
	return bad, nil
}

// stageOf finds the stage that a CUE path is in.
func (c *converter) stageOf(path string) int {
	last := len(c.images) - 1
	if _, rest, ok := strings.Cut(path, ".stages."); ok {
		for i, img := range c.images[:last] {
			label := strings.Trim(rest, `"`)
			if after, ok := strings.CutPrefix(label, img.Name); ok && (after == "" || strings.ContainsAny(after[:1], `."[`)) {
				return i
			}
		}
		return -1
	}
	if strings.HasPrefix(path, "images.") {
		return last
	}
	return -1
}

// compare compares the stages of an image with those of the Dockerfile. With
// made-up arguments, the stages that others are made of are compared as parts
// of those, and by themselves only where something differs.
func (c *converter) compare(ctx context.Context, img *schema.Image, p probe, n int) []difference {
	opts := p.options
	opts.Platforms = p.platforms
	opts.Dockerfiles = Frontend{}
	opts.Source = func(string) []byte { return nil }
	images := c.loaded(img)
	if p.assumed {
		whole := slices.Clone(images)
		for i := range whole {
			if c.isPart(i) {
				whole[i] = nil
			}
		}
		if len(c.differences(ctx, whole, opts, p, n)) == 0 {
			return nil
		}
	}
	return c.differences(ctx, images, opts, p, n)
}

// isPart reports whether another stage is made of this one.
func (c *converter) isPart(stage int) bool {
	for i := stage + 1; i < len(c.images); i++ {
		if c.left[i] == nil && slices.Contains(c.below(i), stage) {
			return true
		}
	}
	return false
}

// differences compares images by stage; nil ones are not compared.
func (c *converter) differences(ctx context.Context, images []*schema.Image, opts compiler.Options, p probe, n int) []difference {
	plan := c.compileAll(ctx, images, opts)
	var bad []difference
	for i, img := range images {
		if img == nil {
			continue
		}
		want := c.wanted(ctx, n, p, i)
		if want.err != nil {
			continue
		}
		if diff := c.equal(ctx, plan, img, opts, want.targets); diff != "" {
			bad = append(bad, difference{stage: i, text: diff})
		}
	}
	return bad
}

// loaded are the images of a Spec by the index of the stage.
func (c *converter) loaded(img *schema.Image) []*schema.Image {
	last := len(c.images) - 1
	out := make([]*schema.Image, last+1)
	out[last] = img
	n := 0
	for i := range last {
		if c.left[i] == nil && n < len(img.Stages) {
			out[i] = img.Stages[n]
			n++
		}
	}
	return out
}

// compileAll compiles all stages at once, which is faster; nil where one of
// them does not compile.
func (c *converter) compileAll(ctx context.Context, images []*schema.Image, opts compiler.Options) map[*schema.Image][]compiler.Target {
	list := slices.DeleteFunc(slices.Clone(images), func(img *schema.Image) bool { return img == nil })
	plan, err := compiler.Compile(ctx, &schema.Spec{Images: list}, opts)
	if err != nil || len(list) == 0 || len(plan.Targets)%len(list) != 0 {
		return nil
	}
	each := len(plan.Targets) / len(list)
	out := map[*schema.Image][]compiler.Target{}
	for i, img := range list {
		out[img] = plan.Targets[i*each : (i+1)*each]
	}
	return out
}

// equal compares one stage; "" means that it is the same.
func (c *converter) equal(ctx context.Context, plan map[*schema.Image][]compiler.Target, img *schema.Image, opts compiler.Options, want []compiler.Target) string {
	got, ok := plan[img]
	if !ok {
		p, err := compiler.Compile(ctx, &schema.Spec{Images: []*schema.Image{img}}, opts)
		if err != nil {
			return err.Error()
		}
		got = p.Targets
	}
	if len(got) != len(want) {
		return fmt.Sprintf("%d platforms, and %d in the Dockerfile", len(got), len(want))
	}
	for i := range got {
		c.compared++
		if diff, ok := compiler.Equal(got[i], want[i]); !ok {
			return diff
		}
	}
	return ""
}

// first leaves only those stages that differ while none that they are made of
// does: the others may be equal once those are kept.
func (c *converter) first(bad []difference) []difference {
	differs := map[int]bool{}
	for _, d := range bad {
		differs[d.stage] = true
	}
	return slices.DeleteFunc(bad, func(d difference) bool {
		if c.kept[d.stage] != nil {
			return false
		}
		return slices.ContainsFunc(c.maybeBelow(d.stage), func(i int) bool { return differs[i] })
	})
}

// maybeBelow are the stages that a native stage refers to, or can pick.
func (c *converter) maybeBelow(stage int) []int {
	out := c.below(stage)
	from := c.images[stage].From
	switch {
	case from != nil && strings.HasPrefix(from.Ref, stageMark):
		p, _ := c.pickOf(c.file.stages[stage])
		out = append(out, p.stages...)
	case from != nil && from.Switch != nil:
		ch, _ := c.choiceOf(c.file.stages[stage])
		out = append(out, ch.stages...)
	}
	return out
}

// below are the stages that a native stage refers to.
func (c *converter) below(stage int) []int {
	var out []int
	add := func(from *schema.From) {
		if from == nil || from.Image == nil {
			return
		}
		if i := slices.Index(c.images, from.Image); i >= 0 {
			out = append(out, i)
		}
	}
	add(c.images[stage].From)
	for _, step := range c.images[stage].Steps {
		add(step.From)
		for _, m := range step.Mounts {
			add(m.From)
		}
	}
	return out
}
