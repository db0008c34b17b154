package solver_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/solver/pb"
	digest "github.com/opencontainers/go-digest"
	"github.com/strata-build/strata/solver"
	"github.com/strata-build/strata/solver/solvertest"
	"google.golang.org/protobuf/proto"
)

// llbWriter writes definitions the way a client does.
type llbWriter struct {
	def pb.Definition
}

// ref is an output of an operation in an llbWriter.
type ref struct {
	digest digest.Digest
	output int64
}

func (r ref) out(i int64) ref { return ref{r.digest, i} }

func (g *llbWriter) add(op *pb.Op, inputs ...ref) ref {
	for _, in := range inputs {
		op.Inputs = append(op.Inputs, &pb.Input{Digest: string(in.digest), Index: in.output})
	}
	data, err := proto.MarshalOptions{Deterministic: true}.Marshal(op)
	if err != nil {
		panic(err)
	}
	g.def.Def = append(g.def.Def, data)
	return ref{digest: digest.FromBytes(data)}
}

func (g *llbWriter) source(name string) ref {
	return g.add(&pb.Op{Op: &pb.Op_Source{Source: &pb.SourceOp{Identifier: "local://" + name}}})
}

// exec is an operation with two outputs whose args are its name.
func (g *llbWriter) exec(name string, inputs ...ref) ref {
	mounts := []*pb.Mount{
		{Dest: "/", Input: int64(pb.Empty), Output: 0},
		{Dest: "/out", Input: int64(pb.Empty), Output: 1},
	}
	for i := range inputs {
		mounts = append(mounts, &pb.Mount{Dest: fmt.Sprint("/in", i), Input: int64(i), Output: int64(pb.SkipOutput)})
	}
	exec := &pb.ExecOp{Meta: &pb.Meta{Args: []string{name}}, Mounts: mounts}
	return g.add(&pb.Op{Op: &pb.Op_Exec{Exec: exec}}, inputs...)
}

func (g *llbWriter) meta(r ref, meta *pb.OpMetadata) {
	if g.def.Metadata == nil {
		g.def.Metadata = map[string]*pb.OpMetadata{}
	}
	g.def.Metadata[string(r.digest)] = meta
}

// target returns the definition that asks for an edge.
func (g *llbWriter) target(r ref) *pb.Definition {
	def := &pb.Definition{Def: slices.Clone(g.def.Def), Metadata: g.def.Metadata, Source: g.def.Source}
	end := llbWriter{def: pb.Definition{Def: def.Def}}
	end.add(&pb.Op{}, r)
	def.Def = end.def.Def
	return def
}

// world is a Worker whose ops are known by name. What an op makes is a text
// that says what it was made of, unless makes says otherwise.
type world struct {
	mu     sync.Mutex
	facts  map[string][]solver.Fact // part of the op's key
	makes  map[string]string        // fixed results
	sees   map[string]string        // "op/input name" → what an op sees of an input
	run    map[string]func(ctx context.Context, p solver.Progress) error
	key    map[string]func(ctx context.Context) error
	gone   map[string]bool // results that were removed
	refuse map[string]bool
	plain  map[string]bool   // not worth a record
	names  map[string]string // of sources, by which they are keyed

	hash    func(ctx context.Context, what string) error // before "op/input name" is hashed
	short   string                                       // makes too few results
	keyless string                                       // has no key

	runs []string
}

func newWorld() *world {
	return &world{
		facts:  map[string][]solver.Fact{},
		makes:  map[string]string{},
		sees:   map[string]string{},
		run:    map[string]func(context.Context, solver.Progress) error{},
		key:    map[string]func(context.Context) error{},
		gone:   map[string]bool{},
		refuse: map[string]bool{},
		plain:  map[string]bool{},
		names:  map[string]string{},
	}
}

func opName(v *solver.Vertex) string {
	switch op := v.Op.Op.(type) {
	case *pb.Op_Source:
		return strings.TrimPrefix(op.Source.Identifier, "local://")
	case *pb.Op_Exec:
		return op.Exec.Meta.Args[0]
	}
	return v.Name
}

func (w *world) Op(v *solver.Vertex) (solver.Op, error) {
	name := opName(v)
	if w.refuse[name] {
		return nil, fmt.Errorf("operation %q is not supported", name)
	}
	return &op{w: w, v: v, name: name}, nil
}

func (w *world) Encode(_ context.Context, results []solver.Result) ([]byte, []string, error) {
	var texts, refs []string
	for _, r := range results {
		texts = append(texts, r.(string))
		refs = append(refs, "layer:"+r.(string))
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.plain[texts[0]] {
		return nil, nil, nil
	}
	data, err := json.Marshal(texts)
	return data, refs, err
}

func (w *world) Decode(_ context.Context, data []byte) ([]solver.Result, bool, error) {
	var texts []string
	if err := json.Unmarshal(data, &texts); err != nil {
		return nil, false, errors.Join(solver.ErrDamaged, err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	var results []solver.Result
	for _, text := range texts {
		if w.gone[text] {
			return nil, false, nil
		}
		results = append(results, text)
	}
	return results, true, nil
}

// take returns what ran since the last call, sorted.
func (w *world) take() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	runs := w.runs
	w.runs = nil
	slices.Sort(runs)
	return runs
}

type op struct {
	w    *world
	v    *solver.Vertex
	name string
}

func (o *op) Key(ctx context.Context) (solver.Key, error) {
	if o.name == o.w.keyless {
		return solver.Key{}, nil
	}
	if fn := o.w.key[o.name]; fn != nil {
		if err := fn(ctx); err != nil {
			return solver.Key{}, err
		}
	}
	name := o.name
	if n, ok := o.w.names[name]; ok {
		name = n
	}
	facts := append([]solver.Fact{{Name: "command", Value: name}}, o.w.facts[o.name]...)
	return solver.Key{Digest: digest.FromString(fmt.Sprint(facts)), Facts: facts}, nil
}

func (o *op) InputKey(ctx context.Context, i int, in solver.Result) (digest.Digest, error) {
	what := o.name + "/" + opName(o.v.Inputs[i].Vertex)
	if o.w.hash != nil {
		if err := o.w.hash(ctx, what); err != nil {
			return "", err
		}
	}
	seen, ok := o.w.sees[what]
	if seen == "none" {
		return "", nil
	}
	if !ok {
		seen = in.(string)
	}
	return digest.FromString(seen), nil
}

func (o *op) Run(ctx context.Context, in []solver.Result, p solver.Progress) ([]solver.Result, error) {
	o.w.mu.Lock()
	o.w.runs = append(o.w.runs, o.name)
	o.w.mu.Unlock()
	if fn := o.w.run[o.name]; fn != nil {
		if err := fn(ctx, p); err != nil {
			return nil, err
		}
	}
	text := o.name
	if len(in) > 0 {
		text += fmt.Sprint(in)
	}
	for _, fact := range o.w.facts[o.name] {
		text += "+" + fact.Value
	}
	if fixed, ok := o.w.makes[o.name]; ok {
		text = fixed
	}
	if o.name == o.w.short || o.v.Op.GetSource() != nil {
		return []solver.Result{text}, nil
	}
	return []solver.Result{text, text + ".1"}, nil
}

// Explain implements solver.Explainer for the fact "context".
func (o *op) Explain(_ context.Context, fact, before, after string) ([]string, error) {
	if fact != "context" {
		return nil, nil
	}
	if before == "unreadable" {
		return nil, errors.New("manifest is gone")
	}
	var changed []string
	for _, file := range strings.Fields(after) {
		changed = append(changed, "file "+file+" changed")
	}
	return changed, nil
}

// bench is what most tests need: a world, records, and a way to build.
type bench struct {
	*testing.T
	world   *world
	records *solvertest.Records
	request solver.Request
}

func newBench(t *testing.T) *bench {
	return &bench{T: t, world: newWorld(), records: &solvertest.Records{}, request: solver.Request{Jobs: 4}}
}

// graph loads a graph whose targets are given by name.
func (b *bench) graph(targets map[string]*pb.Definition) solver.Request {
	b.Helper()
	names := slices.Sorted(maps.Keys(targets))
	var defs []*pb.Definition
	for _, name := range names {
		defs = append(defs, targets[name])
	}
	g, edges, err := solver.Load(defs...)
	if err != nil {
		b.Fatalf("load: %v", err)
	}
	req := b.request
	req.Graph = g
	for i, name := range names {
		req.Targets = append(req.Targets, solver.Target{Name: name, Edge: edges[i]})
	}
	return req
}

// try builds one target called "app".
func (b *bench) try(ctx context.Context, def *pb.Definition) (*solver.Outcome, error) {
	b.Helper()
	return solver.New(b.world, b.records).Solve(ctx, b.graph(map[string]*pb.Definition{"app": def}))
}

// build builds one target, and checks which ops ran.
func (b *bench) build(def *pb.Definition, ran ...string) *solver.Outcome {
	b.Helper()
	out, err := b.try(b.Context(), def)
	if err != nil {
		b.Fatalf("solve: %v", err)
	}
	b.ran(ran...)
	return out
}

func (b *bench) ran(want ...string) {
	b.Helper()
	slices.Sort(want)
	if got := b.world.take(); !slices.Equal(got, want) {
		b.Fatalf("ran %q, want %q", got, want)
	}
	if n := b.records.Locked(); n != 0 {
		b.Fatalf("%d locks are still held", n)
	}
}

// step returns what the report says of a vertex.
func step(t *testing.T, out *solver.Outcome, name string) solver.Step {
	t.Helper()
	for _, s := range out.Report.Steps {
		if opName(s.Vertex) == name {
			return s
		}
	}
	t.Fatalf("no step %q in the report", name)
	return solver.Step{}
}

// reason checks verdict and reason of a vertex.
func reason(t *testing.T, out *solver.Outcome, name string, verdict solver.Verdict, want string) {
	t.Helper()
	s := step(t, out, name)
	if s.Verdict != verdict || s.Reason.String() != want {
		t.Errorf("%s: %s (%s), want %s (%s)", name, s.Verdict, s.Reason, verdict, want)
	}
}

// event is one message of the progress.
type event struct{ *client.SolveStatus }

// failed tells whether the message says that a vertex failed.
func (e event) failed(name string) bool {
	return slices.ContainsFunc(e.Vertexes, func(v *client.Vertex) bool { return v.Name == name && v.Error != "" })
}

// watch returns a channel for the progress whose messages go to see, until
// wait is called.
func (b *bench) watch(see func(event)) (status chan *client.SolveStatus, wait func()) {
	status = make(chan *client.SolveStatus)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for s := range status {
			see(event{s})
		}
	}()
	return status, func() { close(status); <-done }
}
