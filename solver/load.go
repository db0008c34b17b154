package solver

import (
	"errors"
	"fmt"

	"github.com/moby/buildkit/solver/pb"
	digest "github.com/opencontainers/go-digest"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// ErrInvalid is wrapped by every error of Load.
var ErrInvalid = errors.New("invalid LLB definition")

// Load decodes definitions into one graph, and returns the edge that each of
// them asks for. An empty definition asks for scratch. A definition is input
// from outside: whatever is wrong with it is an error that says where
// (CVE-2024-23650). Operations that nothing needs are dropped.
func Load(defs ...*pb.Definition) (*Graph, []Edge, error) {
	l := loader{vertices: map[digest.Digest]*Vertex{}}
	edges := make([]Edge, len(defs))
	for i, def := range defs {
		edge, err := l.definition(def)
		if err != nil && len(defs) > 1 {
			err = fmt.Errorf("definition %d: %w", i+1, err)
		}
		if err != nil {
			return nil, nil, fmt.Errorf("%w: %w", ErrInvalid, err)
		}
		edges[i] = edge
	}
	l.placeSources()
	return &Graph{vertices: l.order}, edges, nil
}

// loader collects the vertices of all definitions.
type loader struct {
	vertices map[digest.Digest]*Vertex
	order    []*Vertex // finished ones, inputs first
}

// source is what one definition has to say about a digest: the operation, and
// where a message finds it.
type source struct {
	op    *pb.Op
	place int
}

// definition loads the vertices that a definition's last operation asks for.
// That operation has no work of its own: it only names an edge.
func (l *loader) definition(def *pb.Definition) (Edge, error) {
	if def == nil {
		return Edge{}, errors.New("there is none")
	}
	if len(def.Def) == 0 {
		return Edge{}, nil
	}
	ops, last, err := decode(def.Def)
	if err != nil {
		return Edge{}, err
	}
	if last.Op != nil || len(last.Inputs) != 1 {
		return Edge{}, fmt.Errorf("operation %d is the last one and has to be the terminal: no work, one input", len(def.Def))
	}
	files, err := locations(def.Source)
	if err != nil {
		return Edge{}, err
	}
	if err := l.walk(ops, digest.Digest(last.Inputs[0].Digest), def.Metadata, files); err != nil {
		return Edge{}, err
	}
	edge, err := l.edge(last.Inputs[0])
	if err != nil {
		return Edge{}, fmt.Errorf("the terminal operation: %w", err)
	}
	return edge, nil
}

// placeSources says of operations that no file mentions, as the sources of a
// Dockerfile's ADD and COPY, that they stand where they are first used.
func (l *loader) placeSources() {
	for _, v := range l.order {
		for _, in := range v.Inputs {
			if !in.Scratch() && len(in.Vertex.locations) == 0 {
				in.Vertex.locations = v.locations
			}
		}
	}
}

// decode parses the operations of one definition. The generated fast parser
// is not used: it recurses without a limit.
func decode(marshalled [][]byte) (ops map[digest.Digest]source, last *pb.Op, err error) {
	ops = make(map[digest.Digest]source, len(marshalled))
	for i, data := range marshalled {
		op := &pb.Op{}
		if err := proto.Unmarshal(data, op); err != nil {
			return nil, nil, fmt.Errorf("decode operation %d: %w", i+1, err)
		}
		if name, number, found := unknownField(op.ProtoReflect()); found {
			return nil, nil, fmt.Errorf("operation %d needs a newer version: it has field %d of %s, which this one does not know", i+1, number, name)
		}
		ops[digest.FromBytes(data)] = source{op: op, place: i + 1}
		last = op
	}
	return ops, last, nil
}

// walk loads a vertex and all that it needs, inputs first. It keeps its own
// stack: a definition may be deeper than a goroutine's.
func (l *loader) walk(ops map[digest.Digest]source, root digest.Digest, meta map[string]*pb.OpMetadata, files map[string][]Location) error {
	if _, ok := ops[root]; !ok {
		return fmt.Errorf("the terminal operation: input %q is not in the definition", root)
	}
	onPath := map[digest.Digest]bool{}
	seen := map[digest.Digest]bool{}
	stack := []digest.Digest{root}
	for len(stack) > 0 {
		dgst := stack[len(stack)-1]
		src := ops[dgst]
		if seen[dgst] {
			stack = stack[:len(stack)-1]
			continue
		}
		if onPath[dgst] {
			if err := l.add(dgst, src.op, meta[string(dgst)], files[string(dgst)]); err != nil {
				return fmt.Errorf("operation %d (%s): %w", src.place, kindOf(src.op), err)
			}
			delete(onPath, dgst)
			seen[dgst] = true
			continue
		}
		onPath[dgst] = true
		// The first input goes on top: vertices come in the order of inputs.
		for i := len(src.op.Inputs) - 1; i >= 0; i-- {
			in := digest.Digest(src.op.Inputs[i].Digest)
			switch _, ok := ops[in]; {
			case !ok:
				return fmt.Errorf("operation %d (%s): input %d, %q, is not in the definition", src.place, kindOf(src.op), i, in)
			case onPath[in]:
				return fmt.Errorf("operation %d (%s): input %d needs the operation itself", src.place, kindOf(src.op), i)
			case !seen[in]:
				stack = append(stack, in)
			}
		}
	}
	return nil
}

// add makes the vertex of an operation whose inputs are loaded, or adds what
// a further definition knows of it.
func (l *loader) add(dgst digest.Digest, op *pb.Op, meta *pb.OpMetadata, files []Location) error {
	if meta == nil {
		meta = &pb.OpMetadata{}
	}
	if v, ok := l.vertices[dgst]; ok {
		l.merge(v, meta, files)
		return nil
	}
	outputs, err := validate(op)
	if err != nil {
		return err
	}
	v := &Vertex{
		Digest:        dgst,
		Op:            op,
		Meta:          meta,
		Inputs:        make([]Edge, len(op.Inputs)),
		ProgressGroup: meta.ProgressGroup,
		index:         len(l.order),
		outputs:       outputs,
		locations:     files,
	}
	for i, in := range op.Inputs {
		if v.Inputs[i], err = l.edge(in); err != nil {
			return fmt.Errorf("input %d: %w", i, err)
		}
	}
	v.Name = nameOf(v)
	l.vertices[dgst] = v
	l.order = append(l.order, v)
	return nil
}

// merge notes what another definition says of a vertex that is known.
func (l *loader) merge(v *Vertex, meta *pb.OpMetadata, files []Location) {
	if meta.IgnoreCache && !v.Meta.IgnoreCache {
		v.Meta = v.Meta.CloneVT()
		v.Meta.IgnoreCache = true
	}
	if len(v.locations) == 0 {
		v.locations = files
	}
}

// edge resolves an input whose vertex is loaded.
func (l *loader) edge(in *pb.Input) (Edge, error) {
	v := l.vertices[digest.Digest(in.Digest)]
	outputs := v.outputs
	if outputs < 0 {
		outputs = maxOutputs
	}
	if in.Index < 0 || in.Index >= int64(outputs) {
		return Edge{}, fmt.Errorf("output index %d is out of range: %q has %d", in.Index, v.Name, outputs)
	}
	return Edge{Vertex: v, Output: int(in.Index)}, nil
}

// locations resolves the source map of a definition.
func locations(src *pb.Source) (map[string][]Location, error) {
	if src == nil {
		return nil, nil
	}
	files := make(map[string][]Location, len(src.Locations))
	for dgst, list := range src.Locations {
		for _, loc := range list.GetLocations() {
			i := loc.GetSourceIndex()
			if i < 0 || int(i) >= len(src.Infos) {
				return nil, fmt.Errorf("source location of %s: file %d of %d", dgst, i, len(src.Infos))
			}
			info := src.Infos[i]
			files[dgst] = append(files[dgst], Location{
				Filename: info.GetFilename(),
				Language: info.GetLanguage(),
				Data:     info.GetData(),
				Ranges:   ranges(loc.GetRanges()),
			})
		}
	}
	return files, nil
}

func ranges(in []*pb.Range) []Range {
	out := make([]Range, len(in))
	for i, r := range in {
		out[i] = Range{Start: position(r.GetStart()), End: position(r.GetEnd())}
	}
	return out
}

func position(p *pb.Position) Position {
	return Position{Line: int(p.GetLine()), Character: int(p.GetCharacter())}
}

// unknownField finds a field that this version has no name for. To ignore it
// would be to build something else than was asked for.
func unknownField(m protoreflect.Message) (name protoreflect.FullName, number int32, found bool) {
	if raw := m.GetUnknown(); len(raw) > 0 {
		return m.Descriptor().FullName(), firstField(raw), true
	}
	m.Range(func(fd protoreflect.FieldDescriptor, value protoreflect.Value) bool {
		switch {
		case fd.Kind() != protoreflect.MessageKind || fd.IsMap() && fd.MapValue().Kind() != protoreflect.MessageKind:
		case fd.IsMap():
			value.Map().Range(func(_ protoreflect.MapKey, v protoreflect.Value) bool {
				name, number, found = unknownField(v.Message())
				return !found
			})
		case fd.IsList():
			for i := 0; i < value.List().Len() && !found; i++ {
				name, number, found = unknownField(value.List().Get(i).Message())
			}
		default:
			name, number, found = unknownField(value.Message())
		}
		return !found
	})
	return name, number, found
}
