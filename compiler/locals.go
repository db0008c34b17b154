package compiler

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/frontend/dockerui"
	"github.com/moby/buildkit/solver/pb"
	"github.com/moby/patternmatcher/ignorefile"

	"github.com/strata-build/strata/schema"
)

// ignoreFile is the file of patterns that a context leaves out, and
// ignoreLimit the size up to which it is read.
const (
	ignoreFile  = ".dockerignore"
	ignoreLimit = 1 << 20
)

// directories gives each context directory of a plan its name.
type directories struct {
	root   string // the main context, from which others are named
	ignore func(dir string) ([]string, error)
	byDir  map[string]*directory
	byName map[string]*directory
	taken  nameSet
}

// directory is a context directory. Its state is a local source that follows
// the paths which the steps of the target being marshalled read, so one state
// serves all targets.
type directory struct {
	dir, name string
	excludes  []string
	state     llb.State
}

func newDirectories(ignore func(string) ([]string, error)) *directories {
	if ignore == nil {
		ignore = readIgnoreFile
	}
	return &directories{
		ignore: ignore,
		byDir:  map[string]*directory{},
		byName: map[string]*directory{},
		taken:  nameSet{dockerui.DefaultLocalNameContext: true, dockerui.DefaultLocalNameDockerfile: true},
	}
}

// main names the first directory as a Dockerfile build names its context.
func (ds *directories) main(dir string) {
	if dir != "" && len(ds.byDir) == 0 {
		ds.root = dir
		ds.add(dir, dockerui.DefaultLocalNameContext)
	}
}

// named returns a directory with its name only.
func (ds *directories) named(dir string) *directory {
	if d, ok := ds.byDir[dir]; ok {
		return d
	}
	return ds.add(dir, ds.taken.add(relativeName(ds.root, dir)))
}

// relativeName names a directory by its path from the main context, so that
// a checkout elsewhere gives the same names.
func relativeName(root, dir string) string {
	rel, err := filepath.Rel(root, dir)
	if err != nil {
		return filepath.Base(dir)
	}
	if up := strings.Count(rel, ".."); up > 0 && strings.Trim(rel, "./") == "" {
		return strings.Repeat("parent-", up)
	}
	return filepath.ToSlash(rel)
}

func (ds *directories) add(dir, name string) *directory {
	d := &directory{dir: dir, name: name}
	ds.byDir[dir], ds.byName[name] = d, d
	return d
}

// open returns a directory with its ignore patterns.
func (ds *directories) open(dir string, m *marshaller) (*directory, error) {
	d := ds.named(dir)
	if d.state.Output() != nil {
		return d, nil
	}
	excludes, err := ds.ignore(dir)
	if err != nil {
		return nil, err
	}
	d.excludes = excludes
	d.state = llb.NewState(&contextOutput{dir: d, marshal: m})
	return d, nil
}

// rename maps the local names of another plan to those of this one.
func (ds *directories) rename(locals map[string]Local) map[string]string {
	out := make(map[string]string, len(locals))
	for name, l := range locals {
		out[name] = ds.named(l.Dir).name
	}
	return out
}

// used returns the directories of the given local names.
func (ds *directories) used(names map[string]bool) map[string]Local {
	out := make(map[string]Local, len(names))
	for name := range names {
		if d, ok := ds.byName[name]; ok {
			out[name] = Local{Dir: d.dir}
		}
	}
	return out
}

// readIgnoreFile reads the .dockerignore of a directory.
func readIgnoreFile(dir string) ([]string, error) {
	name := filepath.Join(dir, ignoreFile)
	f, err := os.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if st, err := f.Stat(); err != nil {
		return nil, err
	} else if st.Size() > ignoreLimit {
		return nil, fmt.Errorf("%s: larger than %d bytes", name, ignoreLimit)
	}
	patterns, err := ignorefile.ReadAll(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return patterns, nil
}

// contextOutput stands for the local source of a directory in the graph
// until a target is marshalled.
type contextOutput struct {
	dir     *directory
	marshal *marshaller
}

// ToInput implements llb.Output.
func (o *contextOutput) ToInput(ctx context.Context, c *llb.Constraints) (*pb.Input, error) {
	return o.marshal.local(c, o.dir).ToInput(ctx, c)
}

// Vertex implements llb.Output.
func (o *contextOutput) Vertex(ctx context.Context, c *llb.Constraints) llb.Vertex {
	return o.marshal.local(c, o.dir).Vertex(ctx, c)
}

// source is the local source of the directory that follows paths.
func (d *directory) source(paths []string) llb.Output {
	opts := []llb.LocalOption{
		llb.SharedKeyHint(d.name),
		llb.ExcludePatterns(d.excludes),
		dockerui.WithInternalName("load build context"),
		llb.FollowPaths(paths),
	}
	return llb.Local(d.name, opts...).Output()
}

// followPaths is what a local source has to follow for the paths that are
// read; none means all of it.
func followPaths(paths map[string]struct{}) []string {
	list := make([]string, 0, len(paths))
	for p := range paths {
		if p == "/" {
			return nil
		}
		list = append(list, path.Join(".", p))
	}
	slices.Sort(list)
	return list
}

// mainContext is the context of the image.
func (s *stage) mainContext(pos schema.Position) (*directory, error) {
	if s.image.Context == "" {
		return nil, mistake(pos, "build a directory, or give the image a `context`", "the image has no context directory to read")
	}
	d, err := s.c.dirs.open(s.image.Context, s.c.marshal)
	if err != nil {
		return nil, because(pos, err, "read the ignore file of the context")
	}
	return d, nil
}

// nameSet gives out names, each once.
type nameSet map[string]bool

// add returns name with everything but letters, digits, dots and dashes
// replaced, and a number where it is taken.
func (n nameSet) add(name string) string {
	name = strings.TrimPrefix(strings.ReplaceAll(name, "../", ""), "./")
	name = strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9', r == '.', r == '-', r == '_':
			return r
		case r >= 'A' && r <= 'Z':
			return r - 'A' + 'a'
		}
		return '-'
	}, name)
	if name = strings.Trim(name, ".-_"); name == "" {
		name = "root"
	}
	unique := name
	for i := 2; n[unique]; i++ {
		unique = fmt.Sprintf("%s-%d", name, i)
	}
	n[unique] = true
	return unique
}
