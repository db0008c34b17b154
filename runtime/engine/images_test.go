package engine

import (
	"archive/tar"
	"bytes"
	"strings"
	"testing"

	digest "github.com/opencontainers/go-digest"
)

// A layer that cannot be read is a fact about its image: it does not keep the
// others from being listed.
func TestImageListWithDamage(t *testing.T) {
	e := open(t)
	for name, layer := range map[string]string{"broken:1": "\x1f\x8b\x08garbage", "whole:1": strings.Repeat("\x00", 1024)} {
		found, err := e.Images.Import(t.Context(), dockerArchive(t, name, layer))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := e.Images.Put(t.Context(), name, found[0].Desc); err != nil {
			t.Fatal(err)
		}
	}
	all, err := e.ImageList(t.Context())
	if err != nil || len(all) != 2 {
		t.Fatalf("%d images, %v", len(all), err)
	}
	for _, f := range all {
		if broken := strings.HasPrefix(f.Name, "broken"); (f.Damage != nil) != broken {
			t.Errorf("%s: %v", f.Name, f.Damage)
		}
	}
}

// dockerArchive is an archive of one image with one layer.
func dockerArchive(t *testing.T, name, layer string) *bytes.Buffer {
	config := `{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":["` + digest.FromString(strings.Repeat("\x00", 1024)).String() + `"]}}`
	manifest := `[{"Config":"c.json","RepoTags":["` + name + `"],"Layers":["l.tar"]}]`
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, f := range [][2]string{{"c.json", config}, {"l.tar", layer}, {"manifest.json", manifest}} {
		if err := w.WriteHeader(&tar.Header{Name: f[0], Mode: 0o644, Size: int64(len(f[1]))}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(f[1])); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return &b
}
