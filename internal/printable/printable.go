// Package printable keeps texts of strangers, such as an image's maker or a
// process in a container, from steering a terminal or beginning another line.
package printable

import (
	"strconv"
	"strings"
	"unicode"
)

// Text puts a rune in the place of all that cannot be printed.
func Text(text string, instead rune) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return instead
	}, text)
}

// Quoted is a text as it is, or quoted if something in it cannot be printed: so
// that a name stays one that can be given back.
func Quoted(text string) string {
	if strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return strconv.Quote(text)
	}
	return text
}
