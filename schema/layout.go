package schema

import "strings"

// lineWidth is how long a line may get before a struct or list is printed
// over several lines; a tab counts as tabWidth.
const (
	lineWidth = 100
	tabWidth  = 4
)

// printNode is a value to print: a textNode, listNode or objectNode.
type printNode interface {
	// inline is the value on one line, or false where it needs several.
	inline() (string, bool)
	// block is the value over several lines; those after the first begin
	// with indent.
	block(indent string) string
}

// textNode is a scalar or an expression. Its lines may depend on the indent.
type textNode func(indent string) string

func (t textNode) inline() (string, bool) {
	s := t("")
	return s, !strings.Contains(s, "\n")
}

func (t textNode) block(indent string) string { return t(indent) }

// word is a textNode that is the same everywhere.
func word(s string) textNode { return func(string) string { return s } }

// listNode is a list. A tall one has an element a line, always.
type listNode struct {
	elems []element
	tall  bool
}

// element is a value of a list with the comment above it.
type element struct {
	comment string
	value   printNode
}

func (l listNode) inline() (string, bool) {
	parts := make([]string, len(l.elems))
	for i, e := range l.elems {
		s, ok := e.value.inline()
		if !ok || e.comment != "" {
			return "", false
		}
		parts[i] = s
	}
	return "[" + strings.Join(parts, ", ") + "]", !l.tall || len(parts) == 0
}

func (l listNode) block(indent string) string {
	var b strings.Builder
	b.WriteString("[\n")
	for _, e := range l.elems {
		b.WriteString(commentLines(e.comment, indent+"\t"))
		b.WriteString(indent + "\t" + fit(e.value, indent+"\t", 1) + ",\n")
	}
	b.WriteString(indent + "]")
	return b.String()
}

// objectNode is a struct. A tall one is always printed over several lines.
type objectNode struct {
	members []member
	tall    bool
	prefix  string // before the brace: "b.#Image & "
	end     string // a comment before the closing brace
}

// member is a field of an object.
type member struct {
	label   string
	comment string
	value   printNode
}

func (o objectNode) inline() (string, bool) {
	if o.tall || o.end != "" {
		return "", false
	}
	parts := make([]string, len(o.members))
	for i, m := range o.members {
		s, ok := m.inline()
		if !ok {
			return "", false
		}
		parts[i] = s
	}
	return o.prefix + "{" + strings.Join(parts, ", ") + "}", true
}

func (m member) inline() (string, bool) {
	if m.comment != "" {
		return "", false
	}
	if inner, ok := m.only(); ok {
		s, ok := inner.inline()
		return m.label + ": " + s, ok
	}
	s, ok := m.value.inline()
	return m.label + ": " + s, ok
}

// only is the single field of a member's struct, which is then printed
// without braces: `env: A: "b"`.
func (m member) only() (member, bool) {
	o, ok := m.value.(objectNode)
	if !ok {
		return member{}, false
	}
	return o.single()
}

// single is the only field of a struct that may stand without lines of its
// own.
func (o objectNode) single() (member, bool) {
	if len(o.members) != 1 || o.tall || o.prefix != "" || o.end != "" || o.members[0].comment != "" {
		return member{}, false
	}
	return o.members[0], true
}

func (o objectNode) block(indent string) string {
	if m, ok := o.single(); ok {
		labels, value := m.chain()
		if inner, ok := value.(objectNode); ok {
			return "{" + labels + inner.block(indent) + "}" // {set: env: {
		}
	}
	var b strings.Builder
	b.WriteString(o.prefix + "{\n")
	for _, m := range o.members {
		b.WriteString(m.lines(indent + "\t"))
	}
	b.WriteString(commentLines(o.end, indent+"\t"))
	b.WriteString(indent + "}")
	return b.String()
}

// lines is a member with its comment, on lines of its own.
func (m member) lines(indent string) string {
	labels, value := m.chain()
	return commentLines(m.comment, indent) + indent + labels + fit(value, indent, len(labels)) + "\n"
}

// chain is the label of a member with those of single fields in it, and the
// value behind them.
func (m member) chain() (labels string, value printNode) {
	labels = m.label + ": "
	for inner, ok := m.only(); ok; inner, ok = m.only() {
		m = inner
		labels += m.label + ": "
	}
	return labels, m.value
}

// fit prints a value on one line where that is short enough.
func fit(n printNode, indent string, used int) string {
	if s, ok := n.inline(); ok {
		if _, scalar := n.(textNode); scalar || tabWidth*len(indent)+used+len(s) <= lineWidth {
			return s
		}
	}
	return n.block(indent)
}

// commentLines prints a comment, a line each.
func commentLines(comment, indent string) string {
	if comment == "" {
		return ""
	}
	var b strings.Builder
	for line := range strings.SplitSeq(strings.TrimRight(comment, "\n"), "\n") {
		b.WriteString(strings.TrimRight(indent+"// "+line, " \t") + "\n")
	}
	return b.String()
}
