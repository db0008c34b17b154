package httpsource

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"net/url"
	"path"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"github.com/moby/buildkit/solver/pb"
	"github.com/opencontainers/go-digest"
)

// Source is a parsed LLB http source.
type Source struct {
	// URL may hold credentials: never log it, log String().
	URL      string
	Checksum digest.Digest
	Filename string
	// Perm is 0 for the default (0600).
	Perm             uint32
	UID, GID         int
	AuthHeaderSecret string
	// Header is sorted by name.
	Header []HeaderField
}

// HeaderField is a header that the source asks for.
type HeaderField struct{ Name, Value string }

// Parse reads an LLB source identifier ("https://…") and its attributes.
// Attributes that this package cannot honour are refused by name.
func Parse(identifier string, attrs map[string]string) (*Source, error) {
	u, err := url.Parse(identifier)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return nil, errors.New("http source: the URL is malformed")
	}
	s := &Source{URL: identifier}
	if u.Host == "buildkit-session" {
		return nil, fmt.Errorf("http source %s: uploads of a BuildKit session are not supported", s)
	}
	for name, value := range attrs {
		if err := s.set(name, value); err != nil {
			return nil, fmt.Errorf("http source %s: %s: %w", s, name, err)
		}
	}
	slices.SortFunc(s.Header, func(a, b HeaderField) int { return cmp.Compare(a.Name, b.Name) })
	return s, nil
}

func (s *Source) set(name, value string) (err error) {
	switch name {
	case pb.AttrHTTPChecksum:
		s.Checksum, err = checksum(value)
	case pb.AttrHTTPFilename:
		s.Filename = value
	case pb.AttrHTTPPerm:
		var perm uint64
		perm, err = strconv.ParseUint(value, 0, 12)
		s.Perm = uint32(perm)
	case pb.AttrHTTPUID:
		s.UID, err = id(value)
	case pb.AttrHTTPGID:
		s.GID, err = id(value)
	case pb.AttrHTTPAuthHeaderSecret:
		s.AuthHeaderSecret = value
	default:
		return s.setHeader(name, value)
	}
	return err
}

func checksum(value string) (digest.Digest, error) {
	d, err := digest.Parse(value)
	if err == nil && d.Algorithm() != digest.SHA256 {
		err = errors.New("a checksum must be a sha256 one")
	}
	return d, err
}

func id(value string) (int, error) {
	n, err := strconv.ParseUint(value, 0, 32)
	return int(n), err
}

// setHeader takes the headers over that BuildKit sends; it drops all others.
func (s *Source) setHeader(name, value string) error {
	name, ok := strings.CutPrefix(name, pb.AttrHTTPHeaderPrefix)
	if !ok {
		return errors.New("the attribute is not supported by the local engine; --engine buildkit may know it")
	}
	name = http.CanonicalHeaderKey(name)
	if name == "Accept" || name == "User-Agent" {
		s.Header = append(s.Header, HeaderField{name, value})
	}
	return nil
}

// String is the URL without credentials.
func (s *Source) String() string {
	u, err := url.Parse(s.URL)
	if err != nil {
		return "(malformed)"
	}
	u.User = nil
	return u.String()
}

// Key is the identity of the file that Fetch writes.
func (s *Source) Key(r Resolved) digest.Digest {
	return hashOf(struct {
		Digest   digest.Digest
		Filename string
		Perm     uint32
		UID, GID int
		Modified int64
	}{r.Digest, r.Filename, s.Perm, s.UID, s.GID, unixTime(r)})
}

func unixTime(r Resolved) int64 {
	if r.LastModified.IsZero() {
		return 0
	}
	return r.LastModified.Unix()
}

// recordKey is what the server's answer is kept by: all that the answer can
// depend on, but no credentials.
func (s *Source) recordKey() string {
	return hashOf(struct {
		URL    string
		Secret string
		Header []HeaderField
	}{s.String(), s.AuthHeaderSecret, s.Header}).String()
}

func hashOf(v any) digest.Digest {
	data, err := json.Marshal(v)
	if err != nil { // no struct of strings and numbers fails
		return ""
	}
	return digest.FromBytes(data)
}

// filename is the name of the file: that of the source, else what the server
// says, else the end of the URL.
func (s *Source) filename(header http.Header) string {
	if s.Filename != "" {
		return safeName(s.Filename)
	}
	if _, params, err := mime.ParseMediaType(header.Get("Content-Disposition")); err == nil {
		if name := params["filename"]; name != "" && !strings.HasSuffix(name, "/") {
			return safeName(name)
		}
	}
	if u, err := url.Parse(s.URL); err == nil {
		if base := path.Base(u.Path); base != "." && base != "/" {
			return safeName(base)
		}
	}
	return safeName("")
}

// safeName makes a plain file name of what a server or user says.
func safeName(s string) string {
	name := path.Base(strings.TrimSpace(s))
	if name == "." || name == ".." || name == "/" || len(name) > 255 || strings.ContainsFunc(name, unicode.IsControl) {
		return "download"
	}
	return name
}
