package dockerfilecompat

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/containerd/platforms"
	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/strata-build/strata/schema"
)

// lifter turns the stages of a Dockerfile into images. What it makes of one is
// a proposal, which is compared with the Dockerfile afterwards; so it is free
// to try.
type lifter struct {
	file   *dockerfile
	words  wordLexer
	dir    string // the context
	params *params
	images []*schema.Image // by stage
	// build is the platform that the build runs on, and targets are those
	// that images are asked for.
	build   ocispecs.Platform
	targets []ocispecs.Platform
	// comments are those of the document, and texts the commands that are to
	// be printed in several lines, by their place holder.
	comments map[schema.Node]string
	texts    *brokenTexts
	// given are the arguments that are declared so far in the stage, and have
	// the value of a parameter whatever else is given.
	given map[string]string
}

// unliftable is why an instruction has no native form.
type unliftable struct {
	line   int
	reason string
}

func (u *unliftable) Error() string { return u.reason }

func cannot(format string, args ...any) error {
	return &unliftable{reason: fmt.Sprintf(format, args...)}
}

// lift makes an image of a stage; the stages before it are there already.
func (l *lifter) lift(st *source) error {
	img := l.images[st.index]
	*img = schema.Image{Name: img.Name, Stages: img.Stages, Context: l.dir}
	if strings.Contains(strings.Join(l.file.raw[st.first-1:st.last], ""), "\x00") {
		return at(st.Location[0].Start.Line, cannot("a NUL byte has no place in CUE"))
	}
	if err := l.base(img, st); err != nil {
		return at(st.Location[0].Start.Line, err)
	}
	l.comment(l.head(img), st.comment)
	l.comment(schema.End{Of: img}, st.end)
	l.given = map[string]string{}
	var items []item
	for _, in := range st.commands {
		it, err := l.item(in, st)
		if err != nil {
			return at(in.first, err)
		}
		if it.cmd = in.cmd; !l.merge(items, it) {
			items = append(items, it)
		}
	}
	l.place(img, items)
	return nil
}

// at adds the line to what keeps an instruction from being lifted.
func at(line int, err error) error {
	var u *unliftable
	if errors.As(err, &u) {
		u.line = line
		return err
	}
	return &unliftable{line: line, reason: err.Error()}
}

// head is where the comment above a FROM belongs: to the image, or, where
// stages are between, to what it starts from.
func (l *lifter) head(img *schema.Image) schema.Node {
	switch {
	case len(img.Stages) == 0 || img.From == nil:
		return img
	case img.Platform != "":
		return schema.Field{Of: img, Name: "platform"}
	}
	return schema.Field{Of: img, Name: "from"}
}

func (l *lifter) comment(n schema.Node, text string) {
	if text != "" {
		l.comments[n] = join(l.comments[n], text)
	}
}

// base sets what a stage starts from, and its platform.
func (l *lifter) base(img *schema.Image, st *source) error {
	name, err := l.params.evaluate(st.BaseName)
	if err != nil {
		return err
	}
	below, isStage := l.file.stageNamed(name, st.index)
	if isStage && !l.words.variables(st.BaseName) {
		img.From = &schema.From{Image: l.images[below.index]}
		return nil
	}
	if chosen, err := l.byArgument(img, st, isStage); chosen || err != nil {
		return err
	}
	if name == "scratch" && !l.words.variables(st.BaseName) {
		return nil
	}
	ref, err := l.params.expand(st.BaseName)
	if err != nil {
		return err
	}
	img.From = &schema.From{Ref: l.reference(ref)}
	img.Platform, err = l.platform(st.Platform)
	return err
}

// byArgument sets that arguments tell the stage to start from. False is a FROM
// that names an image.
func (l *lifter) byArgument(img *schema.Image, st *source, isStage bool) (bool, error) {
	if !l.words.variables(st.BaseName) {
		return false, nil
	}
	if _, ok := l.pickOf(st); ok && isStage {
		name, err := l.params.expand(st.BaseName)
		img.From = &schema.From{Ref: stageMark + name}
		return true, err
	}
	chosen, err := l.choose(img, st)
	switch {
	case err != nil:
		return false, err
	case chosen && img.From.Switch.Default != nil && st.Platform != "":
		return false, cannot("its platform counts only where no stage is chosen")
	case !chosen && isStage:
		return false, cannot("an argument picks the stage that it starts from in a way that only a Dockerfile can say")
	}
	return chosen, nil
}

// reference tells an image of a registry from the stage of the same name.
func (l *lifter) reference(ref string) string {
	for _, st := range l.file.stages {
		if st.name() == ref || l.images[st.index].Name == ref {
			return ref + ":latest"
		}
	}
	return ref
}

// platform is the value of --platform.
func (l *lifter) platform(word string) (string, error) {
	switch {
	case word == "":
		return "", nil
	case l.params.platform(word, "BUILDPLATFORM"):
		return "build", nil
	case l.params.platform(word, "TARGETPLATFORM"):
		return "target", nil
	case l.words.variables(word):
		if m := variableForm.FindStringSubmatch(word); m != nil && m[0] == word && strings.HasSuffix(m[3], "-") && l.params.platform("$"+m[2], m[2]) && strings.HasSuffix(m[2], "PLATFORM") {
			return l.platform("$" + m[2]) // a default for an argument that is always given
		}
		return l.params.expand(word)
	}
	p, err := platforms.Parse(word)
	if err != nil {
		return "", err
	}
	return platforms.FormatAll(p), nil
}

// item is a lifted instruction: a step, or a part of the config. ONBUILD has
// no place among the others.
type item struct {
	cmd     instructions.Command
	comment string
	entries map[string]string // comments of variables and labels
	field   string            // the name of the field, for config and arguments
	expand  bool
	step    *schema.Step
	config  *schema.Config
	arg     []schema.Var
}

// item lifts one instruction.
func (l *lifter) item(in instruction, st *source) (item, error) {
	it := item{comment: in.comment}
	var err error
	above := in.notes()
	switch c := in.cmd.(type) {
	case *instructions.RunCommand:
		it.step, above, err = l.run(in, c, st)
	case *instructions.CopyCommand:
		it.step, err = l.copy(c, st)
	case *instructions.AddCommand:
		it.step, err = l.add(c)
	case *instructions.ArgCommand:
		it.field = "args"
		it.arg, it.expand, err = l.arg(c)
	case *instructions.EnvCommand:
		it.entries, above = l.file.entries(in)
		err = l.config(in, &it)
	case *instructions.LabelCommand:
		it.entries, above = l.file.entries(in)
		err = l.config(in, &it)
	default:
		err = l.config(in, &it)
	}
	it.comment = join(it.comment, above)
	return it, err
}

// arg lifts ARG. A default that is the same wherever the argument is declared
// is the parameter of that name.
func (l *lifter) arg(c *instructions.ArgCommand) ([]schema.Var, bool, error) {
	x := l.expansion()
	for _, a := range c.Args {
		if a.Value != nil {
			x.look(*a.Value)
		}
	}
	var vars []schema.Var
	for _, a := range c.Args {
		if slices.ContainsFunc(vars, func(v schema.Var) bool { return v.Name == a.Key }) {
			return nil, false, cannot("%s is declared twice in one ARG", a.Key)
		}
		v := schema.Var{Name: a.Key, Unset: a.Value == nil}
		if a.Value != nil {
			v.Value = x.word(*a.Value)
		}
		switch {
		case a.Value == nil && a.Key == targetStage && l.params.builtin[targetStage]:
			v.Unset, v.Value = false, l.target()
		case a.Value == nil && l.params.inherited(a.Key) && l.params.varying[a.Key]:
			return nil, false, cannot("the default of %s depends on the platform", a.Key)
		case a.Value == nil && l.params.inherited(a.Key) && l.params.opaque[a.Key]:
			return nil, false, cannot("the default of %s depends on other arguments in a way that only a Dockerfile can say", a.Key)
		case x.expand:
			if a.Value == nil && l.params.inherited(a.Key) {
				return nil, false, cannot("one ARG both inherits a value and expands another")
			}
		case l.params.has(a.Key) && !l.params.blank[a.Key] && (a.Value == nil || v.Value == l.params.value[a.Key]):
			v.Unset, v.Value = false, l.params.ref(a.Key)
		case a.Value == nil && l.params.inherited(a.Key):
			v.Unset, v.Value = false, l.params.value[a.Key]
		}
		vars = append(vars, v)
	}
	l.note(vars, x.expand)
	return vars, x.expand, x.err
}

// overwrite notes that variables take the place of arguments.
func (l *lifter) overwrite(words instructions.KeyValuePairs, vars []schema.Var) {
	for _, v := range vars {
		delete(l.given, v.Name)
	}
	if slices.ContainsFunc(words, func(kv instructions.KeyValuePair) bool { return l.words.variables(kv.Key) }) {
		clear(l.given) // who knows which
	}
}

// note notes which declared arguments have the value of a parameter.
func (l *lifter) note(vars []schema.Var, expand bool) {
	for _, v := range vars {
		delete(l.given, v.Name)
		if !expand && !frontEndArg(v.Name) && l.params.has(v.Name) && v.Value == l.params.ref(v.Name) {
			l.given[v.Name] = v.Value
		}
	}
}

// targetStage is the argument that tells the stage which is built. In CUE
// that is the image, so it is a constant there.
const targetStage = "TARGETSTAGE"

// target is the value of TARGETSTAGE when the last stage is built.
func (l *lifter) target() string {
	if name := l.file.stages[len(l.file.stages)-1].Name; name != "" {
		return name
	}
	return "default"
}

// expansion decides for all words of one instruction whether they are
// expanded, and writes them so that they mean the same.
type expansion struct {
	lexer  wordLexer
	expand bool
	err    error
	// given are arguments that need no expansion: their parameters stand for
	// them.
	given map[string]string
}

func (l *lifter) expansion() *expansion { return &expansion{lexer: l.words} }

// look notes whether words have to be expanded.
func (x *expansion) look(words ...string) {
	for _, w := range words {
		_, ok := x.interpolated(w)
		x.expand = x.expand || x.lexer.variables(w) && !ok
	}
}

// interpolated is a word whose variables all are parameters, with these in
// their place.
func (x *expansion) interpolated(word string) (string, bool) {
	if !x.lexer.variables(word) {
		return "", false
	}
	if inner, ok := strings.CutPrefix(word, `"`); ok {
		word = strings.TrimSuffix(inner, `"`)
	}
	if strings.ContainsAny(word, "'\"\\`") || strings.Count(word, "$") != len(plainVariable.FindAllString(word, -1)) {
		return "", false
	}
	known := true
	out := plainVariable.ReplaceAllStringFunc(word, func(v string) string {
		value, ok := x.given[strings.Trim(v, "${}")]
		known = known && ok
		return value
	})
	return out, known
}

// filled are the given arguments for a copy. There are none where a path is
// nothing but arguments, which may be empty, or where the step has words that
// are checked before the arguments are known.
func (l *lifter) filled(paths instructions.SourcesAndDest, owner string, checked ...string) map[string]string {
	if slices.ContainsFunc(checked, l.words.variables) {
		return nil
	}
	for _, w := range append([]string{paths.DestPath, owner}, paths.SourcePaths...) {
		if l.words.variables(w) && strings.Trim(plainVariable.ReplaceAllString(w, ""), `"`) == "" {
			return nil
		}
	}
	return l.given
}

// numbers are the given arguments that are numbers by default: a port is
// checked before its argument is known.
func (l *lifter) numbers() map[string]string {
	out := map[string]string{}
	for name, value := range l.given {
		if _, err := strconv.ParseUint(l.params.value[name], 10, 16); err == nil {
			out[name] = value
		}
	}
	return out
}

// word is a word as the step has it: literal, or as in the Dockerfile where
// the step is expanded. The step's escape character is always the backslash.
func (x *expansion) word(w string) string {
	if !x.expand {
		if out, ok := x.interpolated(w); ok {
			return out
		}
		out, err := x.lexer.literal(w)
		if err != nil && x.err == nil {
			x.err = err
		}
		return out
	}
	if x.lexer.escape != '\\' {
		w = x.lexer.backslashed(w)
		y := expansion{lexer: wordLexer{'\\'}, expand: true}
		return y.unquoted(w)
	}
	return x.unquoted(w)
}

// unquoted leaves out quotes that change nothing where a word is expanded.
func (x *expansion) unquoted(w string) string {
	const special = "$\\'\"`"
	if !x.lexer.variables(w) {
		if out, err := x.lexer.literal(w); err == nil && !strings.ContainsAny(out, special) {
			return out
		}
		return w
	}
	inner, ok := strings.CutPrefix(w, `"`)
	if inner, ok = strings.CutSuffix(inner, `"`); ok && len(inner) == len(w)-2 && !strings.ContainsAny(inner, "\\'\"`") {
		return inner
	}
	return w
}

func (x *expansion) list(words []string) []string {
	out := make([]string, len(words))
	for i, w := range words {
		out[i] = x.word(w)
	}
	return out
}

// text is the content of a file, in which quotes do not count. One that is
// not to be expanded is escaped where the step is.
func (x *expansion) text(data string, expands bool) string {
	switch {
	case !x.expand && expands:
		return strings.NewReplacer(`\\`, `\`, `\$`, `$`, `\`, ``).Replace(data)
	case x.expand && !expands:
		return strings.NewReplacer(`\`, `\\`, `$`, `\$`).Replace(data)
	}
	return data
}
