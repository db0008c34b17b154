package localsource

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/opencontainers/go-digest"
)

// Save keeps the manifest in dir, named by its digest, for Load. One that is
// kept already is only marked as used now.
func (m *Manifest) Save(dir string) error {
	name := manifestFile(dir, m.digest)
	now := time.Now()
	if err := os.Chtimes(name, now, now); err == nil {
		return nil
	}
	if err := writeFile(name, m.encode()); err != nil {
		return fmt.Errorf("save manifest: %w", err)
	}
	return nil
}

// Load returns a manifest that was saved, without a directory; an error that
// is fs.ErrNotExist when there is none (or none that is whole).
func Load(dir string, d digest.Digest) (*Manifest, error) {
	if err := d.Validate(); err != nil {
		return nil, fmt.Errorf("load manifest %q: %w", d, err)
	}
	name := manifestFile(dir, d)
	data, err := os.ReadFile(name)
	if err != nil {
		return nil, fmt.Errorf("load manifest: %w", err)
	}
	m, err := decodeManifest(data)
	if err != nil || m.digest != d {
		// It must not stand in the way of a whole one.
		return nil, errors.Join(fmt.Errorf("manifest %s is damaged: %w", d, fs.ErrNotExist), os.Remove(name))
	}
	return m, nil
}

func manifestFile(dir string, d digest.Digest) string {
	return filepath.Join(dir, d.Encoded()[:2], d.Encoded())
}
