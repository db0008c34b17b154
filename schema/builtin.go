package schema

import (
	"bytes"
	_ "embed"
	"slices"
	"strings"
)

// ImportPath is the path under which build files import the schema.
const ImportPath = "strata.build/schema"

// schemaFile is the name of the one file of the schema package.
const schemaFile = "schema.cue"

//go:embed cue/schema.cue
var source string

// Text is the CUE schema that build files may import as ImportPath.
func Text() string { return source }

// hollowSource is the schema with every definition opened: values that were
// unified with it are unchanged by it, and it costs nothing to evaluate.
func hollowSource() []byte {
	var b bytes.Buffer
	b.WriteString("package schema\n")
	for _, name := range definitionNames(source) {
		b.WriteString(name + ": {...}\n")
	}
	return b.Bytes()
}

// definitionNames lists the top-level definitions of a formatted CUE file.
func definitionNames(src string) []string {
	var names []string
	for line := range strings.Lines(src) {
		name, _, ok := strings.Cut(line, ":")
		if ok && strings.HasPrefix(name, "#") && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}
