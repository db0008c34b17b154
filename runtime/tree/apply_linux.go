package tree

import (
	"context"
	"errors"

	"golang.org/x/sys/unix"

	"github.com/strata-build/strata/runtime/rootfs"
)

// ApplyLayerDir applies the layer directory layer onto the plain tree dst: a
// whiteout removes, an opaque directory replaces, a directory is merged and
// takes the layer's attributes, and any other file replaces what is there.
func ApplyLayerDir(ctx context.Context, layer string, dst *rootfs.Root, f Format) error {
	a := applier{graft: newGraft(ctx, dst, copyOptions{})}
	defer a.abandon()
	return Walk(ctx, WalkRequest{Layers: []string{layer}, Format: f, Raw: true}, a)
}

// applier is a graft that obeys the marks of a layer. It is a Visitor.
type applier struct{ *graft }

func (a applier) Enter(e *Entry) error {
	if IsWhiteout(&e.Stat) {
		return a.dirs[len(a.dirs)-1].RemoveAll(e.Name)
	}
	if e.Opaque {
		if err := a.dirs[len(a.dirs)-1].RemoveAll(e.Name); err != nil {
			return err
		}
	}
	if err := a.graft.Enter(e); err != nil || !e.IsDir() {
		return err
	}
	return a.dropStale(e)
}

// dropStale removes the extended attributes that the merged directory had
// before, and the layer's directory has not.
func (a applier) dropStale(e *Entry) error {
	d := a.dirs[len(a.dirs)-1]
	had, err := d.Xattrs("")
	if err != nil || len(had) == 0 {
		return err
	}
	want, err := e.Self.Xattrs("")
	if err != nil {
		return err
	}
	for name := range had {
		if _, ok := want[name]; ok || private(name) {
			continue
		}
		if err := d.Removexattr("", name); err != nil && !errors.Is(err, unix.ENODATA) {
			return err
		}
	}
	return nil
}
