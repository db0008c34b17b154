package schema

import (
	"context"

	"cuelang.org/go/cue"
)

// Vet checks everything in the packages that opts name: every image, as Load
// does, and all that is beside them, unified with the schema.
func Vet(ctx context.Context, opts LoadOptions) (err error) {
	defer recoverPanic(&err)
	_, _, err = vet(ctx, opts)
	return err
}

// vet returns the images as well: nil, where there are none.
func vet(ctx context.Context, opts LoadOptions) (*session, *Spec, error) {
	opts.Targets = nil
	s, err := newSession(opts)
	if err != nil {
		return nil, nil, err
	}
	spec, err := s.vetImages(ctx)
	if err != nil {
		return nil, nil, err
	}
	return s, spec, s.vetPackages(ctx)
}

// vetPackages checks what is beside the images.
func (s *session) vetPackages(ctx context.Context) error {
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
func (s *session) vetImages(ctx context.Context) (*Spec, error) {
	p, err := s.evaluate(ctx, hollowSchema)
	if err != nil {
		return nil, err
	}
	all, err := p.declared(ctx, nil)
	if err != nil || len(all) == 0 {
		return nil, err
	}
	spec, err := s.decode(ctx, p, all)
	if err == nil || p.schema == realSchema || !p.importsSchema() {
		return spec, err
	}
	return s.retry(ctx, err)
}
