package registry

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/distribution/reference"
	toml "github.com/pelletier/go-toml/v2"
)

// conf is what registries.conf files say, merged.
type conf struct {
	search     []string
	aliases    map[string]string
	registries []registryConf // longest prefix first
}

type confFile struct {
	Search     []string          `toml:"unqualified-search-registries"`
	Registries []registryConf    `toml:"registry"`
	Aliases    map[string]string `toml:"aliases"`
	// Version 1 had a table of this name; it means something else today.
	Version1 map[string]any `toml:"registries"`
}

type registryConf struct {
	Prefix             string       `toml:"prefix"`
	Location           string       `toml:"location"`
	Insecure           bool         `toml:"insecure"`
	Blocked            bool         `toml:"blocked"`
	MirrorByDigestOnly bool         `toml:"mirror-by-digest-only"`
	Mirrors            []mirrorConf `toml:"mirror"`
	file               string
}

type mirrorConf struct {
	Location string `toml:"location"`
	Insecure bool   `toml:"insecure"`
	Pull     string `toml:"pull-from-mirror"`
}

func loadConf(paths []string) (*conf, error) {
	c := &conf{aliases: map[string]string{}}
	files, err := confFiles(paths)
	if err != nil {
		return nil, err
	}
	for _, path := range files {
		if err := c.load(path); err != nil {
			return nil, err
		}
	}
	slices.SortStableFunc(c.registries, func(a, b registryConf) int { return len(b.Prefix) - len(a.Prefix) })
	return c, nil
}

// confFiles lists the files that exist, with directories expanded.
func confFiles(paths []string) ([]string, error) {
	var files []string
	for _, path := range paths {
		info, err := os.Stat(path)
		switch {
		case errors.Is(err, fs.ErrNotExist):
		case err != nil:
			return nil, fmt.Errorf("read registry configuration: %w", err)
		case info.IsDir():
			inside, err := filepath.Glob(filepath.Join(path, "*.conf"))
			if err != nil {
				return nil, fmt.Errorf("read registry configuration: %w", err)
			}
			files = append(files, inside...)
		default:
			files = append(files, path)
		}
	}
	return files, nil
}

func (c *conf) load(path string) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("read registry configuration: %w", err)
	}
	var file confFile
	if err := toml.Unmarshal(data, &file); err != nil {
		return fmt.Errorf("read %s: %w", path, tomlError(err))
	}
	if file.Version1 != nil {
		return fmt.Errorf("read %s: this is version 1 of registries.conf ([registries.…] tables); write [[registry]] tables instead", path)
	}
	if file.Search != nil {
		c.search = file.Search
	}
	for name, target := range file.Aliases {
		c.aliases[name] = target
	}
	for _, r := range file.Registries {
		r.file = path
		if err := c.add(r); err != nil {
			return fmt.Errorf("read %s: %w", path, err)
		}
	}
	return nil
}

func tomlError(err error) error {
	var derr *toml.DecodeError
	if errors.As(err, &derr) {
		row, col := derr.Position()
		return fmt.Errorf("line %d, column %d: %s", row, col, derr.Error())
	}
	return err
}

// add takes one [[registry]] table; a later one replaces an earlier one of the
// same prefix.
func (c *conf) add(r registryConf) error {
	if r.Prefix == "" {
		r.Prefix = r.Location
	}
	if r.Prefix == "" {
		return errors.New("a [[registry]] has neither prefix nor location")
	}
	for _, m := range r.Mirrors {
		switch m.Pull {
		case "", "all", "digest-only", "tag-only":
		default:
			return fmt.Errorf("pull-from-mirror = %q of mirror %s: want all, digest-only or tag-only", m.Pull, m.Location)
		}
		if m.Location == "" {
			return fmt.Errorf("a [[registry.mirror]] of %s has no location", r.Prefix)
		}
	}
	c.registries = slices.DeleteFunc(c.registries, func(old registryConf) bool { return old.Prefix == r.Prefix })
	c.registries = append(c.registries, r)
	return nil
}

// find returns the table of the longest prefix that matches a full repository
// name, with a tag or digest where the reference has one.
func (c *conf) find(ref reference.Named) (registryConf, bool) {
	for _, r := range c.registries {
		if _, ok := cutPrefix(ref.String(), r.Prefix); ok {
			return r, true
		}
	}
	return registryConf{}, false
}

// cutPrefix removes a registries.conf prefix: a host, a host and path on a
// component's end, a full reference, or "*.host" for any subdomain.
func cutPrefix(name, prefix string) (string, bool) {
	if domain, ok := strings.CutPrefix(prefix, "*"); ok {
		host, rest, _ := strings.Cut(name, "/")
		return "/" + rest, strings.HasSuffix(host, domain)
	}
	rest, ok := strings.CutPrefix(name, prefix)
	if !ok || (rest != "" && !strings.ContainsRune("/:@", rune(rest[0]))) {
		return "", false
	}
	return rest, true
}

// Candidates returns what an image name may stand for: an alias, or for a name
// without a registry each of the unqualified-search registries, in order;
// Docker Hub where nothing is configured.
func (c *Client) Candidates(name string) ([]reference.Named, error) {
	ref, err := ParseReference(name)
	if err != nil {
		return nil, err
	}
	if strings.HasPrefix(name, reference.Domain(ref)+"/") {
		return []reference.Named{ref}, nil
	}
	short, suffix := splitName(name)
	if target, ok := c.conf.aliases[short]; ok {
		ref, err := ParseReference(target + suffix)
		return []reference.Named{ref}, err
	}
	if len(c.conf.search) == 0 {
		return []reference.Named{ref}, nil
	}
	var found []reference.Named
	for _, host := range c.conf.search {
		ref, err := ParseReference(host + "/" + name)
		if err != nil {
			return nil, fmt.Errorf("search registry %s: %w", host, err)
		}
		found = append(found, ref)
	}
	return found, nil
}

// First does something with the first of the candidates that there is: with the
// next one where a registry has not what the name says, or does not show it.
func First(candidates []reference.Named, do func(reference.Named) error) error {
	var errs []error
	for _, ref := range candidates {
		err := do(ref)
		if err == nil {
			return nil
		}
		errs = append(errs, err)
		if !errors.Is(err, ErrNotFound) && !errors.Is(err, ErrUnauthorized) {
			break
		}
	}
	return errors.Join(errs...)
}

// splitName cuts a name before its tag or digest.
func splitName(name string) (string, string) {
	if i := strings.IndexAny(name, "@"); i >= 0 {
		return name[:i], name[i:]
	}
	if i := strings.LastIndexByte(name, ':'); i > strings.LastIndexByte(name, '/') {
		return name[:i], name[i:]
	}
	return name, ""
}
