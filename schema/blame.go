package schema

import (
	"fmt"
	"slices"
	"strings"

	"cuelang.org/go/cue"
	"cuelang.org/go/cue/ast"
	"cuelang.org/go/cue/errors"
	"cuelang.org/go/cue/token"
)

// blame is the place of an error in the user's files, and further places
// that are part of it.
func (p *program) blame(err errors.Error) (span, []token.Pos) {
	var places []token.Pos
	for _, pos := range append([]token.Pos{err.Position()}, err.InputPositions()...) {
		if !p.foreign(pos) && !slices.Contains(places, pos) {
			places = append(places, pos)
		}
	}
	if len(places) == 0 {
		return p.placeOfPath(err.Path()), nil
	}
	best := slices.IndexFunc(places, func(pos token.Pos) bool { return p.owns(pos) })
	best = max(best, 0)
	at := places[best]
	return p.spanAt(at), slices.Delete(places, best, best+1)
}

// placeOfPath finds a value by the path of an error without a position.
func (p *program) placeOfPath(path []string) span {
	for n := len(path); n > 0; n-- {
		parsed := cue.ParsePath(pathOf(path[:n]))
		for _, pk := range p.packages {
			if !pk.built || parsed.Err() != nil {
				continue
			}
			if v := pk.value.LookupPath(parsed); v.Source() != nil {
				return p.place(v, valuePart)
			}
		}
	}
	return span{}
}

// spanAt is the longest expression that begins at pos.
func (p *program) spanAt(pos token.Pos) span {
	found, end := span{pos: pos}, pos.Offset()
	p.eachFile(pos.Position().Filename, func(f *ast.File) {
		ast.Walk(f, func(n ast.Node) bool {
			if _, ok := n.(ast.Expr); ok && n.Pos().Offset() == pos.Offset() && n.End().Offset() > end {
				found.end, end = n.End(), n.End().Offset()
			}
			return true
		}, nil)
	})
	return found
}

// eachFile calls fn with the syntax of a file that is part of the program.
func (p *program) eachFile(name string, fn func(*ast.File)) {
	for inst := range p.surveys {
		for _, f := range inst.Files {
			if f.Filename == name {
				fn(f)
				return
			}
		}
	}
}

// labels are the names that a reference at a place may have meant: of all
// fields and imports of its file and package, and of the schema's fields.
func (p *program) labels(at span) []string {
	if !at.pos.IsValid() {
		return nil
	}
	var names []string
	add := func(f *ast.File) {
		ast.Walk(f, func(n ast.Node) bool {
			switch x := n.(type) {
			case *ast.Field:
				if name, ok := literalLabel(x.Label); ok {
					names = append(names, name)
				}
			case *ast.ImportSpec:
				names = append(names, importName(x))
			case *ast.LetClause:
				names = append(names, x.Ident.Name)
			}
			return true
		}, nil)
	}
	file := at.pos.Position().Filename
	for inst := range p.surveys {
		if slices.ContainsFunc(inst.Files, func(f *ast.File) bool { return f.Filename == file }) {
			for _, f := range inst.Files {
				add(f)
			}
			for _, imported := range inst.Imports {
				for _, f := range imported.Files {
					add(f)
				}
			}
		}
	}
	for definition, fields := range readVocabulary() {
		names = append(append(names, definition), fields...)
	}
	return names
}

func importName(spec *ast.ImportSpec) string {
	if spec.Name != nil {
		return spec.Name.Name
	}
	return ast.ParseImportPath(strings.Trim(spec.Path.Value, `"`)).Qualifier
}

// textAt is the source of a span of one line.
func (p *program) textAt(s span) string {
	e := p.errorAt(s, "")
	if i := e.Pos.Column - 1; i >= 0 && i+e.Width <= len(e.Source) {
		return e.Source[i : i+e.Width]
	}
	return ""
}

// selfReference is a hint where a field's value is the field itself, as in
// `labels: version: version`.
func (p *program) selfReference(at span) string {
	if !at.pos.IsValid() {
		return ""
	}
	hint := ""
	p.eachFile(at.pos.Position().Filename, func(f *ast.File) {
		ast.Walk(f, func(n ast.Node) bool {
			field, ok := n.(*ast.Field)
			if ok && field.Value != nil && field.Value.Pos().Offset() == at.pos.Offset() && refersTo(field.Value, field.Value) {
				name, _ := literalLabel(field.Label)
				hint = fmt.Sprintf("%q refers to the field itself here; give the outer one another name", name)
			}
			return true
		}, nil)
	})
	return hint
}

// refersTo reports whether an identifier in x resolves to the node target.
func refersTo(x ast.Node, target ast.Node) bool {
	found := false
	ast.Walk(x, func(n ast.Node) bool {
		if id, ok := n.(*ast.Ident); ok && id.Node == target {
			found = true
		}
		return !found
	}, nil)
	return found
}
