package registry

import (
	"fmt"
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

func (e endpoint) String() string { return e.host + "/" + e.repo }

// endpoints lists where to pull a reference from: the mirrors that serve this
// kind of reference, then the registry itself.
func (c *Client) endpoints(ref reference.Named) ([]endpoint, error) {
	table, ok := c.conf.find(ref)
	if !ok {
		return []endpoint{c.endpoint(ref.Name(), false)}, nil
	}
	primary, err := c.primary(ref, table)
	if err != nil {
		return nil, err
	}
	var list []endpoint
	_, digested := ref.(reference.Digested)
	for _, m := range table.Mirrors {
		if !m.serves(digested, table.MirrorByDigestOnly) {
			continue
		}
		name, err := rewrite(ref, table.Prefix, m.Location)
		if err != nil {
			return nil, fmt.Errorf("mirror %s of %s in %s: %w", m.Location, table.Prefix, table.file, err)
		}
		list = append(list, c.endpoint(name, m.Insecure))
	}
	return append(list, primary), nil
}

// origin is the registry itself, which pushes go to.
func (c *Client) origin(ref reference.Named) (endpoint, error) {
	table, ok := c.conf.find(ref)
	if !ok {
		return c.endpoint(ref.Name(), false), nil
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
		return c.endpoint(ref.Name(), table.Insecure), nil
	}
	name, err := rewrite(ref, table.Prefix, table.Location)
	if err != nil {
		return endpoint{}, fmt.Errorf("location %s of %s in %s: %w", table.Location, table.Prefix, table.file, err)
	}
	return c.endpoint(name, table.Insecure), nil
}

func (m mirrorConf) serves(digested, byDigestOnly bool) bool {
	switch m.Pull {
	case "digest-only":
		return digested
	case "tag-only":
		return !digested
	case "all":
		return true
	}
	return digested || !byDigestOnly
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

func (c *Client) endpoint(name string, insecure bool) endpoint {
	host, repo, _ := strings.Cut(name, "/")
	if host == hubName {
		host = hubHost
	}
	return endpoint{host: host, repo: repo, insecure: insecure || c.hosts.insecure(host)}
}
