package compiler

import (
	"os"

	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/solver/pb"

	"github.com/strata-build/strata/schema"
)

// sourceMaps holds the files that positions name, each once. They are
// metadata: a step that moves to another line keeps its key.
type sourceMaps struct {
	read  func(file string) []byte
	files map[string]*llb.SourceMap
}

func newSourceMaps(read func(string) []byte) *sourceMaps {
	if read == nil {
		read = readSource
	}
	return &sourceMaps{read: read, files: map[string]*llb.SourceMap{}}
}

// readSource reads a file for messages, which do without it where it is gone.
func readSource(file string) []byte {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil
	}
	return text
}

// at marks a vertex with a position.
func (m *sourceMaps) at(pos schema.Position) llb.ConstraintsOpt {
	if !pos.IsValid() || pos.File == "" {
		return (*llb.SourceMap)(nil).Location(nil)
	}
	here := &pb.Position{Line: int32(pos.Line), Character: int32(pos.Column)}
	return m.file(pos.File).Location([]*pb.Range{{Start: here, End: here}})
}

func (m *sourceMaps) file(name string) *llb.SourceMap {
	sm, ok := m.files[name]
	if !ok {
		sm = llb.NewSourceMap(nil, name, Language, m.read(name))
		m.files[name] = sm
	}
	return sm
}

// text is the content of a file, nil where it cannot be read.
func (m *sourceMaps) text(name string) []byte { return m.file(name).Data }
