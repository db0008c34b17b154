package main

import (
	"context"

	"github.com/strata-build/strata/runtime/engine"
	"github.com/strata-build/strata/runtime/image"
)

// inspectContainer describes the container of a name or id; false if there is
// none.
func (a *app) inspectContainer(context.Context, *engine.Engine, string, bool) (any, bool, error) {
	return nil, false, nil
}

// imageUsers names the containers that were made of an image.
func (a *app) imageUsers(context.Context, *engine.Engine, image.Image) ([]imageUser, error) {
	return nil, nil
}

// imageUser is a container that uses an image.
type imageUser struct {
	Name    string
	Running bool
}
