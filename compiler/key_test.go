package compiler

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	digest "github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/strata-build/strata/schema"
)

// layouts is a fake store of OCI layouts.
type layouts struct{}

func (layouts) Image(_ context.Context, path, ref string, p ocispecs.Platform) (digest.Digest, []byte, error) {
	dt := fmt.Sprintf(`{"architecture":%q,"os":%q,"config":{"Env":["FROM=%s:%s"],"WorkingDir":"/oci"},"rootfs":{"type":"layers","diff_ids":["sha256:1"]}}`, p.Architecture, p.OS, filepath.Base(path), ref)
	return digest.FromString(dt), []byte(dt), nil
}

func str(s string) *string { return &s }
func num(n int) *int       { return &n }
func yes() *bool           { b := true; return &b }

// fullImage is an image with every field of a Spec given.
func fullImage() *schema.Image {
	stage := &schema.Image{Name: "st", Path: "images.app.stages.st", From: &schema.From{Ref: "alpine"}, Context: "/ctx",
		Steps: []*schema.Step{{Verb: schema.VerbRun, Run: schema.Command{Shell: true, Args: []string{"st"}}}, {Verb: schema.VerbCopy, Paths: []string{"one"}, To: "/"}}}
	img := &schema.Image{
		Name: "app", Path: "images.app", Context: "/ctx",
		From:      &schema.From{Ref: "golang:1"},
		Platform:  "linux/amd64",
		Platforms: []string{"linux/arm64"},
		Args:      []schema.Var{{Name: "ARG1", Value: "v"}, {Name: "TARGETARCH", Unset: true}},
		Tags:      []string{"t:1"},
		Config:    fullConfig("/w"),
		Stages:    []*schema.Image{stage},
	}
	img.Steps = fullSteps(stage)
	return img
}

func fullConfig(workdir string) schema.Config {
	return schema.Config{
		Env: []schema.Var{{Name: "E", Value: "1"}}, Workdir: str(workdir), Shell: []string{"/bin/bash", "-c"},
		User: str("u"), Entrypoint: &schema.Command{Args: []string{"e"}}, Cmd: &schema.Command{Shell: true, Args: []string{"c"}},
		Expose: []string{"80"}, Volumes: []string{"/v"}, Labels: []schema.Var{{Name: "l" + workdir, Value: "$ARG1"}},
		Annotations: []schema.Var{{Name: "a" + workdir, Value: "1"}}, StopSignal: str("SIGTERM"), Author: str("me"),
		Healthcheck: &schema.Healthcheck{Test: schema.Command{Args: []string{"t"}}, Interval: "1s", Timeout: "2s", StartPeriod: "3s", StartInterval: "4s", Retries: 5},
		OnBuild:     []string{"RUN x"},
	}
}

func fullSteps(stage *schema.Image) []*schema.Step {
	cfg := fullConfig("/w2")
	shared := func(s schema.Step) *schema.Step {
		s.Chown, s.Expand = "1:$ARG1", true
		return &s
	}
	return []*schema.Step{
		{Verb: schema.VerbArg, Arg: []schema.Var{{Name: "ARG2", Value: "$ARG1"}, {Name: "TARGETOS", Unset: true}}, Expand: true},
		{Verb: schema.VerbRun, Run: schema.Command{Shell: true, Args: []string{"cmd"}}, Expand: true,
			Env: []schema.Var{{Name: "R", Value: "$ARG1"}}, Workdir: str("/run"), User: str("r"),
			Mounts: []*schema.Mount{
				{Target: "/m1", Source: "s"},
				{Target: "/m2", From: &schema.From{Image: stage}, Source: "s"},
				{Target: "/m3", Type: "cache", ID: "i", Sharing: "locked", UID: num(1), GID: num(2), Mode: "0700", From: &schema.From{Ref: "busybox"}},
				{Target: "/m4", Type: "tmpfs", Size: 10},
				{Target: "/m7", RW: true},
				{Target: "/m8", Type: "cache", ReadOnly: true},
				{Target: "/m5", Type: "secret", ID: "i", Required: true, UID: num(1), GID: num(2), Mode: "0400"},
				{Target: "/m9", Type: "secret", ID: "i", Env: "E"},
				{Target: "/m6", Type: "ssh", ID: "i", Required: true, UID: num(1), GID: num(2), Mode: "0600"},
			},
			Cache: []string{"/c1"}, Tmpfs: []string{"/t1"}, SSH: []string{"agent", "other"}, Network: "none", Insecure: true, Stdin: str("in\n"),
			Devices: []schema.Device{{Name: "v.com/a=b"}, {Name: "v.com/a=c", Required: true}},
			Secrets: []schema.Secret{{Target: "/s1", ID: "one"}, {Target: "ENV1", ID: "two", Required: true}}},
		shared(schema.Step{Verb: schema.VerbCopy, Paths: []string{"$ARG1", "b"}, To: "/to/", Chmod: "700", Include: []string{"i"}, Exclude: []string{"x"}}),
		shared(schema.Step{Verb: schema.VerbCopy, Paths: []string{"a"}, To: "/to/", Files: []schema.Pair{{Key: "n", Value: "$ARG1"}}}),
		shared(schema.Step{Verb: schema.VerbCopy, Paths: []string{"a"}, To: "/sw/", From: &schema.From{Switch: &schema.Switch{
			Word: "v", Cases: []schema.Case{{Value: "v", From: &schema.From{Ref: "busybox"}}}}}}),
		shared(schema.Step{Verb: schema.VerbCopy, Paths: []string{"a"}, To: "/sw/", From: &schema.From{Switch: &schema.Switch{Default: &schema.From{Ref: "golang"}}}}),
		shared(schema.Step{Verb: schema.VerbCopy, Paths: []string{"p/q"}, To: "/to/", Parents: true, Link: true}),
		shared(schema.Step{Verb: schema.VerbCopy, Pairs: []schema.Pair{{Key: "k", Value: "/v"}}, Unpack: yes(),
			From: &schema.From{Source: &schema.Source{Local: "/other", Subdir: "sub", Include: []string{"i"}, Exclude: []string{"e"}}}}),
		shared(schema.Step{Verb: schema.VerbCopy, Pairs: []schema.Pair{{Key: "k", Value: "/v"}},
			From: &schema.From{Source: &schema.Source{Git: "https://example.com/a/b.git", Ref: "r", Checksum: strings.Repeat("0", 40), Subdir: "sub", Include: []string{"i"}, Exclude: []string{"e"}}}}),
		shared(schema.Step{Verb: schema.VerbCopy, Paths: []string{"k"}, To: "/h",
			From: &schema.From{Source: &schema.Source{HTTP: "https://example.com/k", Checksum: digest.FromString("x").String()}}}),
		shared(schema.Step{Verb: schema.VerbCopy, Paths: []string{"k"}, To: "/o",
			From: &schema.From{Source: &schema.Source{OCI: "/layout", Ref: "tag", Subdir: "s", Include: []string{"i"}, Exclude: []string{"e"}}}}),
		shared(schema.Step{Verb: schema.VerbAdd, Paths: []string{"https://example.com/x.git"}, To: "/to/", KeepGitDir: true, Checksum: strings.Repeat("1", 40), Link: true}),
		shared(schema.Step{Verb: schema.VerbAdd, Paths: []string{"a"}, To: "/to/", Unpack: yes(), Include: []string{"i"}, Exclude: []string{"x"}}),
		shared(schema.Step{Verb: schema.VerbFile, Paths: []string{"/f"}, Content: "$ARG1", Chmod: "600"}),
		shared(schema.Step{Verb: schema.VerbFile, Pairs: []schema.Pair{{Key: "f1", Value: "1"}}, To: "/dir/", Link: true}),
		shared(schema.Step{Verb: schema.VerbMkdir, Paths: []string{"/d1$ARG1", "/d2"}, Chmod: "700"}),
		{Verb: schema.VerbRm, Paths: []string{"/d1$ARG1"}, Expand: true},
		shared(schema.Step{Verb: schema.VerbSymlink, Paths: []string{"tgt$ARG1"}, To: "/l/k"}),
		{Verb: schema.VerbSet, Set: &cfg, Expand: true},
	}
}

// leaf is one value in an image, found by its path.
type leaf struct {
	path  string
	index []func(reflect.Value) reflect.Value
}

// leaves lists all strings, numbers, booleans, and whole lists of an image
// that are not metadata. A list is changed by leaving its last element out.
func leaves(v reflect.Value, path string, index []func(reflect.Value) reflect.Value) []leaf {
	at := func(step func(reflect.Value) reflect.Value) []func(reflect.Value) reflect.Value {
		return append(append([]func(reflect.Value) reflect.Value{}, index...), step)
	}
	switch v.Kind() {
	case reflect.Pointer:
		if v.IsNil() {
			return nil
		}
		return leaves(v.Elem(), path, at(reflect.Value.Elem))
	case reflect.Struct:
		var out []leaf
		for i := range v.NumField() {
			f := v.Type().Field(i)
			if metadata(path, f.Name) {
				continue
			}
			out = append(out, leaves(v.Field(i), path+"."+f.Name, at(func(v reflect.Value) reflect.Value { return v.Field(i) }))...)
		}
		return out
	case reflect.Slice:
		var out []leaf
		if v.Len() > 0 {
			out = append(out, leaf{path: path, index: index})
		}
		for i := range v.Len() {
			out = append(out, leaves(v.Index(i), fmt.Sprintf("%s[%d]", path, i), at(func(v reflect.Value) reflect.Value { return v.Index(i) }))...)
		}
		return out
	}
	if v.IsZero() {
		return nil
	}
	return []leaf{{path: path, index: index}}
}

// ofSpec collects the names of all fields below a type.
func ofSpec(typ reflect.Type, seen map[reflect.Type]bool, names map[string]bool) {
	for typ.Kind() == reflect.Pointer || typ.Kind() == reflect.Slice {
		typ = typ.Elem()
	}
	if typ.Kind() != reflect.Struct || seen[typ] {
		return
	}
	seen[typ] = true
	for i := range typ.NumField() {
		f := typ.Field(i)
		if metadata("", f.Name) {
			continue
		}
		elem := f.Type
		for elem.Kind() == reflect.Pointer || elem.Kind() == reflect.Slice {
			elem = elem.Elem()
		}
		if elem.Kind() != reflect.Struct {
			names[f.Name] = true
		}
		ofSpec(f.Type, seen, names)
	}
}

// fieldName is the last field of a path.
func fieldName(path string) string {
	name := path[strings.LastIndex(path, ".")+1:]
	name, _, _ = strings.Cut(name, "[")
	return name
}

// metadata tells the fields that no key depends on.
func metadata(path, field string) bool {
	switch field {
	case "Pos", "FieldPos", "Path", "Package", "Stages", "Dockerfile":
		return true
	case "Name":
		return strings.HasSuffix(path, "]") && strings.Contains(path, ".Steps[") && !strings.Contains(path, "Env[") && !strings.Contains(path, "Arg[") &&
			!strings.Contains(path, "Labels[") && !strings.Contains(path, "Annotations[") || !strings.Contains(path, "[") || strings.HasSuffix(path, ".Image")
	case "Verb":
		return true
	}
	return false
}

// change makes another valid value of a leaf.
func change(t *testing.T, path string, v reflect.Value) {
	t.Helper()
	switch v.Kind() {
	case reflect.Slice:
		v.SetLen(v.Len() - 1)
	case reflect.Bool:
		v.SetBool(!v.Bool())
	case reflect.Int, reflect.Int64:
		v.SetInt(v.Int() + 1)
	case reflect.String:
		v.SetString(otherText(path, v.String()))
	default:
		t.Fatalf("%s: a %s cannot be changed", path, v.Kind())
	}
}

// otherText is a text that is as valid as the given one.
func otherText(path, text string) string {
	field := path[strings.LastIndex(path, ".")+1:]
	for _, c := range []struct{ suffix, other string }{
		{"Platform", "linux/s390x"}, {"Platforms[0]", "linux/riscv64"}, {"Chmod", "711"}, {"Mode", "0711"},
		{"Network", "host"}, {"Sharing", "private"}, {"StopSignal", "SIGINT"}, {"OnBuild[0]", "RUN y"},
		{"Expose[0]", "81"}, {"Interval", "9s"}, {"Timeout", "9s"}, {"StartPeriod", "9s"}, {"StartInterval", "9s"},
		{"Type", "bind"}, {"Git", "https://example.com/a/c.git"}, {"HTTP", "https://example.com/other"},
	} {
		if field == c.suffix {
			return c.other
		}
	}
	if field == "Checksum" {
		return strings.ReplaceAll(strings.ReplaceAll(text, "0", "2"), "1", "3")
	}
	switch {
	case field == "Ref" && !strings.Contains(path, "Source"):
		if strings.HasPrefix(text, "golang") {
			return "golang:2"
		}
		return text + ":2"
	case strings.HasPrefix(text, "https://"):
		return "https://example.com/y.git"
	case text == "" && field == "Type":
		return "bind"
	}
	if strings.HasSuffix(text, "/") {
		return text + "x/"
	}
	return text + "x"
}

// fingerprint is all of a target that a build depends on.
func fingerprint(t *testing.T, target Target) string {
	t.Helper()
	g, err := newPlainGraph(target.Definition)
	if err != nil {
		t.Fatal(err)
	}
	rest, err := json.Marshal(map[string]any{
		"config": json.RawMessage(target.Config), "tags": target.Tags, "annotations": target.Annotations,
		"locals": target.Locals, "stores": target.Stores, "platform": target.Platform,
	})
	if err != nil {
		t.Fatal(err)
	}
	return g.plain[digest.Digest(g.root.Digest)].String() + string(rest)
}

// TestEveryFieldCounts changes each field of each step, and of the image, in
// turn: one that changes nothing would be accepted and ignored.
func TestEveryFieldCounts(t *testing.T) {
	opts := Options{BuildPlatform: platform(t, build), Meta: registry{}, Layouts: layouts{},
		Ignore: func(string) ([]string, error) { return nil, nil }}
	print := func(img *schema.Image) (string, error) {
		plan, err := Compile(context.Background(), &schema.Spec{Images: []*schema.Image{img}}, opts)
		if err != nil {
			return "", err
		}
		var all string
		for _, target := range plan.Targets {
			all += fingerprint(t, target)
		}
		return all, nil
	}
	before, err := print(fullImage())
	if err != nil {
		t.Fatal(err)
	}
	if again, err := print(fullImage()); err != nil || again != before {
		t.Fatalf("the same image twice differs: %v", err)
	}
	all := leaves(reflect.ValueOf(fullImage()), "image", nil)
	refused, missing := 0, map[string]bool{}
	ofSpec(reflect.TypeFor[*schema.Image](), map[reflect.Type]bool{}, missing)
	for _, l := range all {
		delete(missing, fieldName(l.path))
		img := fullImage()
		v := reflect.ValueOf(img)
		for _, step := range l.index {
			v = step(v)
		}
		change(t, l.path, v)
		after, err := print(img)
		if err != nil {
			if !mayBeRefused(l.path) {
				t.Errorf("%s: %v", l.path, err)
			}
			refused++
			continue
		}
		if after == before {
			t.Errorf("%s: changing it changes nothing", l.path)
		}
	}
	for name := range missing {
		t.Errorf("no step of the full image has %s", name)
	}
	t.Logf("%d fields, %d of which may not change alone", len(all), refused)
}

// mayBeRefused lists changes that are not valid by themselves.
func mayBeRefused(path string) bool {
	for _, suffix := range []string{
		".Paths", ".Args", ".Pairs", ".Shell", // must not be empty
		".Type",                                            // goes with other fields
		".Switch.Word", ".Switch.Cases", ".Cases[0].Value", // no case is left
	} {
		if strings.HasSuffix(path, suffix) {
			return true
		}
	}
	return false
}
