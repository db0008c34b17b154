package layer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	digest "github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"

	"github.com/strata-build/strata/internal/testenv"
	"github.com/strata-build/strata/runtime/snapshot"
	"github.com/strata-build/strata/runtime/store"
	"github.com/strata-build/strata/runtime/tree/treetest"
)

// fixture is a layer store on disk.
type fixture struct {
	*Store
	t     *testing.T
	blobs *store.Store
	snaps snapshot.Snapshotter
	opens int
	mu    sync.Mutex
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	return openFixture(t, filepath.Join(t.TempDir(), "root"))
}

func openFixture(t *testing.T, root string) *fixture {
	t.Helper()
	st, err := store.Open(root)
	must(t, err)
	t.Cleanup(func() { must(t, st.Close()) })
	sn, err := snapshot.Open(st, snapshot.Options{UserXattr: !treetest.Privileged()})
	must(t, err)
	t.Cleanup(func() { must(t, sn.Reap(context.Background())) })
	return &fixture{Store: NewStore(st, sn, Options{SingleID: format().SingleID}), t: t, blobs: st, snaps: sn}
}

// packed compresses a tar.
func packed(t testing.TB, data []byte, c Compression) []byte {
	t.Helper()
	var buf bytes.Buffer
	_, err := encode(t.Context(), &buf, mustNormal(t, c), func(w io.Writer) error { _, err := w.Write(data); return err })
	must(t, err)
	return buf.Bytes()
}

// request is an import of a blob from elsewhere, as package image makes it.
func (f *fixture) request(blob, plain []byte) ImportRequest {
	desc := ocispec.Descriptor{
		MediaType: ocispec.MediaTypeImageLayerGzip, Digest: digest.FromBytes(blob), Size: int64(len(blob)),
	}
	return ImportRequest{
		Desc: desc, DiffID: digest.FromBytes(plain),
		Open: func(ctx context.Context) (io.ReadCloser, error) {
			f.mu.Lock()
			f.opens++
			f.mu.Unlock()
			return f.keep(ctx, blob, desc)
		},
		Parents: func(context.Context) ([]string, error) { return nil, nil },
	}
}

// keep puts a blob into the store as it is read.
func (f *fixture) keep(ctx context.Context, blob []byte, desc ocispec.Descriptor) (io.ReadCloser, error) {
	w, err := f.blobs.NewBlob(ctx)
	return &keeper{ctx: ctx, r: bytes.NewReader(blob), w: w, desc: desc}, err
}

type keeper struct {
	ctx  context.Context
	r    io.Reader
	w    *store.BlobWriter
	desc ocispec.Descriptor
}

func (k *keeper) Read(p []byte) (int, error) {
	n, err := k.r.Read(p)
	if _, err := k.w.Write(p[:n]); err != nil {
		return n, err
	}
	if err == io.EOF {
		if _, _, err := k.w.Commit(k.ctx, k.desc.Digest, k.desc.Size); err != nil {
			return n, err
		}
	}
	return n, err
}

func (k *keeper) Close() error { return k.w.Close() }

// built makes a layer as a build step does.
func (f *fixture) built(id string, seed int) {
	f.t.Helper()
	dir, err := f.snaps.NewLayer(f.t.Context(), id)
	must(f.t, err)
	treetest.Random(f.t, rng(seed), dir, treetest.Options{Files: 60, Seconds: true})
	must(f.t, f.snaps.Commit(f.t.Context(), id, id))
}

func TestImport(t *testing.T) {
	for _, c := range []Compression{{}, {Type: Zstd}, {Type: None}} {
		f := newFixture(t)
		src := newDir(t)
		treetest.Random(t, rng(1), src, treetest.Options{Files: 100, Whiteouts: true})
		plain := tarOf(t, src, WriteOptions{Format: format()})
		req := f.request(packed(t, plain, c), plain)
		id, err := f.Import(t.Context(), req)
		must(t, err)
		dir, err := f.Layer(id)
		must(t, err)
		if d := treetest.Diff(described(t, src), described(t, dir)); d != "" {
			t.Errorf("%v: %s", c, d)
		}
		again, err := f.Import(t.Context(), req)
		if again != id || err != nil || f.opens != 1 {
			t.Errorf("%v: again: %s (not %s), opened %d times, %v", c, again, id, f.opens, err)
		}
		info, err := f.Blob(t.Context(), id, Compression{Type: Zstd, Level: 19})
		if err != nil || info.DiffID != req.DiffID || info.Desc.Digest != req.Desc.Digest || info.Desc.MediaType != req.Desc.MediaType {
			t.Errorf("%v: the pulled blob was not reused: %+v, %v", c, info, err)
		}
		if got, err := f.DiffID(t.Context(), id); got != req.DiffID || err != nil {
			t.Errorf("%v: diff ID %s, %v", c, got, err)
		}
	}
}

func TestImportFromTheStore(t *testing.T) {
	f := newFixture(t)
	plain := makeTar(t, entry{name: "f", data: "x"})
	req := f.request(packed(t, plain, Compression{}), plain)
	r, err := req.Open(t.Context())
	must(t, err)
	_, err = io.Copy(io.Discard, r)
	must(t, err)
	must(t, r.Close())
	req.Open, req.DiffID = nil, ""
	id, err := f.Import(t.Context(), req)
	must(t, err)
	if got, err := f.DiffID(t.Context(), id); got != digest.FromBytes(plain) || err != nil {
		t.Errorf("diff ID %s, %v", got, err)
	}
	other := f.request([]byte("elsewhere"), nil)
	other.Open = nil
	if _, err := f.Import(t.Context(), other); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("a blob that is nowhere: %v", err)
	}
}

func TestImportRefuses(t *testing.T) {
	plain := makeTar(t, entry{name: "f", data: "x"})
	blob := packed(t, plain, Compression{})
	unverified := func(blob []byte) func(context.Context) (io.ReadCloser, error) {
		return func(context.Context) (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(blob)), nil }
	}
	for name, c := range map[string]struct {
		change func(r *ImportRequest)
		want   error
	}{
		"other diff ID":    {func(r *ImportRequest) { r.DiffID = digest.FromString("other") }, ErrDiffID},
		"other digest":     {func(r *ImportRequest) { r.Desc.Digest = digest.FromString("other") }, ErrNotStored},
		"not kept":         {func(r *ImportRequest) { r.Open = unverified(blob) }, ErrNotStored},
		"longer than said": {func(r *ImportRequest) { r.Desc.Size-- }, ErrNotStored},
		"no digest":        {func(r *ImportRequest) { r.Desc.Digest = "../../x" }, digest.ErrDigestInvalidFormat},
		"no diff ID":       {func(r *ImportRequest) { r.DiffID = "sha256:../x" }, digest.ErrDigestInvalidLength},
		"bad reader": {func(r *ImportRequest) {
			r.Open = func(context.Context) (io.ReadCloser, error) { return nil, errBroken }
		}, errBroken},
		"no tar": {func(r *ImportRequest) { r.Open = unverified([]byte("no tar")) }, io.ErrUnexpectedEOF},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			req := f.request(blob, plain)
			c.change(&req)
			if id, err := f.Import(t.Context(), req); !errors.Is(err, c.want) {
				t.Errorf("%s, %v; want %v", id, err, c.want)
			}
			must(t, f.snaps.Walk(t.Context(), func(i snapshot.Info) error { return fmt.Errorf("left over: %+v", i) }))
		})
	}
}

// TestImportDoesNotWait: a layer that is refused is not waited for, however
// slow its network.
func TestImportDoesNotWait(t *testing.T) {
	f := newFixture(t)
	req := f.request([]byte("the rest never comes"), nil)
	req.Open = func(ctx context.Context) (io.ReadCloser, error) {
		bad := make([]byte, 2*aheadSize)
		copy(bad, makeTar(t, entry{name: "f", kind: 'Q'}))
		return io.NopCloser(io.MultiReader(bytes.NewReader(bad), waitingReader{ctx})), nil
	}
	if _, err := f.Import(t.Context(), req); !errors.Is(err, ErrBadEntry) {
		t.Errorf("error is %v", err)
	}
}

// waitingReader never has anything.
type waitingReader struct{ ctx context.Context }

func (w waitingReader) Read([]byte) (int, error) {
	<-w.ctx.Done()
	return 0, w.ctx.Err()
}

// TestImportDamagedBlob: a damaged blob in the store is fetched again.
func TestImportDamagedBlob(t *testing.T) {
	f := newFixture(t)
	plain := makeTar(t, entry{name: "f", data: "x"})
	req := f.request(packed(t, plain, Compression{Type: None}), plain)
	r, err := req.Open(t.Context())
	must(t, err)
	_, err = io.Copy(io.Discard, r)
	must(t, err)
	must(t, r.Close())
	p, err := f.blobs.BlobPath(req.Desc.Digest)
	must(t, err)
	must(t, os.Chmod(p, 0o600))
	damaged := bytes.Replace(plain, []byte("x"), []byte("y"), 1)
	must(t, os.WriteFile(p, damaged, 0o600))
	if _, err := f.Import(t.Context(), req); !errors.Is(err, store.ErrMismatch) {
		t.Errorf("a damaged blob: %v", err)
	}
	id, err := f.Import(t.Context(), req)
	must(t, err)
	dir, err := f.Layer(id)
	must(t, err)
	if got := listing(t, dir); got != "f=x" || f.opens != 2 {
		t.Errorf("%s, opened %d times", got, f.opens)
	}
}

// TestImportOntoLower: a layer with an implied parent and a hard link into the
// layer below.
func TestImportOntoLower(t *testing.T) {
	testenv.Root(t)
	f := newFixture(t)
	base := makeTar(t, entry{name: "usr/", mode: 0o711}, entry{name: "usr/f", data: "base"})
	top := makeTar(t, entry{name: "usr/g", data: "top"}, entry{name: "l", kind: '1', link: "usr/f"})
	baseID, err := f.Import(t.Context(), f.request(packed(t, base, Compression{}), base))
	must(t, err)
	req := f.request(packed(t, top, Compression{}), top)
	asked := 0
	req.Parents = func(context.Context) ([]string, error) { asked++; return []string{baseID}, nil }
	id, err := f.Import(t.Context(), req)
	must(t, err)
	again, err := f.Import(t.Context(), req)
	if again != id || err != nil || f.opens != 2 || asked != 2 {
		t.Errorf("again: %s (not %s), %d opens, %d questions, %v", again, id, f.opens, asked, err)
	}
	dir, err := f.Layer(id)
	must(t, err)
	if got := listing(t, dir); got != "l=base usr/ usr/f=base usr/g=top" {
		t.Errorf("the layer is %s", got)
	}
	st, err := os.Stat(filepath.Join(dir, "usr"))
	must(t, err)
	if st.Mode().Perm() != 0o711 {
		t.Errorf("the parent's mode is %v", st.Mode())
	}
	req.Parents = nil // the same blob at the bottom of another image
	req.DiffID = ""
	if _, err := f.Import(t.Context(), req); !errors.Is(err, unix.ENOENT) {
		t.Errorf("a hard link to nothing: %v", err)
	}
	implied := makeTar(t, entry{name: "usr/g", data: "top"})
	bottom := f.request(packed(t, implied, Compression{}), implied)
	bottom.Parents = nil
	other, err := f.Import(t.Context(), bottom)
	if other == id || err != nil {
		t.Errorf("implied parents at the bottom: %s, %v", other, err)
	}
}

// TestImportTwins: one blob twice in an image, where the upper one waits for
// the lower one.
func TestImportTwins(t *testing.T) {
	testenv.Root(t)
	f := newFixture(t)
	plain := makeTar(t, entry{name: "usr/g", data: "x"})
	req := f.request(packed(t, plain, Compression{}), plain)
	ids, done := make([]string, 4), make([]chan struct{}, 4)
	for i := range done {
		done[i] = make(chan struct{})
	}
	var wg sync.WaitGroup
	for i := range ids {
		wg.Go(func() {
			r := req
			r.Parents = func(context.Context) ([]string, error) {
				for _, d := range done[:i] {
					<-d
				}
				return ids[:i:i], nil
			}
			id, err := f.Import(t.Context(), r)
			if err != nil {
				t.Error(err)
			}
			ids[i] = id
			close(done[i])
		})
	}
	wg.Wait()
	if ids[0] == ids[1] || ids[1] == ids[2] {
		t.Errorf("layers on other ones have one id: %v", ids)
	}
}

// TestImportOnce: many at a time fetch and unpack once.
func TestImportOnce(t *testing.T) {
	f := newFixture(t)
	other := openFixture(t, f.blobs.Root()) // another process has its own descriptors
	src := newDir(t)
	treetest.Random(t, rng(2), src, treetest.Options{Files: 100})
	plain := tarOf(t, src, WriteOptions{Format: format()})
	blob := packed(t, plain, Compression{})
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			s := f
			if i%2 == 1 {
				s = other
			}
			if _, err := s.Import(t.Context(), s.request(blob, plain)); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if n := f.opens + other.opens; n != 1 {
		t.Errorf("fetched %d times", n)
	}
}

func TestBlob(t *testing.T) {
	f := newFixture(t)
	f.built("b1", 3)
	seen := map[digest.Digest]bool{}
	var first Info
	for _, c := range []Compression{{}, {Type: Gzip, Level: 9}, {Type: Zstd}, {Type: None}} {
		info, err := f.Blob(t.Context(), "b1", c)
		must(t, err)
		if first.DiffID == "" {
			first = info
		}
		if seen[info.Desc.Digest] || info.DiffID != first.DiffID || info.Desc.MediaType != c.MediaType() {
			t.Errorf("%+v: %+v", c, info)
		}
		seen[info.Desc.Digest] = true
		checkBlob(t, f, info)
	}
	if _, err := f.Blob(t.Context(), "none", Compression{}); !errors.Is(err, snapshot.ErrNotFound) {
		t.Errorf("no such layer: %v", err)
	}
	for _, c := range []Compression{{Type: "lzma"}, {Level: 10}, {Type: Zstd, Level: 23}, {Level: -1}} {
		if _, err := f.Blob(t.Context(), "b1", c); !errors.Is(err, ErrCompression) {
			t.Errorf("%+v: %v", c, err)
		}
	}
}

// checkBlob: the blob is in the store, and unpacks to its diff ID.
func checkBlob(t *testing.T, f *fixture, info Info) {
	t.Helper()
	blob, err := f.blobs.OpenBlob(info.Desc.Digest)
	must(t, err)
	defer blob.Close()
	plain, _, err := Decompress(blob)
	must(t, err)
	defer plain.Close()
	got, err := digest.FromReader(plain)
	if err != nil || got != info.DiffID || blob.Size() != info.Desc.Size {
		t.Errorf("the blob unpacks to %s, %v; want %s", got, err, info.DiffID)
	}
}

// TestBlobOnce: a blob is made once, also by several processes, and is known
// to later ones.
func TestBlobOnce(t *testing.T) {
	f := newFixture(t)
	other := openFixture(t, f.blobs.Root())
	f.built("b1", 4)
	infos := make([]Info, 8)
	var wg sync.WaitGroup
	for i := range infos {
		wg.Go(func() {
			s := f
			if i%2 == 1 {
				s = other
			}
			var err error
			if infos[i], err = s.Blob(t.Context(), "b1", Compression{}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	for _, info := range infos {
		if info.Desc.Digest != infos[0].Desc.Digest {
			t.Errorf("%+v is not %+v", info, infos[0])
		}
	}
	// What is known is not made again, even if the directory now differs.
	dir, err := f.Layer("b1")
	must(t, err)
	must(t, os.WriteFile(filepath.Join(dir, "later"), nil, 0o600))
	info, err := openFixture(t, f.blobs.Root()).Blob(t.Context(), "b1", Compression{})
	if err != nil || info.Desc.Digest != infos[0].Desc.Digest {
		t.Errorf("made again: %+v, %v", info, err)
	}
}

func TestBlobPruned(t *testing.T) {
	f := newFixture(t)
	f.built("b1", 5)
	info, err := f.Blob(t.Context(), "b1", Compression{})
	must(t, err)
	must(t, f.blobs.DeleteBlob(info.Desc.Digest))
	again, err := f.Blob(t.Context(), "b1", Compression{})
	if err != nil || again.Desc.Digest != info.Desc.Digest || again.DiffID != info.DiffID {
		t.Errorf("remade as %+v, %v; want %+v", again, err, info)
	}
	checkBlob(t, f, again)
	must(t, f.blobs.DeleteBlob(info.Desc.Digest))
	dir, err := f.Layer("b1")
	must(t, err)
	must(t, os.WriteFile(filepath.Join(dir, "later"), nil, 0o600))
	if _, err := f.Blob(t.Context(), "b1", Compression{}); !errors.Is(err, ErrGone) {
		t.Errorf("a layer that changed: %v", err)
	}
}

func TestBlobOfPulledLayer(t *testing.T) {
	f := newFixture(t)
	plain := makeTar(t, entry{name: "./d/"}, entry{name: "./d/f", data: "x"}) // not as we write it
	req := f.request(packed(t, plain, Compression{Level: 9}), plain)
	id, err := f.Import(t.Context(), req)
	must(t, err)
	for c, reused := range map[Compression]bool{
		{}: true, {Type: Zstd}: true, {Force: true}: true, {Type: Zstd, Force: true}: false, {Type: None, Force: true}: false,
	} {
		info, err := f.Blob(t.Context(), id, c)
		must(t, err)
		if (info.Desc.Digest == req.Desc.Digest) != reused || info.DiffID != req.DiffID {
			t.Errorf("%+v: %+v", c, info)
		}
		checkBlob(t, f, info)
	}
	must(t, f.blobs.DeleteBlob(req.Desc.Digest))
	if _, err := f.Blob(t.Context(), id, Compression{}); !errors.Is(err, ErrGone) || !strings.Contains(err.Error(), "pull the image again") {
		t.Errorf("a pulled blob that is gone: %v", err)
	}
	if again, err := f.Import(t.Context(), req); again != id || err != nil {
		t.Errorf("imported again as %s, %v", again, err)
	}
}

// TestFoundIsLeased: what was not made but found is kept from collection, too.
func TestFoundIsLeased(t *testing.T) {
	f := newFixture(t)
	plain := makeTar(t, entry{name: "f"})
	req := f.request(packed(t, plain, Compression{}), plain)
	id, err := f.Import(t.Context(), req)
	must(t, err)
	f.built("b1", 8)
	info, err := f.Blob(t.Context(), "b1", Compression{})
	must(t, err)
	must(t, f.blobs.ReleaseMade())
	_, err = f.Import(t.Context(), req)
	must(t, err)
	_, err = f.Blob(t.Context(), "b1", Compression{})
	must(t, err)
	_, err = f.blobs.Collect(t.Context(), store.Policy{All: true, Attached: []string{Bucket}}, f.snaps.Owner())
	must(t, err)
	if _, ok := f.blobs.HasBlob(info.Desc.Digest); !ok || !f.Have(id) {
		t.Errorf("collected while it was in use: blob there %v, layer there %v", ok, f.Have(id))
	}
}

func TestEpochs(t *testing.T) {
	f := newFixture(t)
	f.built("b1", 6)
	kept, err := f.Blob(t.Context(), "b1", Compression{})
	must(t, err)
	zero, err := f.WithEpoch(time.Unix(0, 0)).Blob(t.Context(), "b1", Compression{})
	must(t, err)
	if kept.DiffID == zero.DiffID {
		t.Error("the epoch changes nothing")
	}
	if again, err := f.WithEpoch(time.Unix(0, 0)).DiffID(t.Context(), "b1"); again != zero.DiffID || err != nil {
		t.Errorf("diff ID %s, %v", again, err)
	}
}

// TestCollected: a layer's blobs live as long as the layer.
func TestCollected(t *testing.T) {
	f := newFixture(t)
	f.built("b1", 7)
	info, err := f.Blob(t.Context(), "b1", Compression{})
	must(t, err)
	must(t, f.blobs.PutRecord("results", "r", true, snapshot.Ref("b1")))
	must(t, f.blobs.ReleaseMade())
	policy := store.Policy{Caches: []string{"results"}, Attached: []string{Bucket}}
	_, err = f.blobs.Collect(t.Context(), policy, f.snaps.Owner())
	must(t, err)
	if _, ok := f.blobs.HasBlob(info.Desc.Digest); !ok || !f.Have("b1") {
		t.Error("a layer in use, or its blob, was collected")
	}
	policy.All = true
	_, err = f.blobs.Collect(t.Context(), policy, f.snaps.Owner())
	must(t, err)
	if _, ok := f.blobs.HasBlob(info.Desc.Digest); ok || f.Have("b1") {
		t.Error("a layer that nobody needs, or its blob, is still there")
	}
}
