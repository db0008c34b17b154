package dockerfilecompat

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/rogpeppe/go-internal/txtar"

	"github.com/strata-build/strata/compiler"
)

// TestCompile compiles the Dockerfiles of testdata/compile: the plan, or the
// error with the line and the caret, and the warnings, are the golden file.
func TestCompile(t *testing.T) {
	archives(t, "compile", func(t *testing.T, file string, archive *txtar.Archive) {
		const golden = "plan"
		dir := unpack(t, archive, golden)
		got := compileText(t, request(t, dir, string(archive.Comment)))
		got = regexp.MustCompile("layout-[0-9a-f]{16}").ReplaceAllString(got, "layout-ID")
		checkGolden(t, file, archive, golden, strings.ReplaceAll(got, dir, "$DIR"))
	})
}

func compileText(t *testing.T, req Request) string {
	res, err := Compile(context.Background(), req)
	var b strings.Builder
	if err != nil {
		b.WriteString(rendered(err))
	}
	if res == nil {
		return b.String()
	}
	plan := compiler.Plan{Targets: res.Targets}
	if err := plan.Text(&b); err != nil {
		t.Fatal(err)
	}
	for _, target := range res.Targets {
		for _, name := range slices.Sorted(maps.Keys(target.Locals)) {
			fmt.Fprintf(&b, "local %s = %s\n", name, target.Locals[name].Dir)
		}
		for _, name := range slices.Sorted(maps.Keys(target.Stores)) {
			fmt.Fprintf(&b, "store = %s\n", target.Stores[name].Path)
		}
	}
	for _, w := range res.Warnings {
		fmt.Fprintln(&b, w)
	}
	return b.String()
}

// TestPlans compiles every Dockerfile of testdata/own.txtar, and for a second
// platform those that ask for one. The plans are testdata/own.plans.txtar, under the same
// names; UPDATE=1 writes them.
func TestPlans(t *testing.T) {
	own, err := txtar.ParseFile("testdata/own.txtar")
	if err != nil {
		t.Fatal(err)
	}
	const golden = "testdata/own.plans.txtar"
	dir := t.TempDir()
	got := &txtar.Archive{}
	for _, f := range own.Files {
		req := Request{Filename: "Dockerfile", Text: f.Data, Context: dir, Options: testOptions()}
		req.Platforms = []ocispecs.Platform{{OS: "linux", Architecture: "amd64"}}
		if bytes.Contains(f.Data, []byte("PLATFORM")) || bytes.Contains(f.Data, []byte("TARGET")) {
			req.Platforms = append(req.Platforms, ocispecs.Platform{OS: "linux", Architecture: "arm64"})
		}
		text := strings.ReplaceAll(compileText(t, req), dir, "$DIR")
		got.Files = append(got.Files, txtar.File{Name: f.Name, Data: []byte(strings.ReplaceAll(text, "\n-- ", "\n - "))})
	}
	if os.Getenv("UPDATE") != "" {
		writeArchive(t, golden, got)
	}
	want, err := txtar.ParseFile(golden)
	if err != nil || len(want.Files) != len(got.Files) {
		t.Fatalf("%s: %v; UPDATE=1 writes it", golden, err)
	}
	for i, f := range got.Files {
		if !bytes.Equal(f.Data, want.Files[i].Data) {
			t.Errorf("%s: the plan differs from that in %s; UPDATE=1 writes it:\n%s", f.Name, golden, f.Data)
		}
	}
}

// TestLint checks the Dockerfiles of testdata/lint.
func TestLint(t *testing.T) {
	archives(t, "lint", func(t *testing.T, file string, archive *txtar.Archive) {
		const golden = "warnings"
		dir := unpack(t, archive, golden)
		list, err := Lint(context.Background(), request(t, dir, string(archive.Comment)))
		var b strings.Builder
		for _, w := range list {
			b.WriteString(w.Render())
		}
		if err != nil {
			b.WriteString("error: " + rendered(err))
		}
		checkGolden(t, file, archive, golden, strings.ReplaceAll(b.String(), dir, "$DIR"))
	})
}

// TestNoResolver: what is not on this machine is refused, never a panic.
func TestNoResolver(t *testing.T) {
	for _, text := range []string{"FROM alpine", "ARG SOURCE_DATE_EPOCH=context\nFROM scratch\nCOPY a /\n"} {
		_, err := Compile(context.Background(), Request{Text: []byte(text)})
		if err == nil {
			t.Errorf("%q: no error", text)
		}
	}
	_, err := Compile(context.Background(), Request{URL: "https://example.com/a.git"})
	if err == nil || !strings.Contains(err.Error(), "context that is not on this machine") {
		t.Errorf("remote context: %v", err)
	}
}

// TestLinkOutOfContext: a Dockerfile that is a link to a file elsewhere is not
// read.
func TestLinkOutOfContext(t *testing.T) {
	dir := t.TempDir()
	if err := os.Symlink("/etc/hostname", filepath.Join(dir, "Dockerfile")); err != nil {
		t.Fatal(err)
	}
	_, err := Compile(context.Background(), Request{Dir: dir, Context: dir, Options: testOptions()})
	if err == nil {
		t.Error("the link was followed out of the directory")
	}
}
