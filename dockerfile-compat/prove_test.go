package dockerfilecompat

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
	"unicode/utf8"
)

// TestProve: CUE that was changed differs from the Dockerfile, in the stage
// where it was changed.
func TestProve(t *testing.T) {
	const text = "ARG V=1\nFROM alpine:$V AS build\nARG V\nRUN make all\nFROM alpine\nARG W=2\nCOPY --from=build /out /\nUSER app\n"
	for _, test := range []struct {
		name, old, new string
		stage          int // -1: all equal
	}{
		{"as it is", "make all", "make all", -1},
		{"command of a stage", "make all", "make some", 0},
		{"source of a copy", `"/out"`, `"/in"`, 1},
		{"config", `user: "app"`, `user: "root"`, 1},
		{"order", `user: "app"`, `expose: [80]`, 1},
		{"reference", "from: stages.build", `from: "alpine"`, 1},
		{"parameter of FROM", `"alpine:\(V)"`, `"alpine:1"`, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			c, cue := proposed(t, text)
			if !bytes.Contains(cue, []byte(test.old)) {
				t.Fatalf("no %s in\n%s", test.old, cue)
			}
			bad, err := c.prove(context.Background(), bytes.Replace(cue, []byte(test.old), []byte(test.new), 1))
			if err != nil {
				t.Fatal(err)
			}
			switch {
			case test.stage < 0 && len(bad) > 0:
				t.Errorf("differs: %+v", bad)
			case test.stage >= 0 && (len(bad) != 1 || bad[0].stage != test.stage):
				t.Errorf("differences %+v, want one in stage %d", bad, test.stage)
			}
		})
	}
}

// proposed converts up to the point where the CUE is to be proven.
func proposed(t *testing.T, text string) (*converter, []byte) {
	t.Helper()
	ctx := context.Background()
	req := Request{Filename: "Dockerfile", Text: []byte(text), Context: t.TempDir(), Options: testOptions()}
	c, err := newConverter(ctx, ConvertRequest{Request: req, Name: "app"})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.compileDockerfile(ctx); err != nil {
		t.Fatal(err)
	}
	cue, err := c.propose()
	if err != nil {
		t.Fatal(err)
	}
	return c, cue
}

// TestDifference: a stage that differs although it is kept is an error, and
// gives no CUE.
func TestDifference(t *testing.T) {
	c, _ := proposed(t, "FROM alpine\nRUN x\n")
	bad := []difference{{stage: 0, text: "something"}}
	if err := c.keep(bad); err != nil {
		t.Fatal(err)
	}
	var diff *DifferenceError
	if err := c.keep(bad); !errors.As(err, &diff) || !strings.Contains(err.Error(), "something") {
		t.Errorf("error %v, want a DifferenceError", err)
	}
}

// TestConvertRefuses what is no Dockerfile of this machine.
func TestConvertRefuses(t *testing.T) {
	for _, req := range []Request{
		{URL: "https://example.com/a.git"},
		{Text: []byte("FROM alpine"), Contexts: map[string]string{"a": "."}},
		{Text: []byte("ARG A=1"), Context: "."},
		{Text: []byte("FROM missing"), Context: ".", Options: testOptions()},
	} {
		if _, err := Convert(context.Background(), ConvertRequest{Request: req}); err == nil {
			t.Errorf("%+v: no error", req)
		}
	}
}

// FuzzConvert: whatever BuildKit accepts converts, and nothing panics. What CUE
// cannot hold, NUL and text that is no UTF-8, takes a Dockerfile which is a
// file.
func FuzzConvert(f *testing.F) {
	for _, text := range []string{
		"FROM alpine\nRUN a \\\n b\n", "ARG A=1\nFROM x:$A\nARG A\nENV B=${A:-c}\n", "FROM a\nCOPY <<EOF /x\n$a\nEOF\n",
		"# escape=`\nFROM a\nRUN `\nx\n", "FROM a AS b\nFROM b\nCOPY --from=0 a b\n", "FROM a\nRUN --mount=type=cache,target=/c <<E\n#!x\nE\n",
	} {
		f.Add([]byte(text))
	}
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, text []byte) {
		req := Request{Filename: "Dockerfile", Text: text, Context: dir, Options: testOptions()}
		_, refused := Compile(context.Background(), req)
		_, err := Convert(context.Background(), ConvertRequest{Request: req, Name: "app"})
		if refused != nil || len(text) == 0 || !utf8.Valid(text) || bytes.IndexByte(text, 0) >= 0 {
			return
		}
		if err != nil {
			t.Errorf("%v\n%s", err, text)
		}
	})
}
