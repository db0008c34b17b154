package schema

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"cuelang.org/go/cue/ast"
	cueerrors "cuelang.org/go/cue/errors"
	"cuelang.org/go/cue/load"
	"cuelang.org/go/cue/parser"
	"cuelang.org/go/mod/modfile"

	"github.com/strata-build/strata/internal/nearest"
)

// cueModule is the directory that makes its parent the root of a module.
const cueModule = "cue.mod"

// lonePrefix is the module path of files that are in no module.
const lonePrefix = "local.invalid"

// languageVersion is the version of CUE's language for files in no module,
// and in the module.cue that Init writes.
const languageVersion = "v0.15.0"

// group is the arguments that CUE can load together: the packages of one
// module, or one list of files.
type group struct {
	root    string // of the module; for a lone file its directory
	lone    bool   // there is no module
	dir     string // the directory that args are relative to
	args    []string
	files   bool     // args are files
	watched []string // directories below which a pattern looked

	schema schemaPlace
}

// schemaPlace is where imports of the schema lead.
type schemaPlace struct {
	// file is the absolute file name at which the schema is overlaid; "" when
	// the module brings its own.
	file string
	// own is the module's own copy or dependency: it may differ from ours.
	own bool
}

// addArgument resolves one argument and adds it to its group.
func (s *session) addArgument(arg string) error {
	path, qualifier := arg, ""
	if !strings.HasSuffix(arg, ".cue") {
		if i := strings.LastIndex(arg, ":"); i >= 0 {
			path, qualifier = arg[:i], arg[i:]
		}
	}
	if base, rest, ok := strings.Cut(path, "..."); ok {
		return s.addPattern(arg, base, "..."+rest+qualifier)
	}
	abs := path
	if !filepath.IsAbs(abs) {
		abs = filepath.Join(s.dir, path)
	}
	switch info, err := s.stat(abs); {
	case errors.Is(err, fs.ErrNotExist):
		return s.missing(arg, abs)
	case err != nil:
		return fmt.Errorf("read %s: %w", arg, err)
	case info.IsDir():
		return s.addPackage(arg, abs, qualifier)
	case strings.HasSuffix(abs, ".cue"):
		return s.addFile(abs)
	}
	return &Error{Message: fmt.Sprintf("%s is neither a .cue file nor a directory", arg)}
}

// stat is os.Stat through the overlay.
func (s *session) stat(abs string) (fs.FileInfo, error) {
	if data, ok := s.opts.Overlay[abs]; ok {
		return overlaid{name: filepath.Base(abs), size: int64(len(data))}, nil
	}
	info, err := os.Stat(abs)
	if err == nil {
		return info, nil
	}
	for name := range s.opts.Overlay {
		if strings.HasPrefix(name, abs+string(filepath.Separator)) {
			return overlaid{name: filepath.Base(abs), dir: true}, nil
		}
	}
	return nil, err
}

func (s *session) missing(arg, abs string) error {
	what := "directory"
	if strings.HasSuffix(arg, ".cue") {
		what = "file"
	}
	e := &Error{Message: fmt.Sprintf("there is no %s %s", what, arg)}
	entries, err := os.ReadDir(filepath.Dir(abs))
	if err != nil {
		return e
	}
	var names []string
	for _, entry := range entries {
		if entry.IsDir() == (what == "directory") {
			names = append(names, entry.Name())
		}
	}
	if best := nearest.Name(filepath.Base(abs), names); best != "" {
		e.Hint = fmt.Sprintf("did you mean %q?", filepath.Join(filepath.Dir(arg), best))
	}
	return e
}

func (s *session) addFile(abs string) error {
	i := slices.IndexFunc(s.groups, func(g *group) bool { return g.files })
	if i < 0 {
		g, err := s.newGroup(filepath.Dir(abs))
		if err != nil {
			return err
		}
		g.dir, g.files = filepath.Dir(abs), true
		s.groups = append(s.groups, g)
		i = len(s.groups) - 1
	}
	s.groups[i].add(abs)
	return nil
}

// addPackage adds a directory. CUE loads a file without a package clause only
// by its name, so a directory of such files is a list of files.
func (s *session) addPackage(arg, abs, qualifier string) error {
	names, err := s.cueFiles(abs)
	if err != nil {
		return fmt.Errorf("read directory %s: %w", arg, err)
	}
	if len(names) == 0 {
		return &Error{
			Message: fmt.Sprintf("there are no .cue files in %s", arg),
			Hint:    `"strata init" writes a first one`,
		}
	}
	if qualifier == "" && !s.anyPackage(names) {
		for _, name := range names {
			if err := s.addFile(name); err != nil {
				return err
			}
		}
		return nil
	}
	g, err := s.packages(abs)
	if err != nil {
		return err
	}
	g.add("./" + filepath.ToSlash(relative(g.root, abs)) + qualifier)
	return nil
}

// addPattern adds base/..., whose packages CUE finds.
func (s *session) addPattern(arg, base, rest string) error {
	abs := base
	if !filepath.IsAbs(abs) {
		abs = filepath.Join(s.dir, base)
	}
	if info, err := os.Stat(abs); err != nil || !info.IsDir() {
		return s.missing(arg, abs)
	}
	g, err := s.packages(abs)
	if err != nil {
		return err
	}
	g.watched = append(g.watched, abs)
	g.add(strings.TrimSuffix("./"+filepath.ToSlash(relative(g.root, abs)), "/") + "/" + rest)
	return nil
}

// packages is the group of the module that dir is in.
func (s *session) packages(dir string) (*group, error) {
	root, _ := s.moduleRoot(dir)
	for _, g := range s.groups {
		if !g.files && g.root == root {
			return g, nil
		}
	}
	g, err := s.newGroup(dir)
	if err != nil {
		return nil, err
	}
	s.groups = append(s.groups, g)
	return g, nil
}

func (s *session) newGroup(dir string) (*group, error) {
	root, found := s.moduleRoot(dir)
	g := &group{root: root, dir: root, lone: !found}
	place, err := s.placeSchema(root)
	if err != nil {
		return nil, err
	}
	g.schema = place
	return g, nil
}

func (g *group) add(arg string) {
	if !slices.Contains(g.args, arg) {
		g.args = append(g.args, arg)
	}
}

// moduleRoot is the directory at or above dir that has cue.mod, or dir.
func (s *session) moduleRoot(dir string) (root string, found bool) {
	for d := dir; ; d = filepath.Dir(d) {
		if s.exists(filepath.Join(d, cueModule)) || s.exists(filepath.Join(d, cueModule, "module.cue")) {
			return d, true
		}
		if d == filepath.Dir(d) {
			return dir, false
		}
	}
}

func (s *session) exists(path string) bool {
	_, err := s.stat(path)
	return err == nil
}

// placeSchema decides where imports of the schema lead in the module at
// root. A second copy beside the module's own would be an ambiguous import;
// only a vendored copy with our very contents may be overlaid in its place.
func (s *session) placeSchema(root string) (schemaPlace, error) {
	if own, err := s.dependsOnSchema(root); own || err != nil {
		return schemaPlace{own: own}, err
	}
	for _, sub := range []string{"gen", "usr", "pkg"} {
		dir := filepath.Join(root, cueModule, sub, filepath.FromSlash(ImportPath))
		names, err := s.cueFiles(dir)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return schemaPlace{}, fmt.Errorf("read the vendored schema: %w", err)
		}
		if len(names) == 0 {
			continue
		}
		data, err := s.readFile(names[0])
		if err != nil {
			return schemaPlace{}, fmt.Errorf("read the vendored schema: %w", err)
		}
		if len(names) == 1 && string(data) == source {
			return schemaPlace{file: names[0]}, nil
		}
		return schemaPlace{own: true}, nil
	}
	return schemaPlace{file: vendoredSchema(root)}, nil
}

// vendoredSchema is where Init puts the schema.
func vendoredSchema(root string) string {
	return filepath.Join(root, cueModule, "pkg", filepath.FromSlash(ImportPath), schemaFile)
}

// dependsOnSchema reports whether module.cue provides the schema: by a
// dependency, or because it is the module itself.
func (s *session) dependsOnSchema(root string) (bool, error) {
	name := filepath.Join(root, cueModule, "module.cue")
	data, err := s.readFile(name)
	if err != nil {
		return false, nil
	}
	mod, err := modfile.ParseNonStrict(data, name)
	if err != nil {
		return false, &Error{Pos: Position{File: s.fileName(name)}, Message: cueMessage(cueerrors.Promote(err, ""))}
	}
	provides := func(module string) bool {
		path := ast.ParseImportPath(module).Path
		return path == ImportPath || strings.HasPrefix(ImportPath, path+"/")
	}
	if mod.Module != "" && provides(mod.Module) {
		return true, nil
	}
	for dep := range mod.Deps {
		if provides(dep) {
			return true, nil
		}
	}
	return false, nil
}

// cueFiles lists the .cue files of a directory that CUE would look at.
func (s *session) cueFiles(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		if !e.IsDir() {
			names = append(names, filepath.Join(dir, e.Name()))
		}
	}
	for name := range s.opts.Overlay {
		if filepath.Dir(name) == dir && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return slices.DeleteFunc(names, func(name string) bool {
		base := filepath.Base(name)
		return !strings.HasSuffix(base, ".cue") || strings.HasPrefix(base, "_") || strings.HasPrefix(base, ".") ||
			strings.HasSuffix(base, "_tool.cue") || strings.HasSuffix(base, "_test.cue")
	}), nil
}

// anyPackage reports whether a file has a package clause, or cannot be read
// (then loading says why).
func (s *session) anyPackage(names []string) bool {
	for _, name := range names {
		data, err := s.readFile(name)
		if err != nil {
			return true
		}
		f, err := parser.ParseFile(name, data, parser.PackageClauseOnly)
		if err != nil || f.PackageName() != "" {
			return true
		}
	}
	return false
}

// config is how CUE loads the group with the given schema.
func (s *session) config(g *group, schema schemaKind, tags []string) *load.Config {
	overlay := map[string]load.Source{}
	for name, data := range s.opts.Overlay {
		overlay[name] = load.FromBytes(data)
	}
	module := filepath.Join(g.root, cueModule, "module.cue")
	if !s.exists(module) {
		overlay[module] = load.FromString(moduleText(lonePrefix))
	}
	if g.schema.file != "" {
		text := []byte(source)
		if schema == hollowSchema {
			text = hollowSource()
		}
		overlay[g.schema.file] = load.FromBytes(text)
	}
	return &load.Config{Dir: g.dir, ModuleRoot: g.root, Tags: tags, Overlay: overlay, Env: s.opts.Env}
}

// moduleText is a module.cue.
func moduleText(module string) string {
	return fmt.Sprintf("module: %q\nlanguage: version: %q\n", module, languageVersion)
}

// relative is filepath.Rel for paths that are known to be absolute.
func relative(base, path string) string {
	rel, err := filepath.Rel(base, path)
	if err != nil {
		return path
	}
	return rel
}
