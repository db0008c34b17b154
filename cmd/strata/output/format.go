// Package output writes what commands print, in docker's ways: listings and
// single values by --format, sizes and times for people, and texts of strangers
// in a form that no terminal takes for commands.
package output

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
	"text/tabwriter"
	"text/template"
	"unicode/utf8"

	"github.com/strata-build/strata/cmd/strata/cli"
)

// Listing is what a command such as `images` prints, in the ways of docker's
// --format.
type Listing struct {
	// Table is the template of the table, its columns separated by tabs.
	Table string
	// Headers has the heading of each field, by the field's name: a map, or a
	// struct where a template calls methods.
	Headers any
	// Rows are structs, whose fields a template names.
	Rows []any
}

// JSON is the --format that prints one object a line.
const JSON = "json"

// Print writes a listing: "" or "table" is its table, "table …" another one,
// "json" one object a row, and anything else a Go template for each row.
func (l Listing) Print(w io.Writer, format string) error {
	columns, table := strings.CutPrefix(format, "table")
	switch {
	case format == JSON:
		return l.printJSON(w)
	case !table && format != "":
		return l.printRows(w, format, false)
	}
	if columns = strings.TrimSpace(columns); columns == "" {
		columns = l.Table
	}
	t := tabwriter.NewWriter(w, 10, 1, 3, ' ', 0)
	return errors.Join(l.printRows(t, columns, true), t.Flush())
}

func (l Listing) printJSON(w io.Writer) error {
	for _, row := range l.Rows {
		if err := WriteJSON(w, row, ""); err != nil {
			return err
		}
	}
	return nil
}

// printRows executes a template for each row, with or without a heading.
func (l Listing) printRows(w io.Writer, text string, heading bool) error {
	if plain := unescape(text); parses(plain) {
		text = plain // within {{"\n"}} it is Go's own
	}
	tmpl, err := parseFormat(text, formatFuncs)
	if err != nil {
		return err
	}
	if heading {
		head, err := parseFormat(text, headingFuncs)
		if err == nil {
			err = executeLine(w, head, l.Headers)
		}
		if err != nil {
			return formatError(err)
		}
	}
	for _, row := range l.Rows {
		if err := executeLine(w, tmpl, row); err != nil {
			return formatError(err)
		}
	}
	return nil
}

// unescape lets a shell's user write \t and \n.
func unescape(text string) string { return strings.NewReplacer(`\t`, "\t", `\n`, "\n").Replace(text) }

// parses reports whether a text is a template.
func parses(text string) bool {
	_, err := template.New("").Funcs(formatFuncs).Parse(text)
	return err == nil
}

func parseFormat(text string, funcs template.FuncMap) (*template.Template, error) {
	tmpl, err := template.New("").Funcs(funcs).Option("missingkey=error").Parse(text)
	if err != nil {
		return nil, cli.Misuse("--format: %s", explainTemplate(err))
	}
	return tmpl, nil
}

// formatError is what a template says of a field that is not there, as a
// mistake in the command line.
func formatError(err error) error {
	var exec template.ExecError
	if errors.As(err, &exec) {
		return cli.Misuse("--format: %s; `--format json` shows the fields", explainTemplate(exec.Err))
	}
	return err
}

// The texts of text/template: where it stopped, at which expression, and why.
var (
	templatePlace = regexp.MustCompile(`^template: :\d+(?::\d+)?: (?:executing "" at <(.*?)>: )?(.*)$`)
	unknownField  = regexp.MustCompile(`^(?:can't evaluate field|map has no entry for key) "?([^" ]*)`)
)

// explainTemplate says what is wrong with a template, which has one line and no
// name.
func explainTemplate(err error) string {
	m := templatePlace.FindStringSubmatch(err.Error())
	if m == nil {
		return err.Error()
	}
	at, why := m[1], m[2]
	if field := unknownField.FindStringSubmatch(why); field != nil {
		if at == "."+field[1] {
			return "there is no field " + at
		}
		return fmt.Sprintf("there is no field %s in %s", field[1], at)
	}
	if at != "" {
		return at + ": " + why
	}
	return why
}

func executeLine(w io.Writer, tmpl *template.Template, data any) error {
	var line bytes.Buffer
	if err := tmpl.Execute(&line, data); err != nil {
		return err
	}
	line.WriteByte('\n')
	_, err := w.Write(line.Bytes())
	return err
}

// PrintObject writes one value by a template, for `inspect` and `info`: the
// value's own fields first, else those of its JSON.
func PrintObject(w io.Writer, value any, format string) error {
	if format == JSON {
		return WriteJSON(w, value, "")
	}
	tmpl, err := parseFormat(format, formatFuncs)
	if err != nil {
		return err
	}
	var typed bytes.Buffer
	if executeLine(&typed, tmpl, value) == nil {
		_, err := w.Write(typed.Bytes())
		return err
	}
	fields, err := jsonFields(value)
	if err != nil {
		return err
	}
	if err := executeLine(w, tmpl, fields); err != nil {
		return formatError(err)
	}
	return nil
}

// jsonFields is a value as its JSON has it. Numbers stay as they are written.
func jsonFields(value any) (any, error) {
	data, err := json.Marshal(value)
	if err != nil {
		return nil, fmt.Errorf("write JSON: %w", err)
	}
	var fields any
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	if err := dec.Decode(&fields); err != nil {
		return nil, fmt.Errorf("read JSON: %w", err)
	}
	return fields, nil
}

// WriteJSON writes a value and a new line, without HTML's escapes.
func WriteJSON(w io.Writer, value any, indent string) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", indent)
	return enc.Encode(value)
}

// formatFuncs are the functions of docker's templates.
var formatFuncs = template.FuncMap{
	"json": func(v any) (string, error) {
		var b bytes.Buffer
		err := WriteJSON(&b, v, "")
		return strings.TrimSuffix(b.String(), "\n"), err
	},
	"join":     joinAny,
	"split":    strings.Split,
	"lower":    strings.ToLower,
	"upper":    strings.ToUpper,
	"title":    title,
	"pad":      pad,
	"truncate": truncate,
	"println":  fmt.Sprintln,
}

// headingFuncs leave a heading whole, whatever a column does to its values.
var headingFuncs = template.FuncMap{
	"json":     func(v string) string { return v },
	"join":     func(v string, _ ...string) string { return v },
	"split":    func(v string, _ string) string { return v },
	"lower":    strings.ToLower,
	"upper":    strings.ToUpper,
	"title":    title,
	"pad":      pad,
	"truncate": func(v string, _ int) string { return v },
	"println":  fmt.Sprintln,
	"slice":    func(v string, _ ...int) string { return v },
}

// joinAny joins a list of strings, which came from a struct or from JSON.
func joinAny(list any, sep string) (string, error) {
	switch l := list.(type) {
	case []string:
		return strings.Join(l, sep), nil
	case []any:
		parts := make([]string, len(l))
		for i, v := range l {
			parts[i] = fmt.Sprint(v)
		}
		return strings.Join(parts, sep), nil
	}
	return "", fmt.Errorf("join: %v is not a list", list)
}

func title(s string) string {
	first, size := utf8.DecodeRuneInString(s)
	if size == 0 {
		return s
	}
	return strings.ToUpper(string(first)) + s[size:]
}

func pad(s string, before, after int) string {
	if s == "" {
		return s
	}
	return strings.Repeat(" ", max(before, 0)) + s + strings.Repeat(" ", max(after, 0))
}

func truncate(s string, length int) string {
	runes := []rune(s)
	if length < 0 || length >= len(runes) {
		return s
	}
	return string(runes[:length])
}
