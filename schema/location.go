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
	return l.isStage() || l.inst != nil && len(sels) == 2 && selectorName(sels[0]) == "images"
}

// isStage reports whether the location is below `stages`.
func (l location) isStage() bool {
	sels := l.path.Selectors()
	return l.inst != nil && len(sels) > 2 && selectorName(sels[len(sels)-2]) == "stages"
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
	var dir string
	if name := selectorName(sels[0]); name == "images" && len(sels) > 1 {
		dir = sv.imageDir(selectorName(sels[1]))
	} else {
		dir = sv.fieldDir(name)
	}
	for i := 1; i < len(sels); i++ {
		outer := location{at.inst, cue.MakePath(sels[:i]...)}
		if !outer.isImage() && i > 1 {
			continue
		}
		ctx := d.rootOf(at.inst).LookupPath(outer.path).LookupPath(contextPath)
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
	if pk := d.byInstance[inst]; pk != nil && pk.built {
		return pk.value
	}
	return d.context.BuildInstance(inst)
}

// packageKey identifies a package that is loaded from a directory.
type packageKey struct{ dir, name string }

// canonical is the instance that stands for a package. CUE has two of one
// that the arguments name and another package imports; they are the same
// unless a tag was set in the first.
func (d *decoder) canonical(inst *build.Instance) *build.Instance {
	pk := d.byDir[packageKey{inst.Dir, inst.PkgName}]
	if pk != nil && pk.built && (len(d.session.opts.Tags) == 0 || len(pk.survey.tags) == 0) {
		return pk.inst
	}
	return inst
}

// aliasesOf are the locations of the templates that v is nothing but a
// reference to: CUE may keep one node for all of them, and then resolves
// references in it to the template's path.
func (d *decoder) aliasesOf(v cue.Value) []location {
	var aliases []location
	for range maxChain {
		next := cue.Dereference(v)
		if next == v || !next.Exists() {
			break
		}
		if at, ok := d.referenced(v); ok {
			aliases = append(aliases, at)
		}
		v = next
	}
	return aliases
}

// depth is the number of images around the one of s.
func (s *scope) depth() int {
	n := 0
	for ; s.outer != nil; s = s.outer {
		n++
	}
	return n
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
