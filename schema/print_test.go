package schema

import (
	"context"
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"
)

// TestPrintLoadsBack prints every Spec of testdata/good and loads it again:
// it must be the same Spec but for names, places and contexts.
func TestPrintLoadsBack(t *testing.T) {
	files, err := filepath.Glob("testdata/good/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no archives: %v", err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			archive, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			dir := t.TempDir()
			for _, f := range archive.Files {
				writeFile(t, filepath.Join(dir, f.Name), f.Data)
			}
			opts := optionsOf(string(archive.Comment), dir)
			spec, err := Load(context.Background(), opts.load)
			if err != nil {
				t.Skip("the archive is not loaded:", err)
			}
			printed, err := Print(&Document{Images: spec.Images, Dir: dir})
			if err != nil {
				t.Fatal(err)
			}
			if os.Getenv("PRINT") != "" {
				t.Logf("\n%s", printed)
			}
			name := filepath.Join(dir, "printed.cue")
			writeFile(t, name, printed)
			again, err := Load(context.Background(), LoadOptions{Dir: dir, Args: []string{"printed.cue"}})
			if err != nil {
				t.Fatalf("load the printed file: %v\n%s", err, printed)
			}
			if got, want := meaning(again, dir), meaning(spec, dir); got != want {
				t.Errorf("printed\n%s\nloads as\n%s\nwant\n%s", printed, got, want)
			}
		})
	}
}

var places = regexp.MustCompile(`(?m)^ *(Pos|Path|Package|Context): .*\n`)

// meaning is a dump without names and places.
func meaning(spec *Spec, dir string) string {
	text := places.ReplaceAllString(dump(spec, dir), "")
	text = regexp.MustCompile(`(?m)image .*$`).ReplaceAllString(text, "image")
	return regexp.MustCompile(`image\n *Name: .*\n`).ReplaceAllString(text, "image\n")
}
