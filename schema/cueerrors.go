package schema

import (
	"fmt"
	"os"
	pathpkg "path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"cuelang.org/go/cue"
	"cuelang.org/go/cue/ast"
	"cuelang.org/go/cue/build"
	"cuelang.org/go/cue/errors"
	"cuelang.org/go/cue/load"
	"cuelang.org/go/cue/token"
)

// The messages of CUE's that get a hint, by the format that identifies them.
const (
	cueNotFound     = "reference %q not found"
	cueUndefined    = "undefined field: %s"
	cueNotAllowed   = "field not allowed"
	cueConflict     = "conflicting values %s and %s"
	cueMismatch     = "conflicting values %s and %s (mismatched types %s and %s)"
	cueDisjunction  = "%d errors in empty disjunction:"
	cueCycle        = "structural cycle"
	cueUnused       = "imported and not used: %s"
	cueNoBuiltin    = "builtin package %q undefined"
	cueImportFailed = "import failed"
	cueImportCycle  = "package import cycle not allowed"
)

// standardPackages are CUE's own packages, for hints.
const standardPackages = "crypto/md5 crypto/sha1 crypto/sha256 crypto/sha512 encoding/base64 encoding/csv " +
	"encoding/hex encoding/json encoding/yaml list math math/bits net path regexp strconv strings struct " +
	"text/template time uuid"

// cueErrors makes mistakes of CUE's errors: at the user's own place, and with
// a hint.
func (p *program) cueErrors(err error) Errors {
	var errs Errors
	list := firstOfEach(errors.Errors(err))
	for i := 0; i < len(list); i++ {
		format, _ := list[i].Msg()
		if format == cueDisjunction {
			n := p.disjunction(list[i:], &errs)
			i += n - 1
			continue
		}
		errs = append(errs, p.cueError(list[i]))
	}
	return errs
}

// firstOfEach drops the later errors about a value: they follow from the
// first. Those about the alternatives of a disjunction are kept.
func firstOfEach(list []errors.Error) []errors.Error {
	var kept []errors.Error
	seen := map[string]bool{}
	for i, err := range list {
		format, _ := err.Msg()
		path := pathOf(err.Path())
		inChoice := i > 0 && len(kept) > 0 && kept[len(kept)-1] == list[i-1] && pathOf(list[i-1].Path()) == path && isAlternative(list[:i])
		if path != "" && seen[path] && !inChoice && format != cueDisjunction {
			continue
		}
		seen[path] = true
		kept = append(kept, err)
	}
	return kept
}

// isAlternative reports whether what follows list belongs to a disjunction.
func isAlternative(list []errors.Error) bool {
	for i := len(list) - 1; i >= 0; i-- {
		if format, _ := list[i].Msg(); format == cueDisjunction {
			return true
		} else if format != cueConflict && format != cueMismatch {
			return false
		}
	}
	return false
}

// cueError translates one error.
func (p *program) cueError(err errors.Error) *Error {
	format, args := err.Msg()
	at, others := p.blame(err)
	e := p.errorAt(at, cueMessage(err))
	e.Path = pathOf(err.Path())
	switch format {
	case cueNotFound:
		e.Hint = didYouMean(fmt.Sprint(args[0]), p.labels(at))
	case cueUndefined:
		name := strings.Trim(fmt.Sprint(args[0]), `"`)
		e.Hint = didYouMean(name, p.labels(at))
	case cueNotAllowed:
		p.notAllowed(e, err)
	case cueConflict, cueMismatch:
		e.Hint = p.conflictHint(e, others)
	case cueCycle:
		e.Message = "the value contains itself"
	case cueUnused:
		e.Hint = "remove the import"
	case cueNoBuiltin:
		e.Message = fmt.Sprintf("CUE has no package %q", args[0])
		e.Hint = didYouMean(fmt.Sprint(args[0]), strings.Fields(standardPackages))
	case cueImportFailed:
		return p.importFailed(err, e, at)
	}
	if self := p.selfReference(at); self != "" {
		e.Hint = self
	}
	return e
}

// tokenNames says in words what CUE's parser calls its tokens.
var tokenNames = strings.NewReplacer("'EOF'", "the end of the file", "'IDENT'", "a name", "'INT'", "the number", "'STRING'", "the string")

// cueMessage is an error's text without its path and position.
func cueMessage(err errors.Error) string {
	format, args := err.Msg()
	msg := fmt.Sprintf(format, args...)
	if cause := errors.Unwrap(err); cause != nil {
		detail := cause.Error()
		if inner, ok := cause.(errors.Error); ok {
			format, args := inner.Msg()
			detail = fmt.Sprintf(format, args...)
		}
		if inner := innermost(err); msg == "" && inner != err {
			return cueMessage(inner)
		} else if msg == "" {
			return detail
		}
		msg += ": " + detail
	}
	return tokenNames.Replace(msg)
}

// pathOf is a path of an error's as CUE writes it.
func pathOf(path []string) string {
	var b strings.Builder
	for _, elem := range path {
		if n, err := strconv.Atoi(elem); err == nil && b.Len() > 0 {
			fmt.Fprintf(&b, "[%d]", n)
			continue
		}
		if b.Len() > 0 {
			b.WriteByte('.')
		}
		b.WriteString(elem)
	}
	return b.String()
}

// blame is the place of an error in the user's files, and further places
// that are part of it.
func (p *program) blame(err errors.Error) (span, []token.Pos) {
	var places []token.Pos
	for _, pos := range append([]token.Pos{err.Position()}, err.InputPositions()...) {
		if !p.foreign(pos) && !slices.Contains(places, pos) {
			places = append(places, pos)
		}
	}
	if len(places) == 0 {
		return p.placeOfPath(err.Path()), nil
	}
	best := slices.IndexFunc(places, func(pos token.Pos) bool { return p.owns(pos) })
	best = max(best, 0)
	at := places[best]
	return p.spanAt(at), slices.Delete(places, best, best+1)
}

// placeOfPath finds a value by the path of an error without a position.
func (p *program) placeOfPath(path []string) span {
	for n := len(path); n > 0; n-- {
		parsed := cue.ParsePath(pathOf(path[:n]))
		for _, pk := range p.packages {
			if !pk.built || parsed.Err() != nil {
				continue
			}
			if v := pk.value.LookupPath(parsed); v.Source() != nil {
				return p.place(v, valuePart)
			}
		}
	}
	return span{}
}

// spanAt is the longest expression that begins at pos.
func (p *program) spanAt(pos token.Pos) span {
	found, end := span{pos: pos}, pos.Offset()
	p.eachFile(pos.Position().Filename, func(f *ast.File) {
		ast.Walk(f, func(n ast.Node) bool {
			if _, ok := n.(ast.Expr); ok && n.Pos().Offset() == pos.Offset() && n.End().Offset() > end {
				found.end, end = n.End(), n.End().Offset()
			}
			return true
		}, nil)
	})
	return found
}

// eachFile calls fn with the syntax of a file that is part of the program.
func (p *program) eachFile(name string, fn func(*ast.File)) {
	for inst := range p.surveys {
		for _, f := range inst.Files {
			if f.Filename == name {
				fn(f)
				return
			}
		}
	}
}

// labels are the names that a reference at a place may have meant: of all
// fields and imports of its file and package, and of the schema's fields.
func (p *program) labels(at span) []string {
	if !at.pos.IsValid() {
		return nil
	}
	var names []string
	add := func(f *ast.File) {
		ast.Walk(f, func(n ast.Node) bool {
			switch x := n.(type) {
			case *ast.Field:
				if name, ok := literalLabel(x.Label); ok {
					names = append(names, name)
				}
			case *ast.ImportSpec:
				names = append(names, importName(x))
			case *ast.LetClause:
				names = append(names, x.Ident.Name)
			}
			return true
		}, nil)
	}
	file := at.pos.Position().Filename
	for inst := range p.surveys {
		if slices.ContainsFunc(inst.Files, func(f *ast.File) bool { return f.Filename == file }) {
			for _, f := range inst.Files {
				add(f)
			}
			for _, imported := range inst.Imports {
				for _, f := range imported.Files {
					add(f)
				}
			}
		}
	}
	for definition, fields := range readVocabulary() {
		names = append(append(names, definition), fields...)
	}
	return names
}

func importName(spec *ast.ImportSpec) string {
	if spec.Name != nil {
		return spec.Name.Name
	}
	return ast.ParseImportPath(strings.Trim(spec.Path.Value, `"`)).Qualifier
}

// notAllowed explains a field that a closed struct does not have: the place
// is the one that has its label.
func (p *program) notAllowed(e *Error, err errors.Error) {
	path := err.Path()
	if len(path) == 0 {
		return
	}
	name := strings.Trim(path[len(path)-1], `"`)
	e.Message = fmt.Sprintf("unknown field %q", name)
	for _, pos := range append([]token.Pos{err.Position()}, err.InputPositions()...) {
		if p.foreign(pos) {
			continue
		}
		s := p.spanAt(pos)
		x := p.errorAt(s, e.Message)
		if c := x.Pos.Column - 1; c >= 0 && c < len(x.Source) && strings.HasPrefix(strings.Trim(x.Source[c:], `"`), name) {
			e.Pos, e.Source, e.Width = x.Pos, x.Source, len(name)
		}
	}
	e.Path = pathOf(path[:len(path)-1])
	e.Hint = didYouMean(name, p.labels(p.placeOfPath(path)))
}

// conflictHint names the other places of a conflict, or the tag that gave
// the value.
func (p *program) conflictHint(e *Error, others []token.Pos) string {
	if hint := p.tagHint(e); hint != "" {
		return hint
	}
	var places []string
	for _, pos := range others {
		if at := p.position(pos); at != e.Pos && len(places) < 3 {
			places = append(places, at.String())
		}
	}
	if len(places) == 0 {
		return ""
	}
	return "see " + strings.Join(places, ", ")
}

// tagHint says that the value at a place was set by a tag.
func (p *program) tagHint(e *Error) string {
	for _, pk := range p.packages {
		for _, t := range pk.survey.tags {
			if e.Path != t.label && !strings.HasSuffix(e.Path, "."+t.label) {
				continue
			}
			for _, arg := range p.session.opts.Tags {
				if name, value, ok := strings.Cut(arg, "="); ok && name == t.name {
					if t.kind == "" && strings.Contains(e.Message, "mismatched types") {
						return fmt.Sprintf("tags are strings: declare it as @tag(%s,type=int) or type=bool", name)
					}
					return fmt.Sprintf("%q was given with the tag %q", value, name)
				}
			}
		}
	}
	return ""
}

// disjunction translates an error about alternatives, and the errors about
// each of them that follow it. It returns how many errors it took.
func (p *program) disjunction(list []errors.Error, errs *Errors) int {
	path := pathOf(list[0].Path())
	n := 1
	var got string
	var choices []string
	for n < len(list) && pathOf(list[n].Path()) == path {
		format, args := list[n].Msg()
		if (format == cueConflict || format == cueMismatch) && len(args) >= 2 {
			got, choices = meet(got, choices, fmt.Sprint(args[0]), fmt.Sprint(args[1]))
		}
		n++
	}
	first := list[0]
	if n > 1 {
		first = list[1]
	}
	at, _ := p.blame(first)
	if place := p.placeOfPath(list[0].Path()); place.pos.IsValid() {
		at = place
	}
	for _, pos := range first.InputPositions() {
		if s := p.spanAt(pos); pos.IsValid() && p.textAt(s) == got {
			at = s
		}
	}
	e := p.errorAt(at, cueMessage(first))
	e.Path = path
	if len(choices) > 0 {
		e.Message = got + " is not allowed"
		e.Allowed = strings.Join(choices, " | ")
	}
	e.Hint = p.tagHint(e)
	*errs = append(*errs, e)
	return n
}

// meet finds the value that conflicts with every alternative: it is in each
// of the pairs.
func meet(got string, choices []string, a, b string) (string, []string) {
	switch {
	case got == "":
		return b, []string{a}
	case got == a:
		return a, append(choices, b)
	case got == b:
		return b, append(choices, a)
	case len(choices) == 1 && choices[0] == a:
		return a, []string{got, b}
	case len(choices) == 1 && choices[0] == b:
		return b, []string{got, a}
	}
	return got, choices
}

// innermost is the cause of all others.
func innermost(err errors.Error) errors.Error {
	for {
		var inner errors.Error
		if cause := errors.Unwrap(err); cause == nil || !errors.As(cause, &inner) {
			return err
		}
		err = inner
	}
}

// importFailed explains an import: what is wrong in the package, or that
// there is none.
func (p *program) importFailed(err errors.Error, e *Error, at span) *Error {
	cause := innermost(err)
	if pos := cause.Position(); pos.IsValid() && pos.Filename() != at.pos.Filename() {
		return p.cueError(cause)
	}
	e.Path = ""
	if format, _ := cause.Msg(); format == cueImportCycle {
		e.Message = "the packages import each other"
		return e
	}
	p.noPackage(e, strings.Trim(p.textAt(at), `"`))
	return e
}

// noPackage says that there is no such package, and which was meant.
func (p *program) noPackage(e *Error, path string) {
	e.Message = fmt.Sprintf("there is no package %q", path)
	candidates := []string{ImportPath}
	for inst := range p.surveys {
		module := ast.ParseImportPath(inst.Module).Path
		rest, ok := strings.CutPrefix(path, module+"/")
		if !ok || module == "" {
			continue
		}
		dir := filepath.Join(inst.Root, filepath.FromSlash(pathpkg.Dir(rest)))
		entries, err := os.ReadDir(dir)
		if err != nil {
			continue
		}
		for _, entry := range entries {
			if entry.IsDir() {
				candidates = append(candidates, pathpkg.Join(module, pathpkg.Dir(rest), entry.Name()))
			}
		}
	}
	e.Hint = didYouMean(path, candidates)
}

// textAt is the source of a span of one line.
func (p *program) textAt(s span) string {
	e := p.errorAt(s, "")
	if i := e.Pos.Column - 1; i >= 0 && i+e.Width <= len(e.Source) {
		return e.Source[i : i+e.Width]
	}
	return ""
}

// selfReference is a hint where a field's value is the field itself, as in
// `labels: version: version`.
func (p *program) selfReference(at span) string {
	if !at.pos.IsValid() {
		return ""
	}
	hint := ""
	p.eachFile(at.pos.Position().Filename, func(f *ast.File) {
		ast.Walk(f, func(n ast.Node) bool {
			field, ok := n.(*ast.Field)
			if ok && field.Value != nil && field.Value.Pos().Offset() == at.pos.Offset() && refersTo(field.Value, field.Value) {
				name, _ := literalLabel(field.Label)
				hint = fmt.Sprintf("%q refers to the field itself here; give the outer one another name", name)
			}
			return true
		}, nil)
	})
	return hint
}

// refersTo reports whether an identifier in x resolves to the node target.
func refersTo(x ast.Node, target ast.Node) bool {
	found := false
	ast.Walk(x, func(n ast.Node) bool {
		if id, ok := n.(*ast.Ident); ok && id.Node == target {
			found = true
		}
		return !found
	}, nil)
	return found
}

// loadErrors translates what went wrong when a package was read.
func (p *program) loadErrors(inst *build.Instance) Errors {
	if inst.Err == nil {
		return nil
	}
	var multiple *load.MultiplePackageError
	if errors.As(inst.Err, &multiple) {
		return Errors{{
			Message: "the directory " + p.session.fileName(multiple.Dir) + " has several packages: " + strings.Join(multiple.Packages, " and "),
			Hint:    "name one, for example " + p.session.fileName(multiple.Dir) + ":" + multiple.Packages[0],
		}}
	}
	return p.cueErrors(inst.Err)
}
