package conformance

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	digest "github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// picture is an image as it is compared.
type picture struct {
	platform string
	config   string // the config without digests, as indented JSON
	layers   int
	tree     []string // a line for each path
}

// images reads the images of an OCI archive, in the order of their platforms.
func images(archive string) ([]picture, error) {
	blobs, err := readArchive(archive)
	if err != nil {
		return nil, err
	}
	pictures, err := blobs.index(blobs["index.json"])
	if err != nil {
		return nil, fmt.Errorf("%s: %w", archive, err)
	}
	slices.SortFunc(pictures, func(a, b picture) int { return strings.Compare(a.platform, b.platform) })
	return pictures, nil
}

// blobs are the files of an OCI layout.
type blobs map[string][]byte

func readArchive(name string) (blobs, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	files := blobs{}
	for r := tar.NewReader(f); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return files, nil
		}
		if err != nil {
			return nil, err
		}
		if files[h.Name], err = io.ReadAll(r); err != nil {
			return nil, err
		}
	}
}

// blob returns a blob that has the digest it is stored under.
func (b blobs) blob(d digest.Digest) ([]byte, error) {
	data, ok := b["blobs/"+d.Algorithm().String()+"/"+d.Encoded()]
	if !ok {
		return nil, fmt.Errorf("blob %s is missing", d)
	}
	if digest.FromBytes(data) != d {
		return nil, fmt.Errorf("blob %s has other content", d)
	}
	return data, nil
}

func (b blobs) decode(d digest.Digest, into any) error {
	data, err := b.blob(d)
	if err != nil {
		return err
	}
	return json.Unmarshal(data, into)
}

// index reads the images of an index, and of those in it.
func (b blobs) index(data []byte) ([]picture, error) {
	var index ocispec.Index
	if err := json.Unmarshal(data, &index); err != nil {
		return nil, err
	}
	var all []picture
	for _, desc := range index.Manifests {
		if desc.MediaType == ocispec.MediaTypeImageIndex {
			inner, err := b.blob(desc.Digest)
			if err != nil {
				return nil, err
			}
			more, err := b.index(inner)
			if err != nil {
				return nil, err
			}
			all = append(all, more...)
			continue
		}
		p, err := b.image(desc)
		if err != nil {
			return nil, err
		}
		all = append(all, p)
	}
	return all, nil
}

func (b blobs) image(desc ocispec.Descriptor) (picture, error) {
	var manifest ocispec.Manifest
	if err := b.decode(desc.Digest, &manifest); err != nil {
		return picture{}, err
	}
	var config map[string]any
	if err := b.decode(manifest.Config.Digest, &config); err != nil {
		return picture{}, err
	}
	p := picture{layers: len(manifest.Layers), platform: fmt.Sprint(config["os"], "/", config["architecture"], "/", config["variant"])}
	root := newTree()
	var diffIDs []digest.Digest
	for _, l := range manifest.Layers {
		data, err := b.layer(l)
		if err != nil {
			return p, err
		}
		diffIDs = append(diffIDs, digest.FromBytes(data))
		if err := root.apply(data); err != nil {
			return p, fmt.Errorf("layer %s: %w", l.Digest, err)
		}
	}
	p.tree = root.lines()
	return p, p.takeConfig(config, diffIDs)
}

// layer returns the tar of a layer.
func (b blobs) layer(desc ocispec.Descriptor) ([]byte, error) {
	data, err := b.blob(desc.Digest)
	if err != nil || !strings.HasSuffix(desc.MediaType, "gzip") {
		return data, err
	}
	r, err := gzip.NewReader(bytes.NewReader(data))
	if err != nil {
		return nil, err
	}
	return io.ReadAll(r)
}

// takeConfig checks what a config says about its layers, and keeps the rest.
// Digests are of bytes that differ: the order of a tar's entries is not the
// Dockerfile's to decide.
func (p *picture) takeConfig(config map[string]any, diffIDs []digest.Digest) error {
	rootfs, _ := config["rootfs"].(map[string]any)
	listed, _ := rootfs["diff_ids"].([]any)
	if len(listed) != len(diffIDs) {
		return fmt.Errorf("the config lists %d layers, and the manifest %d", len(listed), len(diffIDs))
	}
	for i, d := range diffIDs {
		if listed[i] != d.String() {
			return fmt.Errorf("layer %d has the diff id %s, and the config says %s", i, d, listed[i])
		}
	}
	delete(rootfs, "diff_ids")
	text, err := json.MarshalIndent(config, "", "  ")
	p.config = string(text)
	return err
}

// difference compares two images, line by line.
func difference(want, got picture) string {
	var b strings.Builder
	if want.layers != got.layers {
		fmt.Fprintf(&b, "-%d layers\n+%d layers\n", want.layers, got.layers)
	}
	b.WriteString(diffLines(strings.Split(want.config, "\n"), strings.Split(got.config, "\n")))
	b.WriteString(diffLines(want.tree, got.tree))
	return b.String()
}

// diffLines says which lines two texts do not have in common.
func diffLines(want, got []string) string {
	if slices.Equal(want, got) {
		return ""
	}
	var b strings.Builder
	count := map[string]int{}
	for _, line := range got {
		count[line]++
	}
	for _, line := range want {
		if count[line]--; count[line] < 0 {
			b.WriteString("-" + line + "\n")
		}
	}
	for _, line := range got {
		if count[line] > 0 {
			count[line]--
			b.WriteString("+" + line + "\n")
		}
	}
	if b.Len() == 0 {
		fmt.Fprintf(&b, "another order of lines:\n-%s\n+%s\n", strings.Join(want, "\n-"), strings.Join(got, "\n+"))
	}
	return b.String()
}
