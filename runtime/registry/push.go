package registry

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"

	"github.com/distribution/reference"
	digest "github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"
)

// Blob is content on disk that is pushed.
type Blob interface {
	io.ReaderAt
	io.Closer
	Size() int64
}

// Update is progress of one blob or manifest of a push.
type Update struct {
	Desc ocispec.Descriptor
	// Offset counts the bytes that were sent.
	Offset int64
	// State says how the blob came to be there, once it is.
	State UpdateState
}

// UpdateState is the state of one blob of a push.
type UpdateState int

// The states of a push.
const (
	// Uploading: bytes are on their way.
	Uploading UpdateState = iota
	// Uploaded: the registry has taken and verified it.
	Uploaded
	// Existing: the registry had it.
	Existing
	// Mounted: the registry took it over from another repository.
	Mounted
)

// PushRequest says what to push where.
type PushRequest struct {
	// Ref names the target; its tag, if any, is set last. Without a tag the
	// image can be had by its digest only.
	Ref reference.Named
	// Desc is a manifest or an index.
	Desc ocispec.Descriptor
	// Open opens any blob below Desc, manifests too.
	Open func(digest.Digest) (Blob, error)
	// Sources names repositories that may hold a blob, to mount it from; those
	// of other registries are ignored. May be nil.
	Sources func(digest.Digest) []reference.Named
	// Progress is called from several goroutines. May be nil.
	Progress func(Update)
	// Jobs bounds the parallel uploads; 0 means 4.
	Jobs int
}

// Push uploads an image or an index with everything below it: blobs that the
// registry lacks in parallel, then manifests, then the index, then the tag.
// Whoever reads the tag finds either the old image or all of the new one.
func (c *Client) Push(ctx context.Context, req PushRequest) error {
	o := occasion{doing: "push " + reference.FamiliarString(req.Ref)}
	ep, err := c.origin(req.Ref)
	if err != nil {
		return err
	}
	o.host, o.repo = ep.host, ep.repo
	p := &pusher{client: c, req: req, ep: ep, sources: map[digest.Digest][]string{}}
	if err := p.collect(req.Desc, 0); err != nil {
		return fmt.Errorf("%s: %w", o.doing, err)
	}
	p.findSources()
	if p.session, err = c.connect(ctx, ep, c.keys.authenticator(ep), p.scopes()...); err == nil {
		err = p.run(ctx)
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return c.explain(err, o)
}

// pusher is one push.
type pusher struct {
	client  *Client
	req     PushRequest
	ep      endpoint
	session *session

	manifests []manifest // children before their parents
	blobs     []ocispec.Descriptor
	sources   map[digest.Digest][]string // repositories of the same registry
}

type manifest struct {
	desc ocispec.Descriptor
	data []byte
}

// maxDepth bounds indexes within indexes.
const maxDepth = 8

// collect lists what there is to push, each thing once.
func (p *pusher) collect(desc ocispec.Descriptor, depth int) error {
	if depth > maxDepth {
		return fmt.Errorf("index %s is nested more than %d deep", desc.Digest, maxDepth)
	}
	if slices.ContainsFunc(p.manifests, func(m manifest) bool { return m.desc.Digest == desc.Digest }) {
		return nil
	}
	data, err := p.read(desc)
	if err != nil {
		return err
	}
	var content struct {
		Config    *ocispec.Descriptor  `json:"config"`
		Layers    []ocispec.Descriptor `json:"layers"`
		Manifests []ocispec.Descriptor `json:"manifests"`
	}
	if err := json.Unmarshal(data, &content); err != nil {
		return fmt.Errorf("read manifest %s: %w", desc.Digest, err)
	}
	for _, child := range content.Manifests {
		if err := p.collect(child, depth+1); err != nil {
			return err
		}
	}
	for _, layer := range content.Layers {
		p.add(layer)
	}
	if content.Config != nil {
		p.add(*content.Config)
	}
	p.manifests = append(p.manifests, manifest{desc, data})
	return nil
}

// add lists a blob. Layers that may not be distributed stay where their URLs
// point to.
func (p *pusher) add(desc ocispec.Descriptor) {
	foreign := len(desc.URLs) > 0 && (strings.Contains(desc.MediaType, "nondistributable") || strings.Contains(desc.MediaType, "foreign"))
	known := slices.ContainsFunc(p.blobs, func(d ocispec.Descriptor) bool { return d.Digest == desc.Digest })
	if !foreign && !known {
		p.blobs = append(p.blobs, desc)
	}
}

func (p *pusher) read(desc ocispec.Descriptor) ([]byte, error) {
	blob, err := p.req.Open(desc.Digest)
	if err != nil {
		return nil, fmt.Errorf("read manifest: %w", err)
	}
	defer blob.Close()
	data, err := readBounded(io.NewSectionReader(blob, 0, blob.Size()), maxManifest)
	if err != nil {
		return nil, fmt.Errorf("read manifest %s: %w", desc.Digest, err)
	}
	if got := desc.Digest.Algorithm().FromBytes(data); got != desc.Digest {
		return nil, fmt.Errorf("read manifest %s: its content is %s", desc.Digest, got)
	}
	return data, nil
}

// findSources keeps of the proposed repositories those of this registry.
func (p *pusher) findSources() {
	if p.req.Sources == nil {
		return
	}
	for _, desc := range p.blobs {
		for _, ref := range p.req.Sources(desc.Digest) {
			from, err := p.client.origin(ref)
			if err == nil && from.host == p.ep.host && from.repo != p.ep.repo && !slices.Contains(p.sources[desc.Digest], from.repo) {
				p.sources[desc.Digest] = append(p.sources[desc.Digest], from.repo)
			}
		}
	}
}

// scopes are what the token must allow: to write here, and to read where blobs
// are mounted from.
func (p *pusher) scopes() []string {
	var read []string
	for _, repos := range p.sources {
		for _, repo := range repos {
			read = append(read, "repository:"+repo+":pull")
		}
	}
	slices.Sort(read)
	return append([]string{"repository:" + p.ep.repo + ":push,pull"}, slices.Compact(read)...)
}

func (p *pusher) run(ctx context.Context) error {
	jobs, jctx := errgroup.WithContext(ctx)
	jobs.SetLimit(max(p.req.Jobs, 0))
	if p.req.Jobs <= 0 {
		jobs.SetLimit(4)
	}
	for _, desc := range p.blobs {
		jobs.Go(func() error { return p.blob(jctx, desc) })
	}
	if err := jobs.Wait(); err != nil {
		return err
	}
	for i, m := range p.manifests {
		which := m.desc.Digest.String()
		if i == len(p.manifests)-1 {
			which = target(p.req.Ref, m.desc)
		}
		if err := p.manifest(ctx, m, which); err != nil {
			return err
		}
	}
	return nil
}

// target is the name that the root manifest is written under.
func target(ref reference.Named, desc ocispec.Descriptor) string {
	if tagged, ok := ref.(reference.Tagged); ok {
		return tagged.Tag()
	}
	return desc.Digest.String()
}

func (p *pusher) tell(u Update) {
	if p.req.Progress != nil {
		p.req.Progress(u)
	}
}

// manifest writes one manifest. The registry must have understood it as the
// same bytes.
func (p *pusher) manifest(ctx context.Context, m manifest, which string) error {
	kind := m.desc.MediaType
	err := p.client.retry(ctx, func() error {
		resp, err := p.session.do(ctx, request{
			method: http.MethodPut, path: p.ep.repo + "/manifests/" + which,
			header: http.Header{"Content-Type": {kind}}, body: bytes.NewReader(m.data), length: int64(len(m.data)),
		})
		if err != nil {
			return err
		}
		if err := check(resp, http.StatusCreated, http.StatusOK, http.StatusAccepted); err != nil {
			return err
		}
		defer resp.Body.Close()
		if got := resp.Header.Get("Docker-Content-Digest"); got != "" && got != m.desc.Digest.String() {
			return unverified(p.ep.host, m.desc.Digest.String(), "it keeps the manifest as "+oneLine(got))
		}
		return nil
	})
	if err == nil {
		p.tell(Update{Desc: m.desc, Offset: m.desc.Size, State: Uploaded})
	}
	return err
}

// blob brings one blob to the registry: by finding it there, by mounting it,
// or by uploading it.
func (p *pusher) blob(ctx context.Context, desc ocispec.Descriptor) error {
	exists, err := p.exists(ctx, desc)
	if err != nil {
		return err
	}
	if exists {
		p.tell(Update{Desc: desc, Offset: desc.Size, State: Existing})
		return nil
	}
	return p.upload(ctx, desc)
}

func (p *pusher) exists(ctx context.Context, desc ocispec.Descriptor) (found bool, err error) {
	err = p.client.retry(ctx, func() error {
		resp, err := p.session.do(ctx, request{method: http.MethodHead, path: p.ep.repo + "/blobs/" + desc.Digest.String()})
		if err != nil {
			return err
		}
		if err := check(resp, http.StatusOK, http.StatusNotFound); err != nil {
			return err
		}
		found = resp.StatusCode == http.StatusOK && (resp.ContentLength < 0 || resp.ContentLength == desc.Size)
		return resp.Body.Close()
	})
	return found, err
}

// mount asks the registry to take a blob over from another repository. It
// returns false, and where to upload to, when the registry prefers the bytes.
func (p *pusher) start(ctx context.Context, desc ocispec.Descriptor, from string) (mounted bool, location string, err error) {
	query := url.Values{}
	if from != "" {
		query = url.Values{"mount": {desc.Digest.String()}, "from": {from}}
	}
	resp, err := p.session.do(ctx, request{
		method: http.MethodPost, path: p.ep.repo + "/blobs/uploads/", query: query,
		header: http.Header{"Content-Length": {"0"}},
	})
	if err != nil {
		return false, "", err
	}
	if err := check(resp, http.StatusCreated, http.StatusAccepted); err != nil {
		return false, "", err
	}
	resp.Body.Close()
	if resp.StatusCode == http.StatusCreated && from != "" {
		return true, "", nil
	}
	location, err = nextLocation(resp)
	return false, location, err
}

// nextLocation is where an upload goes on.
func nextLocation(resp *http.Response) (string, error) {
	where := resp.Header.Get("Location")
	if where == "" {
		return "", &failure{text: fmt.Sprintf("%s began an upload without saying where (no Location header)", resp.Request.URL.Host)}
	}
	u, err := resp.Request.URL.Parse(where)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") {
		return "", &failure{text: fmt.Sprintf("%s began an upload at a malformed Location", resp.Request.URL.Host)}
	}
	return u.String(), nil
}

// sent counts what goes out over the network.
type sent struct {
	io.Reader
	mu    sync.Mutex
	count int64
	tell  func(int64)
}

// Read implements io.Reader.
func (s *sent) Read(p []byte) (int, error) {
	n, err := s.Reader.Read(p)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.count += int64(n)
	s.tell(s.count)
	return n, err
}
