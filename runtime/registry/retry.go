package registry

import (
	"context"
	"time"
)

// pause waits before the n-th retry: as long as the registry asked for, or
// growing.
func (c *Client) pause(ctx context.Context, n int, err error) error {
	d := c.opts.Backoff(n)
	if serr, ok := asStatus(err); ok {
		d = max(d, serr.after)
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-t.C:
		return nil
	}
}
