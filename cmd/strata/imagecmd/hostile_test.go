package imagecmd

import (
	"strings"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/strata-build/strata/runtime/layer"
	"github.com/strata-build/strata/runtime/registry"
)

// What the maker of an image, or a registry, has written reaches no terminal as
// a command to it.
func TestHostileTexts(t *testing.T) {
	const evil = "a\x1b[2J\x07b\tc\nd\u202ee"
	step := stepRow(ocispec.History{CreatedBy: evil, Comment: evil, Author: evil}, 1, historyOptions{noTrunc: true})
	found := searchRowOf(registry.Found{Name: evil, Description: evil}, searchOptions{noTrunc: true})
	var layers strings.Builder
	d := layersDescription{
		Layers: []layerDescription{{CreatedBy: evil, Content: layer.Content{Added: []layer.File{{Path: "/" + evil}}}}},
		Wasted: []layer.Waste{{Path: "/" + evil}},
	}
	if err := d.write(&layers); err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{step.CreatedBy, step.Comment, step.Author, found.Name, found.Description, layers.String()} {
		if strings.ContainsAny(text, "\x1b\x07\t\u202e") {
			t.Errorf("%q reaches the terminal", text)
		}
	}
}
