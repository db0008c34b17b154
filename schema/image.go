package schema

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

	"cuelang.org/go/cue"
)

// scope is the image that is being decoded: what the references, relative
// paths and defaults in it refer to.
type scope struct {
	outer   *scope
	at      location
	value   cue.Value
	context string
	// aliases are the locations that CUE may report for values inside of
	// this image, because it shares the node of a template.
	aliases []location
	// inFrom is true for a struct written right after `from:`; what is wrong
	// in it may have been meant as a source.
	inFrom bool
}

// The fields of an image that are looked up out of their order.
var (
	contextPath = cue.ParsePath("context")
	fromPath    = cue.ParsePath("from")
)

// requested decodes a target and checks the assertions in it.
func (d *decoder) requested(t target) *Image {
	v := t.pkg.value.LookupPath(t.path())
	at := location{t.pkg.inst, t.path()}
	if img, ok := d.images[at.key()]; ok {
		return img
	}
	before := len(d.errs)
	var img *Image
	if outer := d.around(at, nil); outer != nil && d.isImageRef(v, outer) {
		img = d.fromImage(v, outer)
	} else {
		img = d.imageAt(v, at, nil)
	}
	if len(d.errs) == before {
		d.residue(v)
	}
	return img
}

// residue records errors in fields that are the user's own: a hidden field
// may hold an assertion.
func (d *decoder) residue(v cue.Value) {
	if err := v.Err(); err != nil && !cue.IsIncomplete(err) {
		d.bottom(v)
	}
}

// assertions records errors in the other fields of the packages.
func (d *decoder) assertions(targets []target) {
	if len(d.errs) > 0 {
		return
	}
	seen := map[*pkg]bool{}
	for _, t := range targets {
		if seen[t.pkg] {
			continue
		}
		seen[t.pkg] = true
		it, err := t.pkg.value.Fields(cue.Hidden(true))
		if err != nil {
			d.bottom(t.pkg.value)
			continue
		}
		for it.Next() {
			if it.Selector() != imagesPath.Selectors()[0] {
				d.residue(it.Value())
			}
		}
	}
}

// imageAt decodes the image that is declared at a location. The scopes of the
// images around it are taken from s where it is in one of them.
func (d *decoder) imageAt(v cue.Value, at location, s *scope) *Image {
	outer := d.around(at, s)
	inner := &scope{outer: outer, at: at}
	if outer != nil && outer.context != "" {
		inner.context = outer.context
	} else {
		inner.context = d.contextAt(at)
	}
	return d.image(v, inner)
}

// around is the scope of the innermost image around a location, or nil.
func (d *decoder) around(at location, s *scope) *scope {
	sels := at.path.Selectors()
	for n := len(sels) - 1; n > 0; n-- {
		outer := location{at.inst, cue.MakePath(sels[:n]...)}
		if !outer.isImage() {
			continue
		}
		for known := s; known != nil; known = known.outer {
			if known.at.key() == outer.key() {
				return known
			}
		}
		v := d.rootOf(at.inst).LookupPath(outer.path)
		return &scope{outer: d.around(outer, s), at: outer, value: v, aliases: d.aliasesOf(v)}
	}
	return nil
}

// image decodes v, whose scope says where it is and what its context would
// be by default.
func (d *decoder) image(v cue.Value, s *scope) *Image {
	s.value, s.aliases = v, d.aliasesOf(v)
	d.images[s.at.key()], d.byNode[v] = nil, nil
	img := &Image{
		Name:    lastLabel(v),
		Path:    s.at.path.String(),
		Package: d.dirOf(s.at.inst),
		Pos:     d.posOf(v, labelPart),
		Context: s.context,
	}
	d.stack = append(d.stack, s)
	d.imageFields(v, img, s)
	d.stack = d.stack[:len(d.stack)-1]
	if s.at.isStage() {
		d.private(v, img)
	}
	d.images[s.at.key()], d.byNode[v] = img, img
	return img
}

// lastLabel is the name of a value: its last label, or "".
func lastLabel(v cue.Value) string {
	sels := v.Path().Selectors()
	if len(sels) == 0 {
		return ""
	}
	last := sels[len(sels)-1]
	if last.Type().LabelType() == cue.StringLabel {
		return last.Unquoted()
	}
	return last.String()
}

func (d *decoder) imageFields(v cue.Value, img *Image, s *scope) {
	// The context first: the rest is relative to it.
	if ctx := v.LookupPath(contextPath); ctx.Exists() {
		s.context = d.contextDir(ctx, s)
		img.Context = s.context
	}
	d.fields(v, "an image (a struct)", func(name string, f cue.Value) {
		if d.imageField(name, f, img, s) || d.configField(name, f, &img.Config) {
			return
		}
		words := d.words("#Image")
		if s.inFrom {
			words = append(slices.Clone(words), d.words("#Source")...)
		}
		d.unknown(f, name, words)
	})
	d.oneBase(v, img)
}

// imageField decodes a field that only images have.
func (d *decoder) imageField(name string, f cue.Value, img *Image, s *scope) bool {
	switch name {
	case "from":
		img.From = d.from(f, s)
	case "steps":
		d.items(f, "a list of steps", func(item cue.Value) {
			if step := d.step(item, s); step != nil {
				img.Steps = append(img.Steps, step)
			}
		})
	case "stages":
		d.fields(f, "stages by name", func(label string, stage cue.Value) {
			if d.isImageRef(stage, s) {
				d.fromImage(stage, s)
			} else if st := d.stage(label, stage, s); st != nil {
				img.Stages = append(img.Stages, st)
			}
		})
	case "dockerfile":
		img.Dockerfile = d.dockerfile(f, s)
	case "context": // already done
	case "platform":
		img.Platform = d.platform(f)
	case "platforms":
		img.Platforms = []string{}
		d.items(f, "a list of platforms", func(item cue.Value) {
			img.Platforms = append(img.Platforms, d.platform(item))
		})
	case "args":
		img.Args = d.vars(f, true, d.checkArgName)
	case "tags":
		img.Tags = []string{}
		d.items(f, "a list of image names", func(item cue.Value) {
			img.Tags = append(img.Tags, d.tagName(item))
		})
	default:
		return false
	}
	return true
}

// stage decodes an entry of `stages`, or finds it decoded already.
func (d *decoder) stage(label string, v cue.Value, s *scope) *Image {
	at := location{s.at.inst, s.at.path.Append(cue.Str("stages"), cue.Str(label))}
	if img, ok := d.images[at.key()]; ok {
		return img
	}
	return d.image(v, &scope{outer: s, at: at, context: s.context})
}

// oneBase refuses two things to start from.
func (d *decoder) oneBase(v cue.Value, img *Image) {
	if img.Dockerfile == nil {
		return
	}
	if f := v.LookupPath(fromPath); f.Exists() {
		d.failLabel(f, `"from" cannot stand beside "dockerfile"`, "the Dockerfile has its own")
	}
}

// private refuses what only images have on a stage.
func (d *decoder) private(v cue.Value, img *Image) {
	for name, given := range map[string]bool{
		"tags": img.Tags != nil, "platforms": img.Platforms != nil, "annotations": img.Config.Annotations != nil,
	} {
		if given {
			f := v.LookupPath(cue.MakePath(cue.Str(name)))
			d.failLabel(f, fmt.Sprintf("a stage has no %q: it is private", name), "give them to the image")
		}
	}
}

// dockerfile decodes a path, or a struct with a path or the text itself.
func (d *decoder) dockerfile(v cue.Value, s *scope) *Dockerfile {
	df := &Dockerfile{Pos: d.pos(v)}
	settled, k := d.settle(v)
	switch k {
	case cue.BottomKind:
		return nil
	case cue.StringKind:
		df.Path = d.existingFile(v, d.str(v), s)
		return df
	case cue.StructKind:
	default:
		d.mistyped(settled, k, "a path or {path, text, target}")
		return nil
	}
	given := 0
	d.fields(v, "a path or {path, text, target}", func(name string, f cue.Value) {
		switch name {
		case "path":
			given++
			df.Path = d.existingFile(f, d.str(f), s)
		case "text":
			given++
			df.Text = d.str(f)
		case "target":
			df.Target = d.str(f)
		default:
			d.unknown(f, name, []string{"path", "text", "target"})
		}
	})
	if given != 1 {
		d.fail(v, `a dockerfile has either "path" or "text"`, "")
	}
	return df
}

// existingFile resolves a path of the user to a file that is there.
func (d *decoder) existingFile(v cue.Value, path string, s *scope) string {
	abs := d.resolvePath(path, s)
	d.files = append(d.files, abs)
	switch info, err := d.session.stat(abs); {
	case path == "":
		d.fail(v, "the path is empty", "")
	case errors.Is(err, fs.ErrNotExist):
		d.fail(v, "there is no file "+d.session.fileName(abs), "")
	case err != nil:
		d.fail(v, "cannot read "+d.session.fileName(abs)+": "+err.Error(), "")
	case info.IsDir():
		d.fail(v, d.session.fileName(abs)+" is a directory", "name the file in it")
	}
	return abs
}

// resolvePath makes a path of the user absolute: "/" is the root of the
// module, everything else is relative to the image's context.
func (d *decoder) resolvePath(path string, s *scope) string {
	if rest, ok := strings.CutPrefix(path, "/"); ok {
		return filepath.Join(s.at.inst.Root, filepath.FromSlash(rest))
	}
	return filepath.Join(s.context, filepath.FromSlash(path))
}

// contextDir is the directory that a `context` field names.
func (d *decoder) contextDir(v cue.Value, s *scope) string {
	path, ok := d.strOK(v)
	if !ok {
		return s.context
	}
	return d.existingDir(v, path, s)
}

// existingDir resolves a path of the user to a directory that is there.
func (d *decoder) existingDir(v cue.Value, path string, s *scope) string {
	abs := d.resolvePath(path, s)
	switch info, err := d.session.stat(abs); {
	case path == "":
		d.fail(v, "the directory is empty", `"." is the directory of this file`)
	case errors.Is(err, fs.ErrNotExist):
		d.fail(v, "there is no directory "+d.session.fileName(abs), "")
	case err != nil:
		d.fail(v, "cannot read "+d.session.fileName(abs)+": "+err.Error(), "")
	case !info.IsDir():
		d.fail(v, d.session.fileName(abs)+" is not a directory", "")
	}
	return abs
}
