package schema

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"cuelang.org/go/cue"
)

// maxChain bounds how far references are followed. CUE refuses cycles, so
// this is never reached by a file that means something.
const maxChain = 100

// sourceFields are the fields of which a #Source has exactly one.
var sourceFields = [...]string{"local", "git", "http", "oci"}

// from decodes what an image, a copy or a mount starts from.
func (d *decoder) from(v cue.Value, s *scope) *From {
	from := &From{Pos: d.pos(v)}
	// An image first: in a cycle it has no value.
	if d.isImageRef(v, s) {
		from.Image = d.fromImage(v, s)
		if from.Image == nil {
			return nil
		}
		return from
	}
	if from.Image = d.known(v, s); from.Image != nil {
		return from
	}
	settled, k := d.settle(v)
	switch k {
	case cue.BottomKind:
		return nil
	case cue.StringKind:
		from.Ref = d.registryRef(v, d.str(settled), s)
		return from
	case cue.StructKind:
	default:
		d.mistyped(settled, k, "a string (an image in a registry), an image, a source or a switch")
		return nil
	}
	if isSource(settled) {
		from.Source = d.source(settled, s)
		return from
	}
	if isSwitch(settled) {
		from.Switch = d.choice(settled, s)
		return from
	}
	from.Image = d.fromImage(v, s)
	if from.Image == nil {
		return nil
	}
	return from
}

// isSource tells a #Source from an image.
func isSource(v cue.Value) bool {
	for _, name := range sourceFields {
		if v.LookupPath(cue.MakePath(cue.Str(name))).Exists() {
			return true
		}
	}
	return false
}

// isSwitch tells a #Switch from an image.
func isSwitch(v cue.Value) bool {
	return v.LookupPath(cue.MakePath(cue.Str("switch"))).Exists() || v.LookupPath(cue.MakePath(cue.Str("cases"))).Exists()
}

// choice decodes a #Switch.
func (d *decoder) choice(v cue.Value, s *scope) *Switch {
	sw, known := &Switch{Pos: d.pos(v)}, true
	var fallback cue.Value
	d.fields(v, "a switch", func(name string, f cue.Value) {
		switch name {
		case "switch":
			sw.Word = d.filled(f)
		case "cases":
			d.fields(f, "what to start from, by value", func(value string, f cue.Value) {
				sw.Cases = append(sw.Cases, Case{Value: value, From: d.from(f, s)})
			})
			if len(sw.Cases) == 0 {
				d.fail(f, "the switch has no cases", "")
			}
		case "default":
			fallback = f
		default:
			d.unknown(f, name, d.words("#Switch"))
			known = false
		}
	})
	if fallback.Exists() {
		sw.Default = d.fallback(fallback, sw, s)
	}
	for _, name := range []string{"switch", "cases"} {
		if known && !v.LookupPath(cue.MakePath(cue.Str(name))).Exists() {
			d.fail(v, fmt.Sprintf("the switch needs %q", name), "write for example {switch: \"$TARGETARCH\", cases: {amd64: stages.a, arm64: stages.b}}")
		}
	}
	return sw
}

// fallback decodes the default of a switch. One that is called as a case, as
// the default value of a parameter may be, is not what is taken then.
func (d *decoder) fallback(v cue.Value, sw *Switch, s *scope) *From {
	if settled, k := d.settle(v); k == cue.StringKind {
		ref := d.str(settled)
		for _, c := range sw.Cases {
			if c.Value == ref {
				return &From{Ref: ref, Pos: d.pos(v)}
			}
		}
	}
	return d.from(v, s)
}

// fromImage follows v to the image that it refers to. A value that is no
// reference is an image of its own, in place.
func (d *decoder) fromImage(v cue.Value, s *scope) *Image {
	var last location
	origin := v
	for range maxChain {
		at, next, ok := d.reference(v)
		if !ok {
			break
		}
		v = next
		if at.inst == nil {
			at = d.whereIs(next)
		}
		if at.inst != nil {
			last = s.home(at)
			if img, ok := d.images[last.key()]; ok {
				return d.decoded(origin, img, last)
			}
			if img := d.declared(last, s); img.Exists() {
				if last.isStage() && d.isImageRef(img, s) {
					v = img
					continue
				}
				return d.imageAt(img, last, s)
			}
		}
		if img, ok := d.byNode[next]; ok {
			return d.decoded(origin, img, last)
		}
	}
	if last.inst != nil {
		return d.imageAt(v, last, s)
	}
	if s.depth() > maxChain {
		d.fail(v, fmt.Sprintf("images are nested in each other more than %d deep", maxChain), "make fields of them")
		return nil
	}
	return d.image(v, &scope{outer: s, at: d.inPlace(v, s), context: s.context, inFrom: true})
}

// isImageRef reports whether v is nothing but a reference to an image or stage
// that is declared as one: it then is that image, with its own context. A
// reference to anything else is a template, which is instantiated in place.
func (d *decoder) isImageRef(v cue.Value, s *scope) bool {
	at, _, ok := d.reference(v)
	return ok && d.declared(s.home(at), s).Exists()
}

// known is the image that v refers to directly and that was decoded before.
func (d *decoder) known(v cue.Value, s *scope) *Image {
	at, next, ok := d.reference(v)
	if !ok {
		return nil
	}
	if img := d.byNode[next]; img != nil || at.inst == nil {
		return img
	}
	return d.images[s.home(at).key()]
}

// declared is the image that is declared at a location; it does not exist
// where the location is none of an image's.
func (d *decoder) declared(at location, s *scope) cue.Value {
	if !at.isImage() {
		return cue.Value{}
	}
	for ; s != nil; s = s.outer {
		if rest, ok := at.below(s.at); ok {
			return s.value.LookupPath(cue.MakePath(rest...))
		}
	}
	return d.rootOf(at.inst).LookupPath(at.path)
}

// decoded is an image that was decoded before; one that still is being decoded
// is built from itself.
func (d *decoder) decoded(v cue.Value, img *Image, at location) *Image {
	if img == nil {
		d.cycle(v, at)
	}
	return img
}

// cycle records that the images on the stack from at on lead back to at.
func (d *decoder) cycle(v cue.Value, at location) {
	names := []string{}
	for _, s := range d.stack {
		if len(names) > 0 || s.at.key() == at.key() {
			names = append(names, s.at.path.String())
		}
	}
	names = append(names, at.path.String())
	d.fail(v, "the image is built from itself: "+strings.Join(names, " needs "), "")
}

// inPlace is the location of a value that no reference leads to.
func (d *decoder) inPlace(v cue.Value, s *scope) location {
	if path := v.Path(); path.Err() == nil && len(path.Selectors()) > 0 {
		return location{s.at.inst, path}
	}
	d.unnamed++
	return location{s.at.inst, s.at.path.Append(cue.Str("from"), cue.Index(d.unnamed))}
}

// reference follows one step of v: to what it refers to, also where it is
// unified with things that add nothing. The location is zero where CUE does
// not know it, as for a variable of a comprehension.
func (d *decoder) reference(v cue.Value) (location, cue.Value, bool) {
	if next := cue.Dereference(v); next != v && next.Exists() {
		at, _ := d.referenced(v)
		return at, next, true
	}
	list := conjuncts(v)
	if len(list) < 2 {
		return location{}, v, false
	}
	var significant []cue.Value
	for _, c := range list {
		if !d.addsNothing(c) {
			significant = append(significant, c)
		}
	}
	if len(significant) != 1 {
		return location{}, v, false
	}
	return d.reference(significant[0])
}

// referenced is the location that v refers to, where CUE knows it.
func (d *decoder) referenced(v cue.Value) (location, bool) {
	root, path := v.ReferencePath()
	inst := root.BuildInstance()
	if inst == nil || path.Err() != nil || len(path.Selectors()) == 0 {
		return location{}, false
	}
	return location{d.canonical(inst), path}, true
}

// addsNothing reports whether unifying with c changes no valid image: c is
// the top, or of the schema.
func (d *decoder) addsNothing(c cue.Value) bool {
	if c.IncompleteKind() == cue.TopKind {
		return true
	}
	if root, _ := c.ReferencePath(); root.BuildInstance() != nil {
		return isSchema(root.BuildInstance())
	}
	src := c.Source()
	return src != nil && src.Pos().IsValid() && d.foreign(src.Pos())
}

// whereIs finds the location of a node that was reached without a path.
func (d *decoder) whereIs(v cue.Value) location {
	path := v.Path()
	if path.Err() != nil || len(path.Selectors()) == 0 {
		return location{}
	}
	for _, pk := range d.packages {
		if pk.built && pk.value.LookupPath(path) == v {
			return location{pk.inst, path}
		}
	}
	return location{}
}

// source decodes a #Source.
func (d *decoder) source(v cue.Value, s *scope) *Source {
	src := &Source{Pos: d.pos(v)}
	kinds := []string{}
	d.fields(v, "a source", func(name string, f cue.Value) {
		switch name {
		case "local":
			src.Local = d.localDir(f, s)
		case "git":
			src.Git = d.filled(f)
		case "http":
			src.HTTP = d.url(f)
		case "oci":
			src.OCI = d.ociPath(f, s)
		case "ref":
			src.Ref = d.filled(f)
		case "checksum":
			src.Checksum = d.checksum(f, false)
		case "subdir":
			src.Subdir = d.filled(f)
		case "include":
			src.Include = d.strs(f)
		case "exclude":
			src.Exclude = d.strs(f)
		default:
			d.unknown(f, name, d.words("#Source"))
			return
		}
		for _, kind := range sourceFields {
			if name == kind {
				kinds = append(kinds, name)
			}
		}
	})
	if len(kinds) > 1 {
		d.fail(v, "a source is one of these, not "+enumerate(kinds), "").Allowed = strings.Join(sourceFields[:], ", ")
	} else if len(kinds) == 1 {
		d.sourceFields(v, kinds[0])
	}
	return src
}

// sourceFields refuses fields that a kind of source does not use.
func (d *decoder) sourceFields(v cue.Value, kind string) {
	uses := map[string]string{
		"local": "local include exclude",
		"git":   "git ref checksum subdir",
		"http":  "http checksum",
		"oci":   "oci",
	}[kind]
	d.fields(v, "a source", func(name string, f cue.Value) {
		for _, used := range strings.Fields(uses) {
			if used == name {
				return
			}
		}
		e := d.failLabel(f, fmt.Sprintf("%q has no meaning for a source of kind %q", name, kind), "")
		e.Allowed = strings.Join(strings.Fields(uses), ", ")
	})
}

func (d *decoder) localDir(v cue.Value, s *scope) string {
	path, ok := d.strOK(v)
	if !ok {
		return ""
	}
	return d.existingDir(v, path, s)
}

// ociPath resolves an OCI layout or archive, with an optional :tag or
// @digest.
func (d *decoder) ociPath(v cue.Value, s *scope) string {
	path, ok := d.strOK(v)
	if !ok {
		return ""
	}
	name, suffix := splitOCI(path)
	if d.session.exists(d.resolvePath(path, s)) {
		name, suffix = path, ""
	}
	abs := d.resolvePath(name, s)
	if _, err := d.session.stat(abs); name == "" || errors.Is(err, fs.ErrNotExist) {
		d.fail(v, "there is no OCI layout or archive "+d.session.fileName(abs), "")
	}
	return abs + suffix
}

// splitOCI splits path:tag or path@digest.
func splitOCI(s string) (path, suffix string) {
	if i := strings.Index(s, "@"); i >= 0 {
		return s[:i], s[i:]
	}
	if i := strings.LastIndex(s, ":"); i > strings.LastIndex(s, "/") {
		return s[:i], s[i:]
	}
	return s, ""
}
