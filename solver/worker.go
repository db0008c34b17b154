package solver

import (
	"context"
	"errors"
	"io"

	digest "github.com/opencontainers/go-digest"
)

// ErrDamaged marks a record that exists but cannot be trusted: a failed
// checksum, a truncated file, data of another version. Records.Get and
// Worker.Decode wrap it; the solver takes it as an explained miss. Every other
// error of theirs ends the vertex.
var ErrDamaged = errors.New("record is damaged")

// Result is what a vertex leaves at one of its outputs. It belongs to the
// Worker; the solver only carries it about. It must stay usable until Solve's
// caller is done with it, and is read by several ops at the same time.
type Result any

// Worker turns vertices into ops, and results into records and back. Its
// methods are called from several goroutines.
type Worker interface {
	// Op returns the op of a vertex. It is called once per vertex and build,
	// for all vertices before the first one runs, so that an op kind, option
	// or capability that is not supported is refused by name, early. It does
	// no input or output.
	Op(v *Vertex) (Op, error)

	// Encode describes the results of a vertex, all outputs in order, as the
	// JSON of a record, with the references (layers, blobs) that the record
	// keeps alive. Nil data means that these results are not worth a record:
	// making them again is as cheap as finding them.
	Encode(ctx context.Context, results []Result) (data []byte, refs []string, err error)

	// Decode is the inverse of Encode. It answers false when something that
	// the results are made of is gone; the vertex is then built again. From
	// then on, until the build ends, the worker keeps the results alive.
	Decode(ctx context.Context, data []byte) (results []Result, ok bool, err error)
}

// Op is the work of one vertex. It may also implement Explainer.
type Op interface {
	// Key returns the op's own part of the vertex's keys: everything that
	// decides its results, except its inputs. A source puts its content or
	// its pinned identity there, and may do slow work to find it; sources are
	// asked in parallel. The Key of an op with inputs is pure and quick.
	Key(ctx context.Context) (Key, error)

	// InputKey returns the content digest of input i as this op sees it: a
	// copy of one directory sees that directory only. It is called from
	// several goroutines, possibly while the op runs. An empty digest says
	// that this vertex cannot be found by content.
	InputKey(ctx context.Context, i int, in Result) (digest.Digest, error)

	// Run makes the results, one per output, from the results of the inputs
	// (nil for an input that is scratch). It returns soon after ctx ended.
	// A source may defer its work until somebody reads its result.
	Run(ctx context.Context, in []Result, p Progress) ([]Result, error)
}

// Explainer is an Op that knows more about a fact of its Key than its value:
// a local context's digest stands for files, of which some changed.
type Explainer interface {
	// Explain names what differs between two values of one fact, the most
	// telling first: "file src/main.go". No answer is none of the two's error:
	// nil, nil says that nothing is known any more.
	Explain(ctx context.Context, fact, before, after string) ([]string, error)
}

// Key is an op's own part of the keys of its vertex.
type Key struct {
	// Digest covers every part of the op that decides its results. Names,
	// capabilities and progress groups are not among them.
	Digest digest.Digest
	// Facts are the parts of the op in words, in the order in which a person
	// would want to hear of their change: "command", "env PATH", "base",
	// "context". A long value is given as its digest. Never a secret.
	Facts []Fact
}

// Fact is one named part of a Key. Names are unique within a key.
type Fact struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// Progress lets a running op say how far it is. All methods may be called from
// several goroutines, and return at once when nobody listens.
type Progress interface {
	// Stdout and Stderr take the output of the step as it comes.
	Stdout() io.Writer
	Stderr() io.Writer
	// Status reports a part of the work, such as the download of one layer.
	// A total of zero means unknown.
	Status(id string, current, total int64, done bool)
}

// The buckets of Records.
const (
	// BucketResults maps definition keys to results.
	BucketResults = "results"
	// BucketContent maps content keys to results.
	BucketContent = "content"
	// BucketOps has an entry per op key that occurs in BucketContent, so that
	// no input is hashed for a search that cannot find anything.
	BucketOps = "ops"
	// BucketBuilds maps names of targets to their last build, for reasons
	// and for estimates of durations.
	BucketBuilds = "builds"
)

// Records is where results are found again, by this process and by others.
// Its methods are called from several goroutines.
type Records interface {
	// Get returns the data of a record and marks it as used. A record that
	// cannot be trusted is an error that wraps ErrDamaged.
	Get(ctx context.Context, bucket, key string) (data []byte, ok bool, err error)
	// Put makes or replaces a record, atomically. Data is JSON.
	Put(ctx context.Context, bucket, key string, data []byte, refs []string) error
	// Touch marks a record as used, if it exists: it stands below one that
	// was found and is needed as soon as that one is not.
	Touch(ctx context.Context, bucket, key string) error
	// TryLock takes the lock of that name, unless anyone in this or another
	// process holds it. The lock dies with the process.
	TryLock(ctx context.Context, name string) (unlock func(), ok bool, err error)
	// Lock waits for the lock until ctx ends.
	Lock(ctx context.Context, name string) (unlock func(), err error)
}
