package schema

import (
	"path/filepath"
	"slices"
	"strings"

	"cuelang.org/go/cue/ast"
	"cuelang.org/go/cue/build"
	"cuelang.org/go/cue/token"
)

// survey is what one package's syntax says before it is evaluated.
type survey struct {
	inst *build.Instance
	// top and images are the files that declare each top-level field, and
	// each field of `images`, by a literal label.
	top, images map[string][]string
	// computed are the files whose images come from a comprehension, a
	// pattern or a reference: their names are known only when evaluated.
	computed []string
	tags     []tagField
	embeds   []embedAttr
	// observes is true where a value may depend on whether something is an
	// error: comparisons with bottom, and alternatives that the schema may
	// rule out.
	observes bool
	// importsSchema is true where a file imports the schema.
	importsSchema bool
}

// tagField is a field with a @tag attribute.
type tagField struct {
	name  string
	kind  string // "", "string", "int", "number", "bool"
	short []string
	label string
	field *ast.Field
}

// embedAttr is an @embed attribute; its pattern is a path.Match pattern
// relative to dir.
type embedAttr struct {
	dir, pattern string
}

// surveyInstance reads the syntax of inst, without its imports.
func surveyInstance(inst *build.Instance) *survey {
	s := &survey{inst: inst, top: map[string][]string{}, images: map[string][]string{}}
	for _, f := range inst.Files {
		s.file(f)
	}
	return s
}

func (s *survey) file(f *ast.File) {
	for spec := range f.ImportSpecs() {
		s.importsSchema = s.importsSchema || isSchemaImport(spec)
	}
	for _, decl := range f.Decls {
		s.topLevel(f.Filename, decl)
	}
	s.attributesAndUses(f)
}

func isSchemaImport(spec *ast.ImportSpec) bool {
	return ast.ParseImportPath(strings.Trim(spec.Path.Value, `"`)).Path == ImportPath
}

// include adds a file to a list that does not have it.
func include(files []string, file string) []string {
	if slices.Contains(files, file) {
		return files
	}
	return append(files, file)
}

// topLevel notes the label of a declaration of a file.
func (s *survey) topLevel(file string, decl ast.Decl) {
	switch d := decl.(type) {
	case *ast.Field:
		name, ok := literalLabel(d.Label)
		if !ok {
			s.computed = include(s.computed, file)
			return
		}
		s.top[name] = include(s.top[name], file)
		if name == "images" {
			s.imageFields(file, d.Value)
		}
	case *ast.EmbedDecl, *ast.Comprehension:
		s.computed = include(s.computed, file)
	}
}

// imageFields notes the labels in one value of `images`.
func (s *survey) imageFields(file string, value ast.Expr) {
	switch x := value.(type) {
	case *ast.ParenExpr:
		s.imageFields(file, x.X)
		return
	case *ast.BinaryExpr:
		if x.Op == token.AND {
			s.imageFields(file, x.X)
			s.imageFields(file, x.Y)
			return
		}
	case *ast.StructLit:
		for _, elt := range x.Elts {
			s.imageField(file, elt)
		}
		return
	}
	s.computed = include(s.computed, file)
}

func (s *survey) imageField(file string, elt ast.Decl) {
	switch f := elt.(type) {
	case *ast.Field:
		if name, ok := literalLabel(f.Label); ok {
			s.images[name] = include(s.images[name], file)
			return
		}
	case *ast.LetClause, *ast.CommentGroup, *ast.Attribute, *ast.Ellipsis:
		return
	}
	s.computed = include(s.computed, file)
}

// literalLabel is the name of a label that is not computed.
func literalLabel(label ast.Label) (string, bool) {
	if alias, ok := label.(*ast.Alias); ok {
		inner, ok := alias.Expr.(ast.Label)
		if !ok {
			return "", false
		}
		label = inner
	}
	name, _, err := ast.LabelName(label)
	return name, err == nil
}

// mayDeclare reports whether the package may have an image of that name.
func (s *survey) mayDeclare(image string) bool {
	return len(s.computed) > 0 || len(s.images[image]) > 0
}

// imageDir is the directory of the file that declares an image: the deepest
// one, because a package includes files of the directories above it.
func (s *survey) imageDir(name string) string {
	return s.deepest(s.images[name])
}

// fieldDir is the directory of the file that declares a top-level field.
func (s *survey) fieldDir(name string) string {
	return s.deepest(s.top[name])
}

func (s *survey) deepest(files []string) string {
	if len(files) == 0 {
		files = s.computed
	}
	dir := ""
	for _, f := range files {
		if d := filepath.Dir(f); len(d) > len(dir) {
			dir = d
		}
	}
	if dir == "" {
		return s.inst.Dir
	}
	return dir
}

// tag is the declaration of the tag of that name.
func (s *survey) tag(name string) (tagField, bool) {
	i := slices.IndexFunc(s.tags, func(t tagField) bool { return t.name == name })
	if i < 0 {
		return tagField{}, false
	}
	return s.tags[i], true
}

// attributesAndUses reads the attributes of a file, and how it may observe the
// schema.
func (s *survey) attributesAndUses(f *ast.File) {
	ast.Walk(f, func(n ast.Node) bool {
		switch x := n.(type) {
		case *ast.BottomLit:
			s.observes = true
		case *ast.BinaryExpr:
			s.observes = s.observes || x.Op == token.OR && (constrained(x.X) || constrained(x.Y))
		case *ast.Field:
			s.tagsOf(x)
		case *ast.Attribute:
			s.embed(f.Filename, x)
		case *ast.ImportDecl:
			return false
		}
		return true
	}, nil)
}

// constrained reports whether an alternative is an expression that the schema
// may be part of, and so may rule out: a struct, a unification or a
// definition.
func constrained(x ast.Expr) bool {
	switch x := x.(type) {
	case *ast.UnaryExpr:
		return constrained(x.X)
	case *ast.ParenExpr:
		return constrained(x.X)
	case *ast.BinaryExpr:
		return x.Op == token.AND || constrained(x.X) || constrained(x.Y)
	case *ast.StructLit:
		return true
	case *ast.Ident:
		return isDefinition(x.Name)
	case *ast.SelectorExpr:
		name, _, err := ast.LabelName(x.Sel)
		return err == nil && isDefinition(name)
	}
	return false
}

func isDefinition(name string) bool {
	return strings.HasPrefix(name, "#") || strings.HasPrefix(name, "_#")
}

func (s *survey) tagsOf(f *ast.Field) {
	for _, a := range f.Attrs {
		if key, body := a.Split(); key == "tag" {
			s.tags = append(s.tags, parseTag(body, f))
		}
	}
}

func (s *survey) embed(file string, a *ast.Attribute) {
	key, body := a.Split()
	if key != "embed" {
		return
	}
	for _, arg := range attributeArgs(body) {
		if name, value, ok := strings.Cut(arg, "="); ok && (name == "file" || name == "glob") {
			s.embeds = append(s.embeds, embedAttr{dir: filepath.Dir(file), pattern: value})
		}
	}
}

// parseTag reads the body of a @tag attribute: name,type=int,short=a|b.
func parseTag(body string, f *ast.Field) tagField {
	t := tagField{field: f}
	t.label, _ = literalLabel(f.Label)
	for i, arg := range attributeArgs(body) {
		name, value, ok := strings.Cut(arg, "=")
		switch {
		case i == 0 && !ok:
			t.name = arg
		case name == "type":
			t.kind = value
		case name == "short":
			t.short = strings.Split(value, "|")
		}
	}
	return t
}

// attributeArgs splits the body of an attribute at its commas, and drops
// quotes.
func attributeArgs(body string) []string {
	var args []string
	for arg := range strings.SplitSeq(body, ",") {
		arg = strings.TrimSpace(arg)
		name, value, ok := strings.Cut(arg, "=")
		if ok {
			arg = strings.TrimSpace(name) + "=" + strings.Trim(strings.TrimSpace(value), `"`)
		}
		args = append(args, strings.Trim(arg, `"`))
	}
	return args
}
