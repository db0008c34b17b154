package schema

import (
	"fmt"
	"os"
	pathpkg "path"
	"path/filepath"
	"strconv"
	"strings"

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
// a hint. Of several about one value the first is enough: the others follow
// from it.
func (p *program) cueErrors(err error) Errors {
	var errs Errors
	list := errors.Errors(err)
	seen := map[string]bool{}
	for len(list) > 0 {
		first, n := list[0], 1
		if format, _ := first.Msg(); format == cueDisjunction {
			n = samePath(list)
		}
		path := pathOf(first.Path())
		if path == "" || !seen[path] {
			errs = append(errs, p.translate(list[:n]))
		}
		seen[path] = true
		list = list[n:]
	}
	return errs
}

// samePath counts the errors at the beginning of list that have its path.
func samePath(list []errors.Error) int {
	path := pathOf(list[0].Path())
	n := 1
	for n < len(list) && pathOf(list[n].Path()) == path {
		n++
	}
	return n
}

// translate makes a mistake of an error, or of an error about alternatives
// with those about each of them.
func (p *program) translate(list []errors.Error) *Error {
	if len(list) == 1 {
		return p.cueError(list[0])
	}
	return p.disjunction(list)
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

// disjunction translates an error about alternatives, with the errors about
// each of them.
func (p *program) disjunction(list []errors.Error) *Error {
	var got string
	var choices []string
	for _, err := range list[1:] {
		format, args := err.Msg()
		if (format == cueConflict || format == cueMismatch) && len(args) >= 2 {
			got, choices = meet(got, choices, fmt.Sprint(args[0]), fmt.Sprint(args[1]))
		}
	}
	e := p.errorAt(p.alternative(list, got), cueMessage(list[1]))
	e.Path = pathOf(list[0].Path())
	if len(choices) > 0 {
		e.Message = got + " is not allowed"
		e.Allowed = strings.Join(choices, " | ")
	}
	e.Hint = p.tagHint(e)
	return e
}

// alternative is the place of the value that none of the alternatives allows.
func (p *program) alternative(list []errors.Error, got string) span {
	for _, pos := range list[1].InputPositions() {
		if s := p.spanAt(pos); !p.foreign(pos) && p.textAt(s) == got {
			return s
		}
	}
	if at := p.placeOfPath(list[0].Path()); at.pos.IsValid() {
		return at
	}
	at, _ := p.blame(list[1])
	return at
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
