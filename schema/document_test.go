package schema

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// exampleDocument is what a converter makes of a Dockerfile.
func exampleDocument() *Document {
	version := ParamRef("VERSION")
	workdir, user := "/src", ParamRef("user")
	build := &Image{
		Name:   "build",
		From:   &From{Ref: "golang:" + ParamRef("GO")},
		Config: Config{Workdir: &workdir, Env: []Var{{Name: "VERSION", Value: version}}},
		Steps: []*Step{
			{Verb: VerbCopy, Paths: []string{"go.mod", "go.sum"}, To: "./"},
			{Verb: VerbRun, Run: Command{Shell: true, Args: []string{"go mod download"}}, Cache: []string{"/go/pkg/mod"}},
			{Verb: VerbRun, Run: Command{Shell: true, Args: []string{`go build -ldflags "-X main.version=` + version + `" -o /out/app`}}},
			{Verb: VerbRun, Run: Command{Shell: true, Args: []string{"set -e\nif true; then\n\techo \"\\$HOME\"\nfi\n"}}},
		},
	}
	app := &Image{
		Name:   "app",
		Stages: []*Image{build},
		Steps:  []*Step{{Verb: VerbCopy, Paths: []string{"/out/app"}, To: "/", From: &From{Image: build}}},
		Config: Config{User: &user, Expose: []string{"8080"}, Entrypoint: &Command{Args: []string{"/app"}}},
	}
	return &Document{
		Package: "app",
		Comment: "Converted from Dockerfile.",
		Params: []Param{
			{Name: "VERSION", Default: "dev", Comment: "The version that the program reports."},
			{Name: "GO", Default: "1.26"},
			{Name: "user", Required: true},
		},
		Images: []*Image{app},
		Comments: map[Node]string{
			app:                          "The service.",
			build:                        "Everything is compiled here.",
			build.Steps[1]:               "Dependencies first: they change less often.\nSo this step is cached.",
			Field{Of: app, Name: "user"}: "Not root.",
		},
	}
}

func TestPrintDocument(t *testing.T) {
	printed, err := Print(exampleDocument())
	if err != nil {
		t.Fatal(err)
	}
	golden := "testdata/print/document.cue"
	if update() {
		writeFile(t, golden, printed)
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if string(printed) != string(want) {
		t.Errorf("printed\n%s\nwant\n%s", printed, want)
	}
	spec, err := Load(context.Background(), LoadOptions{Args: []string{golden}, Tags: []string{"user=me", "VERSION=2"}})
	if err != nil {
		t.Fatal(err)
	}
	if got := *spec.Images[0].Config.User; got != "me" {
		t.Errorf("the user is %q", got)
	}
	if got := spec.Images[0].Stages[0].Config.Env[0].Value; got != "2" {
		t.Errorf("VERSION is %q", got)
	}
}

func TestPrintRefuses(t *testing.T) {
	image := func(s string) []*Image { return []*Image{{Name: "a", From: &From{Ref: s}}} }
	cases := map[string]*Document{
		"valid UTF-8":                   {Images: image("\xff")},
		`no parameter "x"`:              {Images: image(ParamRef("x"))},
		`parameter "x" is declared twi`: {Images: image("a"), Params: []Param{{Name: "x"}, {Name: "x"}}},
	}
	for want, doc := range cases {
		if _, err := Print(doc); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("the error is %v, want %q", err, want)
		}
	}
}

func TestFormat(t *testing.T) {
	got, err := Format([]byte("images:   a: { // why\nfrom:\"x\" }"))
	want := "images: a: {// why\n\tfrom: \"x\"\n}\n"
	if err != nil || string(got) != want {
		t.Errorf("got %q, %v; want %q", got, err, want)
	}
	_, err = Format([]byte("images: a: {\n\tfrom: ]\n}\n"))
	if err == nil || !strings.HasPrefix(err.Error(), ":2:8: ") {
		t.Errorf("the error is %v", err)
	}
}

func TestErrorAt(t *testing.T) {
	dir := t.TempDir()
	writeFile(t, filepath.Join(dir, "a.cue"), []byte("one\n\ttwo\nthree"))
	e := ErrorAt(dir, Position{File: "a.cue", Line: 2, Column: 2}, "it is two", "write 2")
	want := "a.cue:2:2: it is two; write 2\n    2 | \ttwo\n      | \t^\n"
	if got := e.Render(); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := ErrorAt(dir, Position{}, "m", "").Render(); got != "m\n" {
		t.Errorf("got %q", got)
	}
}
