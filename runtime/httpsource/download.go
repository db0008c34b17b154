package httpsource

import (
	"compress/gzip"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"fmt"
	"hash"
	"io"
	"net"
	"net/http"
	"strings"

	"github.com/opencontainers/go-digest"
)

// errTooLarge is an answer beyond Options.MaxSize.
var errTooLarge = errors.New("it is larger than the limit")

// download asks the server and stores what it sends. With known it returns
// that when nothing changed. With want, anything else is an error.
func (c *Client) download(ctx context.Context, s *Source, known *record, want digest.Digest) (*record, error) {
	t := &transfer{c: c, ctx: ctx, s: s, known: known, want: want}
	defer t.drop()
	rec, err := t.run()
	if err == nil && rec != known {
		err = c.remember(ctx, s, rec)
	}
	if err != nil {
		return nil, fmt.Errorf("http source %s: %w", s, err)
	}
	return rec, nil
}

func (c *Client) remember(ctx context.Context, s *Source, rec *record) error {
	if rec.ETag == "" && rec.LastModified == "" {
		return nil // the server could not be asked about it
	}
	return c.o.Records.Put(ctx, s.recordKey(), rec, rec.Digest)
}

// transfer is one download with its retries.
type transfer struct {
	c     *Client
	ctx   context.Context
	s     *Source
	known *record
	want  digest.Digest

	w    BlobWriter
	hash hash.Hash // set when want is
	size int64
	// got is the answer whose bytes w has.
	got *record
	// packed is set when the bytes were sent compressed: such an answer is not
	// taken up again.
	packed bool
}

// drop gives up what is not committed.
func (t *transfer) drop() {
	if t.w != nil {
		t.w.Close()
		t.w = nil
	}
}

// run tries until the file is there, or a number of tries made no progress.
func (t *transfer) run() (*record, error) {
	for n := 0; ; {
		before := t.size
		rec, err := t.try()
		if err == nil || t.ctx.Err() != nil || !temporary(err) {
			return rec, err
		}
		if t.size > before {
			n = 0
		}
		if n++; n > t.c.o.Retries {
			return nil, fmt.Errorf("given up after %d tries: %w", n, err)
		}
		if err := t.c.o.Wait(t.ctx, n); err != nil {
			return nil, err
		}
	}
}

// localError is a failure of this machine, which another try does not change.
type localError struct{ error }

func (e *localError) Unwrap() error { return e.error }

func temporary(err error) bool {
	var status *statusError
	if errors.As(err, &status) {
		return status.temporary()
	}
	var dns *net.DNSError
	if errors.As(err, &dns) && dns.IsNotFound || errors.As(err, new(*tls.CertificateVerificationError)) {
		return false
	}
	return !errors.As(err, new(*localError)) && !errors.Is(err, errTooLarge)
}

// try makes one request.
func (t *transfer) try() (*record, error) {
	req, err := t.c.request(t.ctx, t.s)
	if err != nil {
		return nil, &localError{err}
	}
	resuming := t.resume(req)
	if !resuming {
		t.known.ask(req)
	}
	resp, err := t.c.do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	switch {
	case !resuming && t.known.unchanged(resp):
		return t.known, nil
	case resuming && resp.StatusCode == http.StatusPartialContent && t.continues(resp):
	case resuming && resp.StatusCode == http.StatusRequestedRangeNotSatisfiable:
		return nil, t.restart(nil) // the file is shorter now
	case resp.StatusCode == http.StatusOK:
		if err := t.restart(resp); err != nil {
			return nil, err
		}
	case resuming && resp.StatusCode == http.StatusPartialContent:
		return nil, t.restart(nil)
	default:
		return nil, &statusError{resp.StatusCode}
	}
	if err := t.receive(resp); err != nil {
		return nil, err
	}
	return t.commit()
}

// resume asks for the rest of what was cut, when it will be certain that it
// belongs together.
func (t *transfer) resume(req *http.Request) bool {
	if t.w == nil || t.size == 0 || t.packed {
		return false
	}
	switch {
	case t.got.ETag != "" && !strings.HasPrefix(t.got.ETag, "W/"):
		req.Header.Set("If-Range", t.got.ETag)
	case t.got.LastModified != "":
		req.Header.Set("If-Range", t.got.LastModified)
	case t.want == "":
		return false
	}
	req.Header.Set("Range", fmt.Sprintf("bytes=%d-", t.size))
	return true
}

// continues tells whether a partial answer begins where the last one ended.
func (t *transfer) continues(resp *http.Response) bool {
	return strings.HasPrefix(resp.Header.Get("Content-Range"), fmt.Sprintf("bytes %d-", t.size))
}

var errRestart = errors.New("the download begins again: the server has another file now")

// restart begins a new blob for an answer; without one, it is for the next
// try.
func (t *transfer) restart(resp *http.Response) error {
	t.drop()
	t.size, t.hash = 0, nil
	if resp == nil {
		return errRestart
	}
	if resp.ContentLength > t.c.o.MaxSize {
		return errTooLarge
	}
	w, err := t.c.o.Blobs.Create(t.ctx)
	if err != nil {
		return &localError{err}
	}
	t.w = w
	t.packed = strings.EqualFold(resp.Header.Get("Content-Encoding"), "gzip")
	t.got = &record{
		ETag: resp.Header.Get("ETag"), LastModified: resp.Header.Get("Last-Modified"),
		Disposition: resp.Header.Get("Content-Disposition"),
	}
	if t.want != "" {
		t.hash = sha256.New()
	}
	return nil
}

// receive stores the body of an answer.
func (t *transfer) receive(resp *http.Response) error {
	var body io.Reader = resp.Body
	if t.packed {
		unpacked, err := gzip.NewReader(body)
		if err != nil {
			return err
		}
		body = unpacked
	}
	total := int64(-1)
	if resp.ContentLength >= 0 && !t.packed {
		total = t.size + resp.ContentLength
	}
	buf := make([]byte, 128<<10)
	for {
		n, err := body.Read(buf)
		if e := t.store(buf[:n], total); e != nil {
			return e
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			if t.ctx.Err() != nil {
				return context.Cause(t.ctx)
			}
			return t.cut(total, err)
		}
	}
}

// cut says how far a download came, and what to do about it.
func (t *transfer) cut(total int64, err error) error {
	came := fmt.Sprintf("%d bytes", t.size)
	if total >= 0 {
		came = fmt.Sprintf("%d of %d bytes", t.size, total)
	}
	return fmt.Errorf("the connection was cut after %s (%w): try again, or look at the server and the proxies on the way", came, err)
}

func (t *transfer) store(data []byte, total int64) error {
	if len(data) == 0 {
		return nil
	}
	if t.size+int64(len(data)) > t.c.o.MaxSize {
		return errTooLarge
	}
	if _, err := t.w.Write(data); err != nil {
		return &localError{err}
	}
	if t.hash != nil {
		t.hash.Write(data)
	}
	t.size += int64(len(data))
	if t.c.o.Progress != nil {
		t.c.o.Progress(t.size, total)
	}
	return nil
}

// commit makes the blob exist.
func (t *transfer) commit() (*record, error) {
	if t.hash != nil {
		if got := digest.NewDigest(digest.SHA256, t.hash); got != t.want {
			return nil, &localError{fmt.Errorf("the checksum is wrong: want %s, got %s", t.want, got)}
		}
	}
	d, err := t.w.Commit(t.ctx, t.want)
	if err != nil {
		return nil, &localError{err}
	}
	t.got.Digest = d
	return t.got, nil
}
