package dockerfilecompat

import (
	"context"
	"fmt"
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
