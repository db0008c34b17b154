// Package sbom writes what is installed in an image as a bill of materials:
// SPDX 2.3 (JSON or tag-value), CycloneDX 1.6, or a table for people. The
// documents are made and encoded with the standards' own libraries.
//
// The same image gives the same bytes: the time is the image's, identifiers
// are derived from the image's digest and from what they stand for, and
// everything is sorted.
package sbom

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"path"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/google/osv-scalibr/purl"
	digest "github.com/opencontainers/go-digest"

	"github.com/strata-build/strata/runtime/inventory"
)

// Format names a format on the command line.
type Format string

// The formats.
const (
	SPDXJSON      Format = "spdx-json"
	SPDXTagValue  Format = "spdx-tag-value"
	CycloneDXJSON Format = "cyclonedx-json"
	Table         Format = "table"
)

// Formats lists the formats, the default first.
func Formats() []Format { return []Format{SPDXJSON, CycloneDXJSON, SPDXTagValue, Table} }

// Image is what a document is about.
type Image struct {
	// Repository is the name without a tag, or "" where it has none.
	Repository string
	// Digest is the manifest's, for one platform.
	Digest digest.Digest
	// Platform is such as "linux/amd64".
	Platform string
	// Created is the image's own time.
	Created time.Time
}

// Document is a bill of materials before it is written.
type Document struct {
	Image Image
	// Found is what is installed.
	Found inventory.Inventory
	// Tool is who says so: "strata" and its version.
	Tool, ToolVersion string
}

// Write writes the document.
func (d Document) Write(w io.Writer, format Format) error {
	var err error
	switch format {
	case SPDXJSON:
		err = d.writeSPDX(w)
	case SPDXTagValue:
		err = d.writeTagValue(w)
	case CycloneDXJSON:
		err = d.writeCycloneDX(w)
	case Table:
		err = d.writeTable(w)
	default:
		return fmt.Errorf("%s is no format of a bill of materials", format)
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", format, err)
	}
	return nil
}

func (d Document) writeTable(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	fmt.Fprintln(t, "NAME\tVERSION\tTYPE\tLOCATION")
	for _, p := range d.Found.Packages {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", p.Name, p.Version, p.Kind, p.Location)
	}
	return t.Flush()
}

// namespace is the document's URI, which no other image has.
func (d Document) namespace() string {
	return "https://github.com/strata-build/strata/sbom/" + strings.ReplaceAll(d.Image.Digest.String(), ":", "-")
}

// created is the image's time; those without one, such as Strata's own, count
// as made at the epoch.
func (d Document) created() string {
	created := d.Image.Created
	if created.IsZero() {
		created = time.Unix(0, 0)
	}
	return created.UTC().Format(time.RFC3339)
}

// name is what people know the image by.
func (i Image) name() string {
	if i.Repository == "" {
		return i.Digest.String()
	}
	return i.Repository
}

// packageURL names the image by its digest.
func (i Image) packageURL() string {
	url := purl.PackageURL{Type: purl.TypeOCI, Name: "image", Version: i.Digest.String()}
	qualifiers := map[string]string{}
	if i.Repository != "" {
		url.Name = strings.ToLower(path.Base(i.Repository))
		qualifiers["repository_url"] = i.Repository
	}
	if _, arch, ok := strings.Cut(i.Platform, "/"); ok {
		qualifiers["arch"] = arch
	}
	url.Qualifiers = purl.QualifiersFromMap(qualifiers)
	return url.String()
}

// reference identifies a package within a document: by what it is and where,
// so that it stays the same when others come and go.
func reference(p inventory.Package) string {
	sum := sha256.Sum256([]byte(strings.Join([]string{string(p.Kind), p.Name, p.Version, p.PURL, p.Location}, "\x00")))
	return "Package-" + string(p.Kind) + "-" + plain(p.Name) + "-" + hex.EncodeToString(sum[:8])
}

// plain keeps what an SPDX identifier may have: letters, digits, dot and dash.
func plain(name string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '.', r == '-':
			return r
		}
		return '-'
	}, name)
}
