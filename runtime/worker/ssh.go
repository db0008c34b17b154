package worker

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"

	"github.com/strata-build/strata/runtime/mount"
)

// openAgent mounts a socket behind which the user's SSH agent answers. The
// socket lies in a directory of the store that the step does not see; only
// the socket itself is mounted.
func (r *execRun) openAgent(ctx context.Context, mt *mounted) (*mounted, error) {
	opt := mt.m.GetSSHOpt()
	if opt == nil {
		return nil, errors.New("an ssh mount without an agent")
	}
	id := cmp.Or(opt.ID, "default") // as BuildKit names it
	probe, err := r.w.opt.Agents.Agent(ctx, id)
	if errors.Is(err, ErrNoSecret) && opt.Optional {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("ssh agent %q: %w; forward one with --ssh %s", id, err, id)
	}
	if err := probe.Close(); err != nil {
		return nil, fmt.Errorf("ssh agent %q: %w", id, err)
	}
	dir, err := r.w.opt.Store.TempDir()
	if err != nil {
		return nil, err
	}
	r.undo.Add(func() error { return os.RemoveAll(dir) })
	name := filepath.Join(dir, "agent.sock")
	if err := r.serveAgent(ctx, id, name); err != nil {
		return nil, err
	}
	mode := os.FileMode(opt.Mode & 0o777)
	if err := errors.Join(os.Chown(name, int(opt.Uid), int(opt.Gid)), os.Chmod(name, mode)); err != nil {
		return nil, err
	}
	return mt, r.bindFile(mt, name)
}

// bindFile mounts a file of this machine.
func (r *execRun) bindFile(mt *mounted, name string) error {
	f, err := openPath(name)
	if err != nil {
		return err
	}
	defer f.Close()
	if mt.file, err = mount.Bind(f, mount.BindOptions{}); err != nil {
		return err
	}
	r.undo.Add(mt.file.Close)
	return nil
}

// serveAgent listens on a socket until the run ends.
func (r *execRun) serveAgent(ctx context.Context, id, name string) error {
	stop, err := listenAgent(ctx, r.w.opt.Agents, id, name)
	if err == nil {
		r.undo.Add(stop)
	}
	return err
}

// listenAgent listens on a socket and connects each client to the agent, until
// it is stopped.
func listenAgent(ctx context.Context, agents Agents, id, name string) (stop func() error, err error) {
	l, err := net.Listen("unix", name)
	if err != nil {
		return nil, fmt.Errorf("listen for the ssh agent: %w", err)
	}
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return // closed below
			}
			wg.Go(func() { forwardAgent(ctx, agents, id, c) })
		}
	})
	return func() error {
		cancel()
		err := l.Close()
		wg.Wait()
		return err
	}, nil
}

// forwardAgent connects one client. A client that cannot be connected sees
// its connection closed, as with any agent that went away.
func forwardAgent(ctx context.Context, agents Agents, id string, client net.Conn) {
	agent, err := agents.Agent(ctx, id)
	if err != nil {
		client.Close()
		return
	}
	stop := context.AfterFunc(ctx, func() { client.Close(); agent.Close() })
	defer stop()
	var wg sync.WaitGroup
	pump := func(dst, src io.ReadWriteCloser) {
		_, _ = io.Copy(dst, src) // the end of either side ends both
		dst.Close()
		src.Close()
	}
	wg.Go(func() { pump(agent, client) })
	wg.Go(func() { pump(client, agent) })
	wg.Wait()
}

// AgentSocket makes a socket in dir behind which an agent answers, for
// programs of this machine such as git's ssh.
func AgentSocket(ctx context.Context, agents Agents, id, dir string) (socket string, stop func() error, err error) {
	var probe io.Closer
	if err = ErrNoSecret; agents != nil {
		probe, err = agents.Agent(ctx, id)
	}
	if err != nil {
		return "", nil, fmt.Errorf("ssh agent %q: %w; forward one with --ssh %s", id, err, id)
	}
	if err := probe.Close(); err != nil {
		return "", nil, fmt.Errorf("ssh agent %q: %w", id, err)
	}
	socket = filepath.Join(dir, "agent.sock")
	stop, err = listenAgent(ctx, agents, id, socket)
	return socket, stop, err
}
