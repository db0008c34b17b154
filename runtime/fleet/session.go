package fleet

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	"github.com/moby/buildkit/session/auth"
	"github.com/moby/buildkit/session/secrets"
	"github.com/moby/buildkit/session/sshforward"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/strata-build/strata/runtime/worker"
)

// secretServer answers for the user's secrets.
type secretServer struct {
	secrets.UnimplementedSecretsServer
	secrets worker.Secrets
}

// Register implements session.Attachable.
func (s *secretServer) Register(server *grpc.Server) { secrets.RegisterSecretsServer(server, s) }

// GetSecret implements secrets.SecretsServer.
func (s *secretServer) GetSecret(ctx context.Context, req *secrets.GetSecretRequest) (*secrets.GetSecretResponse, error) {
	value, err := s.secrets.Secret(ctx, req.ID)
	if errors.Is(err, worker.ErrNoSecret) {
		return nil, status.Errorf(codes.NotFound, "secret %q: %v; give it with --secret id=%s", req.ID, err, req.ID)
	}
	if err != nil {
		return nil, err
	}
	return &secrets.GetSecretResponse{Data: value}, nil
}

// agentServer connects steps with the user's SSH agents.
type agentServer struct {
	sshforward.UnimplementedSSHServer
	agents worker.Agents
}

// Register implements session.Attachable.
func (s *agentServer) Register(server *grpc.Server) { sshforward.RegisterSSHServer(server, s) }

// CheckAgent implements sshforward.SSHServer.
func (s *agentServer) CheckAgent(ctx context.Context, req *sshforward.CheckAgentRequest) (*sshforward.CheckAgentResponse, error) {
	id := cmp.Or(req.ID, sshforward.DefaultID)
	conn, err := s.agents.Agent(ctx, id)
	if err != nil {
		return nil, status.Errorf(codes.NotFound, "ssh agent %q: %v; forward one with --ssh %s", id, err, id)
	}
	return &sshforward.CheckAgentResponse{}, conn.Close()
}

// ForwardAgent implements sshforward.SSHServer.
func (s *agentServer) ForwardAgent(stream grpc.BidiStreamingServer[sshforward.BytesMessage, sshforward.BytesMessage]) error {
	id := sshforward.DefaultID
	opts, _ := metadata.FromIncomingContext(stream.Context()) // none is like an empty one
	if given := opts[sshforward.KeySSHID]; len(given) > 0 && given[0] != "" {
		id = given[0]
	}
	conn, err := s.agents.Agent(stream.Context(), id)
	if err != nil {
		return fmt.Errorf("ssh agent %q: %w", id, err)
	}
	return sshforward.Copy(stream.Context(), conn, stream, nil)
}

// loginServer tells the daemon the user's passwords, one registry at a time.
// What else BuildKit may ask, for tokens, is answered with "not implemented":
// then it gets tokens itself.
type loginServer struct {
	auth.UnimplementedAuthServer
	login func(host string) (user, password string)
}

// Register implements session.Attachable.
func (s *loginServer) Register(server *grpc.Server) { auth.RegisterAuthServer(server, s) }

// hubHost is what BuildKit calls the registry of Docker Hub.
const hubHost = "registry-1.docker.io"

// Credentials implements auth.AuthServer.
func (s *loginServer) Credentials(_ context.Context, req *auth.CredentialsRequest) (*auth.CredentialsResponse, error) {
	host := req.Host
	if host == hubHost {
		host = "docker.io"
	}
	user, password := s.login(host)
	return &auth.CredentialsResponse{Username: user, Secret: password}, nil
}
