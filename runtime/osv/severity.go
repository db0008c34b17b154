package osv

import (
	"fmt"
	"slices"
	"strings"

	cvss2 "github.com/pandatix/go-cvss/20"
	cvss30 "github.com/pandatix/go-cvss/30"
	cvss31 "github.com/pandatix/go-cvss/31"
	cvss4 "github.com/pandatix/go-cvss/40"
)

// Severity is how bad a vulnerability is.
type Severity int

// The severities, in order.
const (
	Unknown Severity = iota
	Low
	Medium
	High
	Critical
)

var severityNames = []string{"UNKNOWN", "LOW", "MEDIUM", "HIGH", "CRITICAL"}

// String implements fmt.Stringer.
func (s Severity) String() string { return severityNames[s] }

// MarshalText implements encoding.TextMarshaler.
func (s Severity) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// SeverityNames lists the names, the worst last.
func SeverityNames() []string { return slices.Clone(severityNames) }

// ParseSeverity reads a name, in any case.
func ParseSeverity(name string) (Severity, error) {
	for i, known := range severityNames {
		if strings.EqualFold(name, known) {
			return Severity(i), nil
		}
	}
	return Unknown, fmt.Errorf("%q is not one of %s", name, strings.Join(severityNames, ", "))
}

// words are what databases call severities: GitHub, Red Hat, SUSE, Ubuntu,
// Debian.
var words = map[string]Severity{
	"critical": Critical,
	"high":     High, "important": High,
	"medium": Medium, "moderate": Medium,
	"low": Low, "minor": Low, "negligible": Low, "unimportant": Low, "none": Low,
}

// fromWord reads a database's word. Debian marks what it has not decided
// finally with two stars.
func fromWord(word string) Severity {
	return words[strings.ToLower(strings.TrimRight(strings.TrimSpace(word), "*"))]
}

// assessment is a severity with the vector that it follows from.
type assessment struct {
	severity Severity
	score    float64
	vector   string
}

// assess takes the newest CVSS vector, else the database's own word.
func (a *advisory) assess(at int, n *notes) assessment {
	of := a.Affected[at]
	ratings := of.Severity
	if len(ratings) == 0 {
		ratings = a.Severity
	}
	for _, kind := range []string{"CVSS_V4", "CVSS_V3", "CVSS_V2"} {
		for _, r := range ratings {
			if r.Type != kind {
				continue
			}
			score, err := scoreOf(r.Score)
			if err != nil {
				n.add(fmt.Sprintf("%s: severity %q: %v", a.ID, r.Score, err))
				continue
			}
			return assessment{fromScore(score, kind), score, r.Score}
		}
	}
	for _, r := range ratings {
		if s := fromWord(r.Score); s != Unknown {
			return assessment{severity: s}
		}
	}
	for _, word := range []string{
		of.Ecosystem.Severity, of.Database.Severity, a.Specific.Severity, of.Ecosystem.Urgency, of.Database.Urgency,
	} {
		if s := fromWord(word); s != Unknown {
			return assessment{severity: s}
		}
	}
	return assessment{}
}

// scoreOf computes the score of a vector, whose version is at its beginning;
// version 2 has no such beginning.
func scoreOf(vector string) (float64, error) {
	switch {
	case strings.HasPrefix(vector, "CVSS:4.0/"):
		v, err := cvss4.ParseVector(vector)
		if err != nil {
			return 0, err
		}
		return v.Score(), nil
	case strings.HasPrefix(vector, "CVSS:3.1/"):
		v, err := cvss31.ParseVector(vector)
		if err != nil {
			return 0, err
		}
		return v.BaseScore(), nil
	case strings.HasPrefix(vector, "CVSS:3.0/"):
		v, err := cvss30.ParseVector(vector)
		if err != nil {
			return 0, err
		}
		return v.BaseScore(), nil
	}
	v, err := cvss2.ParseVector(strings.Trim(vector, "()"))
	if err != nil {
		return 0, err
	}
	return v.BaseScore(), nil
}

// fromScore is CVSS's qualitative scale; version 2 has no critical.
func fromScore(score float64, kind string) Severity {
	switch {
	case score >= 9 && kind != "CVSS_V2":
		return Critical
	case score >= 7:
		return High
	case score >= 4:
		return Medium
	}
	return Low
}
