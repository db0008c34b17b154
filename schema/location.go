package schema

import (
	"fmt"

	"cuelang.org/go/cue"
	"cuelang.org/go/cue/build"
)

// location is the path of a value in a package.
type location struct {
	inst *build.Instance
	path cue.Path
}

// key identifies the location in a map.
func (l location) key() string { return fmt.Sprintf("%p %s", l.inst, l.path) }

// isImage reports whether the location is one that declares an image: below
// `images`, or a stage of whatever is above it.
func (l location) isImage() bool {
	sels := l.path.Selectors()
	if l.inst == nil || len(sels) < 2 {
		return false
	}
	parent := selectorName(sels[len(sels)-2])
	return parent == "stages" || parent == "images" && len(sels) == 2
}

// below is the rest of l's path where l is outer or in it.
func (l location) below(outer location) ([]cue.Selector, bool) {
	a, b := l.path.Selectors(), outer.path.Selectors()
	if l.inst != outer.inst || len(a) < len(b) {
		return nil, false
	}
	for i := range b {
		if a[i].String() != b[i].String() {
			return nil, false
		}
	}
	return a[len(b):], true
}

// contextAt is the default context at a location: the directory of the file
// that declares its image, and below that what the images around it say.
func (d *decoder) contextAt(at location) string {
	sels := at.path.Selectors()
	sv := d.surveys[at.inst]
	if len(sels) == 0 || sv == nil {
		return at.inst.Dir
	}
	dir := sv.fieldDir(selectorName(sels[0]))
	if len(sels) > 1 && selectorName(sels[0]) == "images" {
		dir = sv.imageDir(selectorName(sels[1]))
	}
	root := d.rootOf(at.inst)
	for i := 1; i < len(sels); i++ {
		ctx := root.LookupPath(cue.MakePath(sels[:i]...)).LookupPath(cue.ParsePath("context"))
		if path, err := ctx.String(); err == nil {
			dir = d.resolvePath(path, &scope{at: at, context: dir})
		}
	}
	return dir
}

func selectorName(sel cue.Selector) string {
	if sel.IsString() {
		return sel.Unquoted()
	}
	return sel.String()
}

// rootOf is the value of a package that was evaluated or imported.
func (d *decoder) rootOf(inst *build.Instance) cue.Value {
	for _, pk := range d.packages {
		if pk.inst == inst && pk.built {
			return pk.value
		}
	}
	return d.context.BuildInstance(inst)
}

// aliasesOf are the locations of the templates that v is nothing but a
// reference to: CUE may keep one node for all of them, and then resolves
// references in it to the template's path.
func (d *decoder) aliasesOf(v cue.Value) []location {
	var aliases []location
	for range maxChain {
		at, next, ok := d.reference(v)
		if !ok {
			break
		}
		if at.inst != nil {
			aliases = append(aliases, at)
		}
		v = next
	}
	return aliases
}

// home maps a location in a template to the image in scope that shares the
// template's node.
func (s *scope) home(at location) location {
	for ; s != nil; s = s.outer {
		for _, alias := range s.aliases {
			if rest, ok := at.below(alias); ok {
				return location{s.at.inst, s.at.path.Append(rest...)}
			}
		}
	}
	return at
}
