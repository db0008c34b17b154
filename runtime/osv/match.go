package osv

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/google/osv-scalibr/semantic"

	"github.com/strata-build/strata/runtime/inventory"
)

// target is an installed package to look up, with all places it is in.
type target struct {
	inventory.Package
	locations []string
}

// targetsOf puts the same package of several places together, and counts what
// cannot be looked up.
func targetsOf(packages []inventory.Package) (targets []target, unchecked int) {
	at := map[string]int{}
	for _, p := range packages {
		if p.Advisory.Ecosystem == "" || p.Advisory.Version == "" {
			unchecked++
			continue
		}
		id := strings.Join([]string{string(p.Kind), p.Name, p.Version, p.PURL}, "\x00")
		i, seen := at[id]
		if !seen {
			i = len(targets)
			at[id] = i
			targets = append(targets, target{Package: p})
		}
		targets[i].locations = append(targets[i].locations, p.Location)
	}
	return targets, unchecked
}

// wantedBy are the names that targets are looked up by.
func wantedBy(targets []target) wanted {
	want := wanted{}
	for _, t := range targets {
		for _, name := range t.Advisory.Names {
			want[keyOf(t.Advisory.Ecosystem, name)] = true
		}
	}
	return want
}

// match is an advisory that a package is affected by.
type match struct {
	advisory *advisory
	assessment
	fixed string
}

// matches are all advisories about the target, each once for each of its
// affected packages.
func (t target) matches(db *database, n *notes) []match {
	installed, err := parseVersion(t.Advisory.Version, t.Advisory.Ecosystem)
	if err != nil {
		n.add(fmt.Sprintf("%s %s was not looked up: %v", t.Name, t.Version, err))
		return nil
	}
	var found []match
	for _, name := range t.Advisory.Names {
		for _, e := range db.by[keyOf(t.Advisory.Ecosystem, name)] {
			of := e.advisory.Affected[e.at]
			if !sameRelease(t.Advisory.Ecosystem, of.Package.Ecosystem) {
				continue
			}
			fixed, hit, err := of.hits(t.Advisory, installed)
			if err != nil {
				n.add(fmt.Sprintf("%s: a version of %s: %v", e.advisory.ID, name, err))
			}
			if hit {
				found = append(found, match{e.advisory, e.advisory.assess(e.at, n), fixed})
			}
		}
	}
	// Files are read in parallel, in no order.
	slices.SortStableFunc(found, func(a, b match) int { return cmp.Compare(a.advisory.ID, b.advisory.ID) })
	return found
}

// sameRelease tells whether an advisory of one ecosystem is about packages of
// another: it may be about every release ("Debian"), or about a part of one
// ("Ubuntu:22.04:LTS", "Red Hat:enterprise_linux:9::baseos").
func sameRelease(installed, advisory string) bool {
	base, release, _ := strings.Cut(installed, ":")
	other, about, _ := strings.Cut(advisory, ":")
	if base != other {
		return false
	}
	if base == "SUSE" { // modules of a release are products of their own
		release = strings.TrimPrefix(release, "Linux Enterprise Server ")
		return strings.HasSuffix(about, " "+release)
	}
	return about == "" || about == release || strings.HasPrefix(about, release+":")
}

// hits tells whether a version is affected, and what fixes it. The error is
// about a range that could not be read; others still count.
func (a affected) hits(installed inventory.Advisory, version semantic.Version) (fixed string, hit bool, err error) {
	var firstErr error
	for _, r := range a.Ranges {
		if r.Type != "ECOSYSTEM" && r.Type != "SEMVER" {
			continue // commits of a repository
		}
		fixed, hit, err := r.contains(version, installed.Ecosystem)
		if hit {
			return fixed, true, nil
		}
		firstErr = cmp.Or(firstErr, err)
	}
	return "", slices.Contains(a.Versions, installed.Version), firstErr
}

// The kinds of events.
const (
	introduced = iota
	fixedIn
	lastAffected
	limit
)

// point is an event with its version.
type point struct {
	kind    int
	text    string
	version semantic.Version // nil for the beginning of time
}

// contains follows the events in the order of their versions, as the schema
// describes: each either begins what is affected or ends it.
func (r versionRange) contains(v semantic.Version, ecosystem string) (fixed string, hit bool, err error) {
	points, err := r.points(ecosystem)
	if err != nil {
		return "", false, err
	}
	for _, p := range points {
		order := 1
		if p.version != nil {
			if order, err = v.Compare(p.version); err != nil {
				return "", false, err
			}
		}
		if order > 0 || order == 0 && p.kind != lastAffected {
			hit = p.kind == introduced
			continue
		}
		if hit && p.kind == fixedIn { // the first that is newer
			fixed = p.text
		}
		break
	}
	return fixed, hit, nil
}

// points are the events in the order of their versions.
func (r versionRange) points(ecosystem string) ([]point, error) {
	var points []point
	for _, e := range r.Events {
		for kind, text := range []string{introduced: e.Introduced, fixedIn: e.Fixed, lastAffected: e.LastAffected, limit: e.Limit} {
			if text == "" || kind == limit && text == "*" {
				continue
			}
			p := point{kind: kind, text: text}
			if kind != introduced || text != "0" {
				var err error
				if p.version, err = parseVersion(text, ecosystem); err != nil {
					return nil, err
				}
			}
			points = append(points, p)
		}
	}
	var failed error
	slices.SortStableFunc(points, func(a, b point) int {
		order, err := comparePoints(a, b)
		failed = cmp.Or(failed, err)
		return order
	})
	return points, failed
}

func comparePoints(a, b point) (int, error) {
	switch {
	case a.version == nil && b.version == nil:
		return 0, nil
	case a.version == nil:
		return -1, nil
	case b.version == nil:
		return 1, nil
	}
	return a.version.Compare(b.version)
}

// maxVersion bounds a version; parsers take time that grows faster than it.
const maxVersion = 256

func parseVersion(version, ecosystem string) (semantic.Version, error) {
	if len(version) > maxVersion {
		return nil, fmt.Errorf("it has %d characters", len(version))
	}
	v, err := semantic.Parse(version, ecosystem)
	if err != nil {
		return nil, fmt.Errorf("%q: %w", version, err)
	}
	return v, nil
}
