package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"

	"github.com/distribution/reference"
	digest "github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Media types of docker's that are understood besides OCI's.
const (
	dockerManifest     = "application/vnd.docker.distribution.manifest.v2+json"
	dockerManifestList = "application/vnd.docker.distribution.manifest.list.v2+json"
)

// Bounds for what is read into memory. The distribution specification asks
// registries to take manifests of 4 MiB.
const (
	maxManifest = 8 << 20
	maxConfig   = 32 << 20
)

// acceptManifests is the Accept header of every request for a manifest.
func acceptManifests() http.Header {
	return http.Header{"Accept": {strings.Join([]string{
		ocispec.MediaTypeImageIndex, ocispec.MediaTypeImageManifest, dockerManifestList, dockerManifest,
	}, ", ")}}
}

// Resolve asks what a reference stands for now. It costs one HEAD request,
// which registries do not count as a pull; those that answer it badly are
// asked for the manifest itself.
func (c *Client) Resolve(ctx context.Context, ref reference.Named) (ocispec.Descriptor, error) {
	eps, err := c.endpoints(ref)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	var desc ocispec.Descriptor
	err = c.each(ctx, eps, occasion{doing: "resolve " + reference.FamiliarString(ref)}, func(s *session) error {
		desc, err = s.resolve(ctx, ref)
		return err
	})
	if errors.Is(err, ErrNotFound) {
		err = c.suggestTags(ctx, ref, eps[len(eps)-1], err)
	}
	return desc, err
}

// tagOrDigest is the last component of a manifest's path; a digest goes first.
func tagOrDigest(ref reference.Named) string {
	if digested, ok := ref.(reference.Digested); ok {
		return digested.Digest().String()
	}
	if tagged, ok := ref.(reference.Tagged); ok {
		return tagged.Tag()
	}
	return "latest"
}

func (s *session) resolve(ctx context.Context, ref reference.Named) (ocispec.Descriptor, error) {
	which := tagOrDigest(ref)
	resp, err := s.do(ctx, request{method: http.MethodHead, path: s.ep.repo + "/manifests/" + which, header: acceptManifests()})
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	resp.Body.Close()
	desc := ocispec.Descriptor{
		MediaType: mediaType(resp), Digest: digest.Digest(resp.Header.Get("Docker-Content-Digest")), Size: resp.ContentLength,
	}
	usable := resp.StatusCode == http.StatusOK && isManifest(desc.MediaType) && desc.Digest.Validate() == nil && desc.Size > 0
	if usable && agrees(ref, desc.Digest) {
		return desc, nil
	}
	if resp.StatusCode == http.StatusNotFound {
		// A 404 to HEAD has no body: GET says whether it is the tag or the
		// repository that is missing.
		_, _, err := s.get(ctx, which, "")
		return ocispec.Descriptor{}, err
	}
	return s.resolveByGet(ctx, ref)
}

func (s *session) resolveByGet(ctx context.Context, ref reference.Named) (ocispec.Descriptor, error) {
	data, kind, err := s.get(ctx, tagOrDigest(ref), "")
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	got := digest.FromBytes(data)
	if !agrees(ref, got) {
		return ocispec.Descriptor{}, unverified(s.ep.host, tagOrDigest(ref), "got "+got.String())
	}
	return ocispec.Descriptor{MediaType: kind, Digest: got, Size: int64(len(data))}, nil
}

// agrees tells whether a reference allows a digest.
func agrees(ref reference.Named, d digest.Digest) bool {
	digested, ok := ref.(reference.Digested)
	return !ok || digested.Digest() == d
}

func mediaType(resp *http.Response) string {
	kind, _, _ := strings.Cut(resp.Header.Get("Content-Type"), ";")
	return strings.TrimSpace(kind)
}

func isManifest(kind string) bool {
	switch kind {
	case ocispec.MediaTypeImageIndex, ocispec.MediaTypeImageManifest, dockerManifestList, dockerManifest:
		return true
	}
	return false
}

// get fetches a manifest; kind is the media type that is expected, "" for any.
func (s *session) get(ctx context.Context, which, kind string) ([]byte, string, error) {
	resp, err := s.do(ctx, request{method: http.MethodGet, path: s.ep.repo + "/manifests/" + which, header: acceptManifests()})
	if err != nil {
		return nil, "", err
	}
	if err := check(resp, http.StatusOK); err != nil {
		return nil, "", err
	}
	defer resp.Body.Close()
	if kind == "" {
		kind = mediaType(resp)
	}
	if !isManifest(kind) {
		return nil, "", &failure{text: fmt.Sprintf("%s sent %s of an unknown kind %q: Strata reads OCI images and docker's schema 2", s.ep.host, which, kind)}
	}
	data, err := readBounded(resp.Body, maxManifest)
	return data, kind, err
}

func readBounded(r io.Reader, limit int64) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err != nil {
		return nil, fmt.Errorf("read response: %w", err)
	}
	if int64(len(data)) > limit {
		return nil, &failure{text: fmt.Sprintf("the answer is larger than %d MiB", limit>>20)}
	}
	return data, nil
}

// Manifest fetches a manifest or an index, verified by the descriptor's digest
// and, where it gives one, size.
func (c *Client) Manifest(ctx context.Context, ref reference.Named, desc ocispec.Descriptor) ([]byte, error) {
	var data []byte
	err := c.pull(ctx, ref, desc, func(s *session) error {
		got, _, err := s.get(ctx, desc.Digest.String(), desc.MediaType)
		if err != nil {
			return err
		}
		data = got
		return s.verify(desc, got)
	})
	return data, err
}

// verify compares content that is in memory with its descriptor.
func (s *session) verify(desc ocispec.Descriptor, data []byte) error {
	if got := desc.Digest.Algorithm().FromBytes(data); got != desc.Digest {
		s.client.distrust(s.ep.host, desc.Digest)
		return unverified(s.ep.host, desc.Digest.String(), "got "+got.String())
	}
	if desc.Size > 0 && int64(len(data)) != desc.Size {
		return unverified(s.ep.host, desc.Digest.String(), fmt.Sprintf("%d bytes where %d were announced", len(data), desc.Size))
	}
	return nil
}

// distrust notes that a host served wrong bytes for a digest: the next attempt
// asks the others first.
func (c *Client) distrust(host string, d digest.Digest) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.wrong[wrongAnswer{host, d}] = true
}

type wrongAnswer struct {
	host   string
	digest digest.Digest
}

// trusted leaves out hosts that served wrong bytes for a digest, unless none
// would remain.
func (c *Client) trusted(eps []endpoint, d digest.Digest) []endpoint {
	c.mu.Lock()
	defer c.mu.Unlock()
	kept := slices.DeleteFunc(slices.Clone(eps), func(ep endpoint) bool { return c.wrong[wrongAnswer{ep.host, d}] })
	if len(kept) == 0 {
		return eps
	}
	return kept
}

// pull asks the endpoints for content by digest.
func (c *Client) pull(ctx context.Context, ref reference.Named, desc ocispec.Descriptor, f func(*session) error) error {
	eps, err := c.contentEndpoints(ref, desc)
	if err != nil {
		return err
	}
	return c.each(ctx, eps, occasion{doing: fetching(ref, desc)}, f)
}

func fetching(ref reference.Named, desc ocispec.Descriptor) string {
	return fmt.Sprintf("fetch %s of %s", desc.Digest, reference.FamiliarName(ref))
}

// contentEndpoints lists where to ask for something by its digest: mirrors
// that serve digests only are among them, whatever the reference.
func (c *Client) contentEndpoints(ref reference.Named, desc ocispec.Descriptor) ([]endpoint, error) {
	if err := desc.Digest.Validate(); err != nil {
		return nil, fmt.Errorf("digest %q of %s: %w", desc.Digest, reference.FamiliarName(ref), err)
	}
	if !desc.Digest.Algorithm().Available() {
		return nil, fmt.Errorf("digest %s: the algorithm is not supported", desc.Digest)
	}
	digested, err := reference.WithDigest(reference.TrimNamed(ref), desc.Digest)
	if err != nil {
		return nil, fmt.Errorf("reference %s: %w", ref, err)
	}
	eps, err := c.endpoints(digested)
	return c.trusted(eps, desc.Digest), err
}

// Bytes fetches a small blob, such as an image config, verified and bounded.
func (c *Client) Bytes(ctx context.Context, ref reference.Named, desc ocispec.Descriptor) ([]byte, error) {
	if desc.Size > maxConfig {
		return nil, fmt.Errorf("fetch %s: it is said to have %d bytes, which is too much for a config", desc.Digest, desc.Size)
	}
	var data []byte
	err := c.pull(ctx, ref, desc, func(s *session) error {
		resp, err := s.do(ctx, request{method: http.MethodGet, path: s.ep.repo + "/blobs/" + desc.Digest.String()})
		if err != nil {
			return err
		}
		if err := check(resp, http.StatusOK); err != nil {
			return err
		}
		defer resp.Body.Close()
		if data, err = readBounded(resp.Body, maxConfig); err != nil {
			return err
		}
		return s.verify(desc, data)
	})
	return data, err
}
