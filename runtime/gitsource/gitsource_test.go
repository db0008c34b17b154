package gitsource

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sort"
	"strings"
	"testing"

	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/solver/pb"

	"github.com/strata-build/strata/internal/testenv"
)

var ctx = context.Background()

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// testRepo is one that the tests write to.
type testRepo struct {
	t   testing.TB
	dir string
}

func newRepository(t testing.TB, format ...string) *testRepo {
	t.Helper()
	testenv.Tool(t, "git")
	r := &testRepo{t, t.TempDir()}
	r.git(append([]string{"init", "--quiet", "--initial-branch=main"}, format...)...)
	return r
}

func (r *testRepo) git(args ...string) string {
	r.t.Helper()
	cmd := exec.Command("git", args...)
	cmd.Dir = r.dir
	cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_NOSYSTEM=1", "HOME=/dev/null",
		"GIT_AUTHOR_NAME=a", "GIT_AUTHOR_EMAIL=a@b", "GIT_COMMITTER_NAME=a", "GIT_COMMITTER_EMAIL=a@b",
		"GIT_AUTHOR_DATE=1000000000 +0000", "GIT_COMMITTER_DATE=1000000000 +0000")
	out, err := cmd.CombinedOutput()
	if err != nil {
		r.t.Fatalf("git %q: %v\n%s", args, err, out)
	}
	return strings.TrimSpace(string(out))
}

// commit writes files ("path=text", "path -> target") and returns the commit.
func (r *testRepo) commit(files ...string) string {
	r.t.Helper()
	for _, f := range files {
		if name, target, ok := strings.Cut(f, " -> "); ok {
			must(r.t, os.MkdirAll(filepath.Dir(filepath.Join(r.dir, name)), 0o755))
			must(r.t, os.Symlink(target, filepath.Join(r.dir, name)))
			continue
		}
		name, text, _ := strings.Cut(f, "=")
		p := filepath.Join(r.dir, name)
		must(r.t, os.MkdirAll(filepath.Dir(p), 0o755))
		must(r.t, os.WriteFile(p, []byte(text), 0o644))
	}
	r.git("add", "--all")
	r.git("commit", "--quiet", "--allow-empty", "-m", "x")
	return r.git("rev-parse", "HEAD")
}

func (r *testRepo) url() string { return "file://" + r.dir }

func client(t testing.TB, change ...func(*Options)) *Client {
	t.Helper()
	o := Options{Dir: t.TempDir(), Env: []string{"PATH=" + os.Getenv("PATH")}, AllowFile: true}
	for _, f := range change {
		f(&o)
	}
	return New(o)
}

// tree lists a directory: "path=text", "path/", "path -> target", without .git.
func tree(t testing.TB, dir string) string {
	t.Helper()
	var out []string
	must(t, filepath.WalkDir(dir, func(p string, d os.DirEntry, err error) error {
		rel := strings.TrimPrefix(p, dir+"/")
		switch {
		case err != nil || p == dir:
			return err
		case d.Name() == ".git" && d.IsDir():
			out = append(out, rel+"/")
			return filepath.SkipDir
		case d.IsDir():
			out = append(out, rel+"/")
		case d.Type()&os.ModeSymlink != 0:
			target, err := os.Readlink(p)
			out = append(out, rel+" -> "+target)
			return err
		default:
			data, err := os.ReadFile(p)
			out = append(out, rel+"="+string(data))
			return err
		}
		return nil
	}))
	sort.Strings(out)
	return strings.Join(out, " ")
}

func fetch(t testing.TB, c *Client, s *Source) (Resolved, string) {
	t.Helper()
	r, err := c.Resolve(ctx, s)
	must(t, err)
	dir := t.TempDir()
	must(t, c.Fetch(ctx, s, r, dir))
	return r, dir
}

func TestFetch(t *testing.T) {
	repo := newRepository(t)
	first := repo.commit("a=1", "d/b=2", "d/e/c=3", "run.sh=#!/bin/sh", "l -> a")
	repo.git("tag", "light")
	repo.git("tag", "-a", "-m", "m", "heavy")
	heavy := repo.git("rev-parse", "heavy")
	repo.git("update-index", "--chmod=+x", "run.sh")
	second := repo.commit("a=one")
	repo.git("branch", "other/x", first)
	repo.git("branch", "both", first)
	repo.git("tag", "both", second)
	old := "a=1 d/ d/b=2 d/e/ d/e/c=3 l -> a run.sh=#!/bin/sh"
	now := "a=one d/ d/b=2 d/e/ d/e/c=3 l -> a run.sh=#!/bin/sh"
	for name, c := range map[string]struct {
		s    Source
		want Resolved
		tree string
	}{
		"default branch": {Source{}, Resolved{Commit: second, Ref: "refs/heads/main"}, now},
		"branch":         {Source{Ref: "main"}, Resolved{Commit: second, Ref: "refs/heads/main"}, now},
		"full ref":       {Source{Ref: "refs/heads/main"}, Resolved{Commit: second, Ref: "refs/heads/main"}, now},
		"deep branch":    {Source{Ref: "other/x"}, Resolved{Commit: first, Ref: "refs/heads/other/x"}, old},
		"tag":            {Source{Ref: "light"}, Resolved{Commit: first, Ref: "refs/tags/light"}, old},
		"full tag":       {Source{Ref: "refs/tags/light"}, Resolved{Commit: first, Ref: "refs/tags/light"}, old},
		"annotated tag":  {Source{Ref: "heavy"}, Resolved{Commit: heavy, Peeled: first, Ref: "refs/tags/heavy"}, old},
		"branch and tag": {Source{Ref: "both"}, Resolved{Commit: first, Ref: "refs/heads/both"}, old},
		"commit":         {Source{Ref: first}, Resolved{Commit: first, Ref: first}, old},
		"tag object":     {Source{Ref: heavy}, Resolved{Commit: heavy, Ref: heavy}, old},
		"sub-directory":  {Source{Ref: "light", Subdir: "d"}, Resolved{Commit: first, Ref: "refs/tags/light"}, "b=2 e/ e/c=3"},
		"deep":           {Source{Ref: "light", Subdir: "/d/../d/e/"}, Resolved{Commit: first, Ref: "refs/tags/light"}, "c=3"},
		"checksum":       {Source{Ref: "light", Checksum: first[:9]}, Resolved{Commit: first, Ref: "refs/tags/light"}, old},
		"checksum of annotated tag": {Source{Ref: "heavy", Checksum: first},
			Resolved{Commit: heavy, Peeled: first, Ref: "refs/tags/heavy"}, old},
		"by commit":         {Source{Ref: "gone", Checksum: first, FetchByCommit: true}, Resolved{Commit: first, Ref: "refs/heads/gone"}, old},
		"by commit, no ref": {Source{Checksum: first, FetchByCommit: true}, Resolved{Commit: first, Ref: first}, old},
	} {
		t.Run(name, func(t *testing.T) {
			cl := client(t)
			c.s.Remote = repo.url()
			for range 2 { // the second time from the mirror
				r, dir := fetch(t, cl, &c.s)
				if r != c.want {
					t.Errorf("resolved %+v, want %+v", r, c.want)
				}
				if got := tree(t, dir); got != c.tree {
					t.Errorf("got  %s\nwant %s", got, c.tree)
				}
			}
		})
	}
}

func TestFetchSetsModes(t *testing.T) {
	repo := newRepository(t)
	repo.commit("d/f=1")
	must(t, os.Chmod(filepath.Join(repo.dir, "d/f"), 0o755))
	repo.commit("g=2")
	_, dir := fetch(t, client(t), &Source{Remote: repo.url()})
	for name, want := range map[string]os.FileMode{"d": 0o755, "d/f": 0o755, "g": 0o644} {
		fi, err := os.Stat(filepath.Join(dir, name))
		must(t, err)
		if fi.Mode().Perm() != want {
			t.Errorf("%s has mode %o", name, fi.Mode().Perm())
		}
	}
}

func TestFetchCommitTimes(t *testing.T) {
	repo := newRepository(t)
	repo.commit("d/f=1", "l -> d")
	_, dir := fetch(t, client(t), &Source{Remote: repo.url(), CommitMTime: true})
	for _, name := range []string{"", "d", "d/f", "l"} {
		fi, err := os.Lstat(filepath.Join(dir, name))
		must(t, err)
		if fi.ModTime().Unix() != 1000000000 {
			t.Errorf("%q has time %v", name, fi.ModTime())
		}
	}
}

// A mirror serves a commit that it has, also when the remote is gone; and it
// is shallow.
func TestMirror(t *testing.T) {
	repo := newRepository(t)
	for i := range 5 {
		repo.commit(fmt.Sprintf("f=%d", i))
	}
	c := client(t)
	s := &Source{Remote: repo.url()}
	r, _ := fetch(t, c, s)
	mirrors, err := filepath.Glob(filepath.Join(c.o.Dir, "*.git"))
	if err != nil || len(mirrors) != 1 {
		t.Fatal(mirrors, err)
	}
	out, err := exec.Command("git", "--git-dir", mirrors[0], "rev-list", "--count", r.Commit).Output()
	if err != nil || strings.TrimSpace(string(out)) != "1" {
		t.Errorf("%s commits in the mirror, %v", out, err)
	}
	must(t, os.Rename(repo.dir, repo.dir+".gone"))
	t.Cleanup(func() { os.RemoveAll(repo.dir + ".gone") })
	dir := t.TempDir()
	must(t, c.Fetch(ctx, &Source{Remote: s.Remote, Ref: r.Commit}, Resolved{Commit: r.Commit, Ref: r.Commit}, dir))
	if got := tree(t, dir); got != "f=4" {
		t.Error(got)
	}
}

// A branch that moves, is forced, or becomes the parent of another one.
func TestMirrorFollowsTheRemote(t *testing.T) {
	repo := newRepository(t)
	repo.commit("f=1")
	c := client(t)
	s := &Source{Remote: repo.url(), Ref: "main"}
	fetch(t, c, s)
	repo.commit("f=2")
	if _, dir := fetch(t, c, s); tree(t, dir) != "f=2" {
		t.Error("the branch moved")
	}
	repo.git("checkout", "--quiet", "--orphan", "new")
	repo.commit("f=3")
	repo.git("branch", "-f", "main", "new")
	if _, dir := fetch(t, c, s); tree(t, dir) != "f=3" {
		t.Error("the branch was forced")
	}
	repo.git("checkout", "--quiet", "--detach")
	repo.git("branch", "-D", "main")
	repo.git("branch", "main/sub")
	if _, dir := fetch(t, c, &Source{Remote: repo.url(), Ref: "main/sub"}); tree(t, dir) != "f=3" {
		t.Error("the branch became a directory")
	}
}

// The ref moves between Resolve and Fetch: what was resolved is fetched.
func TestFetchWhatWasResolved(t *testing.T) {
	repo := newRepository(t)
	repo.commit("f=1")
	c := client(t)
	s := &Source{Remote: repo.url(), Ref: "main"}
	r, err := c.Resolve(ctx, s)
	must(t, err)
	repo.commit("f=2")
	dir := t.TempDir()
	must(t, c.Fetch(ctx, s, r, dir))
	if got := tree(t, dir); got != "f=1" {
		t.Error(got)
	}
}

func TestDamagedMirrorIsMadeAnew(t *testing.T) {
	repo := newRepository(t)
	repo.commit("f=1", "g=2")
	c := client(t)
	s := &Source{Remote: repo.url()}
	fetch(t, c, s)
	must(t, filepath.WalkDir(c.o.Dir, func(p string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.Contains(p, "/objects/") {
			return err
		}
		must(t, os.Chmod(p, 0o600))
		if strings.HasSuffix(p, ".pack") || !strings.Contains(p, "/pack/") {
			fi, err := os.Stat(p)
			must(t, err)
			return os.Truncate(p, fi.Size()-fi.Size()/3)
		}
		return err
	}))
	dir := t.TempDir()
	r, err := c.Resolve(ctx, s)
	must(t, err)
	must(t, c.Fetch(ctx, s, r, dir))
	if got := tree(t, dir); got != "f=1 g=2" {
		t.Error(got)
	}
}

func TestKeepGitDir(t *testing.T) {
	repo := newRepository(t)
	repo.commit("f=1")
	head := repo.commit("f=2")
	repo.git("tag", "-a", "-m", "m", "v1")
	for name, ref := range map[string]string{"branch": "main", "tag": "v1", "commit": head} {
		t.Run(name, func(t *testing.T) {
			_, dir := fetch(t, client(t), &Source{Remote: repo.url(), Ref: ref, KeepGitDir: true})
			if got := tree(t, dir); got != ".git/ f=2" {
				t.Error(got)
			}
			in := &testRepo{t, dir}
			if got := in.git("rev-parse", "HEAD"); got != head {
				t.Errorf("HEAD is %s", got)
			}
			if got := in.git("status", "--porcelain"); got != "" {
				t.Errorf("status %s", got)
			}
			if got := in.git("config", "remote.origin.url"); got != repo.url() {
				t.Errorf("origin %s", got)
			}
			if name == "tag" && in.git("describe", "--exact-match") != "v1" {
				t.Error("the tag is missing")
			}
			if hooks, _ := filepath.Glob(filepath.Join(dir, ".git/hooks/*")); len(hooks) > 0 {
				t.Errorf("hooks %q", hooks)
			}
		})
	}
	if _, dir := fetch(t, client(t), &Source{Remote: repo.url(), KeepGitDir: true, SkipSubmodules: true}); !strings.Contains(tree(t, dir), ".git/") {
		t.Error("no .git")
	}
}

func TestSHA256Repository(t *testing.T) {
	repo := newRepository(t, "--object-format=sha256")
	head := repo.commit("f=1")
	if r, dir := fetch(t, client(t), &Source{Remote: repo.url(), KeepGitDir: true}); r.Commit != head || tree(t, dir) != ".git/ f=1" {
		t.Errorf("%v %s", r, tree(t, dir))
	}
}

func TestErrors(t *testing.T) {
	repo := newRepository(t)
	head := repo.commit("f=1", "d/x=2", "l -> d", "out -> ../../..")
	other := strings.Repeat("0123456789", 4)
	for name, c := range map[string]struct {
		s    Source
		want string
	}{
		"no such ref":              {Source{Ref: "nope"}, `no branch or tag "nope"`},
		"no such commit":           {Source{Ref: other}, "no commit " + other},
		"no such repository":       {Source{Remote: "file:///does/not/exist"}, "does not appear to be a git repository"},
		"checksum":                 {Source{Ref: "main", Checksum: other}, head},
		"checksum of commit":       {Source{Ref: head, Checksum: other}, head},
		"checksum is no id":        {Source{Ref: head, Checksum: "xyz"}, "not a commit id"},
		"by commit, not full":      {Source{Ref: "main", Checksum: head[:8], FetchByCommit: true}, "full commit id"},
		"by commit, missing":       {Source{Checksum: other, FetchByCommit: true}, other},
		"no such directory":        {Source{Subdir: "nope"}, `no directory "nope"`},
		"sub-directory is a file":  {Source{Subdir: "f"}, `"f" is not a directory`},
		"sub-directory is a link":  {Source{Subdir: "l"}, `"l" is not a directory`},
		"sub-directory below link": {Source{Subdir: "l/x"}, `"l" is not a directory`},
		"sub-directory leads out":  {Source{Subdir: "out"}, `"out" is not a directory`},
		"ref is an option":         {Source{Ref: "--upload-pack=touch /tmp/pwned"}, "not the name of a ref"},
		"ref is a refspec":         {Source{Ref: "main:refs/heads/x"}, "not the name of a ref"},
		"ref is a revision":        {Source{Ref: "main~1"}, "not the name of a ref"},
		"remote is an option":      {Source{Remote: "--upload-pack=touch"}, "malformed"},
		"remote is a command":      {Source{Remote: "ext::sh -c touch% /tmp/pwned"}, "transport 'ext' not allowed"},
	} {
		t.Run(name, func(t *testing.T) {
			if c.s.Remote == "" {
				c.s.Remote = repo.url()
			}
			cl := client(t)
			r, err := cl.Resolve(ctx, &c.s)
			if err == nil {
				err = cl.Fetch(ctx, &c.s, r, t.TempDir())
			}
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want %q", err, c.want)
			}
		})
	}
	c := client(t, func(o *Options) { o.Env = []string{"PATH=" + t.TempDir()} })
	if _, err := c.Resolve(ctx, &Source{Remote: repo.url()}); !errors.Is(err, ErrNoGit) {
		t.Errorf("without git: %v", err)
	}
	if err := client(t).Fetch(ctx, &Source{Remote: repo.url()}, Resolved{Commit: "--output=/tmp/x"}, t.TempDir()); err == nil {
		t.Error("a commit that is an option")
	}
	c = client(t, func(o *Options) { o.AllowFile = false })
	if _, err := c.Resolve(ctx, &Source{Remote: repo.url()}); err == nil || !strings.Contains(err.Error(), "not allowed") {
		t.Errorf("a repository of this machine: %v", err)
	}
	canceled, cancel := context.WithCancelCause(ctx)
	reason := errors.New("stopped")
	cancel(reason)
	if _, err := client(t).Resolve(canceled, &Source{Remote: repo.url()}); !errors.Is(err, reason) {
		t.Errorf("cancelled: %v", err)
	}
}

// The user's configuration, hooks and templates play no part.
func TestGitIsIsolated(t *testing.T) {
	repo := newRepository(t)
	repo.commit("f=1\n", ".gitattributes=* filter=evil\n")
	home := t.TempDir()
	pwned := filepath.Join(home, "pwned")
	must(t, os.MkdirAll(filepath.Join(home, "hooks"), 0o755))
	script := []byte("#!/bin/sh\ntouch " + pwned + "\n")
	for _, hook := range []string{"post-checkout", "reference-transaction", "fsmonitor"} {
		must(t, os.WriteFile(filepath.Join(home, "hooks", hook), script, 0o755))
	}
	config := fmt.Sprintf("[core]\nhooksPath=%s/hooks\nfsmonitor=%s/hooks/fsmonitor\n[init]\ntemplateDir=%s\n[filter \"evil\"]\nsmudge=touch %s\n", home, home, home, pwned)
	must(t, os.WriteFile(filepath.Join(home, ".gitconfig"), []byte(config), 0o644))
	t.Setenv("HOME", home)
	t.Setenv("GIT_CONFIG_GLOBAL", filepath.Join(home, ".gitconfig"))
	t.Setenv("GIT_TEMPLATE_DIR", home)
	c := client(t, func(o *Options) { o.Env = os.Environ() })
	for _, keep := range []bool{false, true} {
		fetch(t, c, &Source{Remote: repo.url(), KeepGitDir: keep})
	}
	if _, err := os.Stat(pwned); err == nil {
		t.Error("a hook or filter of the user ran")
	}
}

// What client/llb writes is what Parse reads.
func TestParse(t *testing.T) {
	commit := strings.Repeat("a1", 20)
	for name, c := range map[string]struct {
		state llb.State
		want  Source
	}{
		"https": {llb.Git("https://github.com/moby/buildkit.git", "v1:sub/dir", llb.GitSkipSubmodules(), llb.KeepGitDir()),
			Source{Remote: "https://github.com/moby/buildkit.git", Ref: "v1", Subdir: "sub/dir", SkipSubmodules: true, KeepGitDir: true,
				AuthTokenSecret: "GIT_AUTH_TOKEN", AuthHeaderSecret: "GIT_AUTH_HEADER"}},
		"no protocol": {llb.Git("github.com/moby/buildkit", commit),
			Source{Remote: "https://github.com/moby/buildkit", Ref: commit, AuthTokenSecret: "GIT_AUTH_TOKEN", AuthHeaderSecret: "GIT_AUTH_HEADER"}},
		"scp": {llb.Git("git@example.com:team/app.git", "main", llb.KnownSSHHosts("example.com ssh-rsa x"), llb.MountSSHSock("id")),
			Source{Remote: "git@example.com:team/app.git", Ref: "main", KnownSSHHosts: "example.com ssh-rsa x\n", MountSSHSock: "id",
				AuthTokenSecret: "GIT_AUTH_TOKEN", AuthHeaderSecret: "GIT_AUTH_HEADER"}},
		"credentials": {llb.Git("https://me:secret@example.com/a.git", "", llb.GitChecksum(commit), llb.GitFetchByCommit(), llb.AuthTokenSecret("t"), llb.AuthHeaderSecret("h")),
			Source{Remote: "https://me:secret@example.com/a.git", Checksum: commit, FetchByCommit: true, AuthTokenSecret: "t", AuthHeaderSecret: "h"}},
	} {
		t.Run(name, func(t *testing.T) {
			src := sourceOp(t, c.state)
			s, err := Parse(src.Identifier, src.Attrs)
			must(t, err)
			if *s != c.want {
				t.Errorf("got  %+v\nwant %+v", *s, c.want)
			}
			if strings.Contains(s.String(), "secret") {
				t.Errorf("String shows credentials: %s", s)
			}
		})
	}
	for name, c := range map[string]struct {
		id    string
		attrs map[string]string
		want  string
	}{
		"other scheme":      {"https://x", nil, "not the identifier"},
		"other repository":  {"git://example.com/a", map[string]string{pb.AttrFullRemoteURL: "https://example.com/b"}, "does not match"},
		"other host":        {"git://example.com/a", map[string]string{pb.AttrFullRemoteURL: "https://evil.com/a"}, "does not match"},
		"malformed url":     {"git://example.com/a", map[string]string{pb.AttrFullRemoteURL: "https://me:secret@exa mple.com/a"}, "malformed"},
		"unknown attribute": {"git://example.com/a", map[string]string{pb.AttrGitBundle: "x"}, `"git.bundle" is not supported`},
		"mtime":             {"git://example.com/a", map[string]string{pb.AttrGitMTime: "x"}, "neither"},
		"option":            {"git://example.com/a#-x", nil, "not the name of a ref"},
		"file":              {"git://x/a", map[string]string{pb.AttrFullRemoteURL: "file:///x/a"}, ""},
	} {
		if _, err := Parse(c.id, c.attrs); err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func sourceOp(t *testing.T, st llb.State) *pb.SourceOp {
	t.Helper()
	def, err := st.Marshal(ctx)
	must(t, err)
	for _, dt := range def.ToPB().Def {
		var op pb.Op
		must(t, op.UnmarshalVT(dt))
		if src := op.GetSource(); src != nil {
			return src
		}
	}
	t.Fatal("no source")
	return nil
}

func TestKeySeesEveryOption(t *testing.T) {
	keys := map[string]bool{}
	r := Resolved{Commit: "c", Peeled: "p", Ref: "refs/tags/v1"}
	for _, s := range []Source{{}, {KeepGitDir: true}, {Subdir: "d"}, {SkipSubmodules: true}, {CommitMTime: true}} {
		keys[s.Key(r)] = true
		keys[s.Key(Resolved{Commit: "other", Ref: "refs/tags/v1"})] = true
	}
	if len(keys) != 10 {
		t.Errorf("%d keys of 10 sources: %v", len(keys), keys)
	}
}

// Each fetch holds the lock of its mirror.
func TestLock(t *testing.T) {
	repo := newRepository(t)
	repo.commit("f=1")
	var names []string
	held := 0
	c := client(t, func(o *Options) {
		o.Lock = func(_ context.Context, name string) (func(), error) {
			names = append(names, name)
			held++
			return func() { held-- }, nil
		}
	})
	fetch(t, c, &Source{Remote: repo.url()})
	if len(names) != 1 || held != 0 {
		t.Errorf("locks %q, %d still held", names, held)
	}
}
