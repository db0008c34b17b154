package compiler

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/buildkit/solver/pb"
	digest "github.com/opencontainers/go-digest"
	"google.golang.org/protobuf/proto"
)

// The schemes of the sources whose names a plan gives out.
const (
	localScheme  = "local://"
	layoutScheme = "oci-layout://"
)

// vertex is an op of a decoded definition.
type vertex struct {
	dgst digest.Digest
	op   *pb.Op
	raw  []byte
}

// graph is a decoded definition. Vertices are in the order of the definition,
// which has inputs first.
type graph struct {
	vertices []*vertex
	byDigest map[digest.Digest]*vertex
	root     *pb.Input // nil: the empty result
}

// decode reads a definition, and checks that every input is there before it
// is used.
func decode(def *pb.Definition) (*graph, error) {
	g := &graph{byDigest: map[digest.Digest]*vertex{}}
	if def == nil || len(def.Def) == 0 {
		return g, nil
	}
	for i, dt := range def.Def {
		v := &vertex{dgst: digest.FromBytes(dt), op: &pb.Op{}, raw: dt}
		if err := v.op.UnmarshalVT(dt); err != nil {
			return nil, fmt.Errorf("parse op %d: %w", i, err)
		}
		for _, in := range v.op.Inputs {
			if in == nil || g.byDigest[digest.Digest(in.Digest)] == nil {
				return nil, fmt.Errorf("op %d (%s) has an input that does not come before it", i, v.dgst)
			}
		}
		if i == len(def.Def)-1 {
			if v.op.Op != nil || len(v.op.Inputs) != 1 {
				return nil, errors.New("the definition does not end with a pointer to its result")
			}
			g.root = v.op.Inputs[0]
			return g, nil
		}
		g.vertices = append(g.vertices, v)
		g.byDigest[v.dgst] = v
	}
	return g, nil
}

// edit is a change of an op; it reports whether it made one.
type edit func(op *pb.Op) bool

// rewrite applies an edit to each op of a definition. Digests of what
// changed, and of all that is above it, follow; the rest stays byte for byte.
func rewrite(def *pb.Definition, change edit) (*pb.Definition, error) {
	g, err := decode(def)
	if err != nil || g.root == nil {
		return def, err
	}
	renamed, seen := map[string]string{}, map[digest.Digest]bool{}
	out := &pb.Definition{Def: make([][]byte, 0, len(def.Def))}
	for _, v := range append(g.vertices, &vertex{op: &pb.Op{Inputs: []*pb.Input{g.root}}, raw: def.Def[len(def.Def)-1]}) {
		dt, err := v.rewrite(change, renamed)
		if err != nil {
			return nil, err
		}
		// Two ops may have become one.
		if d := digest.FromBytes(dt); !seen[d] {
			seen[d] = true
			out.Def = append(out.Def, dt)
		}
	}
	out.Metadata = make(map[string]*pb.OpMetadata, len(def.Metadata))
	for dgst, meta := range def.Metadata {
		out.Metadata[newName(renamed, dgst)] = meta
	}
	if def.Source != nil {
		out.Source = &pb.Source{Infos: def.Source.Infos, Locations: make(map[string]*pb.Locations, len(def.Source.Locations))}
		for dgst, locs := range def.Source.Locations {
			out.Source.Locations[newName(renamed, dgst)] = locs
		}
	}
	return out, nil
}

// rewrite is the op with its change and the new digests of its inputs. It
// notes the op's own new digest.
func (v *vertex) rewrite(change edit, renamed map[string]string) ([]byte, error) {
	changed := v.op.Op != nil && change(v.op)
	for _, in := range v.op.Inputs {
		if name, ok := renamed[in.Digest]; ok {
			in.Digest, changed = name, true
		}
	}
	if !changed {
		return v.raw, nil
	}
	dt, err := proto.MarshalOptions{Deterministic: true}.Marshal(v.op)
	if err != nil {
		return nil, fmt.Errorf("marshal op: %w", err)
	}
	renamed[digest.FromBytes(v.raw).String()] = digest.FromBytes(dt).String()
	return dt, nil
}

func newName(renamed map[string]string, dgst string) string {
	if name, ok := renamed[dgst]; ok {
		return name
	}
	return dgst
}

// WithLocalUnique returns the definition with local.unique of its local
// sources set to id. An engine that serves several clients takes equal ops
// of two of them for one vertex, so a definition goes there with an id that
// nobody else has.
func WithLocalUnique(def *pb.Definition, id string) (*pb.Definition, error) {
	return rewrite(def, func(op *pb.Op) bool {
		src := op.GetSource()
		if src == nil || !strings.HasPrefix(src.Identifier, localScheme) {
			return false
		}
		if src.Attrs == nil {
			src.Attrs = map[string]string{}
		}
		src.Attrs[pb.AttrLocalUniqueID] = id
		return true
	})
}

// Reproducible returns the definition without the ids that BuildKit's front
// end draws anew each time: those of local sources are empty, and groups of
// progress are numbered.
func Reproducible(def *pb.Definition) (*pb.Definition, error) {
	out, err := WithLocalUnique(def, "")
	if err != nil || len(out.GetDef()) == 0 {
		return out, err
	}
	out = &pb.Definition{Def: out.Def, Metadata: numberGroups(out), Source: out.Source.CloneVT()}
	for _, info := range out.Source.GetInfos() {
		if info.Definition, err = Reproducible(info.Definition); err != nil {
			return nil, fmt.Errorf("source %s: %w", info.Filename, err)
		}
	}
	return out, nil
}

// numberGroups is the metadata of a definition, with the groups of progress
// numbered in the order of the ops.
func numberGroups(def *pb.Definition) map[string]*pb.OpMetadata {
	numbers, metadata := map[string]string{}, maps.Clone(def.Metadata)
	for _, dt := range def.Def {
		dgst := digest.FromBytes(dt).String()
		group := metadata[dgst].GetProgressGroup()
		if group == nil {
			continue
		}
		if numbers[group.Id] == "" {
			numbers[group.Id] = strconv.Itoa(len(numbers) + 1)
		}
		meta := metadata[dgst].CloneVT()
		meta.ProgressGroup.Id = numbers[group.Id]
		metadata[dgst] = meta
	}
	return metadata
}

// rename gives the local sources and layouts of a definition other names.
func rename(def *pb.Definition, locals, stores map[string]string) (*pb.Definition, error) {
	return rewrite(def, func(op *pb.Op) bool {
		src := op.GetSource()
		if src == nil {
			return false
		}
		if name, ok := strings.CutPrefix(src.Identifier, localScheme); ok && locals[name] != "" {
			changed := locals[name] != name
			src.Identifier = localScheme + locals[name]
			return changed
		}
		if name := src.Attrs[pb.AttrOCILayoutStoreID]; stores[name] != "" && stores[name] != name {
			src.Attrs[pb.AttrOCILayoutStoreID] = stores[name]
			return true
		}
		return false
	})
}

// unifyLocals makes one source of those of one directory that differ in the
// paths which they follow: a Dockerfile inside of the CUE, and the steps around
// it. It follows the paths of all, as where all of it is one Dockerfile.
func unifyLocals(def *pb.Definition) (*pb.Definition, error) {
	g, err := decode(def)
	if err != nil {
		return nil, err
	}
	union, several := map[string]*pathUnion{}, false
	for _, v := range g.vertices {
		key, ok := localKey(v.op)
		if !ok {
			continue
		}
		if union[key] == nil {
			union[key] = &pathUnion{set: map[string]struct{}{}}
		} else {
			several = true
		}
		if err := union[key].add(v.op.GetSource().Attrs); err != nil {
			return nil, err
		}
	}
	if !several {
		return def, nil
	}
	return rewrite(def, func(op *pb.Op) bool {
		key, ok := localKey(op)
		return ok && union[key].apply(op.GetSource().Attrs)
	})
}

// localKey tells local sources apart by all but the paths that they follow, and
// the id of who made them.
func localKey(op *pb.Op) (string, bool) {
	src := op.GetSource()
	if !strings.HasPrefix(src.GetIdentifier(), localScheme) {
		return "", false
	}
	var b strings.Builder
	b.WriteString(src.Identifier)
	for _, name := range slices.Sorted(maps.Keys(src.Attrs)) {
		if name != pb.AttrFollowPaths && name != pb.AttrLocalUniqueID {
			fmt.Fprintf(&b, "\x00%s=%s", name, src.Attrs[name])
		}
	}
	return b.String(), true
}

// pathUnion are the paths that several sources follow.
type pathUnion struct {
	set    map[string]struct{}
	all    bool // one of them takes everything
	unique string
}

func (u *pathUnion) add(attrs map[string]string) error {
	u.unique = attrs[pb.AttrLocalUniqueID]
	attr := attrs[pb.AttrFollowPaths]
	if attr == "" {
		u.all = true
		return nil
	}
	var paths []string
	if err := json.Unmarshal([]byte(attr), &paths); err != nil {
		return fmt.Errorf("parse paths of a local source: %w", err)
	}
	for _, p := range paths {
		u.set[p] = struct{}{}
	}
	return nil
}

// apply sets the attributes; it reports whether that is a change.
func (u *pathUnion) apply(attrs map[string]string) bool {
	before := maps.Clone(attrs)
	attrs[pb.AttrLocalUniqueID] = u.unique
	delete(attrs, pb.AttrFollowPaths)
	if !u.all {
		paths, _ := json.Marshal(slices.Sorted(maps.Keys(u.set))) // strings always marshal
		attrs[pb.AttrFollowPaths] = string(paths)
	}
	return !maps.Equal(before, attrs)
}

// sourceNames are the names of local sources and of OCI layouts that a
// definition has.
type sourceNames struct {
	locals, stores map[string]bool
}

func newSourceNames() *sourceNames {
	return &sourceNames{locals: map[string]bool{}, stores: map[string]bool{}}
}

// note takes the name of an op that is such a source. Only what may be one is
// parsed.
func (n *sourceNames) note(dt []byte) error {
	if !bytes.Contains(dt, []byte(localScheme)) && !bytes.Contains(dt, []byte(layoutScheme)) {
		return nil
	}
	var op pb.Op
	if err := op.UnmarshalVT(dt); err != nil {
		return fmt.Errorf("parse op: %w", err)
	}
	src := op.GetSource()
	if name, ok := strings.CutPrefix(src.GetIdentifier(), localScheme); ok {
		n.locals[name] = true
	}
	if name := src.GetAttrs()[pb.AttrOCILayoutStoreID]; name != "" {
		n.stores[name] = true
	}
	return nil
}
