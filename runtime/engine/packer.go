package engine

import (
	"context"
	"errors"
	"sync"

	digest "github.com/opencontainers/go-digest"

	"github.com/strata-build/strata/runtime/exporter"
	"github.com/strata-build/strata/runtime/layer"
	"github.com/strata-build/strata/solver"
)

// packer makes the blobs of the layers that will be exported, one at a time,
// while later steps still run. Export finds them finished.
type packer struct {
	ctx          context.Context
	layers       *layer.Store
	compressions []layer.Compression
	vertices     map[digest.Digest]bool

	queue chan string
	once  sync.Once
	done  chan struct{}
	err   error
}

// queueSize bounds the layers that wait to be packed. It is no bound on the
// build: a layer that finds the queue full is packed by the export.
const queueSize = 1024

func newPacker(ctx context.Context, layers *layer.Store, outputs []exporter.Output, edges []solver.Edge) *packer {
	p := &packer{ctx: ctx, layers: layers, done: make(chan struct{}), queue: make(chan string, queueSize)}
	seen := map[layer.Compression]bool{}
	for _, o := range outputs {
		if needsBlobs(o.Type) && !seen[o.Compression] {
			seen[o.Compression] = true
			p.compressions = append(p.compressions, o.Compression)
		}
	}
	if len(p.compressions) > 0 {
		p.vertices = imageVertices(edges)
	}
	go p.run()
	return p
}

// needsBlobs tells outputs that are made of blobs from those that are made of
// files.
func needsBlobs(t exporter.Type) bool {
	switch t {
	case exporter.OCI, exporter.Docker, exporter.ImageStore, exporter.RegistryPush:
		return true
	}
	return false
}

// made is told of each layer that a vertex has made.
func (p *packer) made(v *solver.Vertex, id string) {
	if !p.vertices[v.Digest] {
		return
	}
	select {
	case p.queue <- id:
	default:
	}
}

func (p *packer) run() {
	defer close(p.done)
	for id := range p.queue {
		for _, c := range p.compressions {
			if p.err != nil || p.ctx.Err() != nil {
				continue // drain
			}
			_, p.err = p.layers.Blob(p.ctx, id, c)
		}
	}
}

// wait ends the packer when no vertex runs any more.
func (p *packer) wait() error {
	p.once.Do(func() { close(p.queue) })
	<-p.done
	if p.ctx.Err() != nil && errors.Is(p.err, p.ctx.Err()) {
		return nil // the build was given up; that is reported elsewhere
	}
	return p.err
}
