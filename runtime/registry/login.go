package registry

import (
	"context"
	"net/http"

	"github.com/google/go-containerregistry/pkg/authn"
)

// Login verifies a user's name and password with the registry: it must accept
// them for /v2/, by basic authentication or for a token. An empty host is
// Docker Hub.
func (c *Client) Login(ctx context.Context, host, user, password string) error {
	host = hostOf(host)
	ep := c.registry(host)
	auth := authn.AuthConfig{Username: user, Password: password}
	c.keys.use(ep.host, auth)
	o := occasion{doing: "log in to " + host, host: ep.host}
	s, err := c.connect(ctx, ep, authn.FromConfig(auth))
	if err == nil {
		err = c.retry(ctx, func() error { return s.ping(ctx) })
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if serr, ok := asStatus(err); ok && (serr.code == http.StatusUnauthorized || serr.code == http.StatusForbidden) {
		return &failure{
			text:  c.keys.scrub(o.doing + ": the registry does not accept this user name and password (" + serr.text + ")"),
			kinds: []error{ErrUnauthorized},
		}
	}
	return c.explain(err, o)
}

func (s *session) ping(ctx context.Context) error {
	resp, err := s.do(ctx, request{method: http.MethodGet})
	if err != nil {
		return err
	}
	if err := check(resp, http.StatusOK); err != nil {
		return err
	}
	return resp.Body.Close()
}
