package gitsource

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/moby/buildkit/util/gitutil"
)

// Fetch checks the resolved source out into the empty directory dir.
func (c *Client) Fetch(ctx context.Context, s *Source, r Resolved, dir string) error {
	if err := s.validate(); err != nil {
		return err
	}
	if !gitutil.IsCommitSHA(r.Commit) || strings.HasPrefix(r.Ref, "-") {
		return fmt.Errorf("git source %s: %q is not a commit id", s, r.Commit)
	}
	if err := c.fetch(ctx, s, r, dir); err != nil {
		return fmt.Errorf("git source %s: %w", s, err)
	}
	return nil
}

func (c *Client) fetch(ctx context.Context, s *Source, r Resolved, dir string) error {
	a, err := c.access(ctx, s)
	if err != nil {
		return err
	}
	defer a.close()
	g, err := c.git(a)
	if err != nil {
		return err
	}
	sum := sha256.Sum256([]byte(a.remote))
	name := hex.EncodeToString(sum[:16])
	unlock, err := c.lock(ctx, "git-"+name)
	if err != nil {
		return err
	}
	defer unlock()
	m := &mirror{git: g, s: s, r: r}
	if m.path, err = filepath.Abs(filepath.Join(c.o.Dir, name+".git")); err != nil {
		return err
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return err
	}
	m.dir = m.path
	made, err := m.attempt(ctx, dir)
	if err == nil || made || !m.damaged(ctx, err) {
		return err
	}
	if err := errors.Join(empty(dir), os.RemoveAll(m.path)); err != nil {
		return err
	}
	_, err = m.attempt(ctx, dir)
	return err
}

// attempt fetches and checks out. It tells whether the mirror was made for it.
func (m *mirror) attempt(ctx context.Context, dir string) (made bool, err error) {
	if made, err = m.init(ctx); err != nil {
		return made, err
	}
	if err := m.prepare(ctx); err != nil {
		return made, err
	}
	return made, m.checkout(ctx, dir)
}

// damaged tells whether the mirror is why a fetch failed: a power failure can
// leave it so. It is then made anew.
func (m *mirror) damaged(ctx context.Context, err error) bool {
	switch {
	case ctx.Err() != nil:
		return false
	case errors.As(err, new(*damagedError)):
		return true
	case !errors.As(err, new(*gitError)):
		return false
	}
	_, err = m.run(ctx, "fsck", "--connectivity-only", "--no-dangling", "--no-progress")
	return err != nil && ctx.Err() == nil
}

// damagedError is a failure to read what the mirror should have.
type damagedError struct{ error }

func (e *damagedError) Unwrap() error { return e.error }

// mirror is a bare repository of one remote.
type mirror struct {
	*git
	s    *Source
	r    Resolved
	path string
	// commit is what is checked out.
	commit string
}

// prepare makes sure that the mirror has the object.
func (m *mirror) prepare(ctx context.Context) error {
	if !m.has(ctx, m.r.Commit) {
		if err := m.download(ctx); err != nil {
			return err
		}
	}
	out, err := m.run(ctx, "rev-parse", "--verify", "--end-of-options", m.r.Commit+"^{commit}")
	if err != nil {
		return err
	}
	m.commit = strings.TrimSpace(out)
	if !strings.HasPrefix(m.r.Commit, m.s.Checksum) && !strings.HasPrefix(m.commit, m.s.Checksum) {
		return m.s.mismatch(m.commit)
	}
	return nil
}

// init makes the repository where there is none. Only one that is complete has
// its name.
func (m *mirror) init(ctx context.Context) (made bool, err error) {
	if _, err := os.Stat(filepath.Join(m.path, "config")); err == nil {
		return false, m.unlock()
	}
	return true, m.make(ctx)
}

func (m *mirror) make(ctx context.Context) error {
	if err := os.MkdirAll(filepath.Dir(m.path), 0o700); err != nil {
		return err
	}
	tmp, err := os.MkdirTemp(filepath.Dir(m.path), "init-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp) // it is gone when all went well
	g := *m.git
	g.dir = tmp
	args := []string{"init", "--quiet", "--bare"}
	if len(m.r.Commit) == 64 {
		args = append(args, "--object-format=sha256")
	}
	if _, err := g.run(ctx, args...); err != nil {
		return err
	}
	// Relative URLs of submodules begin at the origin; any commit may be
	// fetched from here into a checkout that keeps its .git directory.
	for name, value := range map[string]string{"remote.origin.url": m.a.remote, "uploadpack.allowAnySHA1InWant": "true"} {
		if _, err := g.run(ctx, "config", "--", name, value); err != nil {
			return err
		}
	}
	if err := os.RemoveAll(m.path); err != nil {
		return err
	}
	return os.Rename(tmp, m.path)
}

// unlock removes the lock files of a git that was killed: the mirror is ours
// alone.
func (m *mirror) unlock() error {
	for _, name := range []string{"shallow.lock", "index.lock", "packed-refs.lock", "HEAD.lock", "config.lock"} {
		if err := os.Remove(filepath.Join(m.path, name)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return nil
}

func (m *mirror) has(ctx context.Context, object string) bool {
	g := *m.git
	g.quiet = true
	_, err := g.run(ctx, "cat-file", "-e", object+"^{tree}")
	return err == nil
}

// download fetches the object: alone, if the server sends it (a ref may have
// moved since it was resolved, and not every server sends what no ref is at);
// else with all branches and tags.
func (m *mirror) download(ctx context.Context) error {
	shallow := []string{"fetch", "--quiet", "--depth=1", "--no-tags", "--no-recurse-submodules", "--force", "--", m.a.remote}
	want := []string{m.r.Commit}
	if m.r.Ref != m.r.Commit && !m.s.FetchByCommit {
		want = []string{m.r.Ref, m.r.Commit}
	}
	var first error
	for _, what := range want {
		_, err := m.run(ctx, append(shallow[:len(shallow):len(shallow)], what+":"+m.keep(what))...)
		if err == nil && m.has(ctx, m.r.Commit) {
			return nil
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if first == nil {
			first = err
		}
	}
	if m.s.FetchByCommit {
		return errors.Join(first, fmt.Errorf("the server does not send the commit %s alone", m.r.Commit))
	}
	return m.downloadAll(ctx, first)
}

// keep is the local ref that holds what is fetched: without one, the next
// fetch would not know that it is here. The name is a hash, so that no branch
// is the parent directory of another.
func (m *mirror) keep(what string) string {
	sum := sha256.Sum256([]byte(what))
	return "refs/strata/" + hex.EncodeToString(sum[:12])
}

func (m *mirror) downloadAll(ctx context.Context, first error) error {
	args := []string{"fetch", "--quiet", "--tags", "--no-recurse-submodules", "--force"}
	if _, err := os.Lstat(filepath.Join(m.path, "shallow")); err == nil {
		args = append(args, "--unshallow")
	}
	args = append(args, "--", m.a.remote, "+refs/heads/*:refs/remotes/origin/*")
	if _, err := m.run(ctx, args...); err != nil {
		if first != nil {
			return first
		}
		return err
	}
	if !m.has(ctx, m.r.Commit) {
		return fmt.Errorf("the repository has no commit %s", m.r.Commit)
	}
	return nil
}

// empty removes what is in a directory.
func empty(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	var errs []error
	for _, e := range entries {
		errs = append(errs, os.RemoveAll(filepath.Join(dir, e.Name())))
	}
	return errors.Join(errs...)
}
