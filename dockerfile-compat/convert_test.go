package dockerfilecompat

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"
)

// TestConvert converts the Dockerfiles of testdata/convert: the CUE and the
// report are the golden file. Convert itself proves that the CUE means the
// same.
func TestConvert(t *testing.T) {
	archives(t, "convert", func(t *testing.T, file string, archive *txtar.Archive) {
		const golden = "converted"
		dir := unpack(t, archive, golden)
		res, err := Convert(context.Background(), ConvertRequest{Request: request(t, dir, string(archive.Comment)), Name: "app"})
		var b strings.Builder
		if err != nil {
			b.WriteString(rendered(err))
		} else {
			b.Write(res.CUE)
			for _, st := range res.Stages {
				if !st.Native {
					fmt.Fprintf(&b, "kept %s, line %d: %s\n", st.Name, st.KeptLine, st.Reason)
				}
			}
		}
		checkGolden(t, file, archive, golden, strings.ReplaceAll(b.String(), dir, "$DIR"))
	})
}

// TestExamples: the CUE of each example is what its Dockerfile is converted to.
// The examples' own test builds both.
func TestExamples(t *testing.T) {
	files, err := filepath.Glob("../examples/dockerfiles/*/Dockerfile")
	if err != nil || len(files) < 5 {
		t.Fatalf("only %d examples: %v", len(files), err)
	}
	for _, file := range files {
		dir := filepath.Dir(file)
		t.Run(filepath.Base(dir), func(t *testing.T) {
			req := Request{Filename: "Dockerfile", Dir: dir, Context: dir, Options: testOptions()}
			res, err := Convert(context.Background(), ConvertRequest{Request: req})
			if err != nil {
				t.Fatal(err)
			}
			golden := filepath.Join(dir, "app.cue")
			if os.Getenv("UPDATE") != "" {
				if err := os.WriteFile(golden, res.CUE, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(res.CUE, want) {
				t.Errorf("%s differs from what there is now; UPDATE=1 writes it:\n%s", golden, res.CUE)
			}
		})
	}
}

// BenchmarkConvert converts one Dockerfile of two stages.
func BenchmarkConvert(b *testing.B) {
	archive, err := txtar.ParseFile("testdata/convert/example.txtar")
	if err != nil {
		b.Fatal(err)
	}
	req := Request{Filename: "Dockerfile", Text: archive.Files[0].Data, Context: b.TempDir(), Options: testOptions()}
	for b.Loop() {
		if _, err := Convert(context.Background(), ConvertRequest{Request: req, Name: "app"}); err != nil {
			b.Fatal(err)
		}
	}
}
