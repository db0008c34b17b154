package dockerfilecompat

import (
	"bytes"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/linter"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
	"github.com/moby/buildkit/frontend/dockerfile/shell"
)

// dockerfile is a parsed Dockerfile with what its author wrote around the
// instructions: BuildKit's parser keeps neither comments nor lines.
type dockerfile struct {
	lines  []string // without their ends
	raw    []string // with carriage returns, which count in heredocs
	escape rune

	directives []string // `# syntax=…` and the like
	header     string   // the comment at the top that belongs to no instruction
	trailer    string   // the comment below the last instruction
	globals    []instruction
	stages     []*source
}

// source is a stage in a Dockerfile.
type source struct {
	instructions.Stage
	index    int
	first    int // its first line, with the comment above FROM
	last     int
	comment  string
	end      string // the comment below its last instruction
	commands []instruction
}

// instruction is an instruction other than FROM, with its place.
type instruction struct {
	cmd         instructions.Command
	comment     string // above it
	within      []note
	first, last int // lines
}

// note is a comment between the lines of an instruction.
type note struct {
	line int // the one below it
	text string
}

// notes are all of them in one.
func (in instruction) notes() string {
	text := ""
	for _, n := range in.within {
		text = join(text, n.text)
	}
	return text
}

// name is the stage's name, or that by which BuildKit shows it.
func (s *source) name() string {
	if s.Name != "" {
		return s.Name
	}
	return fmt.Sprintf("stage%d", s.index)
}

// parse reads a Dockerfile that BuildKit accepted.
func parse(data []byte) (*dockerfile, error) {
	res, err := parser.Parse(bytes.NewReader(data))
	if err != nil {
		return nil, err
	}
	f := &dockerfile{escape: res.EscapeToken}
	for line := range strings.SplitSeq(string(bytes.TrimPrefix(data, []byte("\xef\xbb\xbf"))), "\n") {
		f.raw = append(f.raw, line)
		f.lines = append(f.lines, strings.TrimRight(line, "\r"))
	}
	at := f.readDirectives(data)
	for i, node := range res.AST.Children {
		comment := f.comments(at, node.StartLine-1)
		switch {
		case i == 0:
			f.header, comment = f.splitHeader(at, node.StartLine-1)
		case len(f.stages) > 0 && strings.EqualFold(node.Value, "FROM"):
			above := &f.stages[len(f.stages)-1].end
			*above, comment = f.splitStages(at, node.StartLine-1)
		}
		if err := f.add(node, at+1, comment); err != nil {
			return nil, err
		}
		at = node.EndLine
	}
	f.trailer = f.comments(at, len(f.lines))
	return f, nil
}

// readDirectives takes the directives at the top, and returns the number of
// lines that are behind them.
func (f *dockerfile) readDirectives(data []byte) int {
	at := 0
	if bytes.HasPrefix(data, []byte("#!")) {
		at = 1
	}
	var p parser.DirectiveParser
	for ; at < len(f.lines); at++ {
		if d, err := p.ParseLine([]byte(f.lines[at])); d == nil || err != nil {
			break
		}
		f.directives = append(f.directives, f.lines[at])
	}
	return at
}

// add adds one instruction to the globals, or to the last stage.
func (f *dockerfile) add(node *parser.Node, first int, comment string) error {
	// Without a linter, BuildKit panics at a `# check=` above an instruction.
	parsed, err := instructions.ParseInstructionWithLinter(node, linter.New(&linter.Config{SkipAll: true}))
	if err != nil {
		return err
	}
	if st, ok := parsed.(*instructions.Stage); ok {
		f.stages = append(f.stages, &source{
			Stage: *st, index: len(f.stages), first: first, last: node.EndLine,
			comment: join(comment, instruction{within: f.within(node)}.notes()),
		})
		return nil
	}
	cmd, ok := parsed.(instructions.Command)
	if !ok {
		return parser.WithLocation(fmt.Errorf("%T is no instruction", parsed), node.Location())
	}
	in := instruction{cmd: cmd, comment: comment, within: f.within(node), first: node.StartLine, last: node.EndLine}
	if len(f.stages) == 0 {
		f.globals = append(f.globals, in)
		return nil
	}
	st := f.stages[len(f.stages)-1]
	st.commands, st.last = append(st.commands, in), node.EndLine
	return nil
}

// comments are the comment lines among those behind line `after` up to `last`.
// An empty line is one in the comment too.
func (f *dockerfile) comments(after, last int) string {
	var out []string
	gap := false
	for _, line := range f.lines[min(after, len(f.lines)):min(max(after, last), len(f.lines))] {
		text, ok := commentOf(line)
		if ok && gap {
			out = append(out, "")
		}
		if ok {
			out = append(out, text)
		}
		gap = !ok && len(out) > 0
	}
	return strings.Trim(strings.Join(out, "\n"), "\n")
}

// commentOf is the text of a line that is a comment.
func commentOf(line string) (string, bool) {
	text, ok := strings.CutPrefix(strings.TrimLeft(line, " \t"), "#")
	return strings.ToValidUTF8(strings.TrimPrefix(strings.TrimRight(text, " \t"), " "), "\uFFFD"), ok
}

// splitHeader splits the comments above the first instruction at the last
// empty line: what is above it is about the file.
func (f *dockerfile) splitHeader(after, last int) (header, comment string) {
	for n := last; n > after; n-- {
		if strings.TrimSpace(f.lines[n-1]) == "" {
			return f.comments(after, n), f.comments(n, last)
		}
	}
	return "", f.comments(after, last)
}

// splitStages splits the comments above a FROM at the last empty line between
// them: what is above it belongs to the stage before, and so does what is
// apart from the FROM alone.
func (f *dockerfile) splitStages(after, last int) (end, comment string) {
	apart := last
	for last > after && strings.TrimSpace(f.lines[last-1]) == "" {
		last--
	}
	end, comment = f.splitHeader(after, last)
	if end == "" && last < apart && strings.TrimSpace(f.lines[after]) != "" {
		return comment, ""
	}
	return end, comment
}

// within are the comments between the lines of an instruction. The text of
// heredocs is none.
func (f *dockerfile) within(node *parser.Node) []note {
	if len(node.Heredocs) > 0 {
		return nil
	}
	var list []note
	open := false
	for n := node.StartLine + 1; n <= node.EndLine; n++ {
		text, ok := commentOf(f.lines[n-1])
		switch {
		case ok && open:
			last := &list[len(list)-1]
			last.line, last.text = n+1, last.text+"\n"+text
		case ok:
			list = append(list, note{n + 1, text})
		}
		open = ok
	}
	return list
}

// join joins comments.
func join(a, b string) string {
	if a == "" || b == "" {
		return a + b
	}
	return a + "\n" + b
}

// piece is a line of a command, with the comment above it.
type piece struct{ text, comment string }

// pieces splits a command at the ends of the lines that it was written in,
// which the parser joined. One piece is all there is of a command that stands
// on one line. above are the comments that are in none of them.
func (f *dockerfile) pieces(in instruction, command string) (list []piece, above string) {
	text, ends := f.joined(in)
	start := strings.LastIndex(text, command)
	if start < 0 {
		return []piece{{text: command}}, in.notes()
	}
	from, last := start, start+len(command)
	for _, e := range ends {
		comment := e.comment
		if len(list) == 0 {
			above, comment = join(above, comment), ""
		}
		if end := min(e.end, last); end > from {
			list = append(list, piece{text[from:end], comment})
			from = end
		}
	}
	return list, above
}

// lineEnd is where a line ends in the text of an instruction, and the comment
// above that line.
type lineEnd struct {
	end     int
	comment string
}

// joined is the text of an instruction without the ends of its lines.
func (f *dockerfile) joined(in instruction) (string, []lineEnd) {
	var text strings.Builder
	var ends []lineEnd
	var comment []string
	continued := regexp.MustCompile(`([^\` + string(f.escape) + `])\` + string(f.escape) + `[ \t]*$|^\` + string(f.escape) + `[ \t]*$`)
	for i, line := range f.lines[in.first-1 : in.last] {
		trimmed := strings.TrimLeft(line, " \t")
		note, isComment := commentOf(line)
		switch {
		case i > 0 && isComment:
			comment = append(comment, note)
			continue
		case i > 0 && trimmed == "":
			continue
		case i == 0:
			line = trimmed
		}
		text.WriteString(continued.ReplaceAllString(line, "$1"))
		ends = append(ends, lineEnd{text.Len(), strings.Join(comment, "\n")})
		comment = nil
	}
	return text.String(), ends
}

// inOrder are words in the order in which they stand in an instruction.
func (f *dockerfile) inOrder(in instruction, words []string) []string {
	text, _ := f.joined(in)
	out := slices.Clone(words)
	slices.SortStableFunc(out, func(a, b string) int { return wordIndex(text, a) - wordIndex(text, b) })
	return out
}

// wordIndex is where a word stands in a text, or its end.
func wordIndex(text, word string) int {
	if i := findWord(text, word); i >= 0 {
		return i
	}
	return len(text)
}

// entryLine is a line that begins with an entry of ENV or LABEL.
var entryLine = regexp.MustCompile(`^[ \t]*"?([^ \t"=$]+)"?=`)

// entries are the comments between the lines of ENV and LABEL by the name that
// is below each; above are the others.
func (f *dockerfile) entries(in instruction) (entries map[string]string, above string) {
	entries = map[string]string{}
	for _, n := range in.within {
		line := n.line
		for line < in.last && strings.Trim(f.lines[line-1], " \t"+string(f.escape)) == "" {
			line++
		}
		if m := entryLine.FindStringSubmatch(f.lines[line-1]); m != nil && line <= in.last && entries[m[1]] == "" {
			entries[m[1]] = n.text
		} else {
			above = join(above, n.text)
		}
	}
	return entries, above
}

// stageNamed finds the stage that a name stands for among those up to, and
// not with, a stage. BuildKit takes the last of several.
func (f *dockerfile) stageNamed(name string, before int) (*source, bool) {
	for _, st := range slices.Backward(f.stages[:before]) {
		if st.Name != "" && st.Name == name {
			return st, true
		}
	}
	return nil, false
}

// text is the Dockerfile of one stage, with the stages that it needs. Where
// those cannot be told, it has all stages up to this one.
func (f *dockerfile) text(needed []int, last int) string {
	var b strings.Builder
	for _, line := range f.directives {
		b.WriteString(line + "\n")
	}
	for _, in := range f.globals {
		f.write(&b, in.first, in.last)
	}
	for _, st := range f.stages[:last+1] {
		if len(needed) == 0 || slices.Contains(needed, st.index) {
			f.write(&b, st.first, st.last)
		}
	}
	return b.String()
}

func (f *dockerfile) write(b *strings.Builder, first, last int) {
	lines := f.raw[first-1 : last]
	for len(lines) > 0 && strings.TrimSpace(lines[0]) == "" {
		lines = lines[1:]
	}
	for _, line := range lines {
		if strings.HasPrefix(strings.TrimLeft(line, " \t"), "#") {
			line = strings.ToValidUTF8(line, "\uFFFD") // a comment, which CUE has to hold
		}
		b.WriteString(line + "\n")
	}
}

// wordLexer reads words as the Dockerfile's own rules want.
type wordLexer struct{ escape rune }

// variables reports whether a word has a $VARIABLE in it.
func (l wordLexer) variables(word string) bool {
	single, double := false, false
	for i := 0; i < len(word); i++ {
		switch c := word[i]; {
		case c == '\'' && !double:
			single = !single
		case single:
		case c == '"':
			double = !double
		case rune(c) == l.escape:
			i++
		case c == '$':
			return true
		}
	}
	return false
}

// backslashed is a word as it is written where the backslash is the escape
// character.
func (l wordLexer) backslashed(word string) string {
	var b strings.Builder
	var quote byte
	for i := 0; i < len(word); i++ {
		switch c := word[i]; {
		case c == quote:
			quote = 0
			b.WriteByte(c)
		case quote == '\'':
			b.WriteByte(c)
		case rune(c) == l.escape && i+1 < len(word) && (quote == 0 || strings.IndexByte("\"$"+string(l.escape), word[i+1]) >= 0):
			i++
			b.WriteString(`\` + word[i:i+1])
		case c == '\\':
			b.WriteString(`\\`)
		case quote == 0 && (c == '\'' || c == '"'):
			quote = c
			b.WriteByte(c)
		default:
			b.WriteByte(c)
		}
	}
	return b.String()
}

// literal is what a word without variables says.
func (l wordLexer) literal(word string) (string, error) {
	out, _, err := shell.NewLex(l.escape).ProcessWord(word, shell.EnvsFromSlice(nil))
	return out, err
}
