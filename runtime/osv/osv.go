// Package osv finds which installed packages are known to be vulnerable,
// according to a database of the Open Source Vulnerability format
// (https://ossf.github.io/osv-schema/) that lies in a folder.
//
//	folder ─▶ advisories that name an installed package
//	              │ ranges and versions, in the ecosystem's own order
//	              ▼
//	          matches ─▶ one finding per package and vulnerability, although
//	                     several databases tell of it under names of their own
//
// Versions are compared by osv-scalibr, severities computed from CVSS vectors
// by go-cvss.
package osv

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"strings"

	"github.com/strata-build/strata/runtime/inventory"
)

// Report is what a scan has found.
type Report struct {
	// Findings are sorted: the most severe first, then by package.
	Findings []Finding
	// Packages were looked up; Unchecked of them could not be, since OSV has
	// no advisories for where they come from, or their version is not known.
	Packages, Unchecked int
	// Advisories are in the database.
	Advisories int
	// Warnings are about what in the database could not be understood.
	Warnings []string
}

// Finding is one vulnerability of one package.
type Finding struct {
	// ID is the CVE's, where it has one, and otherwise an advisory's.
	ID string `json:"id"`
	// Aliases are its other names.
	Aliases []string `json:"aliases,omitempty"`
	// Related are the vulnerabilities that a distribution's advisory is about,
	// where these are several, and not told of one by one.
	Related  []string `json:"related,omitempty"`
	Severity Severity `json:"severity"`
	// Score and Vector are CVSS's, where an advisory has one.
	Score  float64 `json:"score,omitempty"`
	Vector string  `json:"vector,omitempty"`
	// Kind, Package and Installed are the installed package.
	Kind      inventory.Kind `json:"type"`
	Package   string         `json:"package"`
	Installed string         `json:"installed"`
	PURL      string         `json:"purl,omitempty"`
	Locations []string       `json:"locations,omitempty"`
	// Fixed are the versions that have it no more; empty where there is none.
	Fixed   []string `json:"fixed,omitempty"`
	Summary string   `json:"summary,omitempty"`
}

// Scan looks the packages up in the database in dir.
func Scan(ctx context.Context, dir string, packages []inventory.Package) (Report, error) {
	targets, unchecked := targetsOf(packages)
	db, err := load(ctx, dir, wantedBy(targets))
	if err != nil {
		return Report{}, err
	}
	r := Report{Packages: len(packages), Unchecked: unchecked, Advisories: db.count}
	notes := &notes{}
	for _, t := range targets {
		if err := ctx.Err(); err != nil {
			return Report{}, err
		}
		r.Findings = append(r.Findings, t.findings(db, notes)...)
	}
	slices.SortFunc(r.Findings, compareFindings)
	r.Warnings = notes.sorted()
	return r, nil
}

func compareFindings(a, b Finding) int {
	return cmp.Or(
		cmp.Compare(b.Severity, a.Severity), cmp.Compare(a.Package, b.Package), cmp.Compare(a.Installed, b.Installed),
		cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.ID, b.ID), cmp.Compare(a.PURL, b.PURL),
	)
}

// Filter says which findings count.
type Filter struct {
	// Severities are those that count; none means all.
	Severities []Severity
	// FixedOnly leaves out what no version fixes.
	FixedOnly bool
	// Ignored are names of vulnerabilities that do not count.
	Ignored []string
}

// Apply returns the findings that count.
func (f Filter) Apply(findings []Finding) []Finding {
	kept := []Finding{}
	for _, finding := range findings {
		if f.counts(finding) {
			kept = append(kept, finding)
		}
	}
	return kept
}

func (f Filter) counts(finding Finding) bool {
	if len(f.Severities) > 0 && !slices.Contains(f.Severities, finding.Severity) {
		return false
	}
	if f.FixedOnly && len(finding.Fixed) == 0 {
		return false
	}
	return !f.ignores(finding)
}

// ignores tells whether a name of the vulnerability is ignored, or all of the
// vulnerabilities that an advisory is about.
func (f Filter) ignores(finding Finding) bool {
	ignored := func(id string) bool {
		return slices.ContainsFunc(f.Ignored, func(other string) bool { return strings.EqualFold(id, other) })
	}
	if ignored(finding.ID) || slices.ContainsFunc(finding.Aliases, ignored) {
		return true
	}
	counts := func(id string) bool { return !ignored(id) }
	return len(finding.Related) > 0 && !slices.ContainsFunc(finding.Related, counts)
}

// notes collects warnings, each once.
type notes struct{ seen map[string]bool }

func (n *notes) add(text string) {
	if n.seen == nil {
		n.seen = map[string]bool{}
	}
	n.seen[text] = true
}

func (n *notes) sorted() []string {
	return slices.Sorted(maps.Keys(n.seen))
}
