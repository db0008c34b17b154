package schema

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestLint: each `want RULE` in a comment is a finding on its line, and there
// are no others.
func TestLint(t *testing.T) {
	files, err := filepath.Glob("testdata/lint/*.cue")
	if err != nil || len(files) == 0 {
		t.Fatalf("no files: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".cue"), func(t *testing.T) {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			var want []string
			for n, line := range strings.Split(string(data), "\n") {
				for _, m := range regexp.MustCompile(`want (\w+)`).FindAllStringSubmatch(line, -1) {
					want = append(want, Position{File: file, Line: n + 1}.at()+m[1])
				}
			}
			found, err := Lint(context.Background(), LoadOptions{Args: []string{file}})
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, f := range found {
				rule, _, _ := strings.Cut(f.Message, ":")
				got = append(got, f.Pos.at()+rule)
				if f.Source == "" || f.Hint == "" || f.Pos.Column == 0 {
					t.Errorf("no source, column or fix: %+v", f)
				}
			}
			slices.Sort(want)
			slices.Sort(got)
			if !slices.Equal(got, want) {
				t.Errorf("found\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
			}
		})
	}
}

func (p Position) at() string { return Position{File: p.File, Line: p.Line}.String() + " " }

// TestLintErrors: what Vet refuses is an error, and no finding.
func TestLintErrors(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{"bad.cue": `images: a: entrypiont: ["x"]`, "lib.cue": "package lib\n#X: 1\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	var bad *Error
	if _, err := Lint(context.Background(), LoadOptions{Dir: dir, Args: []string{"bad.cue"}}); !errors.As(err, &bad) {
		t.Errorf("error %v", err)
	}
	if found, err := Lint(context.Background(), LoadOptions{Dir: dir, Args: []string{"lib.cue"}}); err != nil || len(found) > 0 {
		t.Errorf("a library: %v, %v", found, err)
	}
}
