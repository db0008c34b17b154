package worker

import (
	"context"
	"errors"

	"github.com/strata-build/strata/solver"
)

// ReadFile reads a regular file of a result of Solve, of at most limit bytes.
// Its path stays inside of the result, whatever links it has. One that is not
// there is fs.ErrNotExist.
func (w *Worker) ReadFile(ctx context.Context, r solver.Result, name string, limit int64) ([]byte, error) {
	v, err := w.view(ctx, resultOf(r))
	if err != nil {
		return nil, err
	}
	data, err := v.root.ReadFile(name, limit)
	return data, errors.Join(err, v.close())
}
