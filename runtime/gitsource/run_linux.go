package gitsource

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// git runs the git program for one source.
type git struct {
	c      *Client
	a      *access
	binary string
	// dir and tree are the repository and the work tree; "" for none.
	dir, tree string
	// index replaces the repository's index file.
	index string
	// local permits the file protocol, for a fetch from a mirror.
	local bool
	// quiet keeps messages out of the log: of a question that may be answered
	// by an error.
	quiet bool
}

// program finds git in the PATH of the options.
func (c *Client) program() (string, error) {
	for dir := range strings.SplitSeq(c.env("PATH"), ":") {
		if !filepath.IsAbs(dir) {
			continue
		}
		p := filepath.Join(dir, "git")
		if fi, err := os.Stat(p); err == nil && fi.Mode().IsRegular() && fi.Mode()&0o111 != 0 {
			return p, nil
		}
	}
	return "", ErrNoGit
}

// env returns a variable of the options; the last one counts.
func (c *Client) env(name string) string {
	value := ""
	for _, v := range c.o.Env {
		if rest, ok := strings.CutPrefix(v, name+"="); ok {
			value = rest
		}
	}
	return value
}

// configuration is all that git is configured with. The header is here, and
// not on the command line.
func (g *git) configuration() []string {
	config := [][2]string{
		{"core.hooksPath", "/dev/null"}, {"core.fsmonitor", "false"}, {"core.logAllRefUpdates", "false"},
		{"gc.auto", "0"}, {"maintenance.auto", "false"}, {"advice.detachedHead", "false"},
		{"init.defaultBranch", "master"}, {"safe.directory", "*"}, {"fetch.writeCommitGraph", "false"},
		{"submodule.fetchJobs", "2"}, {"credential.helper", ""},
	}
	if g.a.header != "" {
		config = append(config, [2]string{"http." + g.a.scope + ".extraheader", g.a.header})
	}
	env := []string{"GIT_CONFIG_COUNT=" + strconv.Itoa(len(config))}
	for i, kv := range config {
		env = append(env, fmt.Sprintf("GIT_CONFIG_KEY_%d=%s", i, kv[0]), fmt.Sprintf("GIT_CONFIG_VALUE_%d=%s", i, kv[1]))
	}
	return env
}

func (g *git) environment() []string {
	env := []string{
		"PATH=" + g.c.env("PATH"), "HOME=/dev/null", "LC_ALL=C",
		"GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_SYSTEM=/dev/null",
		"GIT_TERMINAL_PROMPT=0", "GIT_ASKPASS=", "SSH_ASKPASS=", "GIT_TEMPLATE_DIR=",
		"GIT_SSH_COMMAND=" + g.a.sshCommand(), "GIT_ALLOW_PROTOCOL=" + g.protocols(),
	}
	for _, name := range []string{
		"HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "no_proxy", "all_proxy",
		"SSL_CERT_FILE", "SSL_CERT_DIR", "GIT_SSL_CAINFO",
	} {
		if value := g.c.env(name); value != "" {
			env = append(env, name+"="+value)
		}
	}
	if g.a.socket != "" {
		env = append(env, "SSH_AUTH_SOCK="+g.a.socket)
	}
	if g.index != "" {
		env = append(env, "GIT_INDEX_FILE="+g.index)
	}
	return append(env, g.configuration()...)
}

// protocols are what git may reach a repository by. The file protocol would
// let a submodule bring in any repository of this machine.
func (g *git) protocols() string {
	if g.local {
		return "file"
	}
	return "https:http:ssh:git"
}

// run runs git and returns what it prints.
func (g *git) run(ctx context.Context, args ...string) (string, error) {
	if g.tree != "" {
		args = append([]string{"--work-tree=" + g.tree}, args...)
	}
	if g.dir != "" {
		args = append([]string{"--git-dir=" + g.dir}, args...)
	}
	cmd := exec.CommandContext(ctx, g.binary, args...)
	cmd.Dir, cmd.Env = g.tree, g.environment()
	if cmd.Dir == "" {
		cmd.Dir = "/"
	}
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	// git starts helpers that would go on without it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	cmd.Cancel = func() error { return unix.Kill(-cmd.Process.Pid, unix.SIGTERM) }
	cmd.WaitDelay = 10 * time.Second
	err := withUmask(cmd.Run)
	message := strings.TrimSpace(g.a.redact(stderr.String()))
	if g.c.o.Log != nil && message != "" && !g.quiet {
		io.WriteString(g.c.o.Log, message+"\n")
	}
	if ctx.Err() != nil {
		return "", context.Cause(ctx)
	}
	if err != nil {
		return "", explain(err, message)
	}
	return stdout.String(), nil
}

// withUmask runs f in a thread of its own umask: the modes of a checkout must
// not depend on the user's. The thread ends with the goroutine.
func withUmask(f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		if err := unix.Unshare(unix.CLONE_FS); err != nil {
			done <- fmt.Errorf("unshare: %w", err)
			return
		}
		unix.Umask(0o022)
		done <- f()
	}()
	return <-done
}

// gitError is a failed run; its message is git's.
type gitError struct {
	err     error
	message string
}

func (e *gitError) Error() string {
	if e.message == "" {
		return "git: " + e.err.Error()
	}
	return "git: " + e.message
}

func (e *gitError) Unwrap() error { return e.err }

// explain adds what the user can do.
func explain(err error, message string) error {
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		return fmt.Errorf("run git: %w", err)
	}
	for _, hint := range [...]struct{ when, what string }{
		{"terminal prompts disabled", "the repository does not exist, or needs credentials: give a token with --secret id=GIT_AUTH_TOKEN"},
		{"Authentication failed", "the credentials were refused"},
		{"Permission denied (publickey", "the repository needs a key: give an agent with --ssh default"},
		{"Host key verification failed", "the host is not among the known hosts"},
		{"transport 'file' not allowed", "repositories on this machine are not fetched"},
	} {
		if strings.Contains(message, hint.when) {
			message += "\n(" + hint.what + ")"
		}
	}
	return &gitError{err, message}
}
