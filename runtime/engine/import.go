package engine

import (
	"context"
	"io"

	"github.com/strata-build/strata/runtime/exporter"
	"github.com/strata-build/strata/runtime/httpsource"
)

// Download fetches an http or https URL and returns its content. A connection
// that is cut is taken up; what did not change since the last time is not
// fetched again.
func (e *Engine) Download(ctx context.Context, url string) (io.ReadCloser, error) {
	src, err := httpsource.Parse(url, nil)
	if err != nil {
		return nil, err
	}
	got, err := httpsource.New(e.httpOptions()).Resolve(ctx, src)
	if err != nil {
		return nil, err
	}
	return e.Store.OpenBlob(got.Digest)
}

// ImportTar makes an image of one layer from the tar of a root file system, in
// any compression. req has no layers yet.
func (e *Engine) ImportTar(ctx context.Context, tar io.Reader, req AssembleRequest) (exporter.Result, error) {
	id, err := e.Layers.ImportTar(ctx, tar, req.Compression)
	if err != nil {
		return exporter.Result{}, err
	}
	req.Layers = []string{id}
	return e.AssembleImage(ctx, req)
}
