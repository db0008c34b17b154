package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"syscall"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// chunk is the size of a request after a proxy has refused a bigger one.
const chunk = 32 << 20

// upload is one blob on its way up.
//
//	start ──POST──▶ at location ──PATCH…──▶ complete ──PUT──▶ done
//	                    ▲   cut, 5xx   │
//	                    └──GET: how far?◀┘   (unknown: start again)
type upload struct {
	p        *pusher
	desc     ocispec.Descriptor
	blob     Blob
	location string // "" before POST
	offset   int64  // what the registry has
	unsure   bool   // a request failed: ask how far it came
	chunked  bool
}

// upload sends a blob, or has it mounted.
func (p *pusher) upload(ctx context.Context, desc ocispec.Descriptor) error {
	for _, from := range p.sources[desc.Digest] {
		// A registry that cannot mount says so in many ways; the upload that
		// follows has the message that counts.
		if mounted, _, err := p.start(ctx, desc, from); err == nil && mounted {
			p.tell(Update{Desc: desc, Offset: desc.Size, State: Mounted})
			return nil
		}
	}
	blob, err := p.req.Open(desc.Digest)
	if err != nil {
		return fmt.Errorf("read blob to push: %w", err)
	}
	defer blob.Close()
	if blob.Size() != desc.Size {
		return fmt.Errorf("read blob to push: %s has %d bytes on disk, not %d", desc.Digest, blob.Size(), desc.Size)
	}
	u := &upload{p: p, desc: desc, blob: blob}
	if err := u.run(ctx); err != nil {
		return err
	}
	p.tell(Update{Desc: desc, Offset: desc.Size, State: Uploaded})
	return nil
}

// run makes steps until the blob is there. Failures in a row are bounded; one
// after progress starts the count anew.
func (u *upload) run(ctx context.Context) error {
	fails, best := 0, int64(0)
	for {
		done, err := u.step(ctx)
		if done || ctx.Err() != nil {
			return err
		}
		if err == nil {
			continue
		}
		if u.offset > best {
			fails, best = 0, u.offset
		}
		fails++
		if fails >= u.p.client.opts.Attempts || !u.recover(err) {
			return err
		}
		if err := u.p.client.pause(ctx, fails, err); err != nil {
			return err
		}
	}
}

// recover decides whether to go on after a failure, and how.
func (u *upload) recover(err error) bool {
	serr, ok := asStatus(err)
	if !ok {
		u.unsure = true
		return temporary(err) || errors.Is(err, syscall.ECONNREFUSED)
	}
	switch serr.code {
	case http.StatusRequestEntityTooLarge:
		again := !u.chunked
		u.chunked = true
		u.unsure = true
		return again
	case http.StatusNotFound, http.StatusRequestedRangeNotSatisfiable:
		// The upload session is gone, or we disagree on how far it came.
		again := u.location != ""
		u.restart()
		return again
	}
	u.unsure = true
	return temporary(err)
}

func (u *upload) restart() { u.location, u.offset, u.unsure = "", 0, false }

// step takes the one action that the state asks for.
func (u *upload) step(ctx context.Context) (done bool, err error) {
	switch {
	case u.location == "":
		_, u.location, err = u.p.start(ctx, u.desc, "")
		return false, err
	case u.unsure:
		return false, u.ask(ctx)
	case u.offset < u.desc.Size:
		return false, u.patch(ctx)
	}
	err = u.commit(ctx)
	return err == nil, err
}

// patch sends the rest of the blob, or a chunk of it.
func (u *upload) patch(ctx context.Context) error {
	n := u.desc.Size - u.offset
	if u.chunked {
		n = min(n, chunk)
	}
	start := u.offset
	body := &sent{Reader: io.NewSectionReader(u.blob, start, n), tell: func(count int64) {
		u.p.tell(Update{Desc: u.desc, Offset: start + count})
	}}
	header := http.Header{"Content-Type": {"application/octet-stream"}}
	if u.chunked || start > 0 {
		header.Set("Content-Range", fmt.Sprintf("%d-%d", start, start+n-1))
	}
	resp, err := u.p.session.do(ctx, request{method: http.MethodPatch, url: u.location, header: header, body: body, length: n})
	if err != nil {
		return err
	}
	if err := check(resp, http.StatusAccepted, http.StatusNoContent, http.StatusCreated); err != nil {
		return err
	}
	resp.Body.Close()
	u.offset = start + n
	u.location, err = nextLocation(resp)
	return err
}

// ask finds out how far an interrupted upload came. A registry that does not
// tell gets the blob from its beginning.
func (u *upload) ask(ctx context.Context) error {
	resp, err := u.p.session.do(ctx, request{method: http.MethodGet, url: u.location})
	if err != nil {
		return err
	}
	resp.Body.Close()
	if resp.StatusCode >= 500 || resp.StatusCode == http.StatusTooManyRequests {
		return &statusError{code: resp.StatusCode, after: retryAfter(resp), text: resp.Status}
	}
	received, ok := receivedBytes(resp.Header.Get("Range"))
	location, err := nextLocation(resp)
	if resp.StatusCode != http.StatusNoContent || !ok || err != nil || received > u.desc.Size {
		u.restart()
		return nil
	}
	u.location, u.offset, u.unsure = location, received, false
	return nil
}

// receivedBytes reads "0-1023" as 1024 bytes. "0-0" is what registries say for
// none as well as for one, so it counts as none.
func receivedBytes(header string) (int64, bool) {
	_, last, ok := strings.Cut(strings.TrimPrefix(header, "bytes="), "-")
	n, err := strconv.ParseInt(last, 10, 64)
	if !ok || err != nil || n < 0 {
		return 0, false
	}
	if n == 0 {
		return 0, true
	}
	return n + 1, true
}

// commit ends the upload; the registry verifies the digest.
func (u *upload) commit(ctx context.Context) error {
	target, err := url.Parse(u.location)
	if err != nil {
		return &failure{text: u.p.ep.host + " gave a malformed upload location"}
	}
	query := target.Query()
	query.Set("digest", u.desc.Digest.String())
	target.RawQuery = query.Encode()
	resp, err := u.p.session.do(ctx, request{
		method: http.MethodPut, url: target.String(),
		header: http.Header{"Content-Type": {"application/octet-stream"}, "Content-Length": {"0"}},
	})
	if err != nil {
		return err
	}
	if resp.StatusCode == http.StatusBadRequest {
		err := check(resp)
		return &failure{text: fmt.Sprintf("%s refuses blob %s of %d bytes (%v): the bytes changed on the way or on disk; try again, and `strata fsck` verifies the store", u.p.ep.host, u.desc.Digest, u.desc.Size, err), kinds: []error{ErrUnverified}}
	}
	if err := check(resp, http.StatusCreated, http.StatusNoContent, http.StatusOK); err != nil {
		return err
	}
	return resp.Body.Close()
}
