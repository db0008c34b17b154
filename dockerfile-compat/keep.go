package dockerfilecompat

import (
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"

	"github.com/strata-build/strata/schema"
)

// keepText makes an image of a stage that builds it from its Dockerfile: the
// text of the stage with those that it needs. A Dockerfile with an ignore
// file of its own, or with text that CUE cannot hold, is referred to.
func (c *converter) keepText(st *source) {
	img := c.images[st.index]
	*img = schema.Image{Name: img.Name, Stages: img.Stages, Context: c.lifter.dir}
	needed, ok := c.needs(st)
	if !ok {
		needed = nil
	}
	text := c.file.text(needed, st.index)
	if c.s.g.ownIgnoreFile() || !utf8.ValidString(text) || strings.ContainsRune(text, 0) {
		img.Dockerfile = &schema.Dockerfile{Path: filepath.Join(c.req.Dir, filepath.Base(c.req.Filename)), Target: st.Name}
	} else {
		img.Dockerfile = &schema.Dockerfile{Text: text}
	}
	for _, name := range c.keptArgs(st, needed) {
		img.Args = append(img.Args, schema.Var{Name: name, Value: c.params.ref(name)})
	}
}

// needs are the stages that a stage is made of; false where a number, or an
// image's trigger, may refer to others.
func (c *converter) needs(st *source) ([]int, bool) {
	seen := map[int]bool{}
	var visit func(*source) bool
	visit = func(s *source) bool {
		if seen[s.index] {
			return true
		}
		seen[s.index] = true
		names, ok := c.bases(s)
		if !ok {
			return false
		}
		for _, in := range s.commands {
			if _, ok := in.cmd.(*instructions.OnbuildCommand); ok {
				return false
			}
			names = append(names, references(in.cmd)...)
		}
		for _, name := range names {
			if _, err := strconv.Atoi(name); err == nil {
				return false
			}
			if other, ok := c.file.stageNamed(strings.ToLower(name), s.index); ok && !visit(other) {
				return false
			}
		}
		return true
	}
	if !visit(st) {
		return nil, false
	}
	var out []int
	for i := range seen {
		out = append(out, i)
	}
	slices.Sort(out)
	return out, true
}

// bases are what a stage may start from; false where that cannot be told.
func (c *converter) bases(st *source) ([]string, bool) {
	base, err := c.params.evaluate(st.BaseName)
	names := []string{base}
	if err != nil || !c.words.variables(st.BaseName) {
		return names, err == nil
	}
	if strings.Count(st.BaseName, "$") != len(variableForm.FindAllString(st.BaseName, -1)) || strings.ContainsAny(st.BaseName, "'\"\\`") {
		return nil, false
	}
	ch, _ := c.choiceOf(st)
	for _, i := range ch.stages {
		names = append(names, c.file.stages[i].Name)
	}
	return names, true
}

// references are the names of stages or images that an instruction reads.
func references(cmd instructions.Command) []string {
	var names []string
	switch c := cmd.(type) {
	case *instructions.CopyCommand:
		names = append(names, c.From)
	case *instructions.RunCommand:
		for _, m := range instructions.GetMounts(c) {
			names = append(names, m.From)
		}
	}
	return slices.DeleteFunc(names, func(n string) bool { return n == "" })
}

// keptArgs are the parameters that a kept stage passes on: those that mean the
// same wherever its Dockerfile declares them.
func (c *converter) keptArgs(st *source, needed []int) []string {
	declared := map[string]bool{}
	for name := range c.params.declared {
		declared[name] = c.params.has(name) && !c.params.varying[name] && !c.params.opaque[name]
	}
	for _, s := range c.file.stages[:st.index+1] {
		if needed != nil && !slices.Contains(needed, s.index) {
			continue
		}
		for _, in := range s.commands {
			for _, name := range triggered(in.cmd) {
				declared[name] = false
			}
			arg, ok := in.cmd.(*instructions.ArgCommand)
			if !ok {
				continue
			}
			for _, a := range arg.Args {
				same := c.params.has(a.Key) && !c.params.blank[a.Key] && (a.Value == nil || c.params.fixed(a) == c.params.value[a.Key])
				if before, ok := declared[a.Key]; ok {
					same = same && before
				}
				declared[a.Key] = same
			}
		}
	}
	var out []string
	for _, p := range c.params.list {
		// A proxy is one only when it is given from outside.
		if declared[p.Name] && !frontEndArg(p.Name) {
			out = append(out, p.Name)
		}
	}
	return out
}

// triggered are the arguments that a trigger declares, in the stages below it.
func triggered(cmd instructions.Command) []string {
	c, ok := cmd.(*instructions.OnbuildCommand)
	if !ok {
		return nil
	}
	words := strings.Fields(c.Expression)
	if len(words) == 0 || !strings.EqualFold(words[0], "ARG") {
		return nil
	}
	var names []string
	for _, word := range words[1:] {
		name, _, _ := strings.Cut(word, "=")
		names = append(names, name)
	}
	return names
}
