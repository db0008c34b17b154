package schema

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"cuelang.org/go/cue/ast"
	"cuelang.org/go/cue/format"
)

// Document is a build file to print: images, and what a Spec does not carry.
//
// Stages and images that a From refers to become CUE references. Images that
// are reached so and are not in Images are printed beside `images`, as hidden
// fields: they are no targets.
type Document struct {
	Package string // the package clause; "" is "build"
	Comment string // at the top of the file, without comment signs
	Params  []Param
	Images  []*Image
	// Comments stand above what they belong to.
	Comments map[Node]string
	// Dir is the directory of the file: absolute paths in the Spec are
	// printed relative to it. "" prints them as they are.
	Dir string
}

// Param is a parameter of a Document: a field with a @tag attribute. Strings
// in the Document refer to it with ParamRef.
type Param struct {
	Name     string // as given with --set
	Default  string
	Required bool // there is no default
	Comment  string
}

// Node is what a comment of a Document belongs to: an *Image, a *Step, a Field,
// an Entry or an End.
type Node interface{ node() }

// Field is a field of an image by its CUE name, such as "expose".
type Field struct {
	Of   *Image
	Name string
}

// Entry is an entry of a field of strings by name, such as a variable of env:
// of an image, or of a step with the verb set.
type Entry struct {
	Of          Node
	Field, Name string
}

// End is below everything else in an image.
type End struct{ Of *Image }

func (*Image) node() {}
func (*Step) node()  {}
func (Field) node()  {}
func (Entry) node()  {}
func (End) node()    {}

// errNotUTF8 is a string that CUE cannot hold.
var errNotUTF8 = errors.New("the text is not valid UTF-8")

// Print prints doc as CUE that a person would have written: stages and steps
// in the short forms, references by name, long text in lines.
func Print(doc *Document) ([]byte, error) {
	p, err := newPrinter(doc)
	if err != nil {
		return nil, err
	}
	var b strings.Builder
	b.WriteString(commentLines(doc.Comment, ""))
	if doc.Comment != "" {
		b.WriteString("\n")
	}
	fmt.Fprintf(&b, "package %s\n\nimport %s %q\n\n", p.pkg, p.schema, ImportPath)
	for i, param := range doc.Params {
		if i > 0 && param.Comment != "" {
			b.WriteString("\n")
		}
		b.WriteString(p.param(param))
	}
	for _, img := range p.images {
		b.WriteString("\n" + commentLines(doc.Comments[img], ""))
		body := p.image(img)
		body.tall = true
		body.prefix = p.schema + ".#Image & "
		fmt.Fprintf(&b, "%s: %s\n", p.declaration(img), fit(body, "", 0))
	}
	if p.err != nil {
		return nil, p.err
	}
	out, err := format.Source([]byte(b.String()))
	if err != nil {
		return nil, fmt.Errorf("print CUE: %w", err)
	}
	return out, nil
}

// printer prints one Document.
type printer struct {
	quoter
	doc    *Document
	pkg    string
	schema string // the name of the import
	images []*Image
	listed int               // how many of images are the Document's own
	name   map[*Image]string // the labels of images and stages
	outer  map[*Image]*Image // the image that a stage belongs to
	// taken are the identifiers that expressions use: labels that could
	// capture one are quoted.
	taken map[string]bool
	err   error
}

func newPrinter(doc *Document) (*printer, error) {
	p := &printer{
		quoter: quoter{field: map[string]string{}},
		doc:    doc,
		pkg:    doc.Package,
		name:   map[*Image]string{},
		outer:  map[*Image]*Image{},
		taken:  map[string]bool{"images": true, "stages": true},
	}
	if p.pkg == "" {
		p.pkg = "build"
	}
	for _, img := range doc.Images {
		p.add(img)
	}
	p.listed = len(p.images)
	for i := 0; i < len(p.images); i++ { // grows
		eachFrom(p.images[i], p.reach)
	}
	reserved := p.reservedNames()
	p.schema = importAlias(reserved)
	p.taken[p.schema] = true
	for _, param := range doc.Params {
		if _, ok := p.field[param.Name]; ok {
			return nil, fmt.Errorf("print CUE: the parameter %q is declared twice", param.Name)
		}
		field := unused(paramField(param.Name), reserved)
		reserved[field] = true
		p.field[param.Name] = field
		p.taken[field] = true
	}
	return p, nil
}

// add makes img a top-level image, with a label of its own.
func (p *printer) add(img *Image) {
	if _, ok := p.name[img]; ok {
		return
	}
	p.images = append(p.images, img)
	p.nameOf(img, p.images)
	p.adopt(img)
}

// addHidden makes img a top-level image that is no target.
func (p *printer) addHidden(img *Image) {
	if _, ok := p.name[img]; ok {
		return
	}
	p.images = append(p.images, img)
	p.nameHidden(img)
	p.adopt(img)
}

// hidden reports whether a top-level image is none of the Document's own.
func (p *printer) hidden(img *Image) bool {
	return slices.Index(p.images, img) >= p.listed
}

// declaration is the label of a top-level image, with those around it.
func (p *printer) declaration(img *Image) string {
	if p.hidden(img) {
		return hiddenName(p.name[img])
	}
	return "images: " + p.label(p.name[img])
}

// hiddenName makes a hidden label of a name.
func hiddenName(name string) string { return "_" + paramField(name) }

// adopt names the stages of an image.
func (p *printer) adopt(img *Image) {
	for _, stage := range img.Stages {
		if _, ok := p.name[stage]; ok {
			continue
		}
		p.outer[stage] = img
		p.nameOf(stage, img.Stages)
		p.adopt(stage)
	}
}

// nameOf gives img a label that none of its siblings has.
func (p *printer) nameOf(img *Image, siblings []*Image) {
	p.name[img] = distinct(img.Name, func(name string) bool {
		return slices.ContainsFunc(siblings, func(s *Image) bool { return s != img && p.name[s] == name })
	})
}

// nameHidden gives img a name whose hidden label no other top-level image has.
func (p *printer) nameHidden(img *Image) {
	p.name[img] = distinct(strings.TrimLeft(img.Name, "_#"), func(name string) bool {
		return slices.ContainsFunc(p.images, func(s *Image) bool { return s != img && hiddenName(p.name[s]) == hiddenName(name) })
	})
}

// distinct is base, or base with a number, that is not taken.
func distinct(base string, taken func(string) bool) string {
	if base == "" {
		base = "image"
	}
	name := base
	for n := 2; taken(name); n++ {
		name = base + strconv.Itoa(n)
	}
	return name
}

// reach adds an image that a From refers to and nothing declares.
func (p *printer) reach(from *From) {
	if from.Image != nil {
		p.addHidden(from.Image)
	}
}

// eachFrom calls fn for every From in an image.
func eachFrom(img *Image, fn func(*From)) {
	call := func(f *From) { f.Each(fn) }
	call(img.From)
	for _, step := range img.Steps {
		call(step.From)
		for _, m := range step.Mounts {
			call(m.From)
		}
	}
	for _, stage := range img.Stages {
		eachFrom(stage, fn)
	}
}

// reservedNames are the identifiers that a parameter or the import cannot
// have: fields of the schema, labels of images, CUE's own words.
func (p *printer) reservedNames() map[string]bool {
	reserved := map[string]bool{"images": true}
	for _, fields := range readVocabulary() {
		for _, f := range fields {
			reserved[f] = true
		}
	}
	for _, name := range p.name {
		reserved[name] = true
	}
	for _, word := range append(strings.Fields("string bool int number float bytes len close and or div mod quo rem error self matchN matchIf uint rune"), keywords...) {
		reserved[word] = true
	}
	return reserved
}

// importAlias is a name for the schema that is not reserved.
func importAlias(reserved map[string]bool) string {
	for _, name := range []string{"b", "build", "strata"} {
		if !reserved[name] {
			return name
		}
	}
	return unused("schema", reserved)
}

// unused is name, or name with something appended, that is not reserved.
func unused(name string, reserved map[string]bool) string {
	for candidate, n := name, 2; ; n++ {
		if !reserved[candidate] {
			return candidate
		}
		candidate = name + "Arg"
		if n > 2 {
			candidate += strconv.Itoa(n - 1)
		}
	}
}

// paramField makes an identifier of a parameter's name.
func paramField(name string) string {
	id := strings.Map(func(r rune) rune {
		if r == '_' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' {
			return r
		}
		return '_'
	}, name)
	id = strings.TrimLeft(id, "_")
	if id == "" || !ast.IsValidIdent(id) {
		return "arg" + id
	}
	return id
}

// param prints the field of a parameter.
func (p *printer) param(param Param) string {
	value := "string"
	if !param.Required {
		value += " | *" + p.quote(param.Default, "\t")
	}
	return commentLines(param.Comment, "") + fmt.Sprintf("%s: %s @tag(%s)\n", p.field[param.Name], value, param.Name)
}

func (p *printer) label(name string) string { return p.quoter.label(name, p.taken) }

// str prints a string.
func (p *printer) str(s string) textNode {
	if !utf8.ValidString(s) && p.err == nil {
		p.err = fmt.Errorf("print %q: %w", s, errNotUTF8)
	}
	for i, piece := range strings.Split(s, paramMark) {
		piece, _, _ = strings.Cut(piece, ifMark)
		if _, ok := p.field[piece]; i%2 == 1 && !ok && p.err == nil {
			p.err = fmt.Errorf("print CUE: there is no parameter %q", piece)
		}
	}
	return func(indent string) string { return p.quote(s, indent+"\t") }
}

// reference is the expression that refers to target from inside of img:
// `stages.build` where the innermost `stages` around has it.
func (p *printer) reference(target, img *Image) string {
	for at := img; at != nil; at = p.outer[at] {
		if len(at.Stages) == 0 {
			continue
		}
		if p.outer[target] == at {
			return "stages" + p.selector(p.name[target])
		}
		break
	}
	var path string
	for p.outer[target] != nil {
		path = ".stages" + p.selector(p.name[target]) + path
		target = p.outer[target]
	}
	if p.hidden(target) {
		return hiddenName(p.name[target]) + path
	}
	return "images" + p.selector(p.name[target]) + path
}

// selector prints a selection of a field.
func (p *printer) selector(name string) string {
	if quoted := plainLabel(name); quoted != name {
		return "[" + quoted + "]"
	}
	return "." + name
}

// path prints a path of the Spec: relative to base, a directory, where both
// are absolute.
func (p *printer) path(s, base string) textNode {
	if p.doc.Dir != "" && filepath.IsAbs(s) && filepath.IsAbs(base) {
		if rel, err := filepath.Rel(base, s); err == nil {
			s = filepath.ToSlash(rel)
		}
	}
	return p.str(s)
}

// base is the directory that the paths in an image are relative to.
func (p *printer) base(img *Image) string {
	if img != nil && img.Context != "" {
		return img.Context
	}
	return p.doc.Dir
}
