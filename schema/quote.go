package schema

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"cuelang.org/go/cue/ast"
)

// ParamRef is a piece of any string in a Document that stands for the value
// of one of its parameters: Print makes an interpolation of it, or a plain
// reference where it is the whole string.
func ParamRef(name string) string { return paramMark + name + paramMark }

// ParamIf is a piece like ParamRef for a value that depends on whether a
// parameter is empty: then, or otherwise. Either may be a ParamRef or a text
// without one.
func ParamIf(name, then, otherwise string) string {
	return paramMark + name + ifMark + asPlain(then) + ifMark + asPlain(otherwise) + paramMark
}

// ifMark separates the parts of a ParamIf, and refMark begins a name in one.
const (
	ifMark  = "\x01"
	refMark = "\x02"
)

// asPlain is a part of a ParamIf.
func asPlain(s string) string {
	if name, ok := strings.CutPrefix(s, paramMark); ok {
		return refMark + strings.TrimSuffix(name, paramMark)
	}
	return s
}

// expression is the CUE of what stands between two paramMarks.
func (q quoter) expression(piece string) string {
	name, rest, ok := strings.Cut(piece, ifMark)
	if !ok {
		return q.field[piece]
	}
	part := func(s string) string {
		if name, ok := strings.CutPrefix(s, refMark); ok {
			return q.field[name]
		}
		return q.quote(s, "")
	}
	then, otherwise, _ := strings.Cut(rest, ifMark)
	return fmt.Sprintf(`[if %s != "" {%s}, %s][0]`, q.field[name], part(then), part(otherwise))
}

// paramMark encloses the name in a ParamRef: no string in CUE, and none that
// a system call takes, contains it.
const paramMark = "\x00"

// quoter prints strings as CUE.
type quoter struct {
	// field is the field that holds a parameter, by the parameter's name.
	field map[string]string
}

// multiline reports whether s is printed over several lines: it has more than
// one, and nothing that only an escape on one line can say.
func multiline(s string) bool {
	return strings.Contains(strings.TrimSuffix(s, "\n"), "\n") && !strings.Contains(s, "\r")
}

// quote prints s; lines after the first begin with indent.
func (q quoter) quote(s, indent string) string {
	pieces := strings.Split(s, paramMark)
	if len(pieces) == 3 && pieces[0] == "" && pieces[2] == "" {
		return q.expression(pieces[1])
	}
	multi := multiline(s)
	var text strings.Builder
	for i := 0; i < len(pieces); i += 2 {
		text.WriteString(pieces[i])
	}
	hashes := hashesFor(text.String(), multi)
	var b strings.Builder
	for i, piece := range pieces {
		switch {
		case i%2 == 1:
			fmt.Fprintf(&b, `\%s(%s)`, hashes, q.expression(piece))
		case hashes == "":
			b.WriteString(escape(piece, multi))
		default:
			b.WriteString(piece)
		}
	}
	if !multi {
		return hashes + `"` + b.String() + `"` + hashes
	}
	return hashes + `"""` + "\n" + indented(b.String(), indent) + "\n" + indent + `"""` + hashes
}

// indented puts indent before every line that is not empty.
func indented(text, indent string) string {
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		if line != "" {
			lines[i] = indent + line
		}
	}
	return strings.Join(lines, "\n")
}

// hashesFor is the '#'s of a raw string where that reads better than escapes,
// or "".
func hashesFor(text string, multi bool) string {
	ugly := strings.Contains(text, `\`) || strings.Contains(text, `"`) && !multi || strings.Contains(text, `"""`)
	if !multi && strings.HasPrefix(text, `""`) {
		return "" // with the opening quote it would be three
	}
	if !ugly || strings.ContainsFunc(text, func(r rune) bool { return needsEscape(r, multi) }) {
		return ""
	}
	hashes := "#"
	for strings.Contains(text, `"`+hashes) || strings.Contains(text, `\`+hashes) {
		hashes += "#"
	}
	return hashes
}

// needsEscape reports whether r cannot stand for itself.
func needsEscape(r rune, multi bool) bool {
	if multi && (r == '\n' || r == '\t') {
		return false
	}
	return !strconv.IsPrint(r)
}

// escape escapes text for a string without '#'s.
func escape(text string, multi bool) string {
	var b strings.Builder
	for _, r := range text {
		switch {
		case r == '\\' || r == '"' && !multi:
			b.WriteString(`\` + string(r))
		case !needsEscape(r, multi):
			b.WriteRune(r)
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\r':
			b.WriteString(`\r`)
		case r == '\t':
			b.WriteString(`\t`)
		case r > 0xffff:
			fmt.Fprintf(&b, `\U%08x`, r)
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
	}
	if multi {
		return strings.ReplaceAll(b.String(), `"""`, `\"""`)
	}
	return b.String()
}

// label prints a field's label. It is quoted where it needs to be, and where
// an expression below it refers to something of the same name outside: a
// quoted label is not in the scope of identifiers.
func (q quoter) label(name string, taken map[string]bool) string {
	if strings.Contains(name, paramMark) {
		text := q.quote(name, "")
		if !strings.ContainsAny(text, `"`) {
			return "(" + text + ")"
		}
		return text
	}
	if taken[name] {
		return q.quote(name, "")
	}
	return plainLabel(name)
}

// keywords are the identifiers with a meaning of their own.
var keywords = strings.Fields("package import for in if let true false null try else otherwise func")

// plainLabel prints a label, quoted where it needs to be.
func plainLabel(name string) string {
	if ast.StringLabelNeedsQuoting(name) || slices.Contains(keywords, name) {
		return quoter{}.quote(name, "")
	}
	return name
}
