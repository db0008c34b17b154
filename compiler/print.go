package compiler

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/containerd/platforms"
	"github.com/moby/buildkit/solver/pb"
	digest "github.com/opencontainers/go-digest"
	"google.golang.org/protobuf/proto"
)

// ErrSeveralTargets is returned by LLB for a plan of several targets, of
// which a marshalled definition can hold one.
var ErrSeveralTargets = errors.New("the plan has several targets")

// LLB writes the marshalled pb.Definition of the only target, as `buildctl
// debug dump-llb` reads it.
func (p *Plan) LLB(w io.Writer) error {
	if len(p.Targets) != 1 {
		names := make([]string, 0, len(p.Targets))
		for i := range p.Targets {
			names = append(names, p.Targets[i].title())
		}
		return fmt.Errorf("%w: %s", ErrSeveralTargets, strings.Join(names, ", "))
	}
	dt, err := marshalDefinition(p.Targets[0].Definition)
	if err != nil {
		return err
	}
	_, err = w.Write(dt)
	return err
}

// marshalDefinition gives the same bytes for the same definition.
func marshalDefinition(def *pb.Definition) ([]byte, error) {
	dt, err := proto.MarshalOptions{Deterministic: true}.Marshal(def)
	if err != nil {
		return nil, fmt.Errorf("marshal definition: %w", err)
	}
	return dt, nil
}

// title names a target.
func (t *Target) title() string {
	name := t.Name
	if name == "" {
		name = "image"
	}
	return name + " " + platforms.FormatAll(t.Platform)
}

// targetJSON is a target as JSON prints it.
type targetJSON struct {
	Name        string            `json:"name"`
	Path        string            `json:"path,omitempty"`
	Platform    string            `json:"platform"`
	Definition  []byte            `json:"definition"` // base64
	Config      json.RawMessage   `json:"config"`
	BaseConfig  json.RawMessage   `json:"baseConfig,omitempty"`
	Tags        []string          `json:"tags,omitempty"`
	Annotations map[string]string `json:"annotations,omitempty"`
	Locals      map[string]string `json:"locals,omitempty"`
	Stores      map[string]string `json:"stores,omitempty"`
}

// JSON prints one object with the definition and config of each target.
func (p *Plan) JSON(w io.Writer) error {
	out := struct {
		Targets []targetJSON `json:"targets"`
	}{Targets: make([]targetJSON, 0, len(p.Targets))}
	for i := range p.Targets {
		t := &p.Targets[i]
		dt, err := marshalDefinition(t.Definition)
		if err != nil {
			return err
		}
		j := targetJSON{
			Name: t.Name, Path: t.Path, Platform: platforms.FormatAll(t.Platform),
			Definition: dt, Config: t.Config, BaseConfig: t.BaseConfig,
			Tags: t.Tags, Annotations: t.Annotations,
			Locals: map[string]string{}, Stores: map[string]string{},
		}
		for name, l := range t.Locals {
			j.Locals[name] = l.Dir
		}
		for name, s := range t.Stores {
			j.Stores[name] = s.Path
		}
		out.Targets = append(out.Targets, j)
	}
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(out)
}

// Dot prints the graph of all targets for graphviz. Vertices that targets
// share are drawn once.
func (p *Plan) Dot(w io.Writer) error {
	d := &printer{w: w}
	d.printf("digraph plan {\n\trankdir=BT;\n\tnode [shape=box, fontname=monospace];\n")
	seen := map[digest.Digest]bool{}
	for i := range p.Targets {
		t := &p.Targets[i]
		g, err := decode(t.Definition)
		if err != nil {
			return fmt.Errorf("%s: %w", t.title(), err)
		}
		for _, v := range g.vertices {
			if !seen[v.dgst] {
				seen[v.dgst] = true
				d.dotVertex(v)
			}
		}
		d.printf("\t%q [shape=ellipse];\n", t.title())
		if g.root != nil {
			d.dotEdge(g.root, t.title())
		}
	}
	d.printf("}\n")
	return d.err
}

// printer remembers the first error of a writer.
type printer struct {
	w   io.Writer
	err error
}

func (d *printer) printf(format string, args ...any) {
	if d.err == nil {
		_, d.err = fmt.Fprintf(d.w, format, args...)
	}
}

func (d *printer) dotVertex(v *vertex) {
	d.printf("\t%q [label=%q];\n", short(v.dgst), summary(v.op))
	for _, in := range v.op.Inputs {
		d.dotEdge(in, short(v.dgst))
	}
}

func (d *printer) dotEdge(in *pb.Input, to string) {
	label := ""
	if in.Index != 0 {
		label = fmt.Sprintf(" [label=%d]", in.Index)
	}
	d.printf("\t%q -> %q%s;\n", short(digest.Digest(in.Digest)), to, label)
}

// short is enough of a digest to tell vertices apart.
func short(dgst digest.Digest) string {
	hex := dgst.Encoded()
	return hex[:min(len(hex), 12)]
}

// Text prints the plan for people: the ops of each target with what they
// read, then what the image records.
func (p *Plan) Text(w io.Writer) error {
	d := &printer{w: w}
	for i := range p.Targets {
		if i > 0 {
			d.printf("\n")
		}
		if err := d.target(&p.Targets[i]); err != nil {
			return err
		}
	}
	return d.err
}

func (d *printer) target(t *Target) error {
	g, err := decode(t.Definition)
	if err != nil {
		return fmt.Errorf("%s: %w", t.title(), err)
	}
	d.printf("%s\n", t.title())
	number := make(map[digest.Digest]int, len(g.vertices))
	for i, v := range g.vertices {
		number[v.dgst] = i + 1
		d.vertex(i+1, v, number)
		if pos, ok := t.Position(v.dgst); ok {
			d.printf("       at %s\n", pos)
		}
	}
	if g.root == nil {
		d.printf("  the empty image\n")
	}
	d.config(t)
	return d.err
}

// vertex prints an op, the numbers of its inputs, and its details.
func (d *printer) vertex(n int, v *vertex, number map[digest.Digest]int) {
	d.printf("  %3d  %s", n, summary(v.op))
	for i, in := range v.op.Inputs {
		sep := ", "
		if i == 0 {
			sep = "  ← "
		}
		d.printf("%s%d", sep, number[digest.Digest(in.Digest)])
		if in.Index != 0 {
			d.printf(":%d", in.Index)
		}
	}
	d.printf("\n")
	for _, line := range details(v.op) {
		d.printf("       %s\n", line)
	}
}

// config prints what the image records, and what goes with it.
func (d *printer) config(t *Target) {
	var img struct {
		Config map[string]json.RawMessage `json:"config"`
	}
	if err := json.Unmarshal(t.Config, &img); err != nil {
		d.printf("  config is not valid: %v\n", err)
	}
	delete(img.Config, "ArgsEscaped") // says nothing on Linux
	for _, name := range slices.Sorted(maps.Keys(img.Config)) {
		d.printf("  %s %s\n", strings.ToLower(name), img.Config[name])
	}
	for _, name := range slices.Sorted(maps.Keys(t.Annotations)) {
		d.printf("  annotation %s=%s\n", name, t.Annotations[name])
	}
	for _, tag := range t.Tags {
		d.printf("  tag %s\n", tag)
	}
	for _, name := range slices.Sorted(maps.Keys(t.Locals)) {
		d.printf("  local %s is %s\n", name, t.Locals[name].Dir)
	}
	for _, name := range slices.Sorted(maps.Keys(t.Stores)) {
		d.printf("  store %s is %s\n", name, t.Stores[name].Path)
	}
}
