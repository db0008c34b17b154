package schema

import (
	"fmt"
	"strings"

	"cuelang.org/go/cue"
	"cuelang.org/go/cue/ast"
	"cuelang.org/go/cue/errors"

	"github.com/strata-build/strata/internal/nearest"
)

// incomplete records that v has no concrete value, and where one is missing.
func (d *decoder) incomplete(v cue.Value, err error) {
	if err != nil {
		if !d.missingOperand(v) {
			d.incompleteError(v, errors.Errors(err)[0])
		}
		return
	}
	w := d.origin(v)
	if d.missingParameter(w) {
		return
	}
	e := d.fail(v, "the value is not concrete: "+abbreviate(literal(w)), d.concreteHint(v, w))
	e.Path = v.Path().String()
}

// origin is what v refers to in the end.
func (d *decoder) origin(v cue.Value) cue.Value {
	for range maxChain {
		_, next, ok := d.reference(v)
		if !ok {
			break
		}
		v = next
	}
	return v
}

// missingOperand records parameters that the expression of v needs.
func (d *decoder) missingOperand(v cue.Value) bool {
	op, operands := v.Expr()
	if op == cue.NoOp {
		return false
	}
	found := false
	for _, x := range operands {
		w := d.origin(x)
		if settled, _ := w.Default(); settled.Kind() == cue.BottomKind && settled.Err() == nil && d.missingParameter(w) {
			found = true
		}
	}
	return found
}

// incompleteError records an expression that needs a value that is not there.
func (d *decoder) incompleteError(v cue.Value, err errors.Error) {
	e := d.cueError(err)
	if e.Path == "" {
		e.Path = v.Path().String()
	}
	if at := d.place(v, valuePart); !e.Pos.IsValid() {
		x := d.errorAt(at, e.Message)
		x.Hint, x.Path = e.Hint, e.Path
		e = x
	}
	if e.Hint == "" {
		e.Hint = d.tagsIn(v)
	}
	d.errs = append(d.errs, e)
}

// concreteHint says how to give a value.
func (d *decoder) concreteHint(v, w cue.Value) string {
	at := d.place(v, valuePart)
	if self := d.selfReference(at); self != "" {
		return self
	}
	if hint := d.tagsIn(v); hint != "" {
		return hint
	}
	for _, n := range d.nodes(w) {
		if f, ok := n.(*ast.Field); ok {
			if name := tagOf(f); name != "" {
				return setHint(name)
			}
		}
	}
	if isChoice(w) {
		return "choose one, or mark a default with *"
	}
	return ""
}

// missingParameter records a parameter that a template declares and the user
// of the template does not give: the place is the user's struct.
func (d *decoder) missingParameter(w cue.Value) bool {
	sels := w.Path().Selectors()
	if k := w.IncompleteKind(); k == cue.StructKind || k == cue.ListKind || w.Path().Err() != nil || len(sels) < 2 || d.whereIs(w).inst == nil {
		return false
	}
	outer := cue.MakePath(sels[:len(sels)-1]...)
	parent := d.rootOf(d.whereIs(w).inst).LookupPath(outer)
	declared := d.nodes(w)
	own := d.nodes(parent)
	if len(declared) == 0 || len(own) == 0 || within(declared[0], own[0]) {
		return false
	}
	name := sels[len(sels)-1].String()
	e := d.failLabel(parent, fmt.Sprintf("%s is not given: %s", name, abbreviate(literal(w))), "")
	e.Path = outer.String()
	var siblings []string
	if it, err := parent.Fields(cue.Definitions(true), cue.Hidden(true)); err == nil {
		for it.Next() {
			siblings = append(siblings, it.Selector().String())
		}
	}
	if near := nearest.Name(name, siblings); near != "" {
		e.Hint = fmt.Sprintf("did you mean it by %s?", near)
	} else {
		e.Hint = "declared at " + d.position(declared[0].Pos()).String()
	}
	return true
}

// within reports whether a node is inside of another.
func within(inner, outer ast.Node) bool {
	a, b := nodeSpan(inner), nodeSpan(outer)
	return a.pos.Position().Filename == b.pos.Position().Filename &&
		a.pos.Offset() >= b.pos.Offset() && a.pos.Offset() < b.end.Offset()
}

func abbreviate(s string) string {
	s = strings.Join(strings.Fields(s), " ")
	if len(s) > 60 {
		s = s[:57] + "..."
	}
	return s
}
