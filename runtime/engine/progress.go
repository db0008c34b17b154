package engine

import (
	"slices"
	"time"

	"github.com/moby/buildkit/client"
	digest "github.com/opencontainers/go-digest"

	"github.com/strata-build/strata/runtime/exporter"
)

// exportProgress shows an export as BuildKit does: as a vertex of its own.
type exportProgress struct {
	status chan<- *client.SolveStatus
	vertex client.Vertex
	starts map[string]*time.Time
}

func newExportProgress(status chan<- *client.SolveStatus, name string, img exporter.Image, outputs []exporter.Output) *exportProgress {
	p := &exportProgress{status: status}
	onlyCache := !slices.ContainsFunc(outputs, func(o exporter.Output) bool { return o.Type != exporter.CacheOnly })
	if status == nil || onlyCache {
		p.status = nil
		return p
	}
	now := time.Now()
	title := "exporting"
	if name != "" {
		title += " " + name
	} else if len(img.Names) > 0 {
		title += " " + img.Names[0]
	}
	p.vertex = client.Vertex{Digest: digest.FromString("export " + name + now.String()), Name: title, Started: &now}
	p.starts = map[string]*time.Time{}
	p.send(&client.SolveStatus{Vertexes: []*client.Vertex{p.copy()}})
	return p
}

func (p *exportProgress) copy() *client.Vertex { v := p.vertex; return &v }

func (p *exportProgress) send(s *client.SolveStatus) {
	if p.status != nil {
		p.status <- s
	}
}

// Status implements exporter.Progress.
func (p *exportProgress) Status(id string, current, total int64, done bool) {
	if p.status == nil {
		return
	}
	now := time.Now()
	started := p.starts[id]
	if started == nil {
		started = &now
		p.starts[id] = started
	}
	st := &client.VertexStatus{
		ID: id, Vertex: p.vertex.Digest, Current: current, Total: total, Timestamp: now, Started: started,
	}
	if done {
		st.Completed = &now
	}
	p.send(&client.SolveStatus{Statuses: []*client.VertexStatus{st}})
}

// end completes the vertex.
func (p *exportProgress) end(err error) {
	if p.status == nil {
		return
	}
	now := time.Now()
	p.vertex.Completed = &now
	if err != nil {
		p.vertex.Error = err.Error()
	}
	p.send(&client.SolveStatus{Vertexes: []*client.Vertex{p.copy()}})
}
