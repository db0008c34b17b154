package buildcmd

import (
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"net"
	"path/filepath"
	"testing"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"

	"github.com/strata-build/strata/cmd/strata/cli"
	"github.com/strata-build/strata/runtime/worker"
)

// TestAgentSignsAndStaysAsItIs goes the way of a step: through the socket of
// the user's agent, which it may use, and not change.
func TestAgentSignsAndStaysAsItIs(t *testing.T) {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ring := agent.NewKeyring()
	if err := ring.Add(agent.AddedKey{PrivateKey: key}); err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(t.TempDir(), "agent.sock")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() { _ = agent.ServeAgent(ring, c) }()
		}
	}()

	a := &app{cli.New(nil, nil, nil, []string{"SSH_AUTH_SOCK=" + socket})}
	agents, err := a.parseAgents([]string{"default"})
	if err != nil {
		t.Fatal(err)
	}
	conn, err := agents.Agent(t.Context(), "default")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	client := agent.NewClient(conn)
	keys, err := client.List()
	if err != nil || len(keys) != 1 {
		t.Fatalf("the agent lists %d keys, %v", len(keys), err)
	}
	public, err := ssh.ParsePublicKey(keys[0].Blob)
	if err != nil {
		t.Fatal(err)
	}
	data := []byte("to be signed")
	signature, err := client.Sign(public, data)
	if err != nil {
		t.Fatal(err)
	}
	if err := public.Verify(data, signature); err != nil {
		t.Error(err)
	}
	if err := client.RemoveAll(); err == nil {
		t.Error("a step removed the user's keys")
	}
	if left, err := ring.List(); err != nil || len(left) != 1 {
		t.Errorf("the agent holds %d keys, %v", len(left), err)
	}
	if _, err := agents.Agent(t.Context(), "other"); !errors.Is(err, worker.ErrNoSecret) {
		t.Errorf("an agent that was not given: %v", err)
	}
}
