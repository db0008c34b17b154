package schema

import (
	"slices"
	"strings"

	"cuelang.org/go/cue"
	"cuelang.org/go/cue/ast"
	"cuelang.org/go/cue/token"
)

// span is a piece of a file.
type span struct {
	pos, end token.Pos
}

func nodeSpan(n ast.Node) span {
	if n == nil {
		return span{}
	}
	return span{n.Pos(), n.End()}
}

// width is the number of bytes of the span on its first line; the rest of
// the line is not known here, so several lines give 0.
func (s span) width() int {
	if !s.pos.IsValid() || !s.end.IsValid() {
		return 1
	}
	a, b := s.pos.Position(), s.end.Position()
	if a.Filename != b.Filename || b.Line < a.Line || b.Line == a.Line && b.Column <= a.Column {
		return 1
	}
	if b.Line > a.Line {
		return 0
	}
	return b.Column - a.Column
}

// part is the part of a field that a mistake is in.
type part string

const (
	labelPart part = "label"
	valuePart part = "value"
)

// place is where the user wrote v, or its label. A value that came through
// references has several places; it is the last one in the packages that the
// arguments name, because there somebody chose it.
func (p *program) place(v cue.Value, which part) span {
	var first, owned span
	for depth := 0; depth < 16; depth++ {
		for _, n := range p.nodes(v) {
			s := nodeSpan(pick(n, which))
			if !s.pos.IsValid() {
				continue
			}
			if !first.pos.IsValid() {
				first = s
			}
			if p.owns(s.pos) {
				owned = s
				break
			}
		}
		next := cue.Dereference(v)
		if which == labelPart || next == v {
			break
		}
		v = next
	}
	if owned.pos.IsValid() {
		return owned
	}
	return first
}

// nodes are the syntax of a value's conjuncts, without those of the schema;
// what the user's own packages say first.
func (p *program) nodes(v cue.Value) []ast.Node {
	var nodes []ast.Node
	for _, c := range conjuncts(v) {
		n := c.Source()
		if n == nil || p.foreign(n.Pos()) {
			continue
		}
		nodes = append(nodes, n)
	}
	slices.SortStableFunc(nodes, func(a, b ast.Node) int { return p.rank(a) - p.rank(b) })
	return nodes
}

// rank orders conjuncts: concrete ones before bare types, the user's own
// before a library's.
func (p *program) rank(n ast.Node) int {
	rank := 0
	if !p.owns(n.Pos()) {
		rank += 2
	}
	if f, ok := n.(*ast.Field); ok {
		if _, ok := f.Value.(*ast.Ident); ok {
			rank++
		}
	}
	return rank
}

// conjuncts are the values that v is the unification of.
func conjuncts(v cue.Value) []cue.Value {
	if op, list := v.Expr(); op == cue.AndOp && len(list) > 0 {
		return list
	}
	return []cue.Value{v}
}

// pick is the node of a field's label or value. A struct is shown by its
// label: it may span lines, and without braces it has no beginning.
func pick(n ast.Node, which part) ast.Node {
	f, ok := n.(*ast.Field)
	if !ok {
		return n
	}
	if which == labelPart || f.Value == nil {
		return f.Label
	}
	if _, ok := f.Value.(*ast.StructLit); ok {
		return f.Label
	}
	return f.Value
}

// errorAt is an Error at a span, with its line.
func (p *program) errorAt(s span, message string) *Error {
	e := &Error{Pos: p.position(s.pos), Message: message}
	if !e.Pos.IsValid() {
		return e
	}
	if data, err := p.session.readFile(s.pos.Position().Filename); err == nil {
		e.Source = sourceLine(data, e.Pos.Line)
	}
	e.Width = s.width()
	if rest := len(strings.TrimRight(e.Source, " \t")) - e.Pos.Column + 1; e.Width == 0 || e.Width > rest {
		e.Width = max(rest, 1)
	}
	return e
}
