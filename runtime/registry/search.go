package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
)

// Found is a repository that a search found.
type Found struct {
	Name        string `json:"name"`
	Description string `json:"description"`
	Stars       int    `json:"star_count"`
	Official    bool   `json:"is_official"`
	Automated   bool   `json:"is_automated"`
}

// maxFound is how many results a search API gives at a time.
const maxFound = 100

// SearchCatalog finds repositories of a registry whose name holds a term, in
// its catalog; an empty term is all of them.
func (c *Client) SearchCatalog(ctx context.Context, host, term string) ([]Found, error) {
	repos, err := c.Catalog(ctx, host)
	if errors.Is(err, ErrNotFound) {
		return nil, &failure{text: fmt.Sprintf("the registry %s lists no repositories: it offers no catalog (/v2/_catalog)", host), kinds: []error{ErrNotFound}}
	}
	if err != nil {
		return nil, err
	}
	var found []Found
	for _, repo := range repos {
		if strings.Contains(repo, term) {
			found = append(found, Found{Name: hostOf(host) + "/" + repo})
		}
	}
	return found, nil
}

// SearchHub asks Docker Hub's search API, at the place that registries.conf
// gives for docker.io.
func (c *Client) SearchHub(ctx context.Context, term string, limit int) ([]Found, error) {
	ref, err := ParseReference(hubName + "/library/search")
	if err != nil {
		return nil, err
	}
	ep, err := c.origin(ref)
	if err != nil {
		return nil, err
	}
	ep.repo = ""
	o := occasion{doing: fmt.Sprintf("search %s for %q", loginName(ep.host), term), host: ep.host}
	reg, base, err := c.dial(ep)
	if err != nil {
		return nil, c.explain(err, o)
	}
	target := url.URL{
		Scheme: reg.Scheme(), Host: ep.host, Path: "/v1/search",
		RawQuery: url.Values{"q": {term}, "n": {strconv.Itoa(min(limit, maxFound))}}.Encode(),
	}
	var found []Found
	err = c.retry(ctx, func() error {
		found, err = askHub(ctx, &http.Client{Transport: base}, target.String())
		return err
	})
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	return found, c.explain(err, o)
}

func askHub(ctx context.Context, client *http.Client, target string) ([]Found, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, target, nil)
	if err != nil {
		return nil, fmt.Errorf("make request: %w", err)
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	if err := check(resp, http.StatusOK); err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	data, err := readBounded(resp.Body, maxConfig)
	if err != nil {
		return nil, err
	}
	var page struct {
		Results []Found `json:"results"`
	}
	if err := json.Unmarshal(data, &page); err != nil {
		return nil, &failure{text: fmt.Sprintf("the answer is not that of a search: %v", err)}
	}
	return page.Results, nil
}

// SearchRegistries are the registries that names without one are searched in.
func (c *Client) SearchRegistries() []string { return c.conf.search }

// IsHub reports whether a registry is Docker Hub.
func IsHub(host string) bool { return hostOf(host) == hubName }

// StoredCredentials returns the user name and password that are kept for a
// registry, if there are both.
func (c *Client) StoredCredentials(host string) (Credentials, bool) {
	host = hostOf(host)
	auth := c.keys.lookup(c.endpoint(host)).auth
	return Credentials{Host: host, User: auth.Username, Password: auth.Password}, auth.Username != "" && auth.Password != ""
}

// IdentityToken returns the token that stands in the place of a password for a
// registry, or "".
func (c *Client) IdentityToken(host string) string {
	return c.keys.lookup(c.endpoint(hostOf(host))).auth.IdentityToken
}

// HostOf is the registry in what users give for one: a host, a URL, or
// nothing for Docker Hub.
func HostOf(text string) string { return hostOf(text) }
