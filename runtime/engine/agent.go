package engine

import (
	"context"
	"os"

	"github.com/strata-build/strata/runtime/worker"
)

// agentSocket gives git the user's SSH agents, each behind a socket in a
// directory of its own.
func (e *Engine) agentSocket(agents worker.Agents) func(ctx context.Context, id string) (string, func(), error) {
	return func(ctx context.Context, id string) (string, func(), error) {
		dir, err := e.Store.TempDir()
		if err != nil {
			return "", nil, err
		}
		socket, stop, err := worker.AgentSocket(ctx, agents, id, dir)
		if err != nil {
			os.RemoveAll(dir)
			return "", nil, err
		}
		return socket, func() {
			// The agent is not needed any more, and the directory goes with
			// the process at the latest.
			_ = stop()
			_ = os.RemoveAll(dir)
		}, nil
	}
}
