package registry

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/distribution/reference"
)

// Docker Hub has one name for users and another for its API.
const (
	hubName = "docker.io"
	hubHost = "index.docker.io"
)

// endpoint is one place that a repository can be asked for at.
type endpoint struct {
	host     string // host or host:port of the API
	repo     string
	insecure bool
}

// String is the repository's full name.
func (e endpoint) String() string { return e.host + "/" + e.repo }

// endpoints lists where to pull a reference from: the mirrors that serve this
// kind of reference, then the registry itself.
func (c *Client) endpoints(ref reference.Named) ([]endpoint, error) {
	table, ok := c.conf.find(ref)
	if !ok {
		return []endpoint{c.endpoint(ref.Name())}, nil
	}
	primary, err := c.primary(ref, table)
	if err != nil {
		return nil, err
	}
	var list []endpoint
	for _, m := range table.Mirrors {
		if !m.serves(ref, table) {
			continue
		}
		name, err := rewrite(ref, table.Prefix, m.Location)
		if err != nil {
			return nil, fmt.Errorf("mirror %s of %s in %s: %w", m.Location, table.Prefix, table.file, err)
		}
		list = append(list, c.configured(name, m))
	}
	return append(list, primary), nil
}

// origin is the registry itself, which pushes go to.
func (c *Client) origin(ref reference.Named) (endpoint, error) {
	table, ok := c.conf.find(ref)
	if !ok {
		return c.endpoint(ref.Name()), nil
	}
	return c.primary(ref, table)
}

func (c *Client) primary(ref reference.Named, table registryConf) (endpoint, error) {
	if table.Blocked {
		return endpoint{}, &failure{
			text:  fmt.Sprintf("registry %s is blocked by %s", table.Prefix, table.file),
			kinds: []error{ErrBlocked},
		}
	}
	if table.Location == "" {
		return c.configured(ref.Name(), mirrorConf{Insecure: table.Insecure}), nil
	}
	name, err := rewrite(ref, table.Prefix, table.Location)
	if err != nil {
		return endpoint{}, fmt.Errorf("location %s of %s in %s: %w", table.Location, table.Prefix, table.file, err)
	}
	return c.configured(name, mirrorConf{Insecure: table.Insecure}), nil
}

// serves tells whether a mirror is to be asked for a reference.
func (m mirrorConf) serves(ref reference.Named, table registryConf) bool {
	_, digested := ref.(reference.Digested)
	switch m.Pull {
	case "digest-only":
		return digested
	case "tag-only":
		return !digested
	case "all":
		return true
	}
	return digested || !table.MirrorByDigestOnly
}

// rewrite replaces the prefix of a reference and returns the repository's new
// full name.
func rewrite(ref reference.Named, prefix, location string) (string, error) {
	rest, ok := cutPrefix(ref.String(), prefix)
	if !ok {
		return "", fmt.Errorf("%s does not begin with %s", ref, prefix)
	}
	named, err := reference.ParseNormalizedNamed(location + rest)
	if err != nil {
		return "", fmt.Errorf("%q is not an image name: %w", location+rest, err)
	}
	return named.Name(), nil
}

// endpoint is where a full repository name is asked for; a host alone has no
// repository.
func (c *Client) endpoint(name string) endpoint {
	host, repo, _ := strings.Cut(name, "/")
	if host == hubName {
		host = hubHost
	}
	return endpoint{host: host, repo: repo, insecure: c.hosts.insecure(host)}
}

// registry is where a whole registry is asked, for its catalog or to log in.
// registries.conf may say that it is insecure: of all of it, of a part, or as a
// mirror.
func (c *Client) registry(name string) endpoint {
	ep := c.endpoint(hostOf(name))
	for _, r := range c.conf.registries {
		at := cmp.Or(r.Location, r.Prefix)
		ep.insecure = ep.insecure || r.Insecure && c.endpoint(hostOf(at)).host == ep.host
		for _, m := range r.Mirrors {
			ep.insecure = ep.insecure || m.Insecure && c.endpoint(hostOf(m.Location)).host == ep.host
		}
	}
	return ep
}

// Knows reports whether a name is a registry that registries.conf or a login
// speaks of.
func (c *Client) Knows(host string) bool {
	for _, r := range c.conf.registries {
		if hostOf(r.Prefix) == host || hostOf(r.Location) == host {
			return true
		}
	}
	if slices.Contains(c.conf.search, host) {
		return true
	}
	_, ok := c.StoredCredentials(host)
	return ok
}

// configured is an endpoint that registries.conf says something about.
func (c *Client) configured(name string, m mirrorConf) endpoint {
	ep := c.endpoint(name)
	ep.insecure = ep.insecure || m.Insecure
	return ep
}

// hostOf is the host in what users give for a registry, which may be a URL.
func hostOf(registry string) string {
	for _, scheme := range []string{"https://", "http://"} {
		registry = strings.TrimPrefix(registry, scheme)
	}
	host, _, _ := strings.Cut(registry, "/")
	switch host {
	case "", hubHost, "registry-1.docker.io":
		return hubName
	}
	return host
}
