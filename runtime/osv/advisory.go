package osv

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
)

// advisory is what is used of one document of the database.
type advisory struct {
	ID        string   `json:"id"`
	Withdrawn string   `json:"withdrawn"`
	Aliases   []string `json:"aliases"`
	// Upstream are the vulnerabilities that a distribution's advisory is about.
	Upstream []string   `json:"upstream"`
	Summary  string     `json:"summary"`
	Details  string     `json:"details"`
	Severity []rating   `json:"severity"`
	Affected []affected `json:"affected"`
	Specific specific   `json:"database_specific"`
}

// summary is one line, which Debian's advisories have in their details only.
func (a *advisory) summary() string {
	line, _, _ := strings.Cut(strings.TrimSpace(cmp.Or(a.Summary, a.Details)), "\n")
	return line
}

// rating is a severity: a CVSS vector, or a word of the database's own.
type rating struct {
	Type  string `json:"type"`
	Score string `json:"score"`
}

type affected struct {
	Package struct {
		Ecosystem string `json:"ecosystem"`
		Name      string `json:"name"`
	} `json:"package"`
	Severity  []rating       `json:"severity"`
	Ranges    []versionRange `json:"ranges"`
	Versions  []string       `json:"versions"`
	Ecosystem specific       `json:"ecosystem_specific"`
	Database  specific       `json:"database_specific"`
}

type versionRange struct {
	Type   string  `json:"type"`
	Events []event `json:"events"`
}

// event has one of the fields.
type event struct {
	Introduced   string `json:"introduced"`
	Fixed        string `json:"fixed"`
	LastAffected string `json:"last_affected"`
	Limit        string `json:"limit"`
}

// specific is what databases add in their own way: GitHub and Red Hat a
// severity, Debian an urgency.
type specific struct{ Severity, Urgency string }

// UnmarshalJSON implements json.Unmarshaler. The schema leaves open what is
// here, so that nothing but text under these names matters.
func (s *specific) UnmarshalJSON(data []byte) error {
	var fields map[string]json.RawMessage
	if json.Unmarshal(data, &fields) != nil {
		return nil // not an object
	}
	s.Severity, s.Urgency = text(fields["severity"]), text(fields["urgency"])
	return nil
}

func text(raw json.RawMessage) string {
	var s string
	if json.Unmarshal(raw, &s) != nil {
		return ""
	}
	return s
}

// errNotAdvisory means that a JSON document is something else.
var errNotAdvisory = errors.New("not an OSV advisory: it has no id")

// parse reads a document if it names a package that is wanted; nil if not.
func parse(data []byte, want wanted) (*advisory, error) {
	// Most of a database is about other packages: their long lists of versions
	// are never turned into Go's strings.
	var head struct {
		ID       string `json:"id"`
		Affected []struct {
			Package struct {
				Ecosystem string `json:"ecosystem"`
				Name      string `json:"name"`
			} `json:"package"`
		} `json:"affected"`
	}
	if err := json.Unmarshal(data, &head); err != nil {
		return nil, fmt.Errorf("not an OSV advisory: %w", err)
	}
	if head.ID == "" {
		return nil, errNotAdvisory
	}
	for _, a := range head.Affected {
		if want.has(a.Package.Ecosystem, a.Package.Name) {
			return parseWhole(data)
		}
	}
	return nil, nil
}

func parseWhole(data []byte) (*advisory, error) {
	a := &advisory{}
	if err := json.Unmarshal(data, a); err != nil {
		return nil, fmt.Errorf("not an OSV advisory: %w", err)
	}
	if a.Withdrawn != "" {
		return nil, nil
	}
	return a, nil
}
