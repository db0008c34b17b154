package schema

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"cuelang.org/go/cue"
	"cuelang.org/go/cue/ast"
	"cuelang.org/go/cue/build"
	"cuelang.org/go/cue/load"
)

// takeBuildArgs sets the tags that are build arguments.
func (s *session) takeBuildArgs() {
	if len(s.opts.BuildArgs) == 0 {
		return
	}
	p := &program{session: s, schema: hollowSchema, surveys: map[*build.Instance]*survey{}}
	var all []*build.Instance
	for _, g := range s.groups {
		for _, inst := range load.Instances(g.args, s.config(g, p.schema, nil)) {
			p.surveyAll(inst)
			all = append(all, inst)
		}
	}
	var tags []string
	for _, name := range slices.Sorted(maps.Keys(s.opts.BuildArgs)) {
		if _, ok := p.findTag(all, name); ok && !isSet(s.opts.Tags, name) {
			tags = append(tags, name+"="+s.opts.BuildArgs[name])
		}
	}
	s.opts.Tags = append(slices.Clone(s.opts.Tags), tags...)
}

// isSet reports whether a tag is among those that are set.
func isSet(tags []string, name string) bool {
	return slices.ContainsFunc(tags, func(arg string) bool {
		given, _, _ := strings.Cut(arg, "=")
		return given == name
	})
}

// tagsFor are the tags that a group takes. CUE refuses those that none of the
// packages it loads declares; with several groups another one may have them.
func (p *program) tagsFor(g *group) ([]string, error) {
	tags := p.session.opts.Tags
	if len(p.session.groups) == 1 || len(tags) == 0 {
		return tags, nil
	}
	var all, own []*build.Instance
	for _, other := range p.session.groups {
		insts := load.Instances(other.args, p.session.config(other, p.schema, nil))
		for _, inst := range insts {
			p.surveyAll(inst)
		}
		all = append(all, insts...)
		if other == g {
			own = insts
		}
	}
	if err := p.checkTags(all); err != nil {
		return nil, err
	}
	return slices.DeleteFunc(slices.Clone(tags), func(arg string) bool {
		name, _, ok := strings.Cut(arg, "=")
		_, found := p.findTag(own, name)
		return ok && !found
	}), nil
}

// checkTags refuses tags that no package declares, and values of the wrong
// type, before CUE does so without a place.
func (p *program) checkTags(insts []*build.Instance) error {
	var errs Errors
	for _, arg := range p.session.opts.Tags {
		name, value, ok := strings.Cut(arg, "=")
		if !ok {
			continue
		}
		field, found := p.findTag(insts, name)
		switch {
		case !found && slices.ContainsFunc(insts, func(i *build.Instance) bool { return len(i.Files) == 0 }):
			continue // the file cannot be read: that is the error
		case !found:
			errs = append(errs, p.unknownTag(insts, name))
		case !tagTakes(field.kind, value):
			e := p.errorAt(nodeSpan(field.field.Label), fmt.Sprintf("the tag %q takes %s, not %q", name, article(field.kind), value))
			errs = append(errs, e)
		}
	}
	return errs.sorted()
}

func (p *program) findTag(insts []*build.Instance, name string) (tagField, bool) {
	for _, inst := range insts {
		if t, ok := p.surveys[inst].tag(name); ok {
			return t, true
		}
	}
	return tagField{}, false
}

func (p *program) unknownTag(insts []*build.Instance, name string) *Error {
	var names []string
	for _, inst := range insts {
		for _, t := range p.surveys[inst].tags {
			names = append(names, t.name)
		}
	}
	e := &Error{Message: fmt.Sprintf("there is no @tag(%s) to set", name), Hint: didYouMean(name, names)}
	if len(names) > 0 {
		slices.Sort(names)
		e.Allowed = strings.Join(slices.Compact(names), ", ")
	} else {
		e.Hint = fmt.Sprintf("declare it as a field: %s: string @tag(%s)", name, name)
	}
	return e
}

// tagOf is the name of a field's tag.
func tagOf(f *ast.Field) string {
	for _, a := range f.Attrs {
		if key, body := a.Split(); key == "tag" {
			return parseTag(body, f).name
		}
	}
	return ""
}

func setHint(tag string) string { return fmt.Sprintf("set it with --set %s=VALUE", tag) }

// tagsIn is a hint for a value whose expression names a field with a tag.
func (d *decoder) tagsIn(v cue.Value) string {
	hint := ""
	for _, n := range d.nodes(v) {
		ast.Walk(n, func(n ast.Node) bool {
			id, ok := n.(*ast.Ident)
			if !ok || id.Node == nil || hint != "" {
				return true
			}
			for _, s := range d.surveys {
				for _, t := range s.tags {
					if t.field.Value == id.Node && !d.given(t.name) {
						hint = setHint(t.name)
					}
				}
			}
			return true
		}, nil)
	}
	return hint
}

// given reports whether a tag was set.
func (d *decoder) given(tag string) bool { return isSet(d.session.opts.Tags, tag) }

// tagTakes reports whether a value has the type that a tag declares.
func tagTakes(kind, value string) bool {
	var err error
	switch kind {
	case "int":
		_, err = strconv.ParseInt(strings.ReplaceAll(value, "_", ""), 0, 64)
	case "number":
		_, err = strconv.ParseFloat(value, 64)
	case "bool":
		return value == "true" || value == "false"
	}
	return err == nil
}

// article is a type in a sentence.
func article(kind string) string {
	switch kind {
	case "int":
		return "an int"
	case "bool":
		return "true or false"
	}
	return "a " + kind
}

// tagHint says that the value at a place was set by a tag.
func (p *program) tagHint(e *Error) string {
	for _, pk := range p.packages {
		for _, t := range pk.survey.tags {
			if e.Path != t.label && !strings.HasSuffix(e.Path, "."+t.label) {
				continue
			}
			for _, arg := range p.session.opts.Tags {
				if name, value, ok := strings.Cut(arg, "="); ok && name == t.name {
					if t.kind == "" && strings.Contains(e.Message, "mismatched types") {
						return fmt.Sprintf("tags are strings: declare it as @tag(%s,type=int) or type=bool", name)
					}
					return fmt.Sprintf("%q was given with the tag %q", value, name)
				}
			}
		}
	}
	return ""
}
