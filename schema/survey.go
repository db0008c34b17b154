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
	// observes is true where the result may depend on the schema other than
	// by an error: see usesSchemaPlainly.
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
	schemaName := ""
	for spec := range f.ImportSpecs() {
		if name, ok := schemaImport(spec); ok {
			schemaName, s.importsSchema = name, true
		}
	}
	for _, decl := range f.Decls {
		s.topLevel(f.Filename, decl)
	}
	v := &syntaxVisitor{survey: s, file: f.Filename, schemaName: schemaName}
	v.walk(f)
}

// schemaImport is the name that a file gives to the schema.
func schemaImport(spec *ast.ImportSpec) (name string, ok bool) {
	path := strings.Trim(spec.Path.Value, `"`)
	ip := ast.ParseImportPath(path)
	if ip.Path != ImportPath {
		return "", false
	}
	if spec.Name != nil {
		return spec.Name.Name, true
	}
	return "schema", true
}

// topLevel notes the label of a declaration of a file.
func (s *survey) topLevel(file string, decl ast.Decl) {
	switch d := decl.(type) {
	case *ast.Field:
		name, ok := literalLabel(d.Label)
		if !ok {
			s.computed = append(s.computed, file)
			return
		}
		s.top[name] = append(s.top[name], file)
		if name == "images" {
			s.imageFields(file, d.Value)
		}
	case *ast.EmbedDecl, *ast.Comprehension:
		s.computed = append(s.computed, file)
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
	s.computed = append(s.computed, file)
}

func (s *survey) imageField(file string, elt ast.Decl) {
	switch f := elt.(type) {
	case *ast.Field:
		if name, ok := literalLabel(f.Label); ok {
			s.images[name] = append(s.images[name], file)
			return
		}
	case *ast.LetClause, *ast.CommentGroup, *ast.Attribute, *ast.Ellipsis:
		return
	}
	s.computed = append(s.computed, file)
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

// syntaxVisitor collects attributes, and whether the schema is only ever
// unified with.
type syntaxVisitor struct {
	*survey
	file       string
	schemaName string
}

func (v *syntaxVisitor) walk(n ast.Node) {
	plain := usesSchemaPlainly(v.schemaName)
	ast.Walk(n, func(n ast.Node) bool {
		switch x := n.(type) {
		case *ast.BottomLit:
			v.observes = true
		case *ast.Field:
			v.attributes(x)
		case *ast.Attribute:
			v.embed(x)
		case *ast.ImportDecl:
			return false
		}
		if !plain(n) {
			v.observes = true
		}
		return true
	}, nil)
}

// usesSchemaPlainly returns a check to be called for every node in order: it
// is false at a use of the schema that is not one whole definition, such as
// `b.#Image.stages`, whose value the hollow schema does not have.
func usesSchemaPlainly(schemaName string) func(ast.Node) bool {
	if schemaName == "" {
		return func(ast.Node) bool { return true }
	}
	isDefinition := func(x ast.Node) bool {
		sel, ok := x.(*ast.SelectorExpr)
		if !ok {
			return false
		}
		id, ok := sel.X.(*ast.Ident)
		return ok && id.Name == schemaName
	}
	return func(n ast.Node) bool {
		switch x := n.(type) {
		case *ast.SelectorExpr:
			return !isDefinition(x.X)
		case *ast.IndexExpr:
			return !isDefinition(x.X)
		case *ast.CallExpr:
			return !slices.ContainsFunc(x.Args, func(a ast.Expr) bool { return isDefinition(a) })
		case *ast.ForClause:
			return !isDefinition(x.Source)
		case *ast.LetClause:
			return !isDefinition(x.Expr)
		}
		return true
	}
}

func (v *syntaxVisitor) attributes(f *ast.Field) {
	for _, a := range f.Attrs {
		if key, body := a.Split(); key == "tag" {
			v.tags = append(v.tags, parseTag(body, f))
		}
	}
}

func (v *syntaxVisitor) embed(a *ast.Attribute) {
	key, body := a.Split()
	if key != "embed" {
		return
	}
	for _, arg := range attributeArgs(body) {
		if name, value, ok := strings.Cut(arg, "="); ok && (name == "file" || name == "glob") {
			v.embeds = append(v.embeds, embedAttr{dir: filepath.Dir(v.file), pattern: value})
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
