package buildcmd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"

	"github.com/strata-build/strata/cmd/strata/cli"
	"github.com/strata-build/strata/runtime/worker"
)

// agents answers the build's SSH agents: sockets, or keys behind an agent of
// our own.
type agents struct {
	sockets map[string]string
	keys    map[string]agent.ExtendedAgent
}

// parseAgents reads --ssh as docker does: default or ID, with =SOCKET or
// =KEY,KEY….
func (a *app) parseAgents(specs []string) (worker.Agents, error) {
	g := &agents{sockets: map[string]string{}, keys: map[string]agent.ExtendedAgent{}}
	for _, spec := range specs {
		id, paths, given := strings.Cut(spec, "=")
		if id == "" {
			return nil, cli.Misuse("--ssh %s: it has no id", spec)
		}
		if !given {
			socket := a.Env["SSH_AUTH_SOCK"]
			if socket == "" {
				return nil, cli.Misuse("--ssh %s: SSH_AUTH_SOCK is not set; start an agent, or give a socket or a key: --ssh %s=PATH", spec, id)
			}
			g.sockets[id] = socket
			continue
		}
		if err := g.add(id, strings.Split(paths, ",")); err != nil {
			return nil, cli.Misuse("--ssh %s: %v", spec, err)
		}
	}
	return g, nil
}

// add takes a socket, or keys.
func (g *agents) add(id string, paths []string) error {
	if len(paths) == 1 {
		info, err := os.Stat(paths[0])
		if err != nil {
			return err
		}
		if info.Mode()&os.ModeSocket != 0 {
			g.sockets[id] = paths[0]
			return nil
		}
	}
	ring, ok := agent.NewKeyring().(agent.ExtendedAgent)
	if !ok {
		return errors.New("this build of strata cannot serve keys")
	}
	for _, name := range paths {
		if err := addKey(ring, name); err != nil {
			return err
		}
	}
	g.keys[id] = ring
	return nil
}

// maxKey bounds a key file.
const maxKey = 100 << 10

func addKey(ring agent.Agent, name string) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxKey))
	if err != nil {
		return err
	}
	key, err := ssh.ParseRawPrivateKey(data)
	var locked *ssh.PassphraseMissingError
	if errors.As(err, &locked) {
		return fmt.Errorf("the key %s has a passphrase: add it to an agent with ssh-add, and forward the agent", name)
	}
	if err != nil {
		return fmt.Errorf("the key %s: %w", name, err)
	}
	return ring.Add(agent.AddedKey{PrivateKey: key, Comment: "strata"})
}

// Agent implements worker.Agents.
func (g *agents) Agent(ctx context.Context, id string) (io.ReadWriteCloser, error) {
	if socket, ok := g.sockets[id]; ok {
		conn, err := new(net.Dialer).DialContext(ctx, "unix", socket)
		if err != nil {
			return nil, err
		}
		return serve(agent.NewClient(conn), conn), nil
	}
	if keys, ok := g.keys[id]; ok {
		return serve(keys, nil), nil
	}
	return nil, worker.ErrNoSecret
}

// serve answers the agent protocol at one end of a pipe and returns the other.
func serve(a agent.ExtendedAgent, below io.Closer) io.ReadWriteCloser {
	ours, theirs := net.Pipe()
	go func() {
		// The end of the conversation is its only result.
		_ = agent.ServeAgent(readOnlyAgent{a}, ours)
		ours.Close()
		if below != nil {
			below.Close()
		}
	}()
	return theirs
}

// readOnlyAgent lets steps list keys and sign, but not change the agent.
type readOnlyAgent struct{ agent.ExtendedAgent }

var errReadOnly = errors.New("the agent is read-only for steps")

// Add implements agent.Agent.
func (readOnlyAgent) Add(agent.AddedKey) error { return errReadOnly }

// Remove implements agent.Agent.
func (readOnlyAgent) Remove(ssh.PublicKey) error { return errReadOnly }

// RemoveAll implements agent.Agent.
func (readOnlyAgent) RemoveAll() error { return errReadOnly }

// Lock implements agent.Agent.
func (readOnlyAgent) Lock([]byte) error { return errReadOnly }

// Unlock implements agent.Agent.
func (readOnlyAgent) Unlock([]byte) error { return errReadOnly }

// Extension implements agent.ExtendedAgent.
func (readOnlyAgent) Extension(string, []byte) ([]byte, error) {
	return nil, agent.ErrExtensionUnsupported
}
