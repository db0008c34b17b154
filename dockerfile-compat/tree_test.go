package dockerfilecompat

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"
)

// TestConvertTree converts the trees of testdata/tree. A line `name REF=PATH`
// of the comment says who builds an image.
func TestConvertTree(t *testing.T) {
	archives(t, "tree", func(t *testing.T, file string, archive *txtar.Archive) {
		const golden = "converted"
		dir := unpack(t, archive, golden)
		req := TreeRequest{Dir: dir, Options: testOptions(), Names: map[string]string{}}
		for line := range strings.Lines(string(archive.Comment)) {
			if name, ok := strings.CutPrefix(strings.TrimSpace(line), "name "); ok {
				ref, path, _ := strings.Cut(name, "=")
				req.Names[ref] = path
			}
		}
		res, err := ConvertTree(context.Background(), req)
		var b strings.Builder
		if err != nil {
			b.WriteString(rendered(err))
		} else {
			b.Write(res.CUE)
			for _, img := range res.Images {
				fmt.Fprintf(&b, "%s is %s, references %q\n", filepath.ToSlash(img.Dockerfile), img.Image, img.References)
			}
		}
		checkGolden(t, file, archive, golden, strings.ReplaceAll(b.String(), dir, "$DIR"))
	})
}
