package schema

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"cuelang.org/go/cue/build"
)

// InputKind is the kind of an Input.
type InputKind string

// The kinds of inputs.
const (
	// InputFile is a file's contents, or that it does not exist.
	InputFile InputKind = "file"
	// InputDir is the names in a directory that match the pattern.
	InputDir InputKind = "dir"
	// InputTree is the paths below a directory that match the pattern,
	// without those that CUE does not look at.
	InputTree InputKind = "tree"
)

// Input is something that the result of a load depends on.
type Input struct {
	Kind  InputKind
	Path  string // absolute
	Match string // dir and tree: a path.Match pattern for the names
}

// Inputs are what the load of s depended on besides its options: as long as
// their Fingerprint stays the same, so does the Spec.
func (s *Spec) Inputs() []Input { return s.inputs }

// inputs lists what was read, and what would have been read if it were there.
func (p *program) inputs(d *decoder) []Input {
	set := map[Input]bool{}
	for _, g := range p.session.groups {
		for _, name := range []string{"module.cue", "local-module.cue"} {
			set[Input{Kind: InputFile, Path: filepath.Join(g.root, cueModule, name)}] = true
		}
		if g.lone {
			p.absentModules(g.root, set)
		}
		for _, dir := range g.watched {
			set[Input{Kind: InputTree, Path: dir, Match: "*.cue"}] = true
		}
		for _, sub := range []string{"gen", "usr", "pkg"} {
			dir := filepath.Join(g.root, cueModule, sub, filepath.FromSlash(ImportPath))
			set[Input{Kind: InputDir, Path: dir, Match: "*.cue"}] = true
		}
		for _, arg := range g.args {
			if g.files {
				set[Input{Kind: InputFile, Path: arg}] = true
			}
		}
	}
	for inst, s := range p.surveys {
		p.instanceInputs(inst, s, set)
	}
	for _, name := range d.files {
		set[Input{Kind: InputFile, Path: name}] = true
	}
	list := make([]Input, 0, len(set))
	for in := range set {
		list = append(list, in)
	}
	slices.SortFunc(list, func(a, b Input) int {
		return strings.Compare(a.Path+"\x00"+string(a.Kind)+a.Match, b.Path+"\x00"+string(b.Kind)+b.Match)
	})
	return list
}

// absentModules adds the module files that would make a lone file part of a
// module.
func (p *program) absentModules(dir string, set map[Input]bool) {
	for d := dir; ; d = filepath.Dir(d) {
		set[Input{Kind: InputFile, Path: filepath.Join(d, cueModule, "module.cue")}] = true
		if d == filepath.Dir(d) {
			return
		}
	}
}

// instanceInputs adds the files of a package, also those that its @if
// excludes, the directories it is read from, and what it embeds.
func (p *program) instanceInputs(inst *build.Instance, s *survey, set map[Input]bool) {
	for _, list := range [][]*build.File{inst.BuildFiles, inst.IgnoredFiles, inst.InvalidFiles} {
		for _, f := range list {
			if strings.HasSuffix(f.Filename, ".cue") {
				set[Input{Kind: InputFile, Path: absolute(inst.Dir, f.Filename)}] = true
			}
		}
	}
	if inst.ImportPath != "" { // not a list of files
		for dir := inst.Dir; ; dir = filepath.Dir(dir) {
			set[Input{Kind: InputDir, Path: dir, Match: "*.cue"}] = true
			if dir == inst.Root || len(dir) <= len(inst.Root) {
				break
			}
		}
	}
	for _, e := range s.embeds {
		pattern := path.Clean(e.pattern)
		if !strings.ContainsAny(pattern, `*?[\`) {
			set[Input{Kind: InputFile, Path: filepath.Join(e.dir, pattern)}] = true
			continue
		}
		for _, name := range globbed(e.dir, pattern, set) {
			set[Input{Kind: InputFile, Path: name}] = true
		}
	}
}

// globbed lists the files that a pattern matches, and adds the directories
// that were looked at.
func globbed(dir, pattern string, set map[Input]bool) []string {
	first, rest, deeper := strings.Cut(pattern, "/")
	set[Input{Kind: InputDir, Path: dir, Match: first}] = true
	names, err := matching(dir, first)
	if err != nil {
		return nil
	}
	var files []string
	for _, name := range names {
		if full := filepath.Join(dir, name); deeper {
			files = append(files, globbed(full, rest, set)...)
		} else {
			files = append(files, full)
		}
	}
	return files
}

func absolute(dir, name string) string {
	if filepath.IsAbs(name) {
		return name
	}
	return filepath.Join(dir, name)
}

// Fingerprint hashes the present state of inputs.
func Fingerprint(inputs []Input) (string, error) {
	h := sha256.New()
	for _, in := range inputs {
		fmt.Fprintf(h, "%s %q %q\n", in.Kind, in.Path, in.Match)
		var err error
		switch in.Kind {
		case InputFile:
			err = hashFile(h, in.Path)
		case InputDir:
			err = hashDir(h, in)
		case InputTree:
			err = hashTree(h, in)
		}
		if err != nil {
			return "", fmt.Errorf("fingerprint %s: %w", in.Path, err)
		}
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

func hashFile(h hash.Hash, name string) error {
	data, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		fmt.Fprintln(h, "absent")
		return nil
	}
	if err != nil {
		return err
	}
	fmt.Fprintf(h, "%d\n", len(data))
	_, err = h.Write(data)
	return err
}

func hashDir(h hash.Hash, in Input) error {
	names, err := matching(in.Path, in.Match)
	fmt.Fprintf(h, "%q\n", names)
	return err
}

// matching lists the names in a directory that match; none when it does not
// exist.
func matching(dir, match string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		ok, err := path.Match(match, e.Name())
		if err != nil {
			return nil, err
		}
		if ok {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

func hashTree(h hash.Hash, in Input) error {
	return filepath.WalkDir(in.Path, func(name string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		base := e.Name()
		if e.IsDir() && name != in.Path && (base == cueModule || strings.HasPrefix(base, ".") || strings.HasPrefix(base, "_")) {
			return filepath.SkipDir
		}
		if ok, err := path.Match(in.Match, base); err != nil || !ok || e.IsDir() {
			return err
		}
		_, err = fmt.Fprintf(h, "%q\n", name)
		return err
	})
}
