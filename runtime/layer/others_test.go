package layer

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/containerd/containerd/v2/pkg/archive"
	digest "github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/strata-build/strata/internal/testenv"
	"github.com/strata-build/strata/runtime/tree"
	"github.com/strata-build/strata/runtime/tree/treetest"
)

// stack makes random layers that meet in names, bottom first.
func stack(t *testing.T, seed, n int) []string {
	t.Helper()
	var dirs []string
	for i := range n {
		dir := newDir(t)
		o := treetest.Options{Whiteouts: i > 0}
		if i > 0 {
			o.Opaque = format().OpaqueXattr()
		}
		treetest.Overlapping(t, rng(seed*100+i), dir, o)
		dirs = append(dirs, dir)
	}
	return dirs
}

// flattened describes the merged view of layers.
func flattened(t *testing.T, layers []string) map[string]string {
	t.Helper()
	dir := newDir(t)
	must(t, tree.Flatten(t.Context(), tree.FlattenRequest{Layers: layers, Dst: open(t, dir), Format: format()}))
	return treetest.Describe(t, dir, plainView())
}

// plainView leaves out what others do differently: on a plain tree, a directory
// keeps the extended attributes that it had in a lower layer; in an overlay,
// and here, it has those of the upper one.
func plainView() treetest.DescribeOptions {
	return treetest.DescribeOptions{Seconds: true, NoDirTimes: true, HideXattr: func(string) bool { return true }}
}

// TestContainerdApplies: containerd makes of our layers what we do, and we make
// of them, unpacked, what containerd does.
func TestContainerdApplies(t *testing.T) {
	testenv.Root(t)
	for seed := range 8 {
		layers := stack(t, seed, 3)
		theirs := newDir(t)
		var unpacked []string
		for _, dir := range layers {
			data := tarOf(t, dir, WriteOptions{Format: format()})
			_, err := archive.Apply(t.Context(), theirs, bytes.NewReader(data))
			must(t, err)
			ours := newDir(t)
			_, err = Apply(t.Context(), bytes.NewReader(data), ours, ApplyOptions{Format: format()})
			must(t, err)
			unpacked = append(unpacked, ours)
		}
		want := treetest.Describe(t, theirs, plainView())
		if d := treetest.Diff(want, flattened(t, layers)); d != "" {
			t.Fatalf("seed %d: %s", seed, d)
		}
		if d := treetest.Diff(want, flattened(t, unpacked)); d != "" {
			t.Fatalf("seed %d, unpacked: %s", seed, d)
		}
	}
}

// TestContainerdWrites: a layer of containerd's, between two random trees.
func TestContainerdWrites(t *testing.T) {
	testenv.Root(t)
	for seed := range 8 {
		lower, upper, layer := newDir(t), newDir(t), newDir(t)
		treetest.Overlapping(t, rng(seed), lower, treetest.Options{})
		treetest.Overlapping(t, rng(seed+500), upper, treetest.Options{})
		var buf bytes.Buffer
		must(t, archive.WriteDiff(t.Context(), &buf, lower, upper))
		_, err := Apply(t.Context(), &buf, layer, ApplyOptions{Format: format()})
		must(t, err)
		want := treetest.Describe(t, upper, plainView())
		got := newDir(t)
		must(t, tree.Flatten(t.Context(), tree.FlattenRequest{Layers: []string{lower, layer}, Dst: open(t, got), Format: format()}))
		if d := treetest.Diff(want, treetest.Describe(t, got, plainView())); d != "" {
			t.Fatalf("seed %d: %s", seed, d)
		}
	}
}

// TestUmociUnpacks: an image of our layers, in the usual compressions, is what
// umoci makes of it; and skopeo finds every digest right.
func TestUmociUnpacks(t *testing.T) {
	testenv.Root(t)
	umoci, skopeo := testenv.Tool(t, "umoci"), testenv.Tool(t, "skopeo")
	layers := stack(t, 77, 4)
	image := writeImage(t, layers)
	bundle := filepath.Join(t.TempDir(), "bundle")
	if out, err := exec.Command(umoci, "unpack", "--image", image+":tag", bundle).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	got := treetest.Describe(t, filepath.Join(bundle, "rootfs"), plainView())
	if d := treetest.Diff(flattened(t, layers), got); d != "" {
		t.Error(d)
	}
	copied := filepath.Join(t.TempDir(), "copy")
	if out, err := exec.Command(skopeo, "copy", "oci:"+image+":tag", "dir:"+copied).CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
}

// writeImage writes an OCI layout of the layers.
func writeImage(t *testing.T, layers []string) string {
	t.Helper()
	dir := newDir(t)
	must(t, os.MkdirAll(filepath.Join(dir, "blobs/sha256"), 0o755))
	put := func(mediaType string, data []byte) ocispec.Descriptor {
		d := digest.FromBytes(data)
		must(t, os.WriteFile(filepath.Join(dir, "blobs/sha256", d.Encoded()), data, 0o644))
		return ocispec.Descriptor{MediaType: mediaType, Digest: d, Size: int64(len(data))}
	}
	putJSON := func(mediaType string, v any) ocispec.Descriptor {
		data, err := json.Marshal(v)
		must(t, err)
		return put(mediaType, data)
	}
	manifest := ocispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest}
	config := ocispec.Image{Platform: ocispec.Platform{OS: "linux", Architecture: "amd64"}, RootFS: ocispec.RootFS{Type: "layers"}}
	compressions := []Compression{{}, {Type: None}, {Level: 9}}
	for i, layer := range layers {
		data := tarOf(t, layer, WriteOptions{Format: format()})
		c := compressions[i%len(compressions)]
		manifest.Layers = append(manifest.Layers, put(c.MediaType(), packed(t, data, c)))
		config.RootFS.DiffIDs = append(config.RootFS.DiffIDs, digest.FromBytes(data))
	}
	manifest.Config = putJSON(ocispec.MediaTypeImageConfig, config)
	desc := putJSON(ocispec.MediaTypeImageManifest, manifest)
	desc.Annotations = map[string]string{ocispec.AnnotationRefName: "tag"}
	for name, v := range map[string]any{
		"index.json": ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, Manifests: []ocispec.Descriptor{desc}},
		"oci-layout": ocispec.ImageLayout{Version: "1.0.0"},
	} {
		data, err := json.Marshal(v)
		must(t, err)
		must(t, os.WriteFile(filepath.Join(dir, name), data, 0o644))
	}
	return dir
}
