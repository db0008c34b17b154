package schema

import (
	"cuelang.org/go/cue/ast"
	"cuelang.org/go/cue/parser"
)

// vocabulary is the names of the fields of each definition of the schema, in
// the order in which the schema lists them. It is read from the schema, so
// that messages and documentation cannot differ.
type vocabulary map[string][]string

// readVocabulary reads the text of the schema, which a test parses as well.
func readVocabulary() vocabulary {
	words := vocabulary{}
	f, err := parser.ParseFile(schemaFile, source)
	if err != nil {
		return words
	}
	definitions := map[string]*ast.StructLit{}
	for _, decl := range f.Decls {
		if field, ok := decl.(*ast.Field); ok {
			name, _ := literalLabel(field.Label)
			definitions[name], _ = field.Value.(*ast.StructLit)
		}
	}
	for name := range definitions {
		words[name] = fieldNames(definitions, name)
	}
	return words
}

// fieldNames lists the fields of a definition; embedded ones come last.
func fieldNames(definitions map[string]*ast.StructLit, name string) []string {
	body := definitions[name]
	if body == nil {
		return nil
	}
	var own, embedded []string
	for _, elt := range body.Elts {
		switch x := elt.(type) {
		case *ast.Field:
			if label, ok := literalLabel(x.Label); ok {
				own = append(own, label)
			}
		case *ast.EmbedDecl:
			if id, ok := x.Expr.(*ast.Ident); ok {
				embedded = append(embedded, fieldNames(definitions, id.Name)...)
			}
		}
	}
	return append(own, embedded...)
}

// words are the fields of a definition.
func (d *decoder) words(definition string) []string {
	if d.vocabulary == nil {
		d.vocabulary = readVocabulary()
	}
	return d.vocabulary[definition]
}
