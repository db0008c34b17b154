package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/distribution/reference"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Open returns a blob's bytes from offset on. The reader survives cuts, stalls
// and server errors by asking again from where it stands, also at another
// mirror. It ends after exactly as many bytes as the descriptor promises;
// whether they are the right ones is the caller's to verify, who hashes them
// anyway on their way to the disk, and tells by Download.Reject if not.
func (c *Client) Open(ctx context.Context, ref reference.Named, desc ocispec.Descriptor, offset int64) (io.ReadCloser, error) {
	d, err := c.open(ctx, ref, desc, offset)
	if err != nil {
		return nil, err
	}
	return d, nil
}

func (c *Client) open(ctx context.Context, ref reference.Named, desc ocispec.Descriptor, offset int64) (*Download, error) {
	if desc.Size < 0 || offset < 0 || offset > desc.Size {
		return nil, fmt.Errorf("%s: offset %d is outside of %d bytes", fetching(ref, desc), offset, desc.Size)
	}
	eps, err := c.contentEndpoints(ref, desc)
	if err != nil {
		return nil, err
	}
	src := &blobSource{client: c, eps: eps, desc: desc, occasion: occasion{doing: fetching(ref, desc)}}
	ctx, cancel := context.WithCancelCause(ctx)
	d := &Download{src: src, cancel: cancel, left: desc.Size - offset}
	whole := span{offset, desc.Size}
	big := c.opts.Connections > 1 && whole.size() > 4*c.opts.RangeSize
	ask := whole
	if big {
		ask.end = offset + c.opts.RangeSize
	}
	first, err := src.open(ctx, ask)
	if err != nil {
		cancel(nil)
		return nil, err
	}
	if big && first.ranged {
		d.r = newRanged(ctx, src, first)
	} else {
		d.r = &stream{ctx: ctx, src: src, span: whole, body: first}
	}
	return d, nil
}

// Fetch writes a whole blob to w. It returns ErrUnverified, after the last
// byte, if they were not the blob's.
func (c *Client) Fetch(ctx context.Context, ref reference.Named, desc ocispec.Descriptor, w io.Writer) error {
	d, err := c.open(ctx, ref, desc, 0)
	if err != nil {
		return err
	}
	defer d.Close()
	hash := desc.Digest.Verifier()
	if _, err := io.Copy(io.MultiWriter(w, hash), d); err != nil {
		return fmt.Errorf("store blob %s: %w", desc.Digest, err)
	}
	if !hash.Verified() {
		return d.Reject()
	}
	return nil
}

// Download is a blob that is being fetched.
type Download struct {
	src    *blobSource
	r      io.ReadCloser
	cancel context.CancelCauseFunc
	left   int64
	err    error
}

// Read implements io.Reader.
func (d *Download) Read(p []byte) (int, error) {
	if d.err != nil {
		return 0, d.err
	}
	if d.left == 0 {
		d.err = io.EOF
		return 0, d.err
	}
	n, err := d.r.Read(p)
	d.left -= int64(n)
	if err != nil && !errors.Is(err, io.EOF) {
		d.err = d.src.explain(err)
	}
	return n, d.err
}

// Reject says that the bytes were not the blob's: the host is asked last from
// now on. It returns the error, an ErrUnverified, for the user.
func (d *Download) Reject() error {
	d.src.client.distrust(d.src.host(), d.src.desc.Digest)
	return unverified(d.src.host(), d.src.desc.Digest.String(), "the digest differs")
}

// Close implements io.Closer.
func (d *Download) Close() error {
	d.cancel(nil)
	return d.r.Close()
}

// span is a part of a blob, from its first byte to before end.
type span struct{ from, end int64 }

func (s span) size() int64 { return s.end - s.from }

// blobSource is where a blob is asked for. It moves on to the next endpoint
// when one fails, and stays there.
type blobSource struct {
	client   *Client
	desc     ocispec.Descriptor
	occasion occasion

	eps  []endpoint
	said []string // what mirrors said that were given up
	last string   // the host that answered last
}

func (b *blobSource) host() string { return b.last }

func (b *blobSource) explain(err error) error {
	o := b.occasion
	o.host, o.repo = b.eps[0].host, b.eps[0].repo
	return withMirrors(b.client.explain(err, o), b.said)
}

// fork returns an equal source that moves on by itself.
func (b *blobSource) fork() *blobSource {
	own := *b
	own.said = slices.Clip(b.said)
	return &own
}

// body is an answer that holds the wanted bytes.
type body struct {
	io.ReadCloser
	span span
	// ranged is false when the registry answered with the whole blob.
	ranged bool
}

// open asks for a span, with retries, at each endpoint in turn.
func (b *blobSource) open(ctx context.Context, s span) (*body, error) {
	for {
		var found *body
		err := b.client.at(ctx, b.eps[0], func(sess *session) (err error) {
			found, err = sess.blob(ctx, b.desc, s)
			return err
		})
		b.last = b.eps[0].host
		if err == nil {
			return found, nil
		}
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		if len(b.eps) == 1 {
			return nil, b.explain(err)
		}
		b.giveUp(err)
	}
}

// giveUp moves on from a mirror.
func (b *blobSource) giveUp(err error) {
	o := b.occasion
	o.host, o.repo = b.eps[0].host, b.eps[0].repo
	b.said = append(b.said, b.client.explain(err, o).Error())
	b.eps = b.eps[1:]
}

// blob sends one request for a span of a blob.
func (s *session) blob(ctx context.Context, desc ocispec.Descriptor, want span) (*body, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	header := http.Header{}
	if want.from > 0 || want.end < desc.Size {
		header.Set("Range", fmt.Sprintf("bytes=%d-%d", want.from, want.end-1))
	}
	resp, err := s.do(ctx, request{method: http.MethodGet, path: s.ep.repo + "/blobs/" + desc.Digest.String(), header: header})
	if err == nil {
		err = check(resp, http.StatusOK, http.StatusPartialContent)
	}
	if err != nil {
		cancel(nil)
		return nil, err
	}
	watched := &watched{body: resp.Body, cancel: cancel, stall: s.client.opts.Stall}
	if resp.StatusCode == http.StatusPartialContent {
		return partial(resp, watched, s.ep.host, want)
	}
	if _, err := io.CopyN(io.Discard, watched, want.from); err != nil {
		watched.Close()
		return nil, fmt.Errorf("skip what is there: %w", err)
	}
	return &body{ReadCloser: watched, span: span{want.from, desc.Size}}, nil
}

// partial accepts an answer to a ranged request if it begins where it should.
func partial(resp *http.Response, r io.ReadCloser, host string, want span) (*body, error) {
	value := strings.TrimPrefix(resp.Header.Get("Content-Range"), "bytes ")
	from, rest, _ := strings.Cut(value, "-")
	end, _, _ := strings.Cut(rest, "/")
	first, err1 := strconv.ParseInt(from, 10, 64)
	last, err2 := strconv.ParseInt(end, 10, 64)
	if err1 != nil || err2 != nil || first != want.from || last < first || last >= want.end {
		r.Close()
		return nil, &failure{text: fmt.Sprintf("%s answered a request for bytes %d-%d with Content-Range %q", host, want.from, want.end-1, oneLine(value))}
	}
	return &body{ReadCloser: r, ranged: true, span: span{first, last + 1}}, nil
}

// errStalled ends a connection that delivers nothing.
var errStalled = errors.New("the connection stalled")

// watched cuts a connection that delivers nothing for a while.
type watched struct {
	body   io.ReadCloser
	cancel context.CancelCauseFunc
	stall  time.Duration
	timer  *time.Timer
}

// Read implements io.Reader.
func (w *watched) Read(p []byte) (int, error) {
	if w.timer == nil {
		w.timer = time.AfterFunc(w.stall, func() { w.cancel(errStalled) })
	} else {
		w.timer.Reset(w.stall)
	}
	n, err := w.body.Read(p)
	w.timer.Stop()
	return n, err
}

// Close implements io.Closer.
func (w *watched) Close() error {
	w.cancel(nil)
	return w.body.Close()
}

// stream reads a span over one connection at a time, and asks again from where
// it stands when that one ends early.
type stream struct {
	ctx   context.Context
	src   *blobSource
	span  span
	body  *body
	fails int // in a row, without a byte in between
}

// Read implements io.Reader.
func (s *stream) Read(p []byte) (int, error) {
	for s.span.size() > 0 {
		n, err := s.read(p)
		if n > 0 || err != nil {
			return n, err
		}
	}
	return 0, io.EOF
}

// read makes one attempt; it returns 0, nil after a failure that is worth
// another.
func (s *stream) read(p []byte) (int, error) {
	if s.body == nil {
		next, err := s.src.open(s.ctx, s.span)
		if err != nil {
			return 0, err
		}
		s.body = next
	}
	end := min(s.body.span.end, s.span.end)
	n, err := s.body.Read(p[:min(int64(len(p)), end-s.span.from)])
	s.span.from += int64(n)
	if n > 0 {
		s.fails = 0
	}
	complete := s.span.from == end
	if err == nil && !complete {
		return n, nil
	}
	s.body.Close()
	s.body = nil
	if complete || n > 0 {
		return n, nil
	}
	return 0, s.failed(err)
}

// failed decides after a cut whether to go on.
func (s *stream) failed(err error) error {
	if s.ctx.Err() != nil {
		return context.Cause(s.ctx)
	}
	if err == nil || errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	s.fails++
	if s.fails >= s.src.client.opts.Attempts {
		return cut(s.src.host(), s.src.desc, s.span.from, err)
	}
	return s.src.client.pause(s.ctx, s.fails, err)
}

// cut says that a connection ends early again and again.
func cut(host string, desc ocispec.Descriptor, at int64, err error) error {
	how := "the connection was cut"
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		how = "the registry stopped listening"
	case errors.Is(err, context.Canceled), errors.Is(err, errStalled):
		how = "the connection stalled"
	}
	return &failure{text: fmt.Sprintf("%s hung up after %d of %d bytes of %s (%s), repeatedly: try again, what was received is kept; if it stays so, the registry or a proxy before it is at fault", host, at, desc.Size, desc.Digest, how)}
}

// Close implements io.Closer.
func (s *stream) Close() error {
	if s.body == nil {
		return nil
	}
	return s.body.Close()
}
