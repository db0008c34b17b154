package osv

import (
	"strings"
	"testing"
)

func TestSeverities(t *testing.T) {
	for _, c := range []struct {
		name, top, affected string
		want                Severity
		score               float64
	}{
		{"nothing", ``, ``, Unknown, 0},
		{"version 3.1", `"severity": [{"type": "CVSS_V3", "score": "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H"}]`, ``, Critical, 9.8},
		{"version 3.0", `"severity": [{"type": "CVSS_V3", "score": "CVSS:3.0/AV:N/AC:L/PR:N/UI:N/S:U/C:N/I:N/A:H"}]`, ``, High, 7.5},
		{"version 2", `"severity": [{"type": "CVSS_V2", "score": "AV:N/AC:L/Au:N/C:C/I:C/A:C"}]`, ``, High, 10},
		{"version 4", `"severity": [{"type": "CVSS_V4", "score": "CVSS:4.0/AV:N/AC:L/AT:N/PR:N/UI:N/VC:L/VI:N/VA:N/SC:N/SI:N/SA:N"}]`, ``, Medium, 6.9},
		{"the newest", `"severity": [{"type": "CVSS_V3", "score": "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H"},
			{"type": "CVSS_V4", "score": "CVSS:4.0/AV:N/AC:L/AT:N/PR:N/UI:N/VC:L/VI:N/VA:N/SC:N/SI:N/SA:N"}]`, ``, Medium, 6.9},
		{"of the package", `"severity": [{"type": "CVSS_V3", "score": "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H"}]`,
			`"severity": [{"type": "CVSS_V3", "score": "CVSS:3.1/AV:P/AC:H/PR:H/UI:R/S:U/C:L/I:N/A:N"}]`, Low, 1.6},
		{"no harm", `"severity": [{"type": "CVSS_V3", "score": "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:N/I:N/A:N"}]`, ``, Low, 0},
		{"GitHub's word", `"database_specific": {"severity": "MODERATE", "cwe_ids": []}`, ``, Medium, 0},
		{"Ubuntu's word", `"severity": [{"type": "Ubuntu", "score": "high"}]`, ``, High, 0},
		{"Debian's urgency", ``, `"ecosystem_specific": {"urgency": "low**"}`, Low, 0},
		{"Debian's urgency, open", ``, `"ecosystem_specific": {"urgency": "not yet assigned"}`, Unknown, 0},
		{"Red Hat's word", ``, `"database_specific": {"severity": "Important"}`, High, 0},
		{"of another shape", `"database_specific": "text"`, `"ecosystem_specific": {"severity": 3}`, Unknown, 0},
		{"a vector before words", `"severity": [{"type": "CVSS_V3", "score": "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H"}], "database_specific": {"severity": "LOW"}`, ``, Critical, 9.8},
	} {
		t.Run(c.name, func(t *testing.T) {
			text := advisoryOf("A-1", "npm", "p", "introduced 0")
			if c.top != "" {
				text = with(text, c.top)
			}
			if c.affected != "" {
				text = strings.Replace(text, `{"package"`, "{"+c.affected+`, "package"`, 1)
			}
			r := scan(t, folder(t, map[string]string{"a.json": text}), pkg("npm", "npm", "p", "1.0.0"))
			if len(r.Findings) != 1 || len(r.Warnings) > 0 {
				t.Fatalf("it is %+v", r)
			}
			if f := r.Findings[0]; f.Severity != c.want || f.Score != c.score {
				t.Errorf("it is %s (%v), want %s (%v)", f.Severity, f.Score, c.want, c.score)
			}
		})
	}
}

func TestBrokenVector(t *testing.T) {
	text := with(advisoryOf("A-1", "npm", "p", "introduced 0"),
		`"severity": [{"type": "CVSS_V3", "score": "CVSS:3.1/AV:X"}], "database_specific": {"severity": "HIGH"}`)
	r := scan(t, folder(t, map[string]string{"a.json": text}), pkg("npm", "npm", "p", "1.0.0"))
	if len(r.Findings) != 1 || r.Findings[0].Severity != High {
		t.Errorf("findings are %+v", r.Findings)
	}
	if len(r.Warnings) != 1 || !strings.HasPrefix(r.Warnings[0], `A-1: severity "CVSS:3.1/AV:X": `) {
		t.Errorf("warnings are %q", r.Warnings)
	}
}

func TestParseSeverity(t *testing.T) {
	for _, name := range SeverityNames() {
		got, err := ParseSeverity(strings.ToLower(name))
		if err != nil || got.String() != name {
			t.Errorf("%s is read as %s, %v", name, got, err)
		}
	}
	if _, err := ParseSeverity("bad"); err == nil {
		t.Error("a severity that does not exist was read")
	}
}
