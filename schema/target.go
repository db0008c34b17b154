package schema

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"cuelang.org/go/cue"

	"github.com/strata-build/strata/internal/nearest"
)

// imagesPath is the field that holds a package's images.
var imagesPath = cue.ParsePath("images")

// target is an image of a package, or a stage of one.
type target struct {
	pkg    *pkg
	image  string
	stages []string // labels of nested stages, outermost first
}

// path is the CUE path of the target in its package.
func (t target) path() cue.Path {
	sels := []cue.Selector{cue.Str("images"), cue.Str(t.image)}
	for _, name := range t.stages {
		sels = append(sels, cue.Str("stages"), cue.Str(name))
	}
	return cue.MakePath(sels...)
}

// selectTargets finds the named targets, in the order of the source.
func (p *program) selectTargets(ctx context.Context, names []string) ([]target, error) {
	if len(names) == 0 {
		all, err := p.declared(ctx, nil)
		if err == nil && len(all) == 0 {
			err = p.noImages()
		}
		return all, err
	}
	var found []target
	var errs Errors
	for _, name := range names {
		t, err := p.find(ctx, name)
		if err != nil {
			return nil, err
		}
		if len(t) == 1 {
			found = append(found, t[0])
			continue
		}
		e, err := p.badTarget(ctx, name, t)
		if err != nil {
			return nil, err
		}
		errs = append(errs, e)
	}
	if err := errs.sorted(); err != nil {
		return nil, err
	}
	return p.inSourceOrder(found)
}

// declared lists the images of the packages that keep accepts, or of all.
func (p *program) declared(ctx context.Context, keep func(*pkg) bool) ([]target, error) {
	var all []target
	for _, pk := range p.packages {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if keep != nil && !keep(pk) {
			continue
		}
		names, err := p.imageNames(pk)
		if err != nil {
			return nil, err
		}
		for _, name := range names {
			all = append(all, target{pkg: pk, image: name})
		}
	}
	return all, nil
}

// imageNames lists the labels of a package's images.
func (p *program) imageNames(pk *pkg) ([]string, error) {
	if len(pk.survey.computed) == 0 && len(pk.survey.top["images"]) == 0 {
		return nil, nil
	}
	if err := p.build(pk); err != nil {
		return nil, err
	}
	images := pk.value.LookupPath(imagesPath)
	if !images.Exists() {
		return nil, nil
	}
	d := newDecoder(p)
	var names []string
	d.fields(images, "images by name", func(name string, _ cue.Value) { names = append(names, name) })
	return names, d.errs.sorted()
}

// find lists the images and stages that a target may mean.
func (p *program) find(ctx context.Context, name string) ([]target, error) {
	matches, err := p.findName(ctx, name, nil)
	if err != nil || len(matches) > 0 {
		return matches, err
	}
	i := strings.LastIndex(name, ":")
	if i < 0 {
		return nil, nil
	}
	dir := name[:i]
	if !filepath.IsAbs(dir) {
		dir = filepath.Join(p.session.dir, dir)
	}
	return p.findName(ctx, name[i+1:], func(pk *pkg) bool { return filepath.Clean(dir) == pk.inst.Dir })
}

// findName finds an unqualified target in the packages that keep accepts.
func (p *program) findName(ctx context.Context, name string, keep func(*pkg) bool) ([]target, error) {
	var matches []target
	for _, pk := range p.packages {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if keep != nil && !keep(pk) {
			continue
		}
		for _, t := range readings(pk, name) {
			ok, err := p.has(t)
			if err != nil {
				return nil, err
			}
			if ok {
				matches = append(matches, t)
				break
			}
		}
	}
	return matches, nil
}

// readings are what a name may mean in a package: an image, or a stage of
// one. An image's label may itself have dots.
func readings(pk *pkg, name string) []target {
	list := []target{{pkg: pk, image: name}}
	parts := strings.Split(name, ".stages.")
	for i := len(parts) - 1; i > 0; i-- {
		list = append(list, target{pkg: pk, image: strings.Join(parts[:i], ".stages."), stages: parts[i:]})
	}
	return list
}

// has reports whether a target exists, without evaluating packages that
// cannot have it.
func (p *program) has(t target) (bool, error) {
	if !t.pkg.survey.mayDeclare(t.image) {
		return false, nil
	}
	if err := p.build(t.pkg); err != nil {
		return false, err
	}
	return t.pkg.value.LookupPath(t.path()).Exists(), nil
}

// inSourceOrder sorts targets as their images stand in the source, each once.
func (p *program) inSourceOrder(found []target) ([]target, error) {
	if len(found) < 2 {
		return found, nil
	}
	rank := map[*pkg]map[string]int{}
	for _, t := range found {
		if rank[t.pkg] != nil {
			continue
		}
		names, err := p.imageNames(t.pkg)
		if err != nil {
			return nil, err
		}
		rank[t.pkg] = map[string]int{}
		for i, name := range names {
			rank[t.pkg][name] = i
		}
	}
	slices.SortStableFunc(found, func(a, b target) int {
		if a.pkg != b.pkg {
			return slices.Index(p.packages, a.pkg) - slices.Index(p.packages, b.pkg)
		}
		return rank[a.pkg][a.image] - rank[b.pkg][b.image]
	})
	return slices.CompactFunc(found, func(a, b target) bool {
		return a.pkg == b.pkg && a.path().String() == b.path().String()
	}), nil
}

// badTarget says why a name is not one target.
func (p *program) badTarget(ctx context.Context, name string, matches []target) (*Error, error) {
	if len(matches) > 1 {
		var names []string
		for _, t := range matches {
			names = append(names, p.qualified(t))
		}
		return &Error{
			Message: fmt.Sprintf("the target %q is in %d packages", name, len(matches)),
			Hint:    "name one as " + strings.Join(names, ", "),
		}, nil
	}
	all, err := p.declared(ctx, nil)
	if err != nil {
		return nil, err
	}
	e := &Error{Message: fmt.Sprintf("there is no image %q", name)}
	var names, qualified []string
	for _, t := range all {
		names = append(names, p.shortest(t, all))
		qualified = append(qualified, p.qualified(t))
		if e.Hint == "" && t.pkg.value.LookupPath(target{image: t.image, stages: []string{name}}.path()).Exists() {
			e.Hint = fmt.Sprintf("it is a stage: %q", p.shortest(t, all)+".stages."+name)
		}
	}
	if e.Hint == "" {
		e.Hint = didYouMean(name, append(qualified, names...))
	}
	if len(names) > 0 {
		e.Allowed = listed(names, 20)
	}
	return e, nil
}

// qualified is a target with its package's directory.
func (p *program) qualified(t target) string {
	dir := filepath.ToSlash(relative(p.session.dir, t.pkg.inst.Dir))
	if !strings.HasPrefix(dir, ".") {
		dir = "./" + dir
	}
	return strings.Join(append([]string{dir + ":" + t.image}, t.stages...), ".stages.")
}

// shortest is the shortest name of a target that is no other's.
func (p *program) shortest(t target, all []target) string {
	for _, other := range all {
		if other.pkg != t.pkg && other.image == t.image {
			return p.qualified(t)
		}
	}
	return strings.Join(append([]string{t.image}, t.stages...), ".stages.")
}

// noImages says that there is nothing to build, and why that may be.
func (p *program) noImages() *Error {
	e := &Error{
		Message: "there are no images here",
		Hint:    "declare one as  images: app: {from: \"alpine\"}",
	}
	for _, pk := range p.packages {
		var labels []string
		for label := range pk.survey.top {
			labels = append(labels, label)
		}
		for _, f := range pk.inst.IgnoredFiles {
			if strings.HasSuffix(f.Filename, ".cue") && filepath.Dir(f.Filename) == pk.inst.Dir {
				e.Hint = fmt.Sprintf("%s is ignored: it has no `package %s` clause, or its @if does not hold",
					p.session.fileName(f.Filename), pk.inst.PkgName)
			}
		}
		if best := nearest.Name("images", labels); best != "" {
			e.Pos.File = p.session.fileName(pk.survey.top[best][0])
			e.Hint = fmt.Sprintf("did you mean \"images\" by %q?", best)
		}
	}
	return e
}
