package image

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/containerd/platforms"
	"github.com/distribution/reference"
	"github.com/moby/buildkit/client/llb/sourceresolver"
	digest "github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/strata-build/strata/runtime/registry"
)

// StaticResolver answers from a list of image references with their configs,
// and needs no network: for plans, tests and machines without one. Its keys
// are whole references. An image that it answers for has the digest that the
// list names it by, or none.
type StaticResolver map[string]StaticImage

// StaticImage is the config of an image: one for every platform, or one for
// each of several.
type StaticImage struct {
	digest    digest.Digest
	any       []byte
	platforms []staticPlatform
}

type staticPlatform struct {
	ocispec.Platform
	config []byte
}

// staticAnswer is an image for one platform.
type staticAnswer struct {
	digest digest.Digest
	config []byte
}

// ParseStatic reads a JSON object of image references to OCI image configs. A
// reference may be short or whole, with a tag, a digest or both. In place of a
// config there may be a list of the configs of several platforms, or an object
// of them by platform.
func ParseStatic(data []byte) (StaticResolver, error) {
	var raw map[string]json.RawMessage
	if err := json.Unmarshal(data, &raw); err != nil {
		return nil, fmt.Errorf("image metadata is not a JSON object of image names to configs: %w", err)
	}
	r := StaticResolver{}
	for name, text := range raw {
		named, err := registry.ParseReference(strings.TrimPrefix(name, "docker-image://"))
		if err != nil {
			return nil, fmt.Errorf("image metadata: %w", err)
		}
		img, err := parseStaticImage(text)
		if err != nil {
			return nil, fmt.Errorf("image metadata of %s: %w", name, err)
		}
		if pinned, ok := named.(reference.Digested); ok {
			img.digest = pinned.Digest()
		}
		r[named.String()] = img
	}
	return r, nil
}

func parseStaticImage(text json.RawMessage) (StaticImage, error) {
	var img StaticImage
	if bytes.HasPrefix(bytes.TrimSpace(text), []byte("[")) {
		var list []json.RawMessage
		if err := json.Unmarshal(text, &list); err != nil {
			return img, err
		}
		for _, config := range list {
			parsed, err := parseConfig(config)
			if err != nil {
				return img, err
			}
			if parsed.OS == "" || parsed.Architecture == "" {
				return img, errors.New("each of several configs needs its os and architecture")
			}
			img.platforms = append(img.platforms, staticPlatform{parsed.Platform, config})
		}
		return img, nil
	}
	var object map[string]json.RawMessage
	if err := json.Unmarshal(text, &object); err != nil {
		return img, errors.New("it is no image config, which is a JSON object")
	}
	if !slices.ContainsFunc(slices.Collect(maps.Keys(object)), isPlatform) {
		img.any = text
		_, err := parseConfig(text)
		return img, err
	}
	return img, img.addPlatforms(object)
}

// isPlatform tells the keys of an object of configs from those of a config.
func isPlatform(key string) bool { return strings.Contains(key, "/") }

func (img *StaticImage) addPlatforms(object map[string]json.RawMessage) error {
	for _, name := range slices.Sorted(maps.Keys(object)) {
		p, err := platforms.Parse(name)
		if err != nil {
			return fmt.Errorf("%q is no platform", name)
		}
		if _, err := parseConfig(object[name]); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		img.platforms = append(img.platforms, staticPlatform{p, object[name]})
	}
	return nil
}

func parseConfig(text []byte) (ocispec.Image, error) {
	var parsed ocispec.Image
	if err := json.Unmarshal(text, &parsed); err != nil {
		return parsed, fmt.Errorf("it is no image config: %w", err)
	}
	return parsed, nil
}

// Empty lists the references whose configs name no layers: BuildKit's rule is
// that such an image is an empty one.
func (r StaticResolver) Empty() []string {
	var list []string
	for _, name := range slices.Sorted(maps.Keys(r)) {
		img := r[name]
		configs := [][]byte{img.any}
		for _, p := range img.platforms {
			configs = append(configs, p.config)
		}
		if slices.ContainsFunc(configs, noLayers) {
			list = append(list, name)
		}
	}
	return list
}

func noLayers(config []byte) bool {
	parsed, err := parseConfig(config)
	return err == nil && len(parsed.RootFS.DiffIDs) == 0
}

// answer looks a reference up for a platform.
func (r StaticResolver) answer(ref string, opt sourceresolver.Opt) (staticAnswer, bool, error) {
	if len(r) == 0 {
		return staticAnswer{}, false, nil
	}
	named, err := registry.ParseReference(ref)
	if err != nil {
		return staticAnswer{}, false, nil
	}
	img, ok := r.find(named)
	if !ok {
		return staticAnswer{}, false, nil
	}
	out := staticAnswer{config: img.any}
	if _, pinned := named.(reference.Digested); !pinned {
		out.digest = img.digest
	}
	if out.config == nil {
		out.config, err = img.on(opt)
	}
	if err != nil {
		return out, false, fmt.Errorf("%s: %w", reference.FamiliarString(named), err)
	}
	return out, true, nil
}

// find looks for the reference itself, then for the same without the tag, then
// without the digest. One without a digest is also found by its tag among
// those that have both.
func (r StaticResolver) find(named reference.Named) (StaticImage, bool) {
	if img, ok := r[named.String()]; ok {
		return img, true
	}
	tag := ""
	if tagged, ok := named.(reference.Tagged); ok {
		tag = ":" + tagged.Tag()
	}
	pinned, ok := named.(reference.Digested)
	if !ok {
		return r.withDigest(named.Name() + tag + "@")
	}
	if img, ok := r[named.Name()+"@"+pinned.Digest().String()]; ok {
		return img, true
	}
	if tag == "" {
		if img, ok := r.ofDigest(named.Name(), pinned.Digest()); ok {
			return img, true
		}
		tag = ":latest"
	}
	img, ok := r[named.Name()+tag]
	return img, ok
}

// withDigest finds the one image whose reference is prefix and a digest.
func (r StaticResolver) withDigest(prefix string) (img StaticImage, ok bool) {
	for _, name := range slices.Sorted(maps.Keys(r)) {
		if strings.HasPrefix(name, prefix) {
			return r[name], true
		}
	}
	return img, false
}

// ofDigest finds an image by its digest, whatever its tag.
func (r StaticResolver) ofDigest(repository string, d digest.Digest) (img StaticImage, ok bool) {
	for name, img := range r {
		if img.digest == d && strings.HasPrefix(name, repository+":") {
			return img, true
		}
	}
	return img, false
}

// on picks the config of a platform.
func (img StaticImage) on(opt sourceresolver.Opt) ([]byte, error) {
	want := platforms.Normalize(platforms.DefaultSpec())
	switch {
	case opt.ImageOpt != nil && opt.ImageOpt.Platform != nil:
		want = platforms.Normalize(*opt.ImageOpt.Platform)
	case opt.OCILayoutOpt != nil && opt.OCILayoutOpt.Platform != nil:
		want = platforms.Normalize(*opt.OCILayoutOpt.Platform)
	}
	var best *staticPlatform
	match := platforms.Only(want)
	var have []string
	for i, p := range img.platforms {
		have = append(have, platforms.Format(p.Platform))
		if match.Match(p.Platform) && (best == nil || match.Less(p.Platform, best.Platform)) {
			best = &img.platforms[i]
		}
	}
	if best == nil {
		return nil, fmt.Errorf("%w %s in the image metadata that was given: it has %s", ErrNoPlatform, platforms.Format(want), strings.Join(have, ", "))
	}
	return best.config, nil
}

// ResolveImageConfig implements llb.ImageMetaResolver.
func (r StaticResolver) ResolveImageConfig(_ context.Context, ref string, opt sourceresolver.Opt) (string, digest.Digest, []byte, error) {
	found, ok, err := r.answer(ref, opt)
	if err != nil {
		return "", "", nil, err
	}
	if !ok {
		return "", "", nil, r.unknown(ref)
	}
	return ref, found.digest, found.config, nil
}

// unknown says what was probably meant.
func (r StaticResolver) unknown(ref string) error {
	var names []string
	for _, name := range slices.Sorted(maps.Keys(r)) {
		if named, err := registry.ParseReference(name); err == nil {
			names = append(names, reference.FamiliarString(named))
		}
	}
	short := ref
	if named, err := registry.ParseReference(ref); err == nil {
		short = reference.FamiliarString(named)
	}
	hint := "add it"
	if near := nearNames(short, names); len(near) > 0 {
		hint = "it has " + strings.Join(near, ", ")
	}
	return fmt.Errorf("%s: %w in the image metadata that was given; %s", short, ErrNotFound, hint)
}
