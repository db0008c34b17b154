package dockerfilecompat

import (
	"context"
	"errors"
	"fmt"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/containerd/platforms"
	"github.com/distribution/reference"
	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/strata-build/strata/schema"
)

// ConvertRequest asks for the CUE of a Dockerfile. The context has to be a
// directory; named contexts are not converted.
type ConvertRequest struct {
	Request
	// File is the CUE file that is to be written; its directory has to be
	// there. "" is app.cue beside the Dockerfile.
	File string
	// Name is the label of the image; "" is made from the directory's name.
	Name string
	// Package is the package clause; "" is "build".
	Package string
}

// Conversion is a Dockerfile as CUE that was proven to mean the same.
type Conversion struct {
	CUE []byte
	// Image is the label of the image, which is the last stage; the others
	// are its stages. Targets are the targets of the CUE, as schema.Load
	// takes them, by the stages' names in the Dockerfile. A stage that asks
	// for TARGETSTAGE is none: it knows the last stage as the target.
	Image   string
	Targets map[string]string
	// Params are the arguments that became parameters.
	Params []string
	Stages []StageReport
	// Compared is how many pairs of targets were compared.
	Compared int
}

// StageReport says what became of one stage of the Dockerfile.
type StageReport struct {
	Name         string // in the CUE
	Line         int    // of FROM
	Instructions int
	// Native is true for a stage of native steps alone. Any other is kept as
	// a Dockerfile inside of the CUE; Reason says why, and KeptLine which
	// instruction is the reason, where it is one.
	Native   bool
	Reason   string
	KeptLine int
	// Left is true for a stage that cannot be built, and is not in the CUE.
	Left bool
}

// DifferenceError reports that no CUE was found that means the same as the
// Dockerfile. Nothing may be written then.
type DifferenceError struct {
	File, Stage string
	Difference  string
}

// Error implements error.
func (e *DifferenceError) Error() string {
	return fmt.Sprintf("%s: the CUE of stage %s would mean something else: %s", e.File, e.Stage, e.Difference)
}

// Convert turns a Dockerfile into CUE that a person would have written, and
// proves it: each stage of both is compiled and compared, and what differs, or
// has no native form, stays a Dockerfile. See the package's documentation.
func Convert(ctx context.Context, req ConvertRequest) (*Conversion, error) {
	c, err := newConverter(ctx, req)
	if err != nil {
		return nil, err
	}
	if err := c.compileDockerfile(ctx); err != nil {
		return nil, err
	}
	cue, err := c.settle(ctx)
	if err != nil {
		return nil, err
	}
	return c.conversion(cue), nil
}

// converter is one conversion.
type converter struct {
	req  ConvertRequest
	s    *session
	file *dockerfile
	*lifter
	want [][]wanted // what each stage of the Dockerfile is, per probe
	kept map[int]*unliftable
	left map[int]error // stages that cannot be built

	tried    []probe // what probes returned
	sessions map[sessionKey]*session
	compared int
}

func newConverter(ctx context.Context, req ConvertRequest) (*converter, error) {
	if req.URL != "" || len(req.Contexts) > 0 {
		return nil, errors.New("only a Dockerfile of this machine, without other contexts, can be converted")
	}
	if err := req.complete(); err != nil {
		return nil, err
	}
	s, err := open(ctx, req.Request)
	if err != nil {
		return nil, err
	}
	c := &converter{req: req, s: s, kept: map[int]*unliftable{}, left: map[int]error{}, sessions: map[sessionKey]*session{}}
	if c.file, err = parse(s.src.Data); err != nil {
		return nil, sourceError(s.req.Filename, s.src.Data, err)
	}
	if len(c.file.stages) == 0 {
		return nil, sourceError(s.req.Filename, s.src.Data, errors.New("dockerfile contains no stages to build"))
	}
	c.lifter = &lifter{file: c.file, words: wordLexer{c.file.escape}, dir: req.Context, texts: &brokenTexts{}}
	c.build = platforms.Normalize(s.g.buildPlatform())
	if c.targets = req.Platforms; len(c.targets) == 0 {
		c.targets = []ocispecs.Platform{c.build}
	}
	return c, c.setParams(nil)
}

// setParams finds the parameters, some of which have another name.
func (c *converter) setParams(renamed map[string]string) (err error) {
	c.tried = nil
	if c.params, err = newParams(c.file, c.s.bc.BuildArgs, renamed, c.build); err != nil {
		return sourceError(c.s.req.Filename, c.s.src.Data, err)
	}
	return nil
}

// complete fills in what has a default, and makes paths absolute.
func (r *ConvertRequest) complete() (err error) {
	if r.File == "" {
		dir := r.Dir
		if dir == "" {
			dir = r.Context
		}
		r.File = filepath.Join(dir, "app.cue")
	}
	if r.File, err = filepath.Abs(r.File); err != nil {
		return err
	}
	if r.Context == "" {
		r.Context = filepath.Dir(r.File)
	}
	if r.Context, err = filepath.Abs(r.Context); err != nil {
		return err
	}
	if r.Name == "" {
		r.Name = imageName(filepath.Base(r.Context))
	}
	return nil
}

// notInNames is what the name of an image cannot have.
var notInNames = regexp.MustCompile(`[^a-z0-9._-]+`)

// imageName makes a label of a directory's name: one that is an image's name
// too.
func imageName(dir string) string {
	name := strings.Trim(notInNames.ReplaceAllString(strings.ToLower(dir), "-"), "-_.")
	if name == "" {
		return "app"
	}
	return name
}

// settle proposes CUE until it means the same as the Dockerfile: each time a
// stage is kept that differs, so it ends.
func (c *converter) settle(ctx context.Context) ([]byte, error) {
	for {
		cue, err := c.propose()
		if err != nil {
			return nil, err
		}
		bad, err := c.prove(ctx, cue)
		if err != nil {
			return nil, err
		}
		if len(bad) == 0 {
			return cue, nil
		}
		if err := c.keep(bad); err != nil {
			return nil, err
		}
	}
}

// keep marks stages to be kept.
func (c *converter) keep(bad []difference) error {
	for _, d := range bad {
		if c.kept[d.stage] != nil {
			return &DifferenceError{File: c.req.Filename, Stage: c.file.stages[d.stage].name(), Difference: d.text}
		}
	}
	for _, d := range bad {
		c.kept[d.stage] = &unliftable{line: d.line, reason: d.text}
	}
	return nil
}

// propose prints CUE for the Dockerfile with the present set of kept stages.
func (c *converter) propose() ([]byte, error) {
	c.comments, c.images = map[schema.Node]string{}, nil
	for range c.file.stages {
		c.images = append(c.images, &schema.Image{})
	}
	last := len(c.images) - 1
	names := c.stageNames()
	for i := range c.file.stages {
		c.images[i].Name = names[i]
		if i < last && c.left[i] == nil {
			c.images[last].Stages = append(c.images[last].Stages, c.images[i])
		}
	}
	c.images[last].Name = c.req.Name
	for i, st := range c.file.stages {
		if c.left[i] != nil {
			continue
		}
		if c.kept[i] == nil {
			var u *unliftable
			if err := c.lift(st); errors.As(err, &u) {
				c.kept[i] = u
			}
		}
		if c.kept[i] != nil {
			c.keepText(st)
		}
	}
	return c.print()
}

// stageNames are the labels of the stages. One without a name is called as the
// image that it starts from, if no other is.
func (c *converter) stageNames() []string {
	names, taken := make([]string, len(c.file.stages)), map[string]bool{}
	for i, st := range c.file.stages {
		if st.Name != "" {
			names[i] = uniqueName(st.Name, taken)
		}
	}
	for i, st := range c.file.stages {
		if st.Name != "" {
			continue
		}
		name := c.baseName(st)
		if name == "" || taken[name] {
			name = st.name()
		}
		names[i] = uniqueName(name, taken)
	}
	return names
}

// baseName is the name of the image that a stage starts from, without its
// repository and tag; "" where arguments tell the image, and where it has no
// tag: then a stage and an image would be called the same.
func (c *converter) baseName(st *source) string {
	named, err := reference.ParseNormalizedNamed(st.BaseName)
	if err != nil || c.words.variables(st.BaseName) || reference.IsNameOnly(named) {
		return ""
	}
	return path.Base(reference.Path(named))
}

// uniqueName is a name that no other stage has: the same name may be given to
// several, of which the last counts for those below it.
func uniqueName(name string, taken map[string]bool) string {
	unique := name
	for n := 2; taken[unique]; n++ {
		unique = name + strconv.Itoa(n)
	}
	taken[unique] = true
	return unique
}

// print prints the document.
func (c *converter) print() ([]byte, error) {
	doc := &schema.Document{
		Package: c.req.Package, Comment: c.file.header, Params: c.fields(),
		Images: c.images[len(c.images)-1:], Comments: c.comments, Dir: filepath.Dir(c.req.File),
	}
	cue, err := schema.Print(doc)
	if err != nil {
		return nil, fmt.Errorf("convert %s: %w", c.req.Filename, err)
	}
	return c.texts.restore(append(cue, commented(c.file.trailer)...))
}

// commented is a comment below everything else.
func commented(text string) string {
	if text == "" {
		return ""
	}
	return "\n// " + strings.ReplaceAll(text, "\n", "\n// ") + "\n"
}

// fields are the parameters as the document has them.
func (c *converter) fields() []schema.Param {
	out := c.usedParams()
	for i := range out {
		out[i].Name = c.params.field(out[i].Name)
	}
	return out
}

// usedParams are the parameters that the images refer to, and those that the
// defaults of these refer to.
func (c *converter) usedParams() []schema.Param {
	used := map[string]bool{}
	text := strings.Join(c.mentioned(), "\n")
	for _, p := range c.params.list {
		used[p.Name] = c.params.mentions(text, p.Name)
	}
	for changed := true; changed; {
		changed = false
		for _, p := range c.params.list {
			for _, q := range c.params.list {
				if used[p.Name] && !used[q.Name] && c.params.mentions(p.Default, q.Name) {
					used[q.Name], changed = true, true
				}
			}
		}
	}
	var out []schema.Param
	for _, p := range c.params.list {
		if used[p.Name] {
			out = append(out, p)
		}
	}
	return out
}

// conversion is the result.
func (c *converter) conversion(cue []byte) *Conversion {
	out := &Conversion{CUE: cue, Image: c.req.Name, Targets: map[string]string{}, Compared: c.compared}
	for _, p := range c.usedParams() {
		out.Params = append(out.Params, p.Name)
	}
	last := len(c.file.stages) - 1
	for i, st := range c.file.stages {
		r := StageReport{Name: c.images[i].Name, Line: st.Location[0].Start.Line, Instructions: 1 + len(st.commands), Native: true}
		if u := c.kept[i]; u != nil {
			r.Native, r.Reason, r.KeptLine = false, u.reason, u.line
		}
		if err := c.left[i]; err != nil {
			r.Native, r.Left, r.Reason = false, true, err.Error()
		}
		out.Stages = append(out.Stages, r)
		target := c.req.Name
		if i < last {
			target += ".stages." + c.images[i].Name
		}
		if st.Name != "" && !r.Left && (i == last || !c.knowsTarget(st)) {
			out.Targets[st.Name] = target
		}
	}
	return out
}

// knowsTarget reports whether a stage, or one that it is made of, declares
// TARGETSTAGE.
func (c *converter) knowsTarget(st *source) bool {
	needed, ok := c.needs(st)
	for _, s := range c.file.stages[:st.index+1] {
		if ok && !slices.Contains(needed, s.index) {
			continue
		}
		for _, in := range s.commands {
			arg, isArg := in.cmd.(*instructions.ArgCommand)
			if isArg && slices.ContainsFunc(arg.Args, func(a instructions.KeyValuePairOptional) bool { return a.Key == targetStage }) {
				return true
			}
		}
	}
	return false
}

// mentioned are the strings of the images that may refer to parameters.
func (c *converter) mentioned() []string {
	var out []string
	for i, img := range c.images {
		if c.left[i] != nil {
			continue
		}
		out = append(out, img.Platform)
		img.From.Each(func(f *schema.From) {
			out = append(out, f.Ref)
			if f.Switch != nil {
				out = append(out, f.Switch.Word)
			}
		})
		for _, a := range img.Args {
			out = append(out, a.Value)
		}
		for _, step := range img.Steps {
			for _, a := range step.Arg {
				out = append(out, a.Value)
			}
		}
	}
	return out
}
