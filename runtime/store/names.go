package store

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/opencontainers/go-digest"
)

// maxName is the longest name: with what we add to it, it stays a file name.
const maxName = 128

// ValidName reports whether name is safe as one element of a path: up to 128
// ASCII letters, digits, '.', '_' and '-', and no '.' or '-' in front.
func ValidName(name string) error {
	if name == "" || len(name) > maxName || name[0] == '.' || name[0] == '-' {
		return fmt.Errorf("name %q: %w", shorten(name), ErrInvalidName)
	}
	for i := range len(name) {
		if !nameByte(name[i]) {
			return fmt.Errorf("name %q: %w", shorten(name), ErrInvalidName)
		}
	}
	return nil
}

func nameByte(c byte) bool {
	switch {
	case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		return true
	}
	return c == '.' || c == '_' || c == '-'
}

func shorten(name string) string {
	if len(name) > maxName {
		return name[:maxName] + "…"
	}
	return name
}

// hashName turns any string into a file name.
func hashName(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:])
}

// blobName returns the file name of a digest, which it validates: digests
// come from manifests, that is, from strangers.
func blobName(d digest.Digest) (string, error) {
	if err := d.Validate(); err != nil {
		return "", fmt.Errorf("digest %q: %w: %w", shorten(string(d)), ErrInvalidName, err)
	}
	if d.Algorithm() != digest.SHA256 {
		return "", fmt.Errorf("digest %q: %w: only sha256 is supported", d, ErrInvalidName)
	}
	return d.Encoded(), nil
}

// Ref names a thing that a record or a lease keeps from collection:
// "blob:sha256:<hex>", "record:<bucket>/<key>", or an Owner's prefix and id,
// such as "layer:<id>".
type Ref string

const (
	blobPrefix   = "blob:"
	recordPrefix = "record:"
)

// BlobRef returns the ref of a blob.
func BlobRef(d digest.Digest) Ref { return Ref(blobPrefix + d.String()) }

// RecordRef returns the ref of a record.
func RecordRef(bucket, key string) Ref { return Ref(recordPrefix + bucket + "/" + key) }

// prefix returns the part of the ref that names its kind, with the colon.
func (r Ref) prefix() string {
	i := strings.IndexByte(string(r), ':')
	return string(r[:i+1])
}

// check refuses what a lease could not hold as one line.
func (r Ref) check() error {
	if len(r.prefix()) < 2 || len(r.prefix()) == len(r) || !validText(string(r)) {
		return fmt.Errorf("ref %q: %w", shorten(string(r)), ErrInvalidName)
	}
	return nil
}

func checkRefs(refs []Ref) error {
	for _, r := range refs {
		if err := r.check(); err != nil {
			return err
		}
	}
	return nil
}

// validText accepts what survives a line of text and a JSON string unchanged.
func validText(s string) bool {
	return s != "" && utf8.ValidString(s) && !strings.ContainsAny(s, "\n\x00")
}
