package image

import (
	"context"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/distribution/reference"
	digest "github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/strata-build/strata/internal/nearest"
	"github.com/strata-build/strata/runtime/registry"
	"github.com/strata-build/strata/runtime/store"
)

// record is the value of a name. The key is the full name with tag or digest,
// or the digest alone.
type record struct {
	Desc    ocispec.Descriptor `json:"desc"`
	ID      digest.Digest      `json:"id"`
	Created time.Time          `json:"created"`
}

func (r record) image(key string) Image {
	img := Image{Desc: r.Desc, ID: r.ID, Created: r.Created}
	if named, err := reference.ParseNormalizedNamed(key); err == nil && !nameless(key) {
		img.Name = reference.FamiliarString(named)
	}
	return img
}

// nameless tells the key of an image that has only a digest.
func nameless(key string) bool {
	return strings.HasPrefix(key, "sha256:") || strings.HasPrefix(key, "sha512:")
}

// parseName normalises a name; what has neither tag nor digest is :latest. A
// tag goes before a digest, as the name that stays.
func parseName(name string) (reference.Named, error) {
	named, err := registry.ParseReference(name)
	if err != nil {
		return nil, err
	}
	if tagged, ok := named.(reference.NamedTagged); ok {
		return reference.WithTag(reference.TrimNamed(named), tagged.Tag())
	}
	return named, nil
}

// Put gives a manifest, which must be in the store, a name; an empty name
// keeps it under its digest. The name is normalised: "debian" is
// docker.io/library/debian:latest. What had the name before loses it.
func (s *Store) Put(ctx context.Context, name string, desc ocispec.Descriptor) (Image, error) {
	key := desc.Digest.String()
	if name != "" {
		named, err := parseName(name)
		if err != nil {
			return Image{}, err
		}
		key = named.String()
	}
	rec := record{Desc: plainDescriptor(desc), Created: time.Now().UTC()}
	found, err := s.contents(ctx, desc)
	if err != nil {
		return Image{}, fmt.Errorf("name image %s: %w", name, err)
	}
	rec.ID = found.id(desc)
	if err := ctx.Err(); err != nil {
		return Image{}, err
	}
	if err := s.putRecord(key, rec, found.refs); err != nil {
		return Image{}, fmt.Errorf("name image %s: %w", name, err)
	}
	return rec.image(key), nil
}

// plainDescriptor leaves out what does not identify content: the same image
// has the same record wherever it came from.
func plainDescriptor(desc ocispec.Descriptor) ocispec.Descriptor {
	return ocispec.Descriptor{MediaType: desc.MediaType, Digest: desc.Digest, Size: desc.Size, Platform: desc.Platform}
}

// contents is what lies below a manifest or an index.
type contents struct {
	refs    []store.Ref
	configs []digest.Digest
	single  bool // not an index
}

func (c contents) id(desc ocispec.Descriptor) digest.Digest {
	if c.single && len(c.configs) == 1 {
		return c.configs[0]
	}
	return desc.Digest
}

// contents walks a manifest. Platforms of an index that were not fetched are
// referred to all the same: they may come later.
func (s *Store) contents(ctx context.Context, desc ocispec.Descriptor) (contents, error) {
	c := contents{refs: []store.Ref{store.BlobRef(desc.Digest)}}
	doc, err := s.document(ctx, desc, nil)
	if err != nil {
		return c, err
	}
	c.single = !doc.isIndex()
	for _, d := range doc.blobs() {
		c.refs = append(c.refs, store.BlobRef(d.Digest))
	}
	if c.single {
		c.configs = []digest.Digest{doc.Config.Digest}
	}
	for _, child := range doc.Manifests {
		c.refs = append(c.refs, store.BlobRef(child.Digest))
		if _, ok := s.blobs.HasBlob(child.Digest); !ok || child.Digest == desc.Digest {
			continue
		}
		below, err := s.contents(ctx, child)
		if err != nil {
			return c, err
		}
		c.refs = append(c.refs, below.refs...)
		c.configs = append(c.configs, below.configs...)
	}
	return c, nil
}

// Get returns the image of a name.
func (s *Store) Get(name string) (Image, error) {
	named, err := parseName(name)
	if err != nil {
		return Image{}, err
	}
	img, ok, err := s.lookup(named.String())
	if err == nil && !ok {
		err = fmt.Errorf("%s: %w", reference.FamiliarString(named), ErrNotFound)
	}
	return img, err
}

func (s *Store) lookup(key string) (Image, bool, error) {
	var rec record
	ok, err := s.blobs.GetRecord(Bucket, key, &rec)
	if err != nil || !ok {
		return Image{}, false, err
	}
	return rec.image(key), true, nil
}

// List returns all images, sorted by name; those without come last.
func (s *Store) List() ([]Image, error) {
	var all []Image
	for entry, err := range s.blobs.Records(Bucket) {
		if err != nil {
			return nil, fmt.Errorf("list images: %w", err)
		}
		var rec record
		if err := entry.Decode(&rec); err != nil {
			return nil, fmt.Errorf("list images: %s: %w", entry.Key, err)
		}
		all = append(all, rec.image(entry.Key))
	}
	slices.SortFunc(all, func(a, b Image) int {
		if (a.Name == "") != (b.Name == "") {
			return strings.Compare(b.Name, a.Name)
		}
		return strings.Compare(a.Name+string(a.Desc.Digest), b.Name+string(b.Desc.Digest))
	})
	return all, nil
}

// key is the record's key of an image.
func (i Image) key() (string, error) {
	if i.Name == "" {
		return i.Desc.Digest.String(), nil
	}
	named, err := reference.ParseNormalizedNamed(i.Name)
	if err != nil {
		return "", fmt.Errorf("image name %q: %w", i.Name, err)
	}
	return named.String(), nil
}

// Delete removes a name; given an id, all names of that image. It returns the
// images that went; their content is left to collection.
func (s *Store) Delete(ctx context.Context, ref string) ([]Image, error) {
	img, byID, err := s.Find(ctx, ref)
	if err != nil {
		return nil, err
	}
	gone := []Image{img}
	if byID {
		if gone, err = s.SameID(img.ID); err != nil {
			return nil, err
		}
	}
	for _, img := range gone {
		if err := s.Untag(ctx, img); err != nil {
			return nil, err
		}
	}
	return gone, nil
}

// Untag removes one name, or what an image without a name is kept by.
func (s *Store) Untag(ctx context.Context, img Image) error {
	key, err := img.key()
	if err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := s.blobs.DeleteRecord(Bucket, key); err != nil {
		return fmt.Errorf("remove image %s: %w", key, err)
	}
	return nil
}

// SameID returns all names of the image with an id.
func (s *Store) SameID(id digest.Digest) ([]Image, error) {
	all, err := s.List()
	return slices.DeleteFunc(all, func(i Image) bool { return i.ID != id }), err
}

// named returns all images with a manifest.
func (s *Store) named(d digest.Digest) ([]Image, error) {
	all, err := s.List()
	return slices.DeleteFunc(all, func(i Image) bool { return i.Desc.Digest != d }), err
}

// Resolve finds an image by what users write: name[:tag][@digest], or the
// digest of manifest or config, of which a unique prefix is enough.
func (s *Store) Resolve(ctx context.Context, ref string) (Image, error) {
	img, _, err := s.Find(ctx, ref)
	return img, err
}

var idPattern = regexp.MustCompile(`^(sha256:)?[0-9a-f]{3,64}$`)

// Find is Resolve that also tells an id from a name. It prefers names to ids,
// as docker does.
func (s *Store) Find(ctx context.Context, ref string) (img Image, byID bool, err error) {
	if err := ctx.Err(); err != nil {
		return Image{}, false, err
	}
	named, nameErr := registry.ParseReference(ref)
	if nameErr == nil {
		if img, ok, err := s.findName(named); ok || err != nil {
			return img, false, err
		}
	}
	if idPattern.MatchString(ref) {
		if img, ok, err := s.findID(ref); ok || err != nil {
			return img, true, err
		}
	}
	if nameErr != nil {
		return Image{}, false, nameErr
	}
	return Image{}, false, s.unknown(ref)
}

// findName looks for a tag, and with a digest for any name of the repository
// that stands for it.
func (s *Store) findName(named reference.Named) (Image, bool, error) {
	digested, ok := named.(reference.Digested)
	if img, found, err := s.lookup(named.String()); !ok || found || err != nil {
		return img, found, err
	}
	images, err := s.named(digested.Digest())
	for _, img := range images {
		have, perr := reference.ParseNormalizedNamed(img.Name)
		if perr == nil && have.Name() == named.Name() {
			return img, true, nil
		}
	}
	return Image{}, false, err
}

func (s *Store) findID(prefix string) (Image, bool, error) {
	all, err := s.List()
	if err != nil {
		return Image{}, false, err
	}
	prefix = strings.TrimPrefix(prefix, "sha256:")
	var found []Image
	for _, img := range all {
		if strings.HasPrefix(img.ID.Encoded(), prefix) || strings.HasPrefix(img.Desc.Digest.Encoded(), prefix) {
			found = append(found, img)
		}
	}
	for _, img := range found {
		// One config may have several manifests: its layers compressed in
		// several ways. They are one image.
		if img.Desc.Digest != found[0].Desc.Digest && img.ID != found[0].ID {
			return Image{}, false, fmt.Errorf("%s stands for several images, give more of the id: %w", prefix, ErrAmbiguous)
		}
	}
	if len(found) == 0 {
		return Image{}, false, nil
	}
	return found[0], true, nil
}

// Near returns names of images that are spelled like ref.
func (s *Store) Near(ref string) ([]string, error) {
	all, err := s.List()
	if err != nil {
		return nil, err
	}
	var names []string
	for _, img := range all {
		if img.Name != "" {
			names = append(names, img.Name)
		}
	}
	return nearNames(ref, names), nil
}

// unknown names images that are spelled alike.
func (s *Store) unknown(ref string) error {
	near, err := s.Near(ref)
	switch {
	case err != nil:
		return err
	case len(near) == 0:
		return fmt.Errorf("%s: %w; `strata images` lists them, `strata pull` fetches one", ref, ErrNotFound)
	case repositoryOf(near[0]) == repositoryOf(ref):
		return fmt.Errorf("%s: %w; there is %s", ref, ErrNotFound, strings.Join(near, ", "))
	}
	return fmt.Errorf("%s: %w; did you mean %s?", ref, ErrNotFound, strings.Join(near, ", "))
}

// maxNear is how many names a message proposes.
const maxNear = 5

// nearNames returns the names whose repository is that of ref, or else those
// that are spelled most like it.
func nearNames(ref string, names []string) []string {
	best, found := max(2, len(repositoryOf(ref))/3), []string(nil)
	for _, name := range names {
		cost := min(
			nearest.Distance(repositoryOf(ref), repositoryOf(name)),
			nearest.Distance(repositoryOf(ref), path.Base(repositoryOf(name)))+1,
			nearest.Distance(ref, name))
		if cost < best {
			best, found = cost, nil
		}
		if cost == best {
			found = append(found, name)
		}
	}
	return found[:min(maxNear, len(found))]
}

// repositoryOf is a name without tag and digest.
func repositoryOf(name string) string {
	name, _, _ = strings.Cut(name, "@")
	if i := strings.LastIndexByte(name, ':'); i > strings.LastIndexByte(name, '/') {
		return name[:i]
	}
	return name
}
