package dockerfilecompat

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/distribution/reference"
	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/client/llb/sourceresolver"
	digest "github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/strata-build/strata/compiler"
	"github.com/strata-build/strata/schema"
)

// TreeRequest asks for one CUE file for all Dockerfiles below a directory. The
// context of each is the directory that it is in.
type TreeRequest struct {
	Dir string
	// File is the CUE file to be; "" is app.cue in Dir.
	File    string
	Package string
	// Names are the references by which Dockerfiles use what others build,
	// with the path of the Dockerfile that builds it, relative to Dir. One
	// without a tag stands for every tag. A reference that cannot be
	// resolved is that of the Dockerfile whose image has its last part as
	// its name.
	Names map[string]string

	Platforms []ocispecs.Platform
	Options   compiler.Options
}

// TreeConversion is a tree of Dockerfiles as CUE.
type TreeConversion struct {
	CUE    []byte
	Images []TreeImage
}

// TreeImage is one Dockerfile of a tree. References are the names of images
// that became references to others of the tree.
type TreeImage struct {
	Dockerfile string // relative to the directory
	References []string
	Conversion
}

// ConvertTree converts the Dockerfiles below a directory. Each is proven by
// itself first, with the images of others as a registry would give them; then
// the references take the place of their names. The errors of several are
// joined.
func ConvertTree(ctx context.Context, req TreeRequest) (*TreeConversion, error) {
	t, err := newTree(ctx, req)
	if err != nil {
		return nil, err
	}
	if err := t.renameParams(); err != nil {
		return nil, err
	}
	var errs []error
	for _, m := range t.members {
		err := m.compileDockerfile(ctx)
		if err == nil {
			m.cue, err = m.settle(ctx)
		}
		errs = append(errs, err)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return t.result(ctx)
}

// tree is one conversion of a tree.
type tree struct {
	req     TreeRequest
	members []*member
	names   map[string]*member // by reference, with and without a tag
}

// member is a Dockerfile of a tree.
type member struct {
	*converter
	path       string
	cue        []byte
	reads      []*member // whose images it is made of
	references []string
}

func newTree(ctx context.Context, req TreeRequest) (*tree, error) {
	var err error
	given := req.Dir
	if req.Dir, err = filepath.Abs(req.Dir); err != nil {
		return nil, err
	}
	if req.File == "" {
		req.File = filepath.Join(req.Dir, "app.cue")
	}
	files, err := findDockerfiles(req.Dir)
	if err != nil {
		return nil, err
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("there is no Dockerfile below %s", req.Dir)
	}
	t := &tree{req: req, names: map[string]*member{}}
	labels := map[string]bool{}
	var errs []error
	for _, file := range files {
		plain := filepath.Join(filepath.Dir(file), "Dockerfile")
		name := memberName(file, slices.Contains(files, plain), labels)
		labels[name] = true
		r := Request{
			Filename: filepath.Join(given, file), Dir: filepath.Join(req.Dir, filepath.Dir(file)), Context: filepath.Join(req.Dir, filepath.Dir(file)),
			Platforms: req.Platforms, Options: req.Options,
		}
		r.Options.Meta = treeResolver{t}
		c, err := newConverter(ctx, ConvertRequest{Request: r, File: req.File, Name: name, Package: req.Package})
		if err != nil {
			errs = append(errs, err)
			continue
		}
		t.members = append(t.members, &member{converter: c, path: file})
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	if err := t.addNames(); err != nil {
		return nil, err
	}
	for _, m := range t.members {
		m.reads = t.reads(ctx, m)
	}
	return t, t.checkCycles()
}

// findDockerfiles lists the Dockerfiles below a directory, without those in
// hidden directories and among the modules of others.
func findDockerfiles(dir string) ([]string, error) {
	var files []string
	err := filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		base := d.Name()
		if d.IsDir() {
			if name != dir && (strings.HasPrefix(base, ".") || base == "node_modules" || base == "vendor") {
				return fs.SkipDir
			}
			return nil
		}
		if !d.Type().IsRegular() || strings.HasSuffix(base, ".dockerignore") {
			return nil
		}
		if base == "Dockerfile" || strings.HasPrefix(base, "Dockerfile.") || strings.HasSuffix(base, ".Dockerfile") {
			rel, err := filepath.Rel(dir, name)
			files = append(files, rel)
			return err
		}
		return nil
	})
	return files, err
}

// memberName is the label of a Dockerfile's image: the name of its directory,
// or what its own name says besides. A variant of the Dockerfile beside it has
// both.
func memberName(file string, variant bool, taken map[string]bool) string {
	base := filepath.Base(file)
	special := strings.TrimSuffix(strings.TrimPrefix(strings.TrimPrefix(base, "Dockerfile"), "."), ".Dockerfile")
	dir := filepath.Dir(file)
	candidates := []string{imageName(filepath.Base(dir)), imageName(strings.ReplaceAll(filepath.ToSlash(dir), "/", "-"))}
	if special != "" {
		candidates = []string{imageName(special), imageName(filepath.Base(dir) + "-" + special)}
		if variant && dir != "." {
			candidates = candidates[1:]
		}
	}
	for _, name := range candidates {
		if !taken[name] {
			return name
		}
	}
	name := candidates[len(candidates)-1]
	for n := 2; ; n++ {
		if numbered := fmt.Sprintf("%s%d", name, n); !taken[numbered] {
			return numbered
		}
	}
}

// addNames takes the references that were given.
func (t *tree) addNames() error {
	for _, ref := range slices.Sorted(maps.Keys(t.req.Names)) {
		file := filepath.Clean(t.req.Names[ref])
		i := slices.IndexFunc(t.members, func(m *member) bool { return m.path == file || filepath.Dir(m.path) == file })
		if i < 0 {
			return fmt.Errorf("image %s=%s: there is no Dockerfile there", ref, t.req.Names[ref])
		}
		named, err := reference.ParseNormalizedNamed(ref)
		if err != nil {
			return fmt.Errorf("image %s: %w", ref, err)
		}
		t.names[named.String()] = t.members[i]
	}
	return nil
}

// find returns the Dockerfile that builds a reference.
func (t *tree) find(ref string) (*member, bool) {
	named, err := reference.ParseNormalizedNamed(ref)
	if err != nil {
		return nil, false
	}
	if m, ok := t.names[reference.TagNameOnly(named).String()]; ok {
		return m, true
	}
	if _, pinned := named.(reference.Digested); pinned {
		return nil, false
	}
	m, ok := t.names[named.Name()]
	return m, ok
}

// reads are the members that a Dockerfile uses the images of. A reference that
// ends in the name of one, and that no registry knows, is that one's.
func (t *tree) reads(ctx context.Context, m *member) []*member {
	var out []*member
	for _, ref := range m.refs() {
		other, ok := t.find(ref)
		if !ok {
			other, ok = t.infer(ctx, ref)
		}
		if ok && other != m {
			out = append(out, other)
		}
	}
	return out
}

// refs are the images of registries that a Dockerfile names.
func (m *member) refs() []string {
	var out []string
	for _, st := range m.file.stages {
		names := []string{}
		if base, err := m.params.evaluate(st.BaseName); err == nil {
			names = append(names, base)
		}
		for _, in := range st.commands {
			names = append(names, references(in.cmd)...)
		}
		for _, name := range names {
			_, isStage := m.file.stageNamed(strings.ToLower(name), st.index)
			if !isStage && name != "scratch" && name != "" {
				out = append(out, name)
			}
		}
	}
	return out
}

// infer finds the image whose name is the last part of a reference that
// nobody else knows.
func (t *tree) infer(ctx context.Context, ref string) (*member, bool) {
	named, err := reference.ParseNormalizedNamed(ref)
	if err != nil {
		return nil, false
	}
	i := slices.IndexFunc(t.members, func(m *member) bool { return m.req.Name == path.Base(named.Name()) })
	if i < 0 {
		return nil, false
	}
	named = reference.TagNameOnly(named)
	if next := t.req.Options.Meta; next != nil {
		platform := t.members[i].s.g.buildPlatform()
		opt := sourceresolver.Opt{ImageOpt: &sourceresolver.ResolveImageOpt{Platform: &platform}}
		if _, _, _, err := next.ResolveImageConfig(ctx, named.String(), opt); err == nil {
			return nil, false
		}
	}
	t.names[named.String()] = t.members[i]
	return t.members[i], true
}

// checkCycles refuses images that are built from each other.
func (t *tree) checkCycles() error {
	const visiting, done = 1, 2
	state := map[*member]int{}
	var around []string
	var visit func(*member) error
	visit = func(m *member) error {
		around = append(around, m.path)
		defer func() { around = around[:len(around)-1] }()
		switch state[m] {
		case visiting:
			return fmt.Errorf("the image of %s is built from itself: %s; say with --image NAME=DIR what builds a name",
				m.path, strings.Join(around[slices.Index(around, m.path):], " needs "))
		case done:
			return nil
		}
		state[m] = visiting
		for _, other := range m.reads {
			if err := visit(other); err != nil {
				return err
			}
		}
		state[m] = done
		return nil
	}
	for _, m := range t.members {
		if err := visit(m); err != nil {
			return err
		}
	}
	return nil
}

// treeResolver knows the images of a tree, and all that the registry knows.
type treeResolver struct{ *tree }

var _ llb.ImageMetaResolver = treeResolver{}

// ResolveImageConfig implements llb.ImageMetaResolver.
func (t treeResolver) ResolveImageConfig(ctx context.Context, ref string, opt sourceresolver.Opt) (string, digest.Digest, []byte, error) {
	if m, ok := t.find(ref); ok {
		return m.build(ctx, ref, opt)
	}
	if next := t.req.Options.Meta; next != nil {
		return next.ResolveImageConfig(ctx, ref, opt)
	}
	return "", "", nil, fmt.Errorf("the image %s cannot be looked up here", ref)
}

// build compiles the Dockerfile of an image for its config.
func (m *member) build(ctx context.Context, ref string, opt sourceresolver.Opt) (string, digest.Digest, []byte, error) {
	req := m.req.Request
	if opt.ImageOpt != nil && opt.ImageOpt.Platform != nil {
		req.Platforms = []ocispecs.Platform{*opt.ImageOpt.Platform}
	}
	res, err := Compile(ctx, req)
	if err != nil {
		return "", "", nil, err
	}
	config := res.Targets[0].Config
	return ref, digest.FromBytes(config), config, nil
}

// renameParams gives arguments with different defaults fields of their own.
func (t *tree) renameParams() error {
	first := map[string]schema.Param{}
	for _, m := range t.members {
		renamed := map[string]string{}
		for _, p := range m.params.list {
			before, ok := first[p.Name]
			switch {
			case !ok:
				first[p.Name] = p
			case before.Default != p.Default || before.Required != p.Required:
				renamed[p.Name] = strings.NewReplacer("-", "_", ".", "_").Replace(m.req.Name) + "_" + p.Name
			}
		}
		if len(renamed) > 0 {
			if err := m.setParams(renamed); err != nil {
				return err
			}
		}
	}
	return nil
}

// result joins the images in one document.
func (t *tree) result(ctx context.Context) (*TreeConversion, error) {
	doc := &schema.Document{Package: t.req.Package, Dir: filepath.Dir(t.req.File), Comments: map[schema.Node]string{}}
	texts := &brokenTexts{}
	trailer := ""
	for _, m := range t.members {
		m.texts = texts
		if _, err := m.propose(); err != nil {
			return nil, err
		}
	}
	for _, m := range t.members {
		t.link(m)
		last := m.images[len(m.images)-1]
		doc.Images = append(doc.Images, last)
		maps.Copy(doc.Comments, m.comments)
		if text := join(m.file.header, m.comments[last]); text != "" {
			doc.Comments[last] = text
		}
		trailer = join(trailer, m.file.trailer)
		for _, p := range m.fields() {
			if !slices.ContainsFunc(doc.Params, func(q schema.Param) bool { return q.Name == p.Name }) {
				doc.Params = append(doc.Params, p)
			}
		}
	}
	cue, err := schema.Print(doc)
	if err != nil {
		return nil, fmt.Errorf("convert %s: %w", t.req.Dir, err)
	}
	if cue, err = texts.restore(append(cue, commented(trailer)...)); err != nil {
		return nil, fmt.Errorf("convert %s: %w", t.req.Dir, err)
	}
	out := &TreeConversion{CUE: cue}
	for _, m := range t.members {
		out.Images = append(out.Images, TreeImage{Dockerfile: m.path, References: m.references, Conversion: *m.conversion(m.cue)})
	}
	return out, t.check(ctx, cue)
}

// link replaces the names of images of the tree by references.
func (t *tree) link(m *member) {
	m.references = nil
	refer := func(ref string) *schema.Image {
		other, ok := t.find(ref)
		if !ok || other == m {
			return nil
		}
		if !slices.Contains(m.references, ref) {
			m.references = append(m.references, ref)
		}
		return other.images[len(other.images)-1]
	}
	replace := func(from *schema.From) {
		if from == nil || from.Ref == "" {
			return
		}
		if img := refer(from.Ref); img != nil {
			from.Ref, from.Image = "", img
		}
	}
	for i, img := range m.images {
		img.From.Each(replace)
		m.linkArgument(m.file.stages[i], img.From, refer)
		for _, step := range img.Steps {
			replace(step.From)
			for _, mount := range step.Mounts {
				replace(mount.From)
			}
		}
	}
}

// linkArgument makes a reference of what arguments name by default. With other
// values for them it is an image of a registry, as in the Dockerfile.
func (m *member) linkArgument(st *source, from *schema.From, refer func(string) *schema.Image) {
	if from == nil || from.Ref == "" || !m.words.variables(st.BaseName) || m.params.dependsOnPlatform(st.BaseName) {
		return
	}
	name, err := m.params.evaluate(st.BaseName)
	if err != nil || name == from.Ref {
		return
	}
	if img := refer(name); img != nil {
		from.Switch = &schema.Switch{Word: from.Ref, Cases: []schema.Case{{Value: name, From: &schema.From{Image: img}}}, Default: &schema.From{Ref: from.Ref}}
		from.Ref = ""
	}
}

// check loads the whole document. An image without references has to compile
// to what its Dockerfile does; one with references has to compile.
func (t *tree) check(ctx context.Context, cue []byte) error {
	spec, err := schema.Load(ctx, schema.LoadOptions{
		Args: []string{filepath.Base(t.req.File)}, Dir: filepath.Dir(t.req.File), Tags: t.tags(),
		Overlay: map[string][]byte{t.req.File: cue},
	})
	if err != nil {
		return fmt.Errorf("convert %s: %w", t.req.Dir, err)
	}
	for _, m := range t.members {
		i := slices.IndexFunc(spec.Images, func(img *schema.Image) bool { return img.Name == m.req.Name })
		if i < 0 {
			return fmt.Errorf("convert %s: the CUE has no image %s", t.req.Dir, m.req.Name)
		}
		if err := t.checkMember(ctx, m, spec.Images[i]); err != nil {
			return err
		}
	}
	return nil
}

// tags are the arguments that were given, for the parameters that there are.
func (t *tree) tags() []string {
	var tags []string
	for _, m := range t.members {
		for _, p := range m.usedParams() {
			if v, ok := t.req.Options.Args[p.Name]; ok {
				tags = append(tags, m.params.field(p.Name)+"="+v)
			}
		}
	}
	slices.Sort(tags)
	return slices.Compact(tags)
}

func (t *tree) checkMember(ctx context.Context, m *member, img *schema.Image) error {
	p := m.probes()[0]
	if len(m.references) == 0 {
		for _, d := range m.compare(ctx, img, p, 0) {
			return &DifferenceError{File: m.req.Filename, Stage: m.file.stages[d.stage].name(), Difference: d.text}
		}
		return nil
	}
	opts := p.options
	opts.Platforms, opts.Dockerfiles = p.platforms, Frontend{}
	if _, err := compiler.Compile(ctx, &schema.Spec{Images: []*schema.Image{img}}, opts); err != nil {
		return fmt.Errorf("convert %s: %w", m.path, err)
	}
	return nil
}
