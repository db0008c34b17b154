package schema

import (
	"context"
	"path/filepath"
	"strings"

	"cuelang.org/go/cue"
	"cuelang.org/go/cue/ast"
	"cuelang.org/go/cue/build"
	"cuelang.org/go/cue/cuecontext"
	"cuelang.org/go/cue/inject/embed"
	"cuelang.org/go/cue/load"
	"cuelang.org/go/cue/token"
)

// schemaKind is what an evaluation imports as the schema.
type schemaKind string

const (
	hollowSchema schemaKind = "hollow" // open structs
	realSchema   schemaKind = "real"
)

// program is one evaluation of the packages of a session, in a cue.Context
// of its own. Packages are evaluated when a target needs them.
type program struct {
	session  *session
	schema   schemaKind
	context  *cue.Context
	packages []*pkg // those that the arguments name
	files    map[string]*fileInfo

	byInstance map[*build.Instance]*pkg
	byDir      map[packageKey]*pkg
	// surveys are of all packages, imported ones too.
	surveys map[*build.Instance]*survey
}

// pkg is a package that the arguments name.
type pkg struct {
	inst   *build.Instance
	group  *group
	survey *survey
	value  cue.Value
	built  bool
}

// evaluate loads the packages of the session with the given schema, or with
// the real one where that can make a difference.
func (s *session) evaluate(ctx context.Context, schema schemaKind) (*program, error) {
	p := &program{
		session: s,
		schema:  schema,
		context: cuecontext.New(cuecontext.WithInjection(embed.New())),
		surveys: map[*build.Instance]*survey{},
		files:   map[string]*fileInfo{},

		byInstance: map[*build.Instance]*pkg{},
		byDir:      map[packageKey]*pkg{},
	}
	for _, g := range s.groups {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if err := p.load(g); err != nil {
			return nil, err
		}
	}
	if schema == hollowSchema && p.observesSchema() {
		return s.evaluate(ctx, realSchema)
	}
	return p, nil
}

// load reads the packages of a group and surveys them.
func (p *program) load(g *group) error {
	tags, err := p.tagsFor(g)
	if err != nil {
		return err
	}
	insts := load.Instances(g.args, p.session.config(g, p.schema, tags))
	var errs Errors
	for _, inst := range insts {
		p.locate(g, inst)
		p.surveyAll(inst)
		for _, f := range inst.Files {
			p.file(f.Filename).owned = true
		}
		if inst.Err == nil {
			p.add(&pkg{inst: inst, group: g, survey: p.surveys[inst]})
		}
	}
	if len(p.session.groups) == 1 {
		if err := p.checkTags(insts); err != nil {
			return err
		}
	}
	for _, inst := range insts {
		errs = append(errs, p.loadErrors(inst)...)
	}
	return errs.sorted()
}

// locate gives a list of files the module that it is in: @embed needs it.
func (p *program) locate(g *group, inst *build.Instance) {
	if inst.Root == "" {
		inst.Root = g.root
	}
	if inst.Module == "" {
		inst.Module = lonePrefix
	}
}

// surveyAll surveys inst and what it imports.
func (p *program) surveyAll(inst *build.Instance) {
	if _, ok := p.surveys[inst]; ok {
		return
	}
	p.surveys[inst] = surveyInstance(inst)
	for _, imported := range inst.Imports {
		p.surveyAll(imported)
	}
}

// isSchema reports whether inst is the schema package.
func isSchema(inst *build.Instance) bool {
	return ast.ParseImportPath(inst.ImportPath).Path == ImportPath
}

func (p *program) importsSchema() bool {
	for _, s := range p.surveys {
		if s.importsSchema {
			return true
		}
	}
	return false
}

// observesSchema reports whether the hollow schema may give another result
// than the real one without an error.
func (p *program) observesSchema() bool {
	if !p.importsSchema() {
		return false
	}
	for inst, s := range p.surveys {
		if s.observes && !isSchema(inst) {
			return true
		}
	}
	return false
}

// build evaluates a package.
func (p *program) build(pk *pkg) error {
	if pk.built {
		return nil
	}
	value := p.context.BuildInstance(pk.inst)
	pk.value, pk.built = value, true
	if err := value.Err(); err != nil && !value.LookupPath(imagesPath).Exists() {
		return p.cueErrors(err).sorted()
	}
	return nil
}

// fileInfo is what messages need to know of a file.
type fileInfo struct {
	shown   string // its name in messages
	owned   bool   // it belongs to the packages that the arguments name
	foreign bool   // it is part of the schema
}

// file is what is known of the file of that name.
func (p *program) file(name string) *fileInfo {
	info := p.files[name]
	if info == nil {
		inSchema := strings.Contains(filepath.ToSlash(name), ImportPath+"/")
		info = &fileInfo{
			shown:   p.session.fileName(name),
			foreign: name == "" || inSchema && filepath.Base(name) == schemaFile,
		}
		p.files[name] = info
	}
	return info
}

// foreign reports whether a position is none of the user's.
func (p *program) foreign(pos token.Pos) bool {
	return !pos.IsValid() || p.file(pos.Filename()).foreign
}

// owns reports whether a position is in the packages that the arguments name.
func (p *program) owns(pos token.Pos) bool {
	return pos.IsValid() && p.file(pos.Filename()).owned
}

// position makes a Position of one of CUE's.
func (p *program) position(pos token.Pos) Position {
	if !pos.IsValid() {
		return Position{}
	}
	at := pos.Position()
	return Position{File: p.file(at.Filename).shown, Line: at.Line, Column: at.Column}
}

// add makes a package one of those that the arguments name.
func (p *program) add(pk *pkg) {
	p.packages = append(p.packages, pk)
	p.byInstance[pk.inst] = pk
	if !pk.group.files {
		p.byDir[packageKey{pk.inst.Dir, pk.inst.PkgName}] = pk
	}
}

// dirOf is the directory of a package relative to its module.
func (p *program) dirOf(inst *build.Instance) string {
	rel, err := filepath.Rel(inst.Root, inst.Dir)
	if err != nil || strings.HasPrefix(rel, "..") {
		return inst.ImportPath
	}
	return filepath.ToSlash(rel)
}
