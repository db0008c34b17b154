package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/distribution/reference"

	"github.com/strata-build/strata/internal/nearest"
)

// maxPages bounds a listing of a registry that never stops.
const maxPages = 1000

// Tags lists a repository's tags, sorted.
func (c *Client) Tags(ctx context.Context, repo reference.Named) ([]string, error) {
	ep, err := c.origin(repo)
	if err != nil {
		return nil, err
	}
	o := occasion{doing: "list tags of " + reference.FamiliarName(repo)}
	var tags []string
	err = c.each(ctx, []endpoint{ep}, o, func(s *session) error {
		tags, err = list(ctx, s, ep.repo+"/tags/list", "tags")
		return err
	})
	slices.Sort(tags)
	return tags, err
}

// Catalog lists a registry's repositories, where the registry offers that.
func (c *Client) Catalog(ctx context.Context, host string) ([]string, error) {
	ep := c.registry(host)
	o := occasion{doing: "list repositories of " + host, host: ep.host}
	s, err := c.connect(ctx, ep, c.keys.authenticator(ep), "registry:catalog:*")
	if err != nil {
		return nil, c.explain(err, o)
	}
	var repos []string
	err = c.retry(ctx, func() error {
		repos, err = list(ctx, s, "_catalog", "repositories")
		return err
	})
	if errors.Is(err, context.Canceled) {
		return nil, context.Cause(ctx)
	}
	return repos, c.explain(err, o)
}

// list reads all pages of a list.
func list(ctx context.Context, s *session, path, field string) ([]string, error) {
	var all []string
	next := request{method: http.MethodGet, path: path, query: url.Values{"n": {"1000"}}}
	for range maxPages {
		resp, err := s.do(ctx, next)
		if err != nil {
			return nil, err
		}
		page, err := readPage(resp, field)
		if err != nil {
			return nil, err
		}
		all = append(all, page...)
		link := nextPage(resp)
		if link == "" {
			return all, nil
		}
		next = request{method: http.MethodGet, url: link}
	}
	return all, nil
}

func readPage(resp *http.Response, field string) ([]string, error) {
	if err := check(resp, http.StatusOK); err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	data, err := readBounded(resp.Body, maxConfig)
	if err != nil {
		return nil, err
	}
	var page map[string]json.RawMessage
	if err := json.Unmarshal(data, &page); err != nil {
		return nil, &failure{text: fmt.Sprintf("the list is not JSON: %v", err)}
	}
	var items []string
	if raw, ok := page[field]; ok {
		if err := json.Unmarshal(raw, &items); err != nil {
			return nil, &failure{text: fmt.Sprintf("the list of %s is malformed: %v", field, err)}
		}
	}
	return items, nil
}

var linkNext = regexp.MustCompile(`<([^>]*)>\s*;\s*rel="?next"?`)

// nextPage is the Link header's target, on the same host: a list does not lead
// elsewhere.
func nextPage(resp *http.Response) string {
	match := linkNext.FindStringSubmatch(resp.Header.Get("Link"))
	if match == nil {
		return ""
	}
	u, err := resp.Request.URL.Parse(match[1])
	if err != nil || u.Host != resp.Request.URL.Host {
		return ""
	}
	u.Scheme = resp.Request.URL.Scheme
	return u.String()
}

// suggestTags adds to a 'not found' what the repository does have that is
// spelled alike.
func (c *Client) suggestTags(ctx context.Context, ref reference.Named, ep endpoint, err error) error {
	tagged, ok := ref.(reference.Tagged)
	if !ok {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	tags, terr := c.Tags(ctx, reference.TrimNamed(ref))
	switch near := nearTags(tagged.Tag(), tags); {
	case terr != nil:
		return because(err, func(reason string) string {
			return fmt.Sprintf("%s: check the name %s", reason, reference.FamiliarName(ref))
		})
	case len(near) > 0:
		return &failure{kinds: []error{err}, text: fmt.Sprintf("%s has no tag %s; did you mean %s?", reference.FamiliarName(ref), tagged.Tag(), strings.Join(near, ", "))}
	default:
		return &failure{kinds: []error{err}, text: fmt.Sprintf("%s at %s has no tag %s; it has %d tags", reference.FamiliarName(ref), loginName(ep.host), tagged.Tag(), len(tags))}
	}
}

// nearTags returns up to three names that are spelled like the wanted one.
func nearTags(want string, names []string) []string {
	type scored struct {
		name string
		cost int
	}
	var found []scored
	for _, name := range names {
		cost := nearest.Distance(want, name)
		if strings.HasPrefix(name, want) || strings.HasPrefix(want, name) {
			cost = min(cost, 2)
		}
		if cost <= max(2, len(want)/3) {
			found = append(found, scored{name, cost})
		}
	}
	slices.SortStableFunc(found, func(a, b scored) int { return a.cost - b.cost })
	var near []string
	for _, s := range found[:min(3, len(found))] {
		near = append(near, s.name)
	}
	return near
}
