package osv

import (
	"archive/zip"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/strata-build/strata/runtime/inventory"
)

// pkg is an installed package, looked up by its own name unless there are
// others.
func pkg(kind inventory.Kind, ecosystem, name, version string, names ...string) inventory.Package {
	if len(names) == 0 {
		names = []string{name}
	}
	return inventory.Package{
		Kind: kind, Name: name, Version: version, Location: "where/" + name,
		Advisory: inventory.Advisory{Ecosystem: ecosystem, Names: names, Version: version},
	}
}

func folder(t testing.TB, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		full := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(full, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func scan(t *testing.T, dir string, packages ...inventory.Package) Report {
	t.Helper()
	r, err := Scan(t.Context(), dir, packages)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// advisoryOf is a document about one package with events, given as
// "introduced 0, fixed 1".
func advisoryOf(id, ecosystem, name, events string) string {
	var list []string
	for e := range strings.SplitSeq(events, ", ") {
		kind, version, _ := strings.Cut(e, " ")
		list = append(list, fmt.Sprintf(`{%q: %q}`, kind, version))
	}
	return fmt.Sprintf(`{"id": %q, "affected": [{"package": {"ecosystem": %q, "name": %q},
		"ranges": [{"type": "ECOSYSTEM", "events": [%s]}]}]}`, id, ecosystem, name, strings.Join(list, ", "))
}

func lines(r Report) []string {
	var out []string
	for _, f := range r.Findings {
		out = append(out, strings.TrimSpace(fmt.Sprintf("%s %s %s %s %s", f.Severity, f.Package, f.Installed, f.ID, strings.Join(f.Fixed, "|"))))
	}
	return out
}

func wantLines(t *testing.T, r Report, want ...string) {
	t.Helper()
	if got := lines(r); !slices.Equal(got, want) {
		t.Errorf("findings are\n  %s\nwant\n  %s", strings.Join(got, "\n  "), strings.Join(want, "\n  "))
	}
	for _, w := range r.Warnings {
		t.Errorf("warning: %s", w)
	}
}

// TestOrder holds each ecosystem against its own order of versions.
func TestOrder(t *testing.T) {
	for _, c := range []struct {
		ecosystem, events string
		affected, safe    []string
	}{
		{"Debian:12", "introduced 0, fixed 1:2.3-4+deb12u1", []string{"9.9-1", "1:2.3-4", "1:2.3-4+deb12u1~bpo1", "1:2.3-4~rc1"}, []string{"1:2.3-4+deb12u1", "1:2.3-4+deb12u2", "1:2.30-1", "2:0-1"}},
		{"Alpine:v3.19", "introduced 0, fixed 1.36.1-r16", []string{"1.36.1-r15", "1.36.1_rc2-r20", "1.4.0-r0"}, []string{"1.36.1-r16", "1.36.1_p1-r0", "1.36.10-r0"}},
		{"Rocky Linux:9", "introduced 0, fixed 1:3.0.7-25.el9_3", []string{"3.0.9-1.el9", "1:3.0.7-9.el9", "1:3.0.7-25.el9"}, []string{"1:3.0.7-25.el9_3", "1:3.0.7-26.el9", "2:1-1"}},
		{"AlmaLinux:9", "introduced 0, fixed 2.0~rc2-1", []string{"2.0~rc1-1", "1.9-9"}, []string{"2.0-1", "2.0~rc2-1"}},
		{"openSUSE:Leap 15.6", "introduced 0, fixed 84.87+git20180409.04c9dae-150300.10.3.1", []string{"84.87+git20180409.04c9dae-150300.9.1"}, []string{"84.87+git20180409.04c9dae-150300.10.4.1"}},
		{"Go", "introduced 1.2.0, fixed 1.10.1", []string{"1.2.0", "1.10.0", "1.9.9", "1.10.1-rc.1", "1.10.1-0.20240101000000-abcdefabcdef"}, []string{"1.1.9", "1.10.1", "1.2.0-rc1", "2.0.0+incompatible"}},
		{"npm", "introduced 4.0.0, fixed 4.17.21", []string{"4.0.0", "4.17.3", "4.17.21-beta.2"}, []string{"3.9.9", "4.17.21", "4.17.21+build", "5.0.0"}},
		{"PyPI", "introduced 0, fixed 3.2.18", []string{"3.2.18rc1", "3.2.18.dev1", "3.2", "3.2.17.post1"}, []string{"3.2.18", "3.2.18.post1", "1!1.0", "3.10"}},
		{"npm", "introduced 0, last_affected 1.5.0", []string{"1.5.0", "0.0.1"}, []string{"1.5.1"}},
		{"npm", "introduced 0, fixed 1.1.0, introduced 2.0.0, fixed 2.0.5", []string{"1.0.9", "2.0.0", "2.0.4"}, []string{"1.1.0", "1.9.0", "2.0.5"}},
		{"npm", "fixed 2.0.5, introduced 2.0.0, fixed 1.1.0, introduced 0", []string{"1.0.9", "2.0.0"}, []string{"1.1.0", "2.0.5"}}, // in no order
		{"npm", "introduced 1.0.0, limit 2.0.0", []string{"1.9.0"}, []string{"0.9.0", "2.0.0"}},
		{"npm", "introduced 1.0.0, limit *", []string{"1.9.0", "9.0.0"}, []string{"0.9.0"}},
	} {
		dir := folder(t, map[string]string{"a.json": advisoryOf("A-1", c.ecosystem, "p", c.events)})
		for hit, versions := range map[bool][]string{true: c.affected, false: c.safe} {
			for _, v := range versions {
				r := scan(t, dir, pkg("x", c.ecosystem, "p", v))
				if got := len(r.Findings) == 1; got != hit || len(r.Warnings) > 0 {
					t.Errorf("%s %s is affected by %q: %t, want %t; %v", c.ecosystem, v, c.events, got, hit, r.Warnings)
				}
			}
		}
	}
}

func TestFix(t *testing.T) {
	dir := folder(t, map[string]string{
		"a.json": advisoryOf("A-1", "npm", "p", "introduced 0, fixed 1.1.0, introduced 2.0.0, fixed 2.0.5"),
		"b.json": advisoryOf("B-1", "npm", "p", "introduced 0, last_affected 1.5.0, introduced 2.0.0, fixed 2.0.5"),
	})
	wantLines(t, scan(t, dir, pkg("npm", "npm", "p", "1.0.0")), "UNKNOWN p 1.0.0 A-1 1.1.0", "UNKNOWN p 1.0.0 B-1")
	wantLines(t, scan(t, dir, pkg("npm", "npm", "p", "2.0.1")), "UNKNOWN p 2.0.1 A-1 2.0.5", "UNKNOWN p 2.0.1 B-1 2.0.5")
}

// TestReleases has advisories of several releases, and packages of one.
func TestReleases(t *testing.T) {
	for _, c := range []struct {
		installed, advisory string
		same                bool
	}{
		{"Debian:12", "Debian:12", true}, {"Debian:12", "Debian:11", false}, {"Debian:12", "Debian", true}, {"Debian:1", "Debian:12", false},
		{"Alpine:v3.19", "Alpine:v3.19", true}, {"Alpine:v3.19", "Alpine:v3.18", false},
		{"Ubuntu:22.04", "Ubuntu:22.04:LTS", true}, {"Ubuntu:22.04", "Ubuntu:Pro:22.04:LTS", false},
		{"Red Hat:enterprise_linux:9", "Red Hat:enterprise_linux:9::baseos", true}, {"Red Hat:enterprise_linux:9", "Red Hat:enterprise_linux:8::baseos", false},
		{"SUSE:Linux Enterprise Server 15 SP5", "SUSE:Linux Enterprise Module for Basesystem 15 SP5", true},
		{"SUSE:Linux Enterprise Server 15 SP5", "SUSE:Linux Enterprise Server 15 SP4", false},
		{"openSUSE:Leap 15.6", "openSUSE:Leap 15.6", true}, {"openSUSE:Leap 15.6", "openSUSE:Leap 15.5", false},
		{"npm", "npm", true}, {"Go", "npm", false},
	} {
		if got := sameRelease(c.installed, c.advisory); got != c.same {
			t.Errorf("an advisory of %q is about a package of %q: %t", c.advisory, c.installed, got)
		}
	}
	dir := folder(t, map[string]string{
		"Debian/12.json": advisoryOf("DEBIAN-12", "Debian:12", "openssl", "introduced 0, fixed 3.0.13-1"),
		"Debian/11.json": advisoryOf("DEBIAN-11", "Debian:11", "openssl", "introduced 0"),
		"Debian/by.json": advisoryOf("DEBIAN-BINARY", "Debian:12", "libssl3", "introduced 0"),
	})
	wantLines(t, scan(t, dir, pkg("deb", "Debian:12", "libssl3", "3.0.11-1", "openssl")), "UNKNOWN libssl3 3.0.11-1 DEBIAN-12 3.0.13-1")
}

// TestListedVersions are affected without a range.
func TestListedVersions(t *testing.T) {
	dir := folder(t, map[string]string{"a.json": `{"id": "A-1", "affected": [
		{"package": {"ecosystem": "PyPI", "name": "Py_YAML"}, "versions": ["5.3", "5.4"], "ranges": [{"type": "GIT", "events": [{"introduced": "0"}]}]}]}`})
	wantLines(t, scan(t, dir, pkg("pypi", "PyPI", "PyYAML", "5.4", "py-yaml")), "UNKNOWN PyYAML 5.4 A-1")
	wantLines(t, scan(t, dir, pkg("pypi", "PyPI", "PyYAML", "5.4.1", "py-yaml")))
}

func TestWithdrawn(t *testing.T) {
	text := advisoryOf("A-1", "npm", "p", "introduced 0")
	dir := folder(t, map[string]string{"a.json": strings.Replace(text, `"id"`, `"withdrawn": "2024-01-01T00:00:00Z", "id"`, 1)})
	r := scan(t, dir, pkg("npm", "npm", "p", "1.0.0"))
	wantLines(t, r)
	if r.Advisories != 1 {
		t.Errorf("the database has %d advisories", r.Advisories)
	}
}

// with adds a field to a document.
func with(text, field string) string { return strings.Replace(text, `{"id"`, "{"+field+`, "id"`, 1) }

// TestAliases has one vulnerability by three names, told of in a chain.
func TestAliases(t *testing.T) {
	dir := folder(t, map[string]string{
		"ghsa.json":  with(advisoryOf("GHSA-x", "PyPI", "p", "introduced 0, fixed 2.0"), `"aliases": ["CVE-2024-1"], "database_specific": {"severity": "HIGH"}, "summary": "bad"`),
		"pysec.json": with(advisoryOf("PYSEC-1", "PyPI", "p", "introduced 0, fixed 2.0.1"), `"aliases": ["CVE-2024-1", "GHSA-x"]`),
		"other.json": advisoryOf("GHSA-y", "PyPI", "p", "introduced 0"),
		"cve.json":   with(advisoryOf("OTHER-2", "PyPI", "p", "introduced 0"), `"upstream": ["CVE-2024-1"]`),
	})
	r := scan(t, dir, pkg("pypi", "PyPI", "p", "1.0"))
	wantLines(t, r, "HIGH p 1.0 CVE-2024-1 2.0|2.0.1", "UNKNOWN p 1.0 GHSA-y")
	if got, want := r.Findings[0].Aliases, []string{"GHSA-x", "OTHER-2", "PYSEC-1"}; !slices.Equal(got, want) {
		t.Errorf("aliases are %v, want %v", got, want)
	}
	if r.Findings[0].Summary != "bad" {
		t.Errorf("the summary is %q", r.Findings[0].Summary)
	}
}

// TestCollective has a distribution's advisory about two vulnerabilities,
// which are also told of one by one, or not.
func TestCollective(t *testing.T) {
	one := func(n string) string {
		return with(advisoryOf("DEBIAN-CVE-2024-"+n, "Debian:12", "p", "introduced 0, fixed 2"), `"upstream": ["CVE-2024-`+n+`"]`)
	}
	all := with(advisoryOf("DSA-1", "Debian:12", "p", "introduced 0, fixed 2"), `"upstream": ["CVE-2024-1", "CVE-2024-2"]`)
	p := pkg("deb", "Debian:12", "p", "1")
	wantLines(t, scan(t, folder(t, map[string]string{"1.json": one("1"), "2.json": one("2"), "a.json": all}), p),
		"UNKNOWN p 1 CVE-2024-1 2", "UNKNOWN p 1 CVE-2024-2 2")
	r := scan(t, folder(t, map[string]string{"1.json": one("1"), "a.json": all}), p)
	wantLines(t, r, "UNKNOWN p 1 CVE-2024-1 2", "UNKNOWN p 1 DSA-1 2")
	if got, want := r.Findings[1].Related, []string{"CVE-2024-1", "CVE-2024-2"}; !slices.Equal(got, want) {
		t.Errorf("the advisory is about %v, want %v", got, want)
	}
	byAlias := strings.Replace(all, "upstream", "aliases", 1)
	wantLines(t, scan(t, folder(t, map[string]string{"1.json": one("1"), "2.json": one("2"), "a.json": byAlias}), p),
		"UNKNOWN p 1 CVE-2024-1 2", "UNKNOWN p 1 CVE-2024-2 2")
}

func TestSorted(t *testing.T) {
	severity := func(word string) string { return `"database_specific": {"severity": "` + word + `"}` }
	dir := folder(t, map[string]string{
		"1.json": with(advisoryOf("A-1", "npm", "b", "introduced 0"), severity("LOW")),
		"2.json": with(advisoryOf("A-2", "npm", "b", "introduced 0"), severity("CRITICAL")),
		"3.json": with(advisoryOf("A-3", "npm", "a", "introduced 0"), severity("CRITICAL")),
		"4.json": advisoryOf("A-4", "npm", "a", "introduced 0"),
	})
	b := pkg("npm", "npm", "b", "1.0.0")
	elsewhere := b
	elsewhere.Location = "elsewhere"
	r := scan(t, dir, b, pkg("npm", "npm", "a", "1.0.0"), elsewhere)
	wantLines(t, r, "CRITICAL a 1.0.0 A-3", "CRITICAL b 1.0.0 A-2", "LOW b 1.0.0 A-1", "UNKNOWN a 1.0.0 A-4")
	if got := r.Findings[1].Locations; !slices.Equal(got, []string{"where/b", "elsewhere"}) {
		t.Errorf("b is in %v", got)
	}
}

func TestUnchecked(t *testing.T) {
	dir := folder(t, map[string]string{"a.json": advisoryOf("A-1", "npm", "b", "introduced 0")})
	r := scan(t, dir, pkg("rpm", "", "fedora-release", "40"), pkg("golang", "Go", "example.org/main", ""), pkg("npm", "npm", "x", "1"))
	if r.Packages != 3 || r.Unchecked != 2 {
		t.Errorf("of %d packages %d were not checked", r.Packages, r.Unchecked)
	}
}

// TestStrangeVersions are told, and do not hide others.
func TestStrangeVersions(t *testing.T) {
	dir := folder(t, map[string]string{
		"a.json": advisoryOf("A-1", "Debian:12", "p", "introduced 0, fixed "+strings.Repeat("9", 300)),
		"b.json": advisoryOf("A-2", "Debian:12", "p", "introduced 0"),
	})
	r := scan(t, dir, pkg("deb", "Debian:12", "p", "1"), pkg("deb", "Debian:12", "q", strings.Repeat("9", 300)))
	if got := lines(r); !slices.Equal(got, []string{"UNKNOWN p 1 A-2"}) {
		t.Errorf("findings are %v", got)
	}
	if len(r.Warnings) != 2 || !strings.HasPrefix(r.Warnings[0], "A-1: a version of p: it has 300 characters") {
		t.Errorf("warnings are %v", r.Warnings)
	}
}

func TestZip(t *testing.T) {
	dir := t.TempDir()
	archive(t, filepath.Join(dir, "npm", "all.zip"), map[string]string{
		"A-1.json": advisoryOf("A-1", "npm", "p", "introduced 0"), "readme.txt": "not an advisory",
	})
	r := scan(t, dir, pkg("npm", "npm", "p", "1.0.0"))
	wantLines(t, r, "UNKNOWN p 1.0.0 A-1")
}

func archive(t *testing.T, name string, files map[string]string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z := zip.NewWriter(f)
	for member, text := range files {
		w, err := z.Create(member)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestBrokenDatabases(t *testing.T) {
	good := advisoryOf("A-1", "npm", "p", "introduced 0")
	broken := t.TempDir()
	archive(t, filepath.Join(broken, "all.zip"), map[string]string{"A-1.json": good, "sub/A-2.json": "{]"})
	for want, dir := range map[string]string{
		"b.json: not an OSV advisory: invalid character":                folder(t, map[string]string{"a.json": good, "b.json": "{]"}),
		"b.json: not an OSV advisory: it has no id":                     folder(t, map[string]string{"a.json": good, "b.json": "{}"}),
		"c.json: not an OSV advisory: json: cannot unmarshal number":    folder(t, map[string]string{"c.json": `{"id": 7}`}),
		"d.json: not an OSV advisory: json: cannot unmarshal string":    folder(t, map[string]string{"d.json": `{"id": "x", "affected": [{"package": {"ecosystem": "npm", "name": "p"}, "ranges": "all"}]}`}),
		"x/e.zip: zip: not a valid zip file":                            folder(t, map[string]string{"x/e.zip": "PK"}),
		"all.zip: sub/A-2.json: not an OSV advisory: invalid character": broken,
		"holds no OSV advisories":                                       folder(t, map[string]string{"x.txt": ""}),
		"no such file or directory":                                     filepath.Join(t.TempDir(), "missing"),
	} {
		_, err := Scan(t.Context(), dir, []inventory.Package{pkg("npm", "npm", "p", "1.0.0")})
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), dir) && want != "no such file or directory" {
			t.Errorf("the error is %v, want %s", err, want)
		}
	}
}

func TestCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Scan(ctx, folder(t, map[string]string{"a.json": "{}"}), nil); !errors.Is(err, context.Canceled) {
		t.Errorf("the error is %v", err)
	}
}

func TestFilter(t *testing.T) {
	all := []Finding{
		{ID: "CVE-1", Aliases: []string{"GHSA-1"}, Severity: Critical, Fixed: []string{"2"}},
		{ID: "CVE-2", Severity: High}, {ID: "CVE-3", Severity: Low, Fixed: []string{"2"}},
		{ID: "DSA-4", Related: []string{"CVE-4", "CVE-5"}},
	}
	for _, c := range []struct {
		filter Filter
		want   string
	}{
		{Filter{}, "CVE-1 CVE-2 CVE-3 DSA-4"},
		{Filter{Severities: []Severity{High, Critical}}, "CVE-1 CVE-2"},
		{Filter{FixedOnly: true}, "CVE-1 CVE-3"},
		{Filter{Ignored: []string{"ghsa-1", "CVE-3", "CVE-4"}}, "CVE-2 DSA-4"},
		{Filter{Ignored: []string{"CVE-4", "CVE-5", "cve-1"}}, "CVE-2 CVE-3"},
	} {
		var ids []string
		for _, f := range c.filter.Apply(all) {
			ids = append(ids, f.ID)
		}
		if got := strings.Join(ids, " "); got != c.want {
			t.Errorf("%+v leaves %s, want %s", c.filter, got, c.want)
		}
	}
}
