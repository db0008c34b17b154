package solver

import (
	"context"
	"errors"
	"fmt"
	"time"

	digest "github.com/opencontainers/go-digest"
)

// job builds a vertex that has its inputs and a job slot. The slot is free as
// soon as the results are there, or others are at it; the results are recorded
// while what uses them runs already.
func (p *plan) job(n *node, in []Result) func() {
	unlock, err := p.lock(n)
	if err == nil && unlock == nil {
		p.post(func() {
			p.slots++
			p.block(n)
		})
		return p.await(n)
	}
	var end ending
	if err == nil {
		end, err = p.build(n, in)
	}
	p.post(func() {
		p.slots++
		p.saving++
		p.end(n, end, err)
	})
	var rec record
	var failure error
	if err == nil {
		rec, failure = p.record(n, end)
	}
	if unlock != nil {
		unlock() // from here on the vertex is found, not built
	}
	return func() {
		p.saving--
		p.saved(n, in, rec, failure)
	}
}

// saved takes in that a vertex is recorded by definition, and has the same
// done by content if it ran.
func (p *plan) saved(n *node, in []Result, rec record, err error) {
	p.recordFailed(n, err)
	n.unkept = err == nil && n.verdict == Ran && rec.data == nil
	if err == nil && n.state == done && n.verdict == Ran && len(in) > 0 && rec.data != nil && !p.givenUp {
		p.backlog = append(p.backlog, func() func() {
			key, err := p.recordContent(n, in, n.content, rec)
			return func() {
				p.recorders++
				n.content = key
				p.recordFailed(n, err)
			}
		})
	}
}

// recordFailed takes in an error of recording a vertex: the build has its
// result, but the next one will not find it.
func (p *plan) recordFailed(n *node, err error) {
	if err != nil && p.ctx.Err() == nil {
		p.errs = append(p.errs, &VertexError{Vertex: n.v, Err: err})
	}
}

// end takes in what build made of a vertex.
func (p *plan) end(n *node, end ending, err error) {
	if err == nil {
		p.finish(n, end)
		return
	}
	n.started, n.duration = end.started, end.duration
	p.fail(n, err)
}

// lock takes the lock of a vertex's definition key, so that no two builds make
// the same. It returns no unlock when another one has it. One that was waited
// for is held already.
func (p *plan) lock(n *node) (unlock func(), err error) {
	if n.unlock != nil {
		return n.unlock, nil
	}
	unlock, ok, err := p.records.TryLock(p.ctx, n.lockName())
	if err != nil || !ok {
		return nil, err
	}
	return unlock, nil
}

func (n *node) lockName() string { return BucketResults + "/" + string(n.definition) }

// await waits for a build that makes the same vertex. It has no job slot: two
// builds that wait for each other's vertices could not go on otherwise. Nor
// does anything with a slot ever wait for a lock.
func (p *plan) await(n *node) func() {
	unlock, err := p.records.Lock(p.ctx, n.lockName())
	if err != nil {
		err = fmt.Errorf("wait for another build: %w", err)
		return func() { p.unblock(n); p.fail(n, err) }
	}
	hit, err := p.again(n)
	if err != nil || hit.found() {
		unlock()
		return func() { p.unblock(n); p.end(n, hit, err) }
	}
	return func() { p.unblock(n); n.unlock = unlock; p.enqueue(n) }
}

// again looks a vertex up once more, now that its lock is held: the build that
// had the lock before may have made it.
func (p *plan) again(n *node) (ending, error) {
	if n.unsure {
		return ending{}, nil
	}
	hit, err := p.find(p.ctx, n, BucketResults, n.definition)
	hit.reason = HitShared
	return hit, err
}

// build finds a vertex by what its inputs hold, or runs it.
func (p *plan) build(n *node, in []Result) (ending, error) {
	hit, err := p.again(n)
	if err != nil || hit.found() {
		return hit, err
	}
	p.showStart(n)
	hit, err = p.findContent(n, in)
	if err != nil || hit.found() {
		return hit, err
	}
	end := ending{verdict: Ran, miss: hit.miss, content: hit.content, started: time.Now()}
	end.results, err = n.op.Run(p.ctx, in, &stepProgress{display: p.display, vertex: n.v.Digest})
	end.duration = time.Since(end.started)
	if err == nil && len(end.results) < n.v.outputs {
		err = fmt.Errorf("the op made %d results of %d", len(end.results), n.v.outputs)
	}
	return end, err
}

// findContent looks for a result that the same op made of equal inputs. The
// inputs are not even hashed unless the op made any result that is recorded.
func (p *plan) findContent(n *node, in []Result) (ending, error) {
	if n.forced || len(in) == 0 {
		return ending{}, nil
	}
	if known, err := p.known(p.ctx, n); err != nil || !known {
		return ending{}, err
	}
	key, err := p.contentKey(p.ctx, n, in)
	if err != nil || key == "" {
		return ending{}, err
	}
	hit, err := p.find(p.ctx, n, BucketContent, key)
	hit.reason, hit.content = HitContent, key
	return hit, err
}

// known tells whether there are content records of the vertex's op.
func (p *plan) known(ctx context.Context, n *node) (bool, error) {
	_, ok, err := p.records.Get(ctx, BucketOps, string(n.key.Digest))
	if errors.Is(err, ErrDamaged) {
		return false, nil
	}
	return ok, err
}

// contentKey asks the op for the contents of all inputs. It is empty for a
// vertex that cannot be found by content.
func (p *plan) contentKey(ctx context.Context, n *node, in []Result) (digest.Digest, error) {
	contents := make([]digest.Digest, len(in))
	for i := range in {
		content, err := n.op.InputKey(ctx, i, in[i])
		if err != nil {
			// Not wrapped: what the op cannot read, it says when it runs too,
			// and whether it gets that far is no matter of the user's.
			return "", err
		}
		if content == "" {
			return "", nil
		}
		contents[i] = content
	}
	return contentKey(n.key.Digest, contents), nil
}

// find reads the results of a vertex from a record. An ending without results
// is a miss, with what was wrong with the record, if there was one.
func (p *plan) find(ctx context.Context, n *node, bucket string, key digest.Digest) (ending, error) {
	data, ok, err := p.records.Get(ctx, bucket, string(key))
	if err == nil && !ok {
		return ending{}, nil
	}
	var results []Result
	if err == nil {
		results, ok, err = p.worker.Decode(ctx, data)
	}
	switch {
	case errors.Is(err, ErrDamaged), err == nil && ok && len(results) < max(n.v.outputs, 1):
		return ending{miss: MissDamaged}, nil
	case err != nil:
		return ending{}, fmt.Errorf("look up result: %w", err)
	case !ok:
		return ending{miss: MissGone}, nil
	}
	return ending{verdict: Cached, results: results}, nil
}

// record is what the worker made of results for keeping.
type record struct {
	data []byte
	refs []string
}

// record makes results findable by definition key. Results that are there are
// worth it also when the build was cancelled in the meantime.
func (p *plan) record(n *node, end ending) (record, error) {
	if end.reason == HitShared {
		return record{}, nil
	}
	data, refs, err := p.worker.Encode(p.keep, end.results)
	if err == nil && data != nil {
		err = p.records.Put(p.keep, BucketResults, string(n.definition), data, refs)
	}
	if err != nil {
		return record{}, fmt.Errorf("record result: %w", err)
	}
	return record{data, refs}, nil
}

// recordContent makes results findable by content key, and returns the key.
// It may have to read all that the inputs hold.
func (p *plan) recordContent(n *node, in []Result, key digest.Digest, rec record) (_ digest.Digest, err error) {
	if key == "" {
		key, err = p.contentKey(p.ctx, n, in)
	}
	if err != nil || key == "" {
		return "", err
	}
	if err := p.records.Put(p.ctx, BucketContent, string(key), rec.data, rec.refs); err != nil {
		return "", fmt.Errorf("record result by content: %w", err)
	}
	known, err := p.known(p.ctx, n)
	if err == nil && !known {
		err = p.records.Put(p.ctx, BucketOps, string(n.key.Digest), []byte("{}"), nil)
	}
	if err != nil {
		return "", fmt.Errorf("record op: %w", err)
	}
	return key, nil
}
