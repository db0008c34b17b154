package worker

import (
	"errors"
	"fmt"
	"os"
	"path"
	"strings"

	"github.com/strata-build/strata/runtime/fileop"
	"github.com/strata-build/strata/solver"
)

// missing says of a path that was not found in which context it was looked
// for, and whether an ignore file hides it there.
func missing(err error, from solver.Edge, in *Result, p string) error {
	if !errors.Is(err, fileop.ErrNotFound) || in.files == nil {
		return err
	}
	name, _ := strings.CutPrefix(from.Vertex.Op.GetSource().GetIdentifier(), "local://")
	place := "the build context"
	if other, ok := strings.CutPrefix(name, "context:"); ok {
		place = fmt.Sprintf("the context %q", other)
	}
	dir := in.files.Dir()
	if !in.unnamed { // as a stream's directory is: it is the store's
		place += " " + dir
	}
	if p != "" && exists(dir, p) {
		return fmt.Errorf("%w in %s: it is there, and the ignore file hides it", err, place)
	}
	return fmt.Errorf("%w in %s", err, place)
}

// exists tells whether a directory has a path, whatever a selection says.
func exists(dir, p string) bool {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return false
	}
	defer root.Close()
	_, err = root.Stat("." + path.Join("/", p))
	return err == nil
}
