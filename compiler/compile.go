package compiler

import (
	"context"
	"errors"

	"github.com/strata-build/strata/schema"
)

// Compile translates the images of a Spec, each for each of its platforms.
func Compile(ctx context.Context, spec *schema.Spec, opts Options) (*Plan, error) {
	return nil, errors.New("compile: not yet")
}
