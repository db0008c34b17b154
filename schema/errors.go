package schema

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"unicode/utf8"
)

// Error is a mistake of the user at a place in the user's own files.
type Error struct {
	Pos     Position // zero when the mistake is in no file, as an unknown target
	Path    string   // CUE path of the value: images.api.steps[2].run
	Message string   // what is wrong
	Hint    string   // what was probably meant, or what to do
	Allowed string   // what could stand there instead
	Source  string   // the line at Pos, without its end
	Width   int      // of what is wrong, in bytes from Pos.Column on
}

// Error is the message on one line, without the source.
func (e *Error) Error() string {
	var b strings.Builder
	if e.Pos.IsValid() || e.Pos.File != "" {
		b.WriteString(e.Pos.String() + ": ")
	}
	if e.Path != "" {
		b.WriteString(e.Path + ": ")
	}
	b.WriteString(e.Message)
	if e.Hint != "" {
		b.WriteString("; " + e.Hint)
	}
	return b.String()
}

// Render is the message with the line of the source and a caret below the
// mistake, for a terminal. It ends in a newline.
func (e *Error) Render() string {
	var b strings.Builder
	b.WriteString(e.Error() + "\n")
	if e.Source != "" && e.Pos.IsValid() {
		number := fmt.Sprintf("%5d", e.Pos.Line)
		fmt.Fprintf(&b, "%s | %s\n", number, e.Source)
		fmt.Fprintf(&b, "%s | %s\n", strings.Repeat(" ", len(number)), caret(e.Source, e.Pos.Column, e.Width))
	}
	if e.Allowed != "" {
		fmt.Fprintf(&b, "      allowed: %s\n", e.Allowed)
	}
	return b.String()
}

// caret underlines width bytes of line from column on. Tabs are kept, so
// that the caret stands right whatever a tab's width is.
func caret(line string, column, width int) string {
	start := min(max(column-1, 0), len(line))
	end := min(max(start+width, start+1), max(len(line), start+1))
	var b strings.Builder
	for _, r := range line[:start] {
		if r != '\t' {
			r = ' '
		}
		b.WriteRune(r)
	}
	marked := 1
	if end <= len(line) {
		marked = utf8.RuneCountInString(line[start:end])
	}
	b.WriteString(strings.Repeat("^", max(marked, 1)))
	return b.String()
}

// Errors are several mistakes, in the order of the files and lines.
type Errors []*Error

// Error is one line per mistake.
func (e Errors) Error() string {
	lines := make([]string, len(e))
	for i, err := range e {
		lines[i] = err.Error()
	}
	return strings.Join(lines, "\n")
}

// Unwrap gives errors.As each of the mistakes.
func (e Errors) Unwrap() []error {
	list := make([]error, len(e))
	for i, err := range e {
		list[i] = err
	}
	return list
}

// Render is all the mistakes, each with its line of the source.
func (e Errors) Render() string {
	var b strings.Builder
	for _, err := range e {
		b.WriteString(err.Render())
	}
	return b.String()
}

// ErrorAt is an Error at pos, with the line of the source where the file can
// be read; relative names are relative to dir. Later stages report their own
// findings about a Spec with it.
func ErrorAt(dir string, pos Position, message, hint string) *Error {
	e := &Error{Pos: pos, Message: message, Hint: hint, Width: 1}
	if !pos.IsValid() {
		return e
	}
	file := pos.File
	if !filepath.IsAbs(file) {
		file = filepath.Join(dir, file)
	}
	if data, err := os.ReadFile(file); err == nil {
		e.Source = sourceLine(data, pos.Line)
	}
	return e
}

// sourceLine is line number n of data, 1-based, without its end.
func sourceLine(data []byte, n int) string {
	for line := range bytes.Lines(data) {
		if n--; n == 0 {
			return strings.TrimRight(string(line), "\r\n")
		}
	}
	return ""
}

// sorted is the mistakes in the order of the source, each once, as one
// error: nil, an *Error or Errors.
func (e Errors) sorted() error {
	slices.SortStableFunc(e, func(a, b *Error) int {
		if c := strings.Compare(a.Pos.File, b.Pos.File); c != 0 {
			return c
		}
		if c := a.Pos.Line - b.Pos.Line; c != 0 {
			return c
		}
		if c := a.Pos.Column - b.Pos.Column; c != 0 {
			return c
		}
		return strings.Compare(a.Message, b.Message)
	})
	e = slices.CompactFunc(e, func(a, b *Error) bool {
		return a.Pos == b.Pos && a.Message == b.Message
	})
	switch len(e) {
	case 0:
		return nil
	case 1:
		return e[0]
	}
	return e
}
