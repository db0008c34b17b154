package dockerfilecompat

import (
	"fmt"
	"regexp"
	"strings"
)

// point is a place in the lines of an instruction. BuildKit's parser knows
// lines only.
type point struct{ line, column, width int } // from 0; column and width in bytes

// quoted are the parts of a message that are quotations.
var quoted = regexp.MustCompile(`"([^"]+)"|'([^']+)'`)

// pointTo finds what a message is about among the lines of an instruction:
// what it quotes, then what it ends in, then words that are no English ones.
// Otherwise it is the instruction's name.
func pointTo(message string, lines []string) point {
	for _, text := range mentions(message) {
		for n, line := range lines {
			if at := findWord(line, text); at >= 0 {
				return point{n, at, len(text)}
			}
		}
	}
	if len(lines) == 0 {
		return point{}
	}
	name := strings.TrimLeft(lines[0], " \t")
	if end := strings.IndexAny(name, " \t"); end > 0 {
		name = name[:end]
	}
	return point{0, strings.Index(lines[0], name), len(name)}
}

// Excerpt shows lines of a Dockerfile, of which the first has a number, with a
// caret below what a message is about.
func Excerpt(first int, lines []string, message string) string {
	return excerpt(first, lines, pointTo(message, lines))
}

// mentions are what a message may be about, the likeliest first. A path is
// looked for as it is, and as it is relative to the context.
func mentions(message string) []string {
	var list []string
	for _, m := range quoted.FindAllStringSubmatch(message, -1) {
		text := m[1] + m[2]
		list = append(list, text)
		if relative := strings.TrimPrefix(text, "/"); relative != text {
			list = append(list, relative)
		}
	}
	message, _, _ = strings.Cut(message, " (did you mean ")
	if i := strings.LastIndex(message, ": "); i >= 0 {
		list = append(list, message[i+2:])
	}
	for word := range strings.FieldsSeq(message) {
		word = strings.Trim(word, `.,:;()"'`)
		if len(word) > 1 && strings.ContainsAny(word, "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-=/$") {
			list = append(list, word)
		}
	}
	if first, _, ok := strings.Cut(message, ": "); ok {
		list = append(list, first)
	}
	return list
}

// findWord finds text that stands alone in a line: it is no part of a longer
// word.
func findWord(line, text string) int {
	for from := 0; text != ""; {
		at := strings.Index(line[from:], text)
		if at < 0 {
			break
		}
		at += from
		before, after := strings.TrimRight(line[:at], wordBytes) == line[:at], true
		if rest := line[at+len(text):]; rest != "" {
			after = !strings.ContainsRune(wordBytes, rune(rest[0]))
		}
		if before && after {
			return at
		}
		from = at + 1
	}
	return -1
}

const wordBytes = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_"

// excerptLines bounds how much of a long instruction is shown.
const excerptLines = 12

// excerpt shows lines of a Dockerfile with carets below what it is about.
func excerpt(first int, lines []string, at point) string {
	var b strings.Builder
	for i, line := range lines {
		if i >= excerptLines && i != at.line {
			continue
		}
		fmt.Fprintf(&b, "%5d | %s\n", first+i, line)
		if i == at.line {
			fmt.Fprintf(&b, "      | %s%s\n", blank(line[:at.column]), strings.Repeat("^", max(1, len([]rune(line[at.column:at.column+at.width])))))
		}
	}
	return b.String()
}

// blank is as wide as text.
func blank(text string) string {
	return strings.Map(func(r rune) rune {
		if r == '\t' {
			return r
		}
		return ' '
	}, text)
}
