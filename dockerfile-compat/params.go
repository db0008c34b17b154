package dockerfilecompat

import (
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/containerd/platforms"
	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/shell"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/strata-build/strata/schema"
)

// params are the arguments of a Dockerfile that become fields with a @tag: the
// global ones, and those that have the same default in every stage which
// declares them.
type params struct {
	lexer wordLexer
	list  []schema.Param
	value map[string]string // defaults, with references to other parameters
	// globals are the arguments that FROM sees, with the values that they
	// have here.
	globals  *llb.EnvList
	declared map[string]bool // global arguments
	builtin  map[string]bool // platform arguments that nobody declared
	varying  map[string]bool // global arguments whose default depends on the platform
	// opaque are global arguments whose default depends on others in a way
	// that CUE has no form for.
	opaque map[string]bool
	// blank are global arguments without a default: FROM sees nothing there,
	// and stages that declare them have no value.
	blank map[string]bool
	// renamed are the names of the fields that are not called as the
	// argument: in one document, another Dockerfile has another default.
	renamed map[string]string
}

// newParams finds the parameters. args are given from outside.
func newParams(f *dockerfile, args, renamed map[string]string, build ocispecs.Platform) (*params, error) {
	p := &params{
		lexer: wordLexer{f.escape}, value: map[string]string{},
		globals: &llb.EnvList{}, declared: map[string]bool{}, builtin: map[string]bool{},
		varying: map[string]bool{}, blank: map[string]bool{}, opaque: map[string]bool{}, renamed: renamed,
	}
	for name, value := range platformArgs(build) {
		p.builtin[name] = true
		p.globals = p.globals.AddOrReplace(name, value)
	}
	for _, in := range f.globals {
		if c, ok := in.cmd.(*instructions.ArgCommand); ok {
			if err := p.addGlobal(c, in.comment, args); err != nil {
				return nil, err
			}
		}
	}
	p.addLocals(f)
	return p, nil
}

// platformArgs are the arguments that are there without being declared.
func platformArgs(p ocispecs.Platform) map[string]string {
	args := map[string]string{"TARGETSTAGE": "default"}
	for _, side := range []string{"BUILD", "TARGET"} {
		args[side+"PLATFORM"] = platforms.Format(p)
		args[side+"OS"] = p.OS
		args[side+"OSVERSION"] = p.OSVersion
		args[side+"ARCH"] = p.Architecture
		args[side+"VARIANT"] = p.Variant
	}
	return args
}

// addGlobal adds the arguments of an ARG above the first FROM.
func (p *params) addGlobal(c *instructions.ArgCommand, comment string, args map[string]string) error {
	for _, a := range c.Args {
		value, given := args[a.Key]
		if a.Value != nil && !given {
			res, err := shell.NewLex(p.lexer.escape).ProcessWordWithMatches(*a.Value, p.globals)
			if err != nil {
				return err
			}
			value = res.Result
			for name := range res.Matched {
				p.varying[a.Key] = p.varying[a.Key] || p.builtin[name] || p.varying[name]
			}
		}
		again := p.declared[a.Key]
		if a.Value != nil || given {
			p.globals = p.globals.AddOrReplace(a.Key, value)
			delete(p.builtin, a.Key)
			p.declared[a.Key] = true
		}
		if a.Value == nil && !given {
			p.addBlank(a.Key)
			continue
		}
		delete(p.blank, a.Key)
		p.setGlobal(a, value, again)
		if i := p.index(a.Key); i >= 0 {
			p.list[i].Comment = join(p.list[i].Comment, comment)
		}
		comment = ""
	}
	return nil
}

// setGlobal makes a parameter of a global argument. One that is declared
// again has two values, of which only the last is known here.
func (p *params) setGlobal(a instructions.KeyValuePairOptional, value string, again bool) {
	text := value
	if a.Value != nil {
		if expanded, err := p.expand(*a.Value); err == nil && !strings.Contains(expanded, "$") && !again {
			text = expanded
		} else {
			p.opaque[a.Key] = p.lexer.variables(*a.Value)
		}
	}
	p.value[a.Key] = text
	if !canBeField(a.Key) {
		return
	}
	param := schema.Param{Name: a.Key, Default: text, Required: a.Value == nil}
	if i := p.index(a.Key); i >= 0 {
		param.Comment = p.list[i].Comment
		p.list = slices.Delete(p.list, i, i+1)
	}
	p.list = append(p.list, param)
}

// addBlank makes a parameter of a global argument without a value. Only FROM
// refers to it.
func (p *params) addBlank(name string) {
	if p.declared[name] || p.builtin[name] || p.has(name) || !canBeField(name) {
		return
	}
	p.blank[name] = true
	p.list = append(p.list, schema.Param{Name: name})
}

func (p *params) index(name string) int {
	return slices.IndexFunc(p.list, func(q schema.Param) bool { return q.Name == name })
}

// addLocals adds the arguments that stages declare with one and the same
// default.
func (p *params) addLocals(f *dockerfile) {
	defaults := map[string]map[string]bool{}
	var order []string
	for _, st := range f.stages {
		for _, in := range st.commands {
			c, ok := in.cmd.(*instructions.ArgCommand)
			if !ok {
				continue
			}
			for _, a := range c.Args {
				if defaults[a.Key] == nil {
					defaults[a.Key] = map[string]bool{}
					order = append(order, a.Key)
				}
				defaults[a.Key][p.fixed(a)] = true
			}
		}
	}
	for _, name := range order {
		values := slices.Collect(maps.Keys(defaults[name]))
		if len(values) != 1 || values[0] == noValue || p.declared[name] || p.blank[name] || p.builtin[name] || frontEndArg(name) || !canBeField(name) {
			continue
		}
		p.value[name] = values[0]
		p.list = append(p.list, schema.Param{Name: name, Default: values[0]})
	}
}

// fieldName is a name that a @tag can have.
var fieldName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// canBeField reports whether an argument can be a parameter. The names under
// which the schema is imported are taken.
func canBeField(name string) bool {
	return fieldName.MatchString(name) && name != "b" && name != "build" && name != "strata"
}

// noValue stands for an argument without a default, or with one that depends
// on others: no argument can hold it.
const noValue = "\x00"

// fixed is the default of an argument, where it is a plain one.
func (p *params) fixed(a instructions.KeyValuePairOptional) string {
	if a.Value == nil || p.lexer.variables(*a.Value) {
		return noValue
	}
	out, err := p.lexer.literal(*a.Value)
	if err != nil {
		return noValue
	}
	return out
}

// field is the name of the field that an argument is.
func (p *params) field(name string) string {
	if other, ok := p.renamed[name]; ok {
		return other
	}
	return name
}

// ref is a reference to a parameter.
func (p *params) ref(name string) string { return schema.ParamRef(p.field(name)) }

// mentions reports whether a text refers to a parameter.
func (p *params) mentions(text, name string) bool {
	field := p.field(name)
	return strings.Contains(text, schema.ParamRef(field)) || strings.Contains(text, schema.ParamIf(field, "", "")[:len(field)+2])
}

// has reports whether an argument is a parameter.
func (p *params) has(name string) bool { return p.index(name) >= 0 }

// inherited reports whether a stage that declares the argument without a
// default gets a value from above the first FROM.
func (p *params) inherited(name string) bool { return p.declared[name] }

// platform reports whether a word is nothing but one platform argument.
func (p *params) platform(word, name string) bool {
	return p.builtin[name] && (word == "$"+name || word == "${"+name+"}")
}

// evaluate is a word of FROM with the values that the arguments have here.
func (p *params) evaluate(word string) (string, error) {
	return expandIn(word, p.globals, p.lexer.escape)
}

// plainVariable is $NAME or ${NAME}; any other $ is a form that only the
// lexer of Dockerfiles has.
var plainVariable = regexp.MustCompile(`\$(?:([A-Za-z_][A-Za-z0-9_]*)|\{([A-Za-z_][A-Za-z0-9_]*)\})`)

// expand writes a word of FROM, or of a global ARG, with references to
// parameters. Platform arguments stay: `from` and `platform` know them.
func (p *params) expand(word string) (string, error) {
	if !p.lexer.variables(word) {
		return p.lexer.literal(word)
	}
	if strings.ContainsAny(word, "'\"\\`") || strings.Count(word, "$") != len(variableForm.FindAllString(word, -1)) {
		return p.quoted(word)
	}
	var err error
	out := variableForm.ReplaceAllStringFunc(word, func(text string) string {
		m := variableForm.FindStringSubmatch(text)
		value, e := p.variable(m[1]+m[2], m[3], m[4], text)
		if e != nil && err == nil {
			err = e
		}
		return value
	})
	return out, err
}

// variable is one argument in a word, with its modifier: what stands there
// depends on whether it is empty, or is given at all.
func (p *params) variable(name, modifier, text, whole string) (string, error) {
	global := p.declared[name] || p.blank[name]
	switch {
	case p.builtin[name] && modifier == "":
		return "${" + name + "}", nil
	case p.builtin[name]:
		return whole, nil
	case p.varying[name]:
		return "", cannot("the default of %s depends on the platform", name)
	case p.opaque[name]:
		return "", cannot("the default of %s depends on other arguments in a way that only a Dockerfile can say", name)
	case p.declared[name] && !p.has(name):
		return "", cannot("%s cannot be the name of a parameter", name)
	case !global && strings.HasSuffix(modifier, "-"):
		return text, nil
	case !global:
		return "", nil
	case p.blank[name] && (modifier == "-" || modifier == "+"):
		return "", cannot("%s depends on whether %s is given", whole, name)
	}
	field := p.field(name)
	switch modifier {
	case ":-":
		return schema.ParamIf(field, schema.ParamRef(field), text), nil
	case ":+":
		return schema.ParamIf(field, text, ""), nil
	case "+":
		return text, nil
	}
	return schema.ParamRef(field), nil
}

// quoted is a word with quotes, or with a form that only the lexer of
// Dockerfiles has. It is what it is here where no argument counts for it.
func (p *params) quoted(word string) (string, error) {
	if n := strings.Count(word, `"`); n > 0 && n%2 == 0 && !strings.ContainsAny(word, "'\\`") {
		return p.expand(strings.ReplaceAll(word, `"`, ""))
	}
	res, err := shell.NewLex(p.lexer.escape).ProcessWordWithMatches(word, p.globals)
	if err != nil {
		return "", err
	}
	names := make([]string, 0, len(res.Matched)+len(res.Unmatched))
	names = slices.AppendSeq(names, maps.Keys(res.Matched))
	names = slices.AppendSeq(names, maps.Keys(res.Unmatched))
	for _, name := range names {
		if p.builtin[name] || p.declared[name] || p.has(name) {
			return "", cannot("%s depends on %s in a way that only a Dockerfile can say", word, name)
		}
	}
	return res.Result, nil
}
