package compiler

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"

	"github.com/moby/buildkit/solver/pb"
	digest "github.com/opencontainers/go-digest"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// sessionAttrs are attributes of sources that tell one session from another.
func sessionAttrs() []string {
	return []string{pb.AttrLocalUniqueID, pb.AttrLocalSessionID, pb.AttrOCILayoutSessionID}
}

// Equal reports whether two targets are the same build: the same ops, inputs
// and image config. Metadata (names, caps, progress groups, positions) and
// what only tells one session from another do not count. diff says which op
// and field differ first, bottom up.
func Equal(a, b Target) (diff string, ok bool) {
	if diff := diffDefinitions(a.Definition, b.Definition); diff != "" {
		return diff, false
	}
	if diff := diffConfigs(a.Config, b.Config); diff != "" {
		return "image config: " + diff, false
	}
	return "", true
}

// plainGraph is a decoded definition without what Equal leaves out, where
// each vertex has the digest of what is left of it and of all below.
type plainGraph struct {
	*graph
	plain map[digest.Digest]digest.Digest
}

func newPlainGraph(def *pb.Definition) (*plainGraph, error) {
	g, err := decode(def)
	if err != nil {
		return nil, err
	}
	p := &plainGraph{graph: g, plain: make(map[digest.Digest]digest.Digest, len(g.vertices))}
	for _, v := range g.vertices {
		if src := v.op.GetSource(); src != nil {
			for _, name := range sessionAttrs() {
				delete(src.Attrs, name)
			}
		}
		op := v.op.CloneVT()
		for _, in := range op.Inputs {
			in.Digest = p.plain[digest.Digest(in.Digest)].String()
		}
		dt, err := proto.MarshalOptions{Deterministic: true}.Marshal(op)
		if err != nil {
			return nil, fmt.Errorf("marshal op %s: %w", v.dgst, err)
		}
		p.plain[v.dgst] = digest.FromBytes(dt)
	}
	return p, nil
}

func diffDefinitions(a, b *pb.Definition) string {
	ga, err := newPlainGraph(a)
	if err != nil {
		return "first definition: " + err.Error()
	}
	gb, err := newPlainGraph(b)
	if err != nil {
		return "second definition: " + err.Error()
	}
	if ga.root == nil || gb.root == nil {
		if ga.root != gb.root {
			return fmt.Sprintf("one is the empty image: %d ops against %d", len(ga.vertices), len(gb.vertices))
		}
		return ""
	}
	c := &comparison{a: ga, b: gb, seen: map[[2]digest.Digest]bool{}}
	return c.input("result", ga.root, gb.root)
}

// comparison walks two graphs side by side.
type comparison struct {
	a, b *plainGraph
	seen map[[2]digest.Digest]bool
}

// input compares two inputs and all below them.
func (c *comparison) input(name string, a, b *pb.Input) string {
	if diff := c.vertex(digest.Digest(a.Digest), digest.Digest(b.Digest)); diff != "" {
		return diff
	}
	if a.Index != b.Index {
		return fmt.Sprintf("%s: output %d != %d", name, a.Index, b.Index)
	}
	return ""
}

func (c *comparison) vertex(a, b digest.Digest) string {
	if c.a.plain[a] == c.b.plain[b] || c.seen[[2]digest.Digest{a, b}] {
		return ""
	}
	c.seen[[2]digest.Digest{a, b}] = true
	va, vb := c.a.byDigest[a], c.b.byDigest[b]
	if kind(va.op) == kind(vb.op) && len(va.op.Inputs) == len(vb.op.Inputs) {
		for i := range va.op.Inputs {
			if diff := c.input(fmt.Sprintf("%s: input %d", summary(va.op), i), va.op.Inputs[i], vb.op.Inputs[i]); diff != "" {
				return diff
			}
		}
	}
	diff := diffMessages("", withoutInputs(va.op).ProtoReflect(), withoutInputs(vb.op).ProtoReflect())
	if diff == "" {
		diff = fmt.Sprintf("%d inputs != %d", len(va.op.Inputs), len(vb.op.Inputs))
	}
	return fmt.Sprintf("%s: %s", both(summary(va.op), summary(vb.op)), diff)
}

// both names an op by what the two sides call it.
func both(a, b string) string {
	if a == b {
		return a
	}
	return a + " | " + b
}

func withoutInputs(op *pb.Op) *pb.Op {
	op = op.CloneVT()
	op.Inputs = nil
	return op
}

// diffMessages names the first field that differs.
func diffMessages(path string, a, b protoreflect.Message) string {
	if a.Descriptor() != b.Descriptor() {
		return fmt.Sprintf("%s: %s != %s", path, a.Descriptor().Name(), b.Descriptor().Name())
	}
	fields := a.Descriptor().Fields()
	for i := range fields.Len() {
		fd := fields.Get(i)
		name := string(fd.Name())
		if path != "" {
			name = path + "." + name
		}
		if diff := diffFields(name, fd, a, b); diff != "" {
			return diff
		}
	}
	return ""
}

func diffFields(name string, fd protoreflect.FieldDescriptor, a, b protoreflect.Message) string {
	va, vb := a.Get(fd), b.Get(fd)
	switch {
	case fd.IsList():
		return diffLists(name, fd, va.List(), vb.List())
	case fd.IsMap():
		return diffMaps(name, va.Map(), vb.Map())
	case fd.Message() == nil:
		if va.Equal(vb) {
			return ""
		}
		return diffValues(name, show(va), show(vb))
	case a.Has(fd) != b.Has(fd):
		return name + ": given on one side only"
	case !a.Has(fd):
		return ""
	}
	return diffMessages(name, va.Message(), vb.Message())
}

func diffLists(name string, fd protoreflect.FieldDescriptor, a, b protoreflect.List) string {
	for i := range min(a.Len(), b.Len()) {
		at := fmt.Sprintf("%s[%d]", name, i)
		if fd.Message() != nil {
			if diff := diffMessages(at, a.Get(i).Message(), b.Get(i).Message()); diff != "" {
				return diff
			}
		} else if !a.Get(i).Equal(b.Get(i)) {
			return diffValues(at, show(a.Get(i)), show(b.Get(i)))
		}
	}
	if a.Len() != b.Len() {
		return fmt.Sprintf("%s: %d elements != %d", name, a.Len(), b.Len())
	}
	return ""
}

func diffMaps(name string, a, b protoreflect.Map) string {
	keys := map[string]protoreflect.MapKey{}
	for _, m := range []protoreflect.Map{a, b} {
		m.Range(func(k protoreflect.MapKey, _ protoreflect.Value) bool {
			keys[k.String()] = k
			return true
		})
	}
	for _, k := range slices.Sorted(maps.Keys(keys)) {
		at, key := fmt.Sprintf("%s[%s]", name, k), keys[k]
		switch {
		case !a.Has(key):
			return fmt.Sprintf("%s: nothing != %s", at, show(b.Get(key)))
		case !b.Has(key):
			return fmt.Sprintf("%s: %s != nothing", at, show(a.Get(key)))
		case !a.Get(key).Equal(b.Get(key)):
			return diffValues(at, show(a.Get(key)), show(b.Get(key)))
		}
	}
	return ""
}

func diffValues(name, a, b string) string { return fmt.Sprintf("%s: %s != %s", name, a, b) }

// show prints a value; text and file contents as strings.
func show(v protoreflect.Value) string {
	switch x := v.Interface().(type) {
	case string:
		return strconv.Quote(x)
	case []byte:
		return strconv.Quote(string(x))
	}
	return v.String()
}

// diffConfigs compares two JSON documents.
func diffConfigs(a, b []byte) string {
	if bytes.Equal(a, b) {
		return ""
	}
	var va, vb any
	if err := json.Unmarshal(a, &va); err != nil {
		return "first config: " + err.Error()
	}
	if err := json.Unmarshal(b, &vb); err != nil {
		return "second config: " + err.Error()
	}
	return diffJSON("", va, vb)
}

func diffJSON(path string, a, b any) string {
	switch xa := a.(type) {
	case map[string]any:
		if xb, ok := b.(map[string]any); ok {
			return diffObjects(path, xa, xb)
		}
	case []any:
		if xb, ok := b.([]any); ok {
			return diffArrays(path, xa, xb)
		}
	default:
		if fmt.Sprintf("%T %v", a, a) == fmt.Sprintf("%T %v", b, b) {
			return ""
		}
	}
	return diffValues(path, showJSON(a), showJSON(b))
}

func diffObjects(path string, a, b map[string]any) string {
	keys := maps.Clone(a)
	maps.Copy(keys, b)
	for _, k := range slices.Sorted(maps.Keys(keys)) {
		at := k
		if path != "" {
			at = path + "." + k
		}
		va, inA := a[k]
		vb, inB := b[k]
		if inA != inB {
			return diffValues(at, showJSON(va), showJSON(vb))
		}
		if diff := diffJSON(at, va, vb); diff != "" {
			return diff
		}
	}
	return ""
}

func diffArrays(path string, a, b []any) string {
	for i := range min(len(a), len(b)) {
		if diff := diffJSON(fmt.Sprintf("%s[%d]", path, i), a[i], b[i]); diff != "" {
			return diff
		}
	}
	if len(a) == len(b) {
		return ""
	}
	longer := a
	if len(b) > len(a) {
		longer = b
	}
	return fmt.Sprintf("%s: %d elements != %d, the next is %s", path, len(a), len(b), showJSON(longer[min(len(a), len(b))]))
}

func showJSON(v any) string {
	if v == nil {
		return "nothing"
	}
	dt, err := json.Marshal(v)
	if err != nil {
		return fmt.Sprint(v)
	}
	return string(dt)
}
