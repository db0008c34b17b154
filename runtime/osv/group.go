package osv

import (
	"cmp"
	"maps"
	"slices"
	"strings"
)

// findings are the vulnerabilities of a target.
func (t target) findings(db *database, n *notes) []Finding {
	var all []Finding
	for _, g := range groups(t.matches(db, n)) {
		f := g.finding()
		f.Kind, f.Package, f.Installed = t.Kind, t.Name, t.Version
		f.PURL, f.Locations = t.PURL, t.locations
		all = append(all, f)
	}
	return all
}

// group is one vulnerability, by all advisories that tell of it.
type group struct {
	ids     map[string]bool
	matches []match
	// about are the vulnerabilities that a collective advisory is about.
	about []string
}

// groups joins matches that have a name in common. A distribution's advisory
// about several vulnerabilities at once is none of them: it only counts where
// one of these is not told of by itself.
func groups(matches []match) []group {
	var joined, collective []group
	for _, m := range matches {
		g := group{ids: names(m.advisory), matches: []match{m}, about: m.advisory.several()}
		if len(g.about) > 0 {
			collective = append(collective, g)
			continue
		}
		joined = join(joined, g)
	}
	told := map[string]bool{}
	for _, g := range joined {
		maps.Copy(told, g.ids)
	}
	for _, g := range collective {
		if slices.ContainsFunc(g.about, func(id string) bool { return !told[id] }) {
			joined = join(joined, g)
		}
	}
	return joined
}

// several are the vulnerabilities that an advisory is about, when these are
// more than one: distributions name them as upstream, some databases as
// aliases.
func (a *advisory) several() []string {
	var cves []string
	for _, id := range append(slices.Clone(a.Aliases), a.Upstream...) {
		if isCVE(id) && id != a.ID && !slices.Contains(cves, id) {
			cves = append(cves, id)
		}
	}
	if len(cves) < 2 {
		return nil
	}
	slices.Sort(cves)
	return cves
}

// names are those by which other advisories may tell of the same. A collective
// advisory has none of those that it is about.
func names(a *advisory) map[string]bool {
	ids := map[string]bool{a.ID: true}
	about := a.several()
	for _, id := range append(slices.Clone(a.Aliases), a.Upstream...) {
		if !slices.Contains(about, id) {
			ids[id] = true
		}
	}
	return ids
}

// join puts a group into those it has a name in common with, which so become
// one.
func join(all []group, g group) []group {
	var others []group
	for _, other := range all {
		if !overlap(other.ids, g.ids) {
			others = append(others, other)
			continue
		}
		maps.Copy(g.ids, other.ids)
		g.matches = append(other.matches, g.matches...)
		g.about = append(other.about, g.about...)
	}
	return append(others, g)
}

func overlap(a, b map[string]bool) bool {
	for id := range a {
		if b[id] {
			return true
		}
	}
	return false
}

// finding takes the worst severity, every fix, and the first summary.
func (g group) finding() Finding {
	f := Finding{Related: g.about}
	for _, m := range g.matches {
		if m.severity > f.Severity || m.severity == f.Severity && m.score > f.Score {
			f.Severity, f.Score, f.Vector = m.severity, m.score, m.vector
		}
		if m.fixed != "" && !slices.Contains(f.Fixed, m.fixed) {
			f.Fixed = append(f.Fixed, m.fixed)
		}
		f.Summary = cmp.Or(f.Summary, m.advisory.summary())
	}
	ids := slices.SortedFunc(maps.Keys(g.ids), compareIDs)
	f.ID, f.Aliases = ids[0], ids[1:]
	return f
}

func isCVE(id string) bool { return strings.HasPrefix(id, "CVE-") }

// compareIDs puts CVEs first: every database refers to them.
func compareIDs(a, b string) int {
	if isCVE(a) != isCVE(b) {
		return map[bool]int{true: -1, false: 1}[isCVE(a)]
	}
	return cmp.Compare(a, b)
}
