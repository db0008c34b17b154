package gitsource

import (
	"context"
	"fmt"
	"net/http"
	"net/http/cgi"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/strata-build/strata/internal/testenv"
)

// server serves repositories by git http-backend.
type server struct {
	*httptest.Server
	root string
	// user and password are wanted, when set; so is header.
	user, password, header string

	mu      sync.Mutex
	cmdline []string
}

func newServer(t *testing.T) *server {
	testenv.Tool(t, "git")
	out, err := exec.Command("git", "--exec-path").Output()
	must(t, err)
	s := &server{root: t.TempDir()}
	backend := &cgi.Handler{
		Path: filepath.Join(strings.TrimSpace(string(out)), "git-http-backend"),
		Env:  []string{"GIT_PROJECT_ROOT=" + s.root, "GIT_HTTP_EXPORT_ALL=1", "GIT_CONFIG_COUNT=1", "GIT_CONFIG_KEY_0=safe.directory", "GIT_CONFIG_VALUE_0=*"},
	}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.look()
		user, password, _ := r.BasicAuth()
		if s.user != "" && (user != s.user || password != s.password) || s.header != "" && r.Header.Get("Authorization") != s.header {
			w.Header().Set("WWW-Authenticate", "Basic")
			http.Error(w, "no", http.StatusUnauthorized)
			return
		}
		backend.ServeHTTP(w, r)
	}))
	t.Cleanup(s.Close)
	return s
}

// look records the command lines of all processes.
func (s *server) look() {
	files, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range files {
		data, _ := os.ReadFile(f)
		s.cmdline = append(s.cmdline, strings.ReplaceAll(string(data), "\x00", " "))
	}
}

// add serves a repository under a name.
func (s *server) add(t *testing.T, r *testRepo, name string) {
	t.Helper()
	r.git("clone", "--quiet", "--bare", r.dir, filepath.Join(s.root, name))
}

// contains tells whether a file below dir has one of the secrets in it.
func contains(t *testing.T, dir string, secrets ...string) string {
	found := ""
	must(t, filepath.WalkDir(dir, func(p string, d os.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		data, err := os.ReadFile(p)
		for _, s := range secrets {
			if strings.Contains(string(data), s) {
				found = p
			}
		}
		return err
	}))
	return found
}

func TestCredentials(t *testing.T) {
	repo := newRepository(t)
	repo.commit("f=1")
	for name, c := range map[string]struct {
		user, password, header string
		url                    func(u string) string
		secrets                map[string]string
	}{
		"in the url": {user: "me", password: "hunter2secret",
			url: func(u string) string { return strings.Replace(u, "://", "://me:hunter2secret@", 1) }},
		"token as user": {user: "ghp_hunter2secret",
			url: func(u string) string { return strings.Replace(u, "://", "://ghp_hunter2secret@", 1) }},
		"token":  {user: "x-access-token", password: "hunter2secret", secrets: map[string]string{"TOKEN": "hunter2secret\n"}},
		"header": {header: "Bearer hunter2secret", secrets: map[string]string{"HEADER": "Bearer hunter2secret", "TOKEN": "wrong"}},
		"token of the host": {user: "x-access-token", password: "hunter2secret",
			secrets: map[string]string{"TOKEN.HOST": "hunter2secret", "TOKEN": "wrong", "HEADER": "wrong"}},
	} {
		t.Run(name, func(t *testing.T) {
			srv := newServer(t)
			srv.user, srv.password, srv.header = c.user, c.password, c.header
			srv.add(t, repo, "r.git")
			var log strings.Builder
			cl := client(t, func(o *Options) {
				o.Log = &log
				o.Secret = func(_ context.Context, id string) ([]byte, error) {
					v, ok := c.secrets[strings.Replace(id, strings.TrimPrefix(srv.URL, "http://"), "HOST", 1)]
					if !ok {
						return nil, fmt.Errorf("%q: %w", id, ErrNoSecret)
					}
					return []byte(v), nil
				}
			})
			s := &Source{Remote: srv.URL + "/r.git", KeepGitDir: true, AuthTokenSecret: "TOKEN", AuthHeaderSecret: "HEADER"}
			if c.url != nil {
				s.Remote = c.url(s.Remote)
			}
			r, dir := fetch(t, cl, s)
			if got := tree(t, dir); got != ".git/ f=1" {
				t.Error(got)
			}
			srv.password, srv.header = "changed", "changed"
			_, err := cl.Resolve(ctx, s)
			if err == nil || strings.Contains(err.Error(), "hunter2") {
				t.Errorf("error %v", err)
			}
			const secret = "hunter2"
			if strings.Contains(s.String()+s.Key(r)+log.String(), secret) {
				t.Errorf("the secret is in %q, %q or the log %q", s.String(), s.Key(r), log.String())
			}
			if p := contains(t, cl.o.Dir, secret, "aHVudGVy"); p != "" {
				t.Errorf("the secret is in the mirror: %s", p)
			}
			if p := contains(t, dir, secret, "aHVudGVy"); p != "" {
				t.Errorf("the secret is in the checkout: %s", p)
			}
			sawGit := false
			for _, line := range srv.cmdline {
				sawGit = sawGit || strings.Contains(line, "git-remote-http")
				if strings.Contains(line, secret) {
					t.Errorf("the secret is on a command line: %q", line)
				}
			}
			if !sawGit {
				t.Error("the test saw no git process")
			}
		})
	}
}

func TestMissingCredentials(t *testing.T) {
	srv := newServer(t)
	srv.user = "me"
	_, err := client(t).Resolve(ctx, &Source{Remote: srv.URL + "/r.git"})
	if err == nil || !strings.Contains(err.Error(), "--secret id=GIT_AUTH_TOKEN") {
		t.Error(err)
	}
}

func TestSubmodules(t *testing.T) {
	srv := newServer(t)
	lib := newRepository(t)
	lib.commit("lib.c=1")
	srv.add(t, lib, "lib.git")
	repo := newRepository(t)
	repo.commit("main.c=2")
	for path, url := range map[string]string{"vendor/rel": "../lib.git", "abs": srv.URL + "/lib.git"} {
		repo.git("-c", "protocol.http.allow=always", "submodule", "--quiet", "add", "--", srv.URL+"/lib.git", path)
		repo.git("config", "--file=.gitmodules", "submodule."+path+".url", url)
	}
	repo.commit()
	srv.add(t, repo, "r.git")
	srv.user, srv.password = "me", "hunter2secret"
	remote := strings.Replace(srv.URL, "://", "://me:hunter2secret@", 1) + "/r.git"
	modules, err := os.ReadFile(filepath.Join(repo.dir, ".gitmodules"))
	must(t, err)
	c := client(t)
	for name, want := range map[string]struct {
		s    Source
		tree string
	}{
		"plain":         {Source{}, ".gitmodules=" + string(modules) + " abs/ abs/lib.c=1 main.c=2 vendor/ vendor/rel/ vendor/rel/lib.c=1"},
		"skipped":       {Source{SkipSubmodules: true}, ".gitmodules=" + string(modules) + " abs/ main.c=2 vendor/ vendor/rel/"},
		"sub-directory": {Source{Subdir: "vendor"}, "rel/ rel/lib.c=1"},
		"sub-module":    {Source{Subdir: "vendor/rel"}, "lib.c=1"},
	} {
		want.s.Remote = remote
		for range 2 {
			if _, dir := fetch(t, c, &want.s); tree(t, dir) != want.tree {
				t.Errorf("%s: %s", name, tree(t, dir))
			}
		}
	}
	_, dir := fetch(t, c, &Source{Remote: remote, KeepGitDir: true})
	in := &testRepo{t, dir}
	if got := in.git("submodule", "status"); strings.Contains(got, "-") || strings.Count(got, "\n") != 1 {
		t.Errorf("submodules %q", got)
	}
}

// A submodule must not bring in a repository of this machine.
func TestSubmoduleOfThisMachine(t *testing.T) {
	private := newRepository(t)
	private.commit("secret=1")
	srv := newServer(t)
	repo := newRepository(t)
	repo.commit("f=1")
	repo.git("-c", "protocol.file.allow=always", "submodule", "--quiet", "add", "--", private.url(), "m")
	repo.commit()
	srv.add(t, repo, "r.git")
	c := client(t)
	s := &Source{Remote: srv.URL + "/r.git"}
	r, err := c.Resolve(ctx, s)
	must(t, err)
	if err := c.Fetch(ctx, s, r, t.TempDir()); err == nil || !strings.Contains(err.Error(), "not allowed") {
		t.Error(err)
	}
}

// A server that sends only what refs are at.
func TestServerWithoutSingleCommits(t *testing.T) {
	srv := newServer(t)
	repo := newRepository(t)
	first := repo.commit("f=1")
	repo.commit("f=2")
	srv.add(t, repo, "r.git")
	must(t, exec.Command("git", "--git-dir", filepath.Join(srv.root, "r.git"), "config", "protocol.version", "0").Run())
	c := client(t)
	s := &Source{Remote: srv.URL + "/r.git"}
	fetch(t, c, s) // the mirror is shallow
	s.Ref = first
	if _, dir := fetch(t, c, s); tree(t, dir) != "f=1" {
		t.Error(tree(t, dir))
	}
}
