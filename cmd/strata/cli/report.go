package cli

import (
	"errors"
	"fmt"
	"strings"
	"unicode"
)

// renderer is an error with a form for terminals, with source lines.
type renderer interface{ Render() string }

// Report prints an error for the person who reads it.
func (a *App) Report(err error) {
	if list := joined(err); len(list) > 0 {
		for _, inner := range list {
			a.Report(inner)
		}
		return
	}
	var r renderer
	if errors.As(err, &r) {
		fmt.Fprint(a.Stderr, r.Render())
		return
	}
	fmt.Fprintf(a.Stderr, "strata: %s\n", Harmless(err.Error()))
}

// joined are the errors that errors.Join made one of.
func joined(err error) []error {
	several, ok := err.(interface{ Unwrap() []error }) //nolint:errorlint // it asks for what err itself is
	if !ok {
		return nil
	}
	var lines []string
	for _, inner := range several.Unwrap() {
		lines = append(lines, inner.Error())
	}
	if _, own := err.(renderer); own || strings.Join(lines, "\n") != err.Error() { //nolint:errorlint // as above
		return nil
	}
	return several.Unwrap()
}

// Harmless keeps a name that stands in an error, which may be an image's or a
// container's, from steering a terminal.
func Harmless(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) && r != '\n' && r != '\t' {
			return unicode.ReplacementChar
		}
		return r
	}, text)
}
