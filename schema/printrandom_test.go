package schema

import (
	"context"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// TestPrintRandom prints random Specs and loads them again.
func TestPrintRandom(t *testing.T) {
	dir := t.TempDir()
	for seed := range uint64(100) {
		g := &generator{Rand: rand.New(rand.NewPCG(seed, 1))}
		doc := &Document{Images: g.images(), Params: []Param{{Name: "user", Default: "p\"a"}, {Name: "VERSION", Default: "1\n2"}}}
		printed, err := Print(doc)
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		name := filepath.Join(dir, "app.cue")
		spec, err := Load(context.Background(), LoadOptions{
			Dir: dir, Args: []string{name}, Overlay: map[string][]byte{name: printed},
		})
		if err != nil {
			t.Fatalf("seed %d: load: %v\n%s", seed, err, printed)
		}
		want := meaning(&Spec{Images: doc.Images}, dir)
		for _, p := range doc.Params {
			want = strings.ReplaceAll(want, strings.Trim(strconv.Quote(ParamRef(p.Name)), `"`), strings.Trim(strconv.Quote(p.Default), `"`))
		}
		if got := meaning(spec, dir); got != want {
			t.Fatalf("seed %d: printed\n%s\nloads as\n%s\nwant\n%s", seed, printed, got, want)
		}
		again, err := Format(printed)
		if err != nil || string(again) != string(printed) {
			t.Fatalf("seed %d: the text is not in the canonical form: %v\n%s", seed, err, printed)
		}
	}
}

// generator makes random Specs.
type generator struct{ *rand.Rand }

// awkward are strings that are hard to print.
var awkward = []string{
	"plain", "two words", "a\nb", "a\nb\n", "\n", "\n\n", "tab\there", `back\slash`, `"quoted"`, `"""`, "x\n\"\"\"\ny",
	`\(interpolated)`, `#"raw"#`, "a\r\nb", "é ü 日本", "\u200b", "\ufeff", "\x7f\x01", " leading\n  and more\n", "trailing  \n \n", "a\\\nb", "$HOME", "'",
	ParamRef("user"), "v" + ParamRef("VERSION") + "-x", "l1\nl2 " + ParamRef("user") + "\n", `\` + ParamRef("user") + "\n\n\"", "\tindent\n\t\tmore",
}

func (g *generator) text() string { return awkward[g.IntN(len(awkward))] }

// path is a text that is not empty and no variable.
func (g *generator) path() string {
	return []string{"/a", "b/c", "./", "with space", "\"q\"", "x" + ParamRef("VERSION"), "*.go"}[g.IntN(7)]
}

func (g *generator) flip() bool { return g.IntN(3) == 0 }

func (g *generator) some(make func()) {
	if g.flip() {
		make()
	}
}

func (g *generator) images() []*Image {
	var list []*Image
	for i := range 1 + g.IntN(3) {
		name := []string{"app", "b", "images", "with-dash", "user", "for", "_x"}[g.IntN(7)] + strings.Repeat("x", i)
		list = append(list, g.image(name, list, 0))
	}
	return list
}

func (g *generator) image(name string, known []*Image, depth int) *Image {
	img := &Image{Name: name}
	if depth < 2 {
		for i := range g.IntN(3) {
			stage := g.image(fmt.Sprintf("s%d", i), append(known[:len(known):len(known)], img.Stages...), depth+1)
			img.Stages = append(img.Stages, stage)
		}
	}
	known = append(known[:len(known):len(known)], img.Stages...)
	g.some(func() { img.From = g.from(known) })
	g.some(func() { img.Platform = "build" })
	g.some(func() { img.Args = []Var{{Name: "A", Value: g.text()}, {Name: "B", Unset: true}} })
	img.Config = g.config()
	if depth == 0 {
		g.some(func() { img.Platforms = []string{"linux/amd64"} })
	} else {
		img.Config.Annotations = nil
	}
	for range g.IntN(4) {
		img.Steps = append(img.Steps, g.step(known))
	}
	return img
}

func (g *generator) from(known []*Image) *From {
	switch {
	case len(known) > 0 && g.flip():
		return &From{Image: known[g.IntN(len(known))]}
	case g.flip():
		return &From{Source: &Source{Git: "https://example.com/r", Ref: "v1"}}
	case g.IntN(6) == 0:
		return &From{Switch: &Switch{Word: "${TARGETARCH}" + ParamRef("user"), Cases: []Case{{Value: "amd64", From: g.from(known)}, {Value: "stages", From: &From{Ref: "x"}}}}}
	case g.flip():
		return &From{Image: &Image{Name: "loose", From: &From{Ref: "x"}}}
	}
	return &From{Ref: "alpine"}
}

func (g *generator) vars() []Var {
	vars := []Var{}
	for _, name := range []string{"A", "user", "images", "stages", "VERSION", "with.dot", "if", "#x", "_y"} {
		g.some(func() { vars = append(vars, Var{Name: name, Value: g.text()}) })
	}
	return vars
}

func (g *generator) pointer() *string {
	s := g.text()
	return &s
}

func (g *generator) command() *Command {
	if g.flip() {
		return &Command{Args: []string{g.text(), g.text()}}
	}
	return &Command{Shell: true, Args: []string{"x" + g.text()}}
}

func (g *generator) config() Config {
	var c Config
	g.some(func() { c.Env = g.vars() })
	g.some(func() { c.Workdir = g.pointer() })
	g.some(func() { c.Shell = []string{"/bin/sh", "-c"} })
	g.some(func() { c.User = g.pointer() })
	g.some(func() { c.Entrypoint = g.command() })
	g.some(func() { c.Cmd = &Command{Args: []string{}} })
	g.some(func() { c.Expose = []string{"80", "53/udp"} })
	g.some(func() { c.Volumes = []string{g.path()} })
	g.some(func() { c.Labels = g.vars() })
	g.some(func() { c.Annotations = g.vars() })
	g.some(func() { c.Healthcheck = &Healthcheck{Test: *g.command(), Interval: "1s", Retries: 2} })
	g.some(func() { c.OnBuild = []string{"RUN true"} })
	g.some(func() { c.Author = g.pointer() })
	return c
}

func (g *generator) step(known []*Image) *Step {
	s := &Step{}
	g.some(func() { s.Name = "n" + g.text() })
	g.some(func() { s.Expand = true })
	switch g.IntN(6) {
	case 0, 1:
		s.Verb, s.Run = VerbRun, *g.command()
		s.Run.Args[0] = "x" + s.Run.Args[0]
		g.runFields(s, known)
	case 2:
		s.Verb, s.Paths, s.To = VerbCopy, []string{g.path()}, g.path()
		g.some(func() { s.From = g.from(known) })
		g.some(func() { s.Chmod, s.Chown, s.Link, s.Exclude = "0755", "1:1", true, []string{"x"} })
		g.some(func() {
			s.To, s.Files = "/d/", []Pair{{Key: "name", Value: g.text()}, {Key: "images", Value: g.text()}}
		})
	case 3:
		s.Verb, s.Pairs = VerbFile, []Pair{{Key: g.path(), Value: g.text()}, {Key: "/last", Value: g.text()}}
	case 4:
		s.Verb, s.Arg = VerbArg, []Var{{Name: "A", Value: g.text()}, {Name: "B", Unset: true}}
	case 5:
		c := g.config()
		s.Verb, s.Set = VerbSet, &c
	}
	return s
}

func (g *generator) runFields(s *Step, known []*Image) {
	g.some(func() { s.Env = g.vars() })
	g.some(func() { s.Cache = []string{g.path()} })
	g.some(func() { s.SSH = []string{"default"} })
	g.some(func() { s.SSH = []string{"one", "two"} })
	g.some(func() { s.Devices = []Device{{Name: "v.com/a=b"}, {Name: "v.com/a=c", Required: true}} })
	g.some(func() { s.Stdin = g.pointer() })
	g.some(func() { s.Secrets = []Secret{{Target: "user", ID: "s"}, {Target: "/x", ID: "y", Required: true}} })
	g.some(func() {
		uid := 3
		s.Mounts = []*Mount{
			{Target: "/ctx", Type: "bind", From: g.from(known), RW: true},
			{Target: "stages", Type: "cache", ReadOnly: true, UID: &uid, Mode: "0700"},
			{Target: "/t", Type: "tmpfs", Size: 1 << 20},
			{Target: "/s", Type: "secret", ID: "s", Env: "S"},
		}
	})
}
