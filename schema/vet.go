package schema

import (
	"context"

	"cuelang.org/go/cue"
)

// Vet checks everything in the packages that opts name: every image, as Load
// does, and all that is beside them, unified with the schema.
func Vet(ctx context.Context, opts LoadOptions) (err error) {
	defer recoverPanic(&err)
	opts.Targets = nil
	s, err := newSession(opts)
	if err != nil {
		return err
	}
	if err := s.vetImages(ctx); err != nil {
		return err
	}
	p, err := s.evaluate(ctx, realSchema)
	if err != nil {
		return err
	}
	file := p.context.CompileString(source, cue.Filename(ImportPath+"/"+schemaFile)).LookupPath(cue.ParsePath("#File"))
	var errs Errors
	for _, pk := range p.packages {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := p.build(pk); err != nil {
			return err
		}
		if err := pk.value.Unify(file).Validate(); err != nil {
			errs = append(errs, p.cueErrors(err)...)
		}
	}
	return errs.sorted()
}

// vetImages decodes every image. A package without images is in order: it
// may be a library.
func (s *session) vetImages(ctx context.Context) error {
	p, err := s.evaluate(ctx, hollowSchema)
	if err != nil {
		return err
	}
	all, err := p.declared(ctx, nil)
	if err != nil || len(all) == 0 {
		return err
	}
	_, err = s.decode(ctx, p, all)
	if err == nil || p.schema == realSchema || !p.importsSchema() {
		return err
	}
	_, err = s.retry(ctx, err)
	return err
}
