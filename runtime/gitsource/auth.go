package gitsource

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
)

// access is how git reaches a remote.
type access struct {
	// remote is the URL without credentials.
	remote string
	// scope is the URL prefix that header is sent to.
	scope, header string
	// socket is that of the ssh agent, knownHosts a file.
	socket, knownHosts string
	// secrets must appear in no message.
	secrets []string
	release []func()
}

func (a *access) close() {
	for _, f := range a.release {
		f()
	}
}

// access gathers the credentials of a source.
func (c *Client) access(ctx context.Context, s *Source) (*access, error) {
	a := &access{}
	var user *url.Userinfo
	a.remote, user = splitCredentials(s.Remote)
	if user != nil {
		a.useUser(user)
	}
	if err := c.authorize(ctx, s, a); err != nil {
		return nil, err
	}
	if s.MountSSHSock != "" && c.o.SSHAgent != nil {
		socket, release, err := c.o.SSHAgent(ctx, s.MountSSHSock)
		if err != nil {
			return nil, fmt.Errorf("git source %s: %w", s, err)
		}
		a.socket = socket
		a.release = append(a.release, release)
	}
	if s.KnownSSHHosts != "" {
		if err := c.writeKnownHosts(s, a); err != nil {
			a.close()
			return nil, fmt.Errorf("git source %s: known hosts: %w", s, err)
		}
	}
	return a, nil
}

// useUser sends the credentials of a URL to its host, submodules included.
func (a *access) useUser(user *url.Userinfo) {
	password, _ := user.Password()
	basic := base64.StdEncoding.EncodeToString([]byte(user.Username() + ":" + password))
	if u, err := url.Parse(a.remote); err == nil {
		a.scope = u.Scheme + "://" + u.Host + "/"
	}
	a.header = "Authorization: Basic " + basic
	a.keepSecret(user.Username(), password, basic, user.String())
}

func (a *access) keepSecret(secrets ...string) {
	for _, s := range secrets {
		if len(s) > 2 { // shorter ones would only garble messages
			a.secrets = append(a.secrets, s)
		}
	}
}

// authorize looks for a token or header among the secrets: one for the host
// first, then the general one.
func (c *Client) authorize(ctx context.Context, s *Source, a *access) error {
	if c.o.Secret == nil || !strings.HasPrefix(a.remote, "http") {
		return nil
	}
	u, err := url.Parse(a.remote)
	if err != nil {
		return nil
	}
	for _, suffix := range []string{"." + u.Host, ""} {
		for _, kind := range []struct {
			id    string
			token bool
		}{{s.AuthHeaderSecret, false}, {s.AuthTokenSecret, true}} {
			if kind.id == "" {
				continue
			}
			data, err := c.o.Secret(ctx, kind.id+suffix)
			if errors.Is(err, ErrNoSecret) {
				continue
			}
			if err != nil {
				return fmt.Errorf("git source %s: secret %q: %w", s, kind.id+suffix, err)
			}
			a.useSecret(strings.TrimSpace(string(data)), kind.token)
			return nil
		}
	}
	return nil
}

func (a *access) useSecret(value string, token bool) {
	a.keepSecret(value)
	if token {
		value = "basic " + base64.StdEncoding.EncodeToString([]byte("x-access-token:"+value))
		a.keepSecret(value)
	}
	a.header = "Authorization: " + value
	a.scope = tokenScope(a.remote)
}

// tokenScope is where a token is sent: the repository only; but to all of
// github.com, where submodules mostly need the same one.
func tokenScope(remote string) string {
	for _, prefix := range []string{"https://github.com/", "https://www.github.com/"} {
		if strings.HasPrefix(remote, prefix) {
			return prefix
		}
	}
	return remote
}

func (c *Client) writeKnownHosts(s *Source, a *access) error {
	if err := os.MkdirAll(c.o.Dir, 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(c.o.Dir, "known-hosts-")
	if err != nil {
		return err
	}
	a.knownHosts = f.Name()
	a.release = append(a.release, func() { os.Remove(f.Name()) })
	_, err = f.WriteString(s.KnownSSHHosts)
	return errors.Join(err, f.Close())
}

// sshCommand is what git runs for ssh: without the user's configuration. As in
// BuildKit, hosts are only verified where known ones were given.
func (a *access) sshCommand() string {
	const ssh = "ssh -F /dev/null -o BatchMode=yes"
	if a.knownHosts == "" {
		return ssh + " -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null"
	}
	abs, err := filepath.Abs(a.knownHosts)
	if err != nil {
		abs = a.knownHosts
	}
	return ssh + " -o UserKnownHostsFile='" + strings.ReplaceAll(abs, "'", `'\''`) + "'"
}

// redact removes secrets from a message.
func (a *access) redact(message string) string {
	for _, s := range a.secrets {
		message = strings.ReplaceAll(message, s, "xxxxx")
	}
	return message
}
