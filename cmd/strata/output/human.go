package output

import (
	"fmt"
	"time"

	"github.com/docker/go-units"

	"github.com/strata-build/strata/internal/printable"
)

// Size is a size as docker shows it, with three digits.
func Size(n int64) string { return units.HumanSizeWithPrecision(float64(n), 3) }

// Since is how long ago a time was.
func Since(t time.Time) string {
	if t.IsZero() {
		return "N/A"
	}
	return units.HumanDuration(time.Since(t)) + " ago"
}

// Plural is a number of things.
func Plural(n int, word string) string {
	if n == 1 {
		return "1 " + word
	}
	return fmt.Sprintf("%d %ss", n, word)
}

// Ellipsis cuts a text.
func Ellipsis(s string, width int) string {
	runes := []rune(s)
	if len(runes) <= width {
		return s
	}
	return string(runes[:width-1]) + "…"
}

// Plain takes out what a terminal could take for commands: an image's
// maker decides what is in it.
func Plain(s string) string { return printable.Text(s, ' ') }
