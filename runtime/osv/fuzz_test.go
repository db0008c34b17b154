package osv

import (
	"testing"

	"github.com/strata-build/strata/runtime/inventory"
)

// FuzzAdvisory parses any document, and looks a package up in it.
func FuzzAdvisory(f *testing.F) {
	for _, ecosystem := range []string{"Debian:12", "Alpine:v3.19", "Rocky Linux:9", "Go", "npm", "PyPI"} {
		f.Add([]byte(with(advisoryOf("A-1", ecosystem, "p", "introduced 0, fixed 1.2-3, introduced 2, last_affected 2.1"),
			`"aliases": ["CVE-1"], "severity": [{"type": "CVSS_V4", "score": "CVSS:4.0/AV:N"}], "database_specific": {"severity": "LOW"}`)), "1.0-1")
	}
	f.Fuzz(func(t *testing.T, data []byte, version string) {
		var packages []inventory.Package
		for _, ecosystem := range []string{"Debian:12", "Alpine:v3.19", "Rocky Linux:9", "Go", "npm", "PyPI"} {
			packages = append(packages, pkg("x", ecosystem, "p", version))
		}
		targets, _ := targetsOf(packages)
		want := wantedBy(targets)
		a, err := parse(data, want)
		if err != nil {
			return
		}
		db := &database{by: map[key][]entry{}}
		db.add(a, want)
		for _, t := range targets {
			t.findings(db, &notes{})
		}
	})
}
