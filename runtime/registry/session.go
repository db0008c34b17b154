package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
)

// session is an authenticated connection to one repository of one host.
type session struct {
	client *Client
	ep     endpoint
	http   *http.Client
	scheme string
}

// sessionCache makes each session once.
type sessionCache struct {
	mu    sync.Mutex
	slots map[string]*sessionSlot
}

// sessionSlot is locked by its channel, so that waiting ends with the context.
type sessionSlot struct {
	turn chan struct{}
	s    *session
}

func (sc *sessionCache) slot(key string) *sessionSlot {
	sc.mu.Lock()
	defer sc.mu.Unlock()
	if sc.slots == nil {
		sc.slots = map[string]*sessionSlot{}
	}
	if sc.slots[key] == nil {
		sc.slots[key] = &sessionSlot{turn: make(chan struct{}, 1)}
	}
	return sc.slots[key]
}

// session returns the session for pulling from an endpoint. A handshake that
// failed is tried anew by the next caller.
func (c *Client) session(ctx context.Context, ep endpoint) (*session, error) {
	slot := c.sessions.slot(fmt.Sprintf("%s %t", ep, ep.insecure))
	select {
	case slot.turn <- struct{}{}:
		defer func() { <-slot.turn }()
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	if slot.s != nil {
		return slot.s, nil
	}
	s, err := c.connect(ctx, ep, c.keys.authenticator(ep), "repository:"+ep.repo+":pull")
	slot.s = s
	return s, err
}

// connect does the handshake: ping, and a token for the scopes if the registry
// wants one.
func (c *Client) connect(ctx context.Context, ep endpoint, auth authn.Authenticator, scopes ...string) (*session, error) {
	reg, base, err := c.dial(ep)
	if err != nil {
		return nil, err
	}
	var rt http.RoundTripper
	err = c.retry(ctx, func() error {
		rt, err = transport.NewWithContext(ctx, reg, auth, base, scopes)
		return err
	})
	if err != nil {
		return nil, err
	}
	return &session{client: c, ep: ep, http: &http.Client{Transport: rt}, scheme: reg.Scheme()}, nil
}

func (c *Client) dial(ep endpoint) (name.Registry, http.RoundTripper, error) {
	opts := []name.Option{name.WeakValidation}
	if ep.insecure {
		opts = append(opts, name.Insecure)
	}
	reg, err := name.NewRegistry(ep.host, opts...)
	if err != nil {
		return name.Registry{}, nil, fmt.Errorf("registry host %q: %w", ep.host, err)
	}
	base, err := c.hosts.transport(ep)
	if err != nil {
		return name.Registry{}, nil, err
	}
	return reg, transport.NewUserAgent(base, c.opts.UserAgent), nil
}

// request is one HTTP request to a session's registry.
type request struct {
	method string
	path   string // below /v2/
	query  url.Values
	url    string // overrides path and query: a Location
	header http.Header
	body   io.Reader
	length int64
}

// do sends a request once. The response's body is the caller's to close.
func (s *session) do(ctx context.Context, r request) (*http.Response, error) {
	target := r.url
	if target == "" {
		u := url.URL{Scheme: s.scheme, Host: s.ep.host, Path: "/v2/" + r.path, RawQuery: r.query.Encode()}
		target = u.String()
	}
	req, err := http.NewRequestWithContext(ctx, r.method, target, r.body)
	if err != nil {
		return nil, fmt.Errorf("make request: %w", err)
	}
	if r.header != nil {
		req.Header = r.header.Clone()
	}
	if r.body != nil {
		req.ContentLength = r.length
	}
	return s.http.Do(req)
}

// retry calls f until it succeeds, fails for good, or the attempts are used up.
func (c *Client) retry(ctx context.Context, f func() error) error {
	for n := 1; ; n++ {
		err := f()
		if err == nil || n >= c.opts.Attempts || !temporary(err) || ctx.Err() != nil {
			return err
		}
		if err := c.pause(ctx, n, err); err != nil {
			return err
		}
	}
}

// each asks the endpoints in order until one succeeds. The last one's error is
// returned, with a word about the mirrors before it.
func (c *Client) each(ctx context.Context, eps []endpoint, o occasion, f func(*session) error) error {
	var mirrors []string
	for i, ep := range eps {
		err := c.at(ctx, ep, f)
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		o.host, o.repo = ep.host, ep.repo
		err = c.explain(err, o)
		if i == len(eps)-1 {
			return withMirrors(err, mirrors)
		}
		mirrors = append(mirrors, err.Error())
	}
	return errors.New("no registry to ask")
}

func (c *Client) at(ctx context.Context, ep endpoint, f func(*session) error) error {
	s, err := c.session(ctx, ep)
	if err != nil {
		return err
	}
	return c.retry(ctx, func() error { return f(s) })
}

func withMirrors(err error, mirrors []string) error {
	if len(mirrors) == 0 {
		return err
	}
	return because(err, func(reason string) string {
		return reason + "\n  mirror before it: " + strings.Join(mirrors, "\n  mirror before it: ")
	})
}
