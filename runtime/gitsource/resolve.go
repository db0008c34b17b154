package gitsource

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/moby/buildkit/util/gitutil"
)

// Resolve asks the remote for the commit; a full commit id needs no network.
func (c *Client) Resolve(ctx context.Context, s *Source) (Resolved, error) {
	if err := s.validate(); err != nil {
		return Resolved{}, err
	}
	if gitutil.IsCommitSHA(s.Ref) {
		return Resolved{Commit: s.Ref, Ref: s.Ref}, nil
	}
	if s.FetchByCommit {
		return s.byCommit()
	}
	a, err := c.access(ctx, s)
	if err != nil {
		return Resolved{}, err
	}
	defer a.close()
	g, err := c.git(a)
	if err != nil {
		return Resolved{}, err
	}
	refs, branch, err := g.listRemote(ctx, s.Ref)
	if err != nil {
		return Resolved{}, fmt.Errorf("git source %s: %w", s, err)
	}
	ref := s.Ref
	if ref == "" {
		ref = branch
	}
	r := pickRef(refs, ref)
	if r.Commit == "" {
		return Resolved{}, fmt.Errorf("git source %s: the repository has no branch or tag %q", s, ref)
	}
	if !strings.HasPrefix(r.Commit, s.Checksum) && (r.Peeled == "" || !strings.HasPrefix(r.Peeled, s.Checksum)) {
		if r.Peeled != "" {
			return Resolved{}, s.mismatch(r.Commit, r.Peeled)
		}
		return Resolved{}, s.mismatch(r.Commit)
	}
	return r, nil
}

// byCommit trusts the checksum: the ref only names it.
func (s *Source) byCommit() (Resolved, error) {
	if !gitutil.IsCommitSHA(s.Checksum) {
		return Resolved{}, fmt.Errorf("git source %s: to fetch by commit, the checksum must be a full commit id", s)
	}
	r := Resolved{Commit: s.Checksum, Ref: s.Ref}
	switch {
	case r.Ref == "":
		r.Ref = s.Checksum
	case !strings.HasPrefix(r.Ref, "refs/"):
		r.Ref = "refs/heads/" + r.Ref
	}
	return r, nil
}

func (c *Client) git(a *access) (*git, error) {
	binary, err := c.program()
	if err != nil {
		return nil, err
	}
	if c.o.AllowFile && strings.HasPrefix(a.remote, "file://") {
		return &git{c: c, a: a, binary: binary, local: true}, nil
	}
	return &git{c: c, a: a, binary: binary}, nil
}

// listRemote returns the refs that can be meant, by name; without a ref, the
// default branch and its name.
func (g *git) listRemote(ctx context.Context, ref string) (refs map[string]string, branch string, err error) {
	args := []string{"ls-remote", "--", g.a.remote, ref, ref + "^{}"}
	if ref == "" {
		args = []string{"ls-remote", "--symref", "--", g.a.remote, "HEAD"}
	}
	out, err := g.run(ctx, args...)
	if err != nil {
		return nil, "", err
	}
	refs = map[string]string{}
	for line := range strings.Lines(out) {
		id, name, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "\t")
		if target, ok := strings.CutPrefix(id, "ref: "); ok && name == "HEAD" {
			branch = target
			continue
		}
		if gitutil.IsCommitSHA(id) {
			refs[name] = id
		}
	}
	if ref != "" {
		return refs, "", nil
	}
	if !strings.HasPrefix(branch, "refs/heads/") || refs["HEAD"] == "" {
		return nil, "", errors.New("the repository has no default branch: name a branch, tag or commit")
	}
	refs[branch] = refs["HEAD"]
	return refs, branch, nil
}

// pickRef chooses as git checkout does: the full name, a branch, a tag.
func pickRef(refs map[string]string, ref string) Resolved {
	tag := "refs/tags/" + strings.TrimPrefix(ref, "refs/tags/")
	for _, name := range []string{
		"refs/" + strings.TrimPrefix(ref, "refs/"),
		"refs/heads/" + strings.TrimPrefix(ref, "refs/heads/"),
	} {
		if refs[name] != "" && name != tag {
			return Resolved{Commit: refs[name], Ref: name}
		}
	}
	return Resolved{Commit: refs[tag], Peeled: refs[tag+"^{}"], Ref: tag}
}
