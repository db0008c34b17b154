// Package architecture holds the import rule of docs/architecture.md by
// parsing the imports of every Go file. It reads the files itself rather than
// asking `go list`, whose answer Go's test cache would keep after a violation.
package architecture

import (
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/strata-build/strata/"

// never says, for each top folder, which top folders its packages may not
// import, tests aside.
var never = map[string][]string{
	"schema":            {"cmd", "compiler", "solver", "runtime", "dockerfile-compat"},
	"compiler":          {"cmd", "solver", "runtime", "dockerfile-compat"},
	"dockerfile-compat": {"cmd", "solver", "runtime"},
	"solver":            {"cmd", "runtime", "compiler", "schema", "dockerfile-compat"},
	"runtime":           {"cmd", "compiler", "schema", "dockerfile-compat"},
}

// commands says, for each package of the command line, which others of it the
// package imports. Package main, which has them all, is not among them.
var commands = map[string][]string{
	"cmd/strata/cli":          {},
	"cmd/strata/output":       {"cmd/strata/cli"},
	"cmd/strata/buildcmd":     {"cmd/strata/cli", "cmd/strata/output"},
	"cmd/strata/containercmd": {"cmd/strata/cli", "cmd/strata/output"},
	// inspect and du describe containers, too.
	"cmd/strata/imagecmd": {"cmd/strata/cli", "cmd/strata/output", "cmd/strata/containercmd"},
}

// leaves are packages that import nothing of this module, so that everybody
// may import them.
var leaves = []string{
	"runtime/mount", "runtime/rootfs", "runtime/cgroup",
	"internal/nearest", "internal/undo", "internal/bounded", "internal/printable",
}

func TestImportRule(t *testing.T) {
	root := filepath.Join("..", "..")
	checked := 0
	err := filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, name)
		if err != nil {
			return err
		}
		if d.IsDir() {
			if base := d.Name(); base == "testdata" || rel != "." && strings.HasPrefix(base, ".") {
				return filepath.SkipDir
			}
			// A folder with a go.mod of its own is another module.
			if _, err := os.Stat(filepath.Join(name, "go.mod")); err == nil && rel != "." {
				return filepath.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(rel, ".go") || strings.HasSuffix(rel, "_test.go") {
			return nil
		}
		checked++
		return checkFile(t, name, filepath.ToSlash(rel))
	})
	if err != nil {
		t.Fatal(err)
	}
	if checked < 10 {
		t.Fatalf("only %d files were checked: the walk does not reach the module", checked)
	}
}

func checkFile(t *testing.T, name, rel string) error {
	f, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ImportsOnly)
	if err != nil {
		return err
	}
	for _, spec := range f.Imports {
		imported, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			return err
		}
		if inner, ok := strings.CutPrefix(imported, module); ok {
			if reason := forbidden(path.Dir(rel), inner); reason != "" {
				t.Errorf("%s imports %s: %s", rel, inner, reason)
			}
		}
	}
	return nil
}

// forbidden says why the package in folder from may not import the package in
// folder to, or "" when it may.
func forbidden(from, to string) string {
	for _, leaf := range leaves {
		if from == leaf {
			return leaf + " is a leaf and imports nothing of this module"
		}
	}
	top, target := topFolder(from), topFolder(to)
	if strings.HasPrefix(from, "cmd/strata/") && target == "cmd" && !slices.Contains(commands[from], to) {
		return "the groups of commands, and what they share, are apart from each other"
	}
	for _, banned := range never[top] {
		if target == banned {
			return top + " never imports " + banned
		}
	}
	if strings.HasSuffix(to, "test") && target == "runtime" {
		return "a test suite is imported by tests only"
	}
	return ""
}

func topFolder(p string) string {
	top, _, _ := strings.Cut(p, "/")
	return top
}

func TestRuleRefuses(t *testing.T) {
	for _, c := range []struct{ from, to string }{
		{"schema", "compiler"},
		{"solver", "runtime/store"},
		{"runtime/worker", "schema"},
		{"runtime/mount", "runtime/store"},
		{"dockerfile-compat/lint", "runtime/image"},
		{"cmd/strata/cli", "cmd/strata/output"},
		{"cmd/strata/containercmd", "cmd/strata/imagecmd"},
		{"cmd/strata/another", "cmd/strata/cli"},
	} {
		if forbidden(c.from, c.to) == "" {
			t.Errorf("%s may import %s, and must not", c.from, c.to)
		}
	}
	for _, c := range []struct{ from, to string }{
		{"runtime/worker", "solver"},
		{"cmd/strata", "cmd/strata/buildcmd"},
		{"cmd/strata/imagecmd", "cmd/strata/containercmd"},
		{"cmd/strata/buildcmd", "compiler"},
	} {
		if reason := forbidden(c.from, c.to); reason != "" {
			t.Errorf("%s may not import %s: %s", c.from, c.to, reason)
		}
	}
}
