package schema

import (
	"fmt"
	"strconv"
	"strings"

	"cuelang.org/go/cue"
)

// decoder turns evaluated CUE into Go. It goes on after a mistake, so that
// one load reports all of them.
type decoder struct {
	*program
	errs Errors
	// images are those decoded so far, by their location and by their CUE
	// node; nil while an image is being decoded.
	images map[string]*Image
	byNode map[cue.Value]*Image
	// stack is the images that are being decoded, outermost first.
	stack []*scope
	// unnamed counts the images that have no path.
	unnamed int
	// files are Dockerfiles that the Spec refers to: inputs of the load.
	files []string
	// vocabulary is read when a message needs it.
	vocabulary vocabulary
}

func newDecoder(p *program) *decoder {
	return &decoder{program: p, images: map[string]*Image{}, byNode: map[cue.Value]*Image{}}
}

// fail records a mistake in v.
func (d *decoder) fail(v cue.Value, message, hint string) *Error {
	return d.failAt(d.place(v, valuePart), v, message, hint)
}

// failLabel records a mistake that is in the name of v, so it is one of the
// struct that holds v.
func (d *decoder) failLabel(v cue.Value, message, hint string) *Error {
	e := d.failAt(d.place(v, labelPart), v, message, hint)
	if sels := v.Path().Selectors(); len(sels) > 0 && e.Path != "" {
		e.Path = cue.MakePath(sels[:len(sels)-1]...).String()
	}
	return e
}

func (d *decoder) failAt(at span, v cue.Value, message, hint string) *Error {
	e := d.errorAt(at, message)
	e.Hint = hint
	if path := v.Path(); path.Err() == nil {
		e.Path = path.String()
	}
	d.errs = append(d.errs, e)
	return e
}

// pos is the position of a value in the user's files.
func (d *decoder) pos(v cue.Value) Position { return d.posOf(v, valuePart) }

// posOf is the position of a value or its label. The syntax of the value says
// it mostly; place, which evaluates again, is for the rest.
func (d *decoder) posOf(v cue.Value, which part) Position {
	if src := v.Source(); src != nil {
		if n := pick(src, which); n != nil && !d.foreign(n.Pos()) {
			return d.position(n.Pos())
		}
	}
	return d.position(d.place(v, which).pos)
}

// settle takes defaults and returns the kind of the value. BottomKind means
// that there is no value, which is then recorded.
func (d *decoder) settle(v cue.Value) (cue.Value, cue.Kind) {
	v, _ = v.Default()
	if k := v.Kind(); k != cue.BottomKind {
		return v, k
	}
	if k, ok := brokenInside(v); ok {
		return v, k
	}
	if v.IncompleteKind() == cue.ListKind && v.Err() == nil && !isChoice(v) {
		return v, cue.ListKind // an element is not concrete
	}
	d.bottom(v)
	return v, cue.BottomKind
}

// isChoice reports whether v is a disjunction without a default.
func isChoice(v cue.Value) bool {
	op, list := v.Expr()
	return op == cue.OrOp && len(list) > 1
}

// brokenInside tells a struct or list with an error in one of its elements
// from one that is itself an error.
func brokenInside(v cue.Value) (cue.Kind, bool) {
	if err := v.Err(); err == nil || cue.IsIncomplete(err) {
		return 0, false
	}
	it, err := v.Fields()
	if err != nil || !it.Next() {
		return 0, false
	}
	if it.Selector().LabelType() == cue.IndexLabel {
		return cue.ListKind, true
	}
	return cue.StructKind, true
}

// bottom records why v has no value.
func (d *decoder) bottom(v cue.Value) {
	err := v.Err()
	if err == nil || cue.IsIncomplete(err) {
		d.incomplete(v, err)
		return
	}
	for _, e := range d.cueErrors(err) {
		if e.Path == "" {
			e.Path = v.Path().String()
		}
		d.errs = append(d.errs, e)
	}
}

// mistyped records that v has another type than wanted.
func (d *decoder) mistyped(v cue.Value, k cue.Kind, wanted string) {
	hint := ""
	switch k {
	case cue.IntKind, cue.FloatKind, cue.BoolKind:
		if strings.HasPrefix(wanted, "a string") {
			hint = fmt.Sprintf("write %q", literal(v))
		}
	case cue.StringKind:
		s, _ := v.String()
		if _, err := strconv.ParseInt(s, 10, 64); err == nil && strings.HasPrefix(wanted, "a number") {
			hint = "write " + s + " without quotes"
		}
		if strings.HasPrefix(wanted, "a list") {
			hint = fmt.Sprintf("write [%q]", s)
		}
		if (s == "true" || s == "false") && wanted == "true or false" {
			hint = "write " + s + " without quotes"
		}
	}
	d.fail(v, fmt.Sprintf("expected %s, got %s", wanted, describe(v, k)), hint)
}

// literal is a scalar as CUE source.
func literal(v cue.Value) string { return fmt.Sprint(v) }

// describe names a value in a message.
func describe(v cue.Value, k cue.Kind) string {
	switch k {
	case cue.StructKind:
		return "a struct"
	case cue.ListKind:
		return "a list"
	case cue.NullKind:
		return "null"
	}
	text := literal(v)
	if len(text) > 40 {
		text = text[:37] + "..."
	}
	switch k {
	case cue.StringKind:
		return "the string " + text
	case cue.BytesKind:
		return "the bytes " + text
	case cue.BoolKind:
		return text
	}
	return "the number " + text
}

// fields calls each for the regular fields of a struct.
func (d *decoder) fields(v cue.Value, wanted string, each func(name string, f cue.Value)) {
	v, k := d.settle(v)
	if k == cue.BottomKind {
		return
	}
	if k != cue.StructKind {
		d.mistyped(v, k, wanted)
		return
	}
	it, err := v.Fields()
	if err != nil {
		d.bottom(v)
		return
	}
	for it.Next() {
		each(it.Selector().Unquoted(), it.Value())
	}
}

// namedField is a field of a struct.
type namedField struct {
	name  string
	value cue.Value
}

// fieldList lists the regular fields of a struct.
func (d *decoder) fieldList(v cue.Value, wanted string) []namedField {
	var list []namedField
	d.fields(v, wanted, func(name string, f cue.Value) { list = append(list, namedField{name, f}) })
	return list
}

// items calls each for the elements of a list.
func (d *decoder) items(v cue.Value, wanted string, each func(v cue.Value)) {
	v, k := d.settle(v)
	if k == cue.BottomKind {
		return
	}
	if k != cue.ListKind {
		d.mistyped(v, k, wanted)
		return
	}
	if it, err := v.List(); err == nil {
		for it.Next() {
			each(it.Value())
		}
		return
	}
	// List refuses a list that has an error in an element; Fields does not.
	it, err := v.Fields()
	if err != nil {
		d.bottom(v)
		return
	}
	for it.Next() {
		each(it.Value())
	}
}

func (d *decoder) str(v cue.Value) string {
	s, _ := d.strOK(v)
	return s
}

// strOK is false when v is no string, which is then recorded.
func (d *decoder) strOK(v cue.Value) (string, bool) {
	v, k := d.settle(v)
	if k == cue.BottomKind {
		return "", false
	}
	if k != cue.StringKind {
		d.mistyped(v, k, "a string")
		return "", false
	}
	s, err := v.String()
	if err != nil {
		d.bottom(v)
		return "", false
	}
	if strings.ContainsRune(s, 0) {
		d.fail(v, "the string holds a NUL byte", "")
		return "", false
	}
	return s, true
}

// optional is a pointer to a string: it was given.
func (d *decoder) optional(v cue.Value) *string {
	s, ok := d.strOK(v)
	if !ok {
		return nil
	}
	return &s
}

// strs is never nil: the list was given, even if it is empty.
func (d *decoder) strs(v cue.Value) []string {
	list := []string{}
	d.items(v, "a list of strings", func(item cue.Value) {
		if s, ok := d.strOK(item); ok {
			list = append(list, s)
		}
	})
	return list
}

// oneOrMany is a string or a list of strings.
func (d *decoder) oneOrMany(v cue.Value) []string {
	v, k := d.settle(v)
	switch k {
	case cue.BottomKind:
		return nil
	case cue.StringKind:
		return []string{d.str(v)}
	case cue.ListKind:
		return d.strs(v)
	}
	d.mistyped(v, k, "a string or a list of strings")
	return nil
}

func (d *decoder) boolean(v cue.Value) bool {
	v, k := d.settle(v)
	if k == cue.BottomKind {
		return false
	}
	b, err := v.Bool()
	if err != nil {
		d.mistyped(v, k, "true or false")
	}
	return b
}

// integer is false when v is no whole number that fits, which is recorded.
func (d *decoder) integer(v cue.Value) (int64, bool) {
	v, k := d.settle(v)
	if k == cue.BottomKind {
		return 0, false
	}
	n, err := v.Int64()
	if err != nil {
		d.mistyped(v, k, "a number")
		return 0, false
	}
	return n, true
}

// number is an integer of at least 0.
func (d *decoder) number(v cue.Value) int64 {
	n, ok := d.integer(v)
	if ok && n < 0 {
		d.fail(v, fmt.Sprintf("%d is below 0", n), "")
	}
	return n
}

// command is a string for the shell or a list of arguments.
func (d *decoder) command(v cue.Value) *Command {
	settled, k := d.settle(v)
	switch k {
	case cue.BottomKind:
		return nil
	case cue.StringKind:
		return &Command{Shell: true, Args: []string{d.str(settled)}}
	case cue.ListKind:
		return &Command{Args: d.strs(settled)}
	}
	d.mistyped(settled, k, "a string (for the shell) or a list of strings")
	return nil
}

// vars are the fields of a struct of strings; null is allowed where a name
// may be declared without a value.
func (d *decoder) vars(v cue.Value, nullable bool, check func(name string, v cue.Value)) []Var {
	vars := []Var{}
	d.fields(v, "a struct of strings", func(name string, f cue.Value) {
		if check != nil {
			check(name, f)
		}
		settled, _ := f.Default()
		if nullable && settled.IsNull() {
			vars = append(vars, Var{Name: name, Unset: true, Pos: d.pos(f)})
			return
		}
		if s, ok := d.strOK(f); ok {
			vars = append(vars, Var{Name: name, Value: s, Pos: d.pos(f)})
		}
	})
	return vars
}

// unknown records a field that its struct does not have.
func (d *decoder) unknown(f cue.Value, name string, allowed []string) {
	e := d.failLabel(f, fmt.Sprintf("unknown field %q", name), didYouMean(name, allowed))
	e.Allowed = strings.Join(allowed, ", ")
}
