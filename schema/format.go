package schema

import (
	"cuelang.org/go/cue/errors"
	"cuelang.org/go/cue/format"
	"cuelang.org/go/cue/parser"
)

// Format prints src, one CUE file, in the canonical form. A syntax error is
// an *Error or Errors, whose positions have no file name.
func Format(src []byte) ([]byte, error) {
	f, err := parser.ParseFile("", src, parser.ParseComments)
	if err != nil {
		return nil, syntaxErrors(src, err)
	}
	out, err := format.Node(f)
	if err != nil {
		return nil, syntaxErrors(src, err)
	}
	return out, nil
}

// syntaxErrors translates the errors of a parse of src.
func syntaxErrors(src []byte, err error) error {
	var errs Errors
	for _, e := range errors.Errors(err) {
		at := e.Position().Position()
		errs = append(errs, &Error{
			Pos:     Position{Line: at.Line, Column: at.Column},
			Message: cueMessage(e),
			Source:  sourceLine(src, at.Line),
			Width:   1,
		})
	}
	return errs.sorted()
}
