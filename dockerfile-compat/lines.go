package dockerfilecompat

import (
	"bytes"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/strata-build/strata/schema"
)

// brokenText is a command that its author wrote in several lines, which the
// Dockerfile joins. CUE has no line of a string that goes on in the next (its
// scanner refuses the backslash before the end), so each line is a string, and
// they are added.
type brokenText struct{ pieces []piece }

// brokenTexts are those of a document, by the number of the place holder.
type brokenTexts struct{ list []brokenText }

// breakLines returns what stands for a command until the document is printed:
// the printer knows strings only, not where to break them. A place holder has
// two lines, so that it is printed in a block of its own. above are the
// comments that are not between the lines.
func (l *lifter) breakLines(in instruction, command string) (text, above string) {
	pieces, above := l.file.pieces(in, command)
	if len(pieces) == 1 || strings.ContainsAny(command, "\n\r") || !printable(command) {
		return command, in.notes()
	}
	l.texts.list = append(l.texts.list, brokenText{pieces})
	mark := placeholder(len(l.texts.list) - 1)
	return mark + "\n" + mark, above
}

// printable reports whether a text can stand in a string without escapes
// other than the backslash.
func printable(text string) bool {
	return !strings.ContainsFunc(text, func(r rune) bool { return r != '\t' && (r == '\uFFFD' || !strconv.IsPrint(r)) })
}

func placeholder(n int) string { return fmt.Sprintf("@strata command %d@", n) }

// printed is how the printer shows a place holder.
var printed = regexp.MustCompile(`"""\n(\t*)@strata command (\d+)@\n\t*@strata command \d+@\n\t*"""`)

// restore puts the commands, and the picks of stages, in the place of their
// place holders, in the canonical format.
func (t *brokenTexts) restore(cue []byte) ([]byte, error) {
	out := t.replace(cue)
	if bytes.Equal(out, cue) {
		return cue, nil // as it was printed
	}
	return schema.Format(out)
}

func (t *brokenTexts) replace(cue []byte) []byte {
	return printed.ReplaceAllFunc(restorePicks(cue), func(found []byte) []byte {
		match := printed.FindSubmatch(found)
		var n int
		if _, err := fmt.Sscan(string(match[2]), &n); err != nil || n >= len(t.list) {
			return found
		}
		return []byte(t.list[n].print(string(match[1])))
	})
}

// opensLong reports whether a piece would make a long string of a raw one: with
// the quote before it, it begins with three.
func opensLong(p piece) bool { return strings.HasPrefix(p.text, `""`) }

// print writes the command, its lines behind indent. All of them are quoted in
// the same way.
func (t brokenText) print(indent string) string {
	text := ""
	for _, p := range t.pieces {
		text += p.text
	}
	hash := ""
	if strings.ContainsAny(text, `\"`) && !slices.ContainsFunc(t.pieces, opensLong) {
		hash = "#"
		for strings.Contains(text, `"`+hash) || strings.Contains(text, `\`+hash) {
			hash += "#"
		}
	}
	var b strings.Builder
	for i, p := range t.pieces {
		if i > 0 {
			b.WriteString(" +\n" + indent)
		}
		if p.comment != "" {
			b.WriteString("// " + strings.ReplaceAll(p.comment, "\n", "\n"+indent+"// ") + "\n" + indent)
		}
		b.WriteString(hash + `"` + p.escaped(hash) + `"` + hash)
	}
	return b.String()
}

// escaped is the text of a piece in a string that is raw by a number of '#'s.
func (p piece) escaped(hash string) string {
	text := p.text
	if hash == "" {
		text = strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(text)
	}
	return strings.ReplaceAll(text, "\t", `\`+hash+"t")
}
