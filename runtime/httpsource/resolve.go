package httpsource

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"strings"

	"github.com/opencontainers/go-digest"
)

// record is what a server answered.
type record struct {
	Digest       digest.Digest
	ETag         string `json:",omitempty"`
	LastModified string `json:",omitempty"`
	// Disposition is the header of that name, for the file name.
	Disposition string `json:",omitempty"`
}

// Resolve finds the content's digest: the checksum of the source when there is
// one, else what the server has now.
func (c *Client) Resolve(ctx context.Context, s *Source) (Resolved, error) {
	if s.Checksum != "" {
		return Resolved{Digest: s.Checksum, Filename: s.filename(nil)}, nil
	}
	known, err := c.known(ctx, s)
	if err != nil {
		return Resolved{}, fmt.Errorf("http source %s: %w", s, err)
	}
	rec, err := c.download(ctx, s, known, "")
	if err != nil {
		return Resolved{}, err
	}
	return s.resolved(rec), nil
}

func (s *Source) resolved(rec *record) Resolved {
	header := http.Header{}
	header.Set("Content-Disposition", rec.Disposition)
	r := Resolved{Digest: rec.Digest, Filename: s.filename(header)}
	if t, err := http.ParseTime(rec.LastModified); err == nil {
		r.LastModified = t
	}
	return r
}

// known returns what the server answered before, if its contents are still
// here, and the server can be asked whether they changed.
func (c *Client) known(ctx context.Context, s *Source) (*record, error) {
	var rec record
	ok, err := c.o.Records.Get(ctx, s.recordKey(), &rec)
	if err != nil || !ok || rec.ETag == "" && rec.LastModified == "" {
		return nil, err
	}
	blob, err := c.o.Blobs.Open(ctx, rec.Digest)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return &rec, blob.Close()
}

// request makes a request, without conditions.
func (c *Client) request(ctx context.Context, s *Source) (*http.Request, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.URL, nil)
	if err != nil {
		return nil, errors.New("the URL is malformed")
	}
	req.Header.Set("User-Agent", c.o.UserAgent)
	// A compressed answer could not be taken up after a cut.
	req.Header.Set("Accept-Encoding", "identity")
	for _, h := range s.Header {
		req.Header.Set(h.Name, h.Value)
	}
	return req, c.authorize(ctx, s, req)
}

// authorize looks for the secret that the source names, or for one of its
// host.
func (c *Client) authorize(ctx context.Context, s *Source, req *http.Request) error {
	secrets := []struct{ id, prefix string }{{s.AuthHeaderSecret, ""}}
	if s.AuthHeaderSecret == "" {
		host := req.URL.Hostname()
		secrets = []struct{ id, prefix string }{{"HTTP_AUTH_HEADER_" + host, ""}, {"HTTP_AUTH_TOKEN_" + host, "Bearer "}}
	}
	for _, secret := range secrets {
		value, err := c.secret(ctx, secret.id)
		if errors.Is(err, ErrNoSecret) && s.AuthHeaderSecret == "" {
			continue
		}
		if err != nil {
			return fmt.Errorf("secret %q: %w", secret.id, err)
		}
		// As in BuildKit, a token wins over a header.
		req.Header.Set("Authorization", secret.prefix+value)
	}
	return nil
}

func (c *Client) secret(ctx context.Context, id string) (string, error) {
	if c.o.Secret == nil {
		return "", ErrNoSecret
	}
	value, err := c.o.Secret(ctx, id)
	return strings.TrimSpace(string(value)), err
}

// do sends a request. Of an error only the cause is kept: it names URLs, with
// credentials or signatures in them.
func (c *Client) do(req *http.Request) (*http.Response, error) {
	client := http.Client{Transport: c.o.Transport}
	resp, err := client.Do(req)
	var urlErr *url.Error
	if errors.As(err, &urlErr) {
		err = urlErr.Err
	}
	if err != nil && req.Context().Err() != nil {
		err = context.Cause(req.Context())
	}
	return resp, err
}

// unchanged tells whether an answer says that what is known is still it. Some
// servers send everything again, with the same ETag.
func (k *record) unchanged(resp *http.Response) bool {
	if k == nil {
		return false
	}
	etag := strings.TrimPrefix(resp.Header.Get("ETag"), "W/")
	switch resp.StatusCode {
	case http.StatusNotModified:
		return etag == "" || k.ETag == "" || etag == strings.TrimPrefix(k.ETag, "W/")
	case http.StatusOK:
		return etag != "" && etag == strings.TrimPrefix(k.ETag, "W/")
	}
	return false
}

// ask makes a request conditional.
func (k *record) ask(req *http.Request) {
	switch {
	case k == nil:
	case k.ETag != "":
		req.Header.Set("If-None-Match", k.ETag)
	default:
		req.Header.Set("If-Modified-Since", k.LastModified)
	}
}

// statusError is an answer that is not the file.
type statusError struct{ code int }

func (e *statusError) Error() string {
	text := fmt.Sprintf("the server answered %d %s", e.code, http.StatusText(e.code))
	switch e.code {
	case http.StatusUnauthorized, http.StatusForbidden:
		text += " (it may need a token: --secret id=HTTP_AUTH_TOKEN_<host>)"
	}
	return text
}

// temporary tells an answer that another try can change.
func (e *statusError) temporary() bool {
	return e.code >= 500 && e.code != http.StatusNotImplemented ||
		e.code == http.StatusTooManyRequests || e.code == http.StatusRequestTimeout
}
