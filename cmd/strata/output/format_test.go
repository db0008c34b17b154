package output

import (
	"errors"
	"strings"
	"testing"

	"github.com/strata-build/strata/cmd/strata/cli"
)

type formatRow struct {
	ID, Name string
	Tags     []string
}

func formatListing() Listing {
	return Listing{
		Table:   "{{.ID}}\t{{.Name}}",
		Headers: map[string]string{"ID": "ID", "Name": "FULL NAME", "Tags": "TAGS"},
		Rows:    []any{formatRow{"12345", "a<b", []string{"x", "y"}}, formatRow{"6", "a much longer name", nil}},
	}
}

func TestListing(t *testing.T) {
	tests := map[string]string{
		"":                                     "ID        FULL NAME\n12345     a<b\n6         a much longer name\n",
		"table":                                "ID        FULL NAME\n12345     a<b\n6         a much longer name\n",
		`table {{.Name}}\t{{.ID}}`:             "FULL NAME            ID\na<b                  12345\na much longer name   6\n",
		"table {{truncate .ID 2}}":             "ID\n12\n6\n",
		"table {{upper .Name}} {{json .Tags}}": "FULL NAME TAGS\nA<B [\"x\",\"y\"]\nA MUCH LONGER NAME null\n",
		"{{.Name}}={{.ID}}":                    "a<b=12345\na much longer name=6\n",
		`{{.ID}}{{"\n"}}`:                      "12345\n\n6\n\n",
		`{{.ID}}\t.`:                           "12345\t.\n6\t.\n",
		`{{join .Tags ","}}`:                   "x,y\n\n",
		"json":                                 `{"ID":"12345","Name":"a<b","Tags":["x","y"]}` + "\n" + `{"ID":"6","Name":"a much longer name","Tags":null}` + "\n",
		"{{json .Name}}":                       "\"a<b\"\n\"a much longer name\"\n",
		"{{title .Name}}{{pad .ID 1 2}}|":      "A<b 12345  |\nA much longer name 6  |\n",
	}
	for format, want := range tests {
		var b strings.Builder
		if err := formatListing().Print(&b, format); err != nil {
			t.Errorf("%s: %v", format, err)
		} else if b.String() != want {
			t.Errorf("%s:\n%q\nwant\n%q", format, b.String(), want)
		}
	}
}

// A template that cannot be used is a mistake in the command line.
func TestListingRefuses(t *testing.T) {
	for _, format := range []string{"{{.Nmae}}", "table {{.Nmae}}", "{{", "{{nofunc .ID}}", "{{split .ID}}"} {
		err := formatListing().Print(&strings.Builder{}, format)
		var code *cli.ExitError
		if !errors.As(err, &code) || code.Code != cli.ExitMisuse || !strings.Contains(err.Error(), "--format") {
			t.Errorf("%s: %v", format, err)
		}
	}
}

func TestPrintObject(t *testing.T) {
	value := struct {
		Id     string
		Size   int64
		Config struct {
			Labels map[string]string `json:"labels"`
		}
	}{Id: "x", Size: 12345678901}
	value.Config.Labels = map[string]string{"a.b": "c"}
	tests := map[string]string{
		"{{.Id}} {{.Size}}":                                       "x 12345678901\n",
		`{{index .Config.Labels "a.b"}}`:                          "c\n",
		`{{index .Config.labels "a.b"}}`:                          "c\n", // as the JSON spells it
		"{{json .Config}}":                                        `{"labels":{"a.b":"c"}}` + "\n",
		"{{range $k, $v := .Config.Labels}}{{$k}}={{$v}};{{end}}": "a.b=c;\n",
	}
	for format, want := range tests {
		var b strings.Builder
		if err := PrintObject(&b, value, format); err != nil || b.String() != want {
			t.Errorf("%s: %q, %v; want %q", format, b.String(), err, want)
		}
	}
	var code *cli.ExitError
	if err := PrintObject(&strings.Builder{}, value, "{{.Nothing}}"); !errors.As(err, &code) || code.Code != cli.ExitMisuse {
		t.Errorf("an unknown field: %v", err)
	}
}
