package conformance

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/http/cgi"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/crypto/ssh/agent"

	"github.com/strata-build/strata/internal/testenv"
	"github.com/strata-build/strata/internal/testimage"
)

// lab is what all cases share: the programs, a daemon, and servers on loopback.
type lab struct {
	strata, buildctl string // programs
	root             string // Strata's store
	address          string // buildkitd's
	registry         string
	www              string // the URL of the cases' files
	agent            string // the socket of an ssh agent

	cases sync.Map // directories by the name of the case
}

// newLab compiles the programs and starts the servers.
func newLab(t *testing.T) *lab {
	t.Helper()
	testenv.Root(t)
	for _, tool := range []string{"runc", "git", "bzip2", "xz", "zstd", "setfattr", "setcap", "skopeo", "go"} {
		testenv.Tool(t, tool)
	}
	cache, err := filepath.Abs("../.cache")
	if err != nil {
		t.Fatal(err)
	}
	l := &lab{
		strata: filepath.Join(cache, "conformance", "strata"), buildctl: filepath.Join(cache, "peers", "buildctl"),
		root: t.TempDir(), registry: testimage.Registry(t),
	}
	visitSources(t)
	run(t, exec.Command("../scripts/peers", filepath.Join(cache, "peers")))
	run(t, exec.Command("go", "build", "-trimpath", "-o", l.strata, "../cmd/strata"))
	l.pushBases(t)
	l.serve(t)
	l.serveAgent(t)
	l.startBuildkitd(t, filepath.Join(cache, "peers", "buildkitd"))
	return l
}

// visitSources lists the folders that the programs are compiled from, and so
// lets Go's test cache know of them: it would keep a result that another
// program had.
func visitSources(t *testing.T) {
	t.Helper()
	for _, dir := range []string{"cmd", "compiler", "dockerfile-compat", "internal", "runtime", "schema", "solver", "bench/peers"} {
		visited := 0
		err := filepath.WalkDir(filepath.Join("..", dir), func(_ string, d fs.DirEntry, err error) error {
			visited++
			return err
		})
		if err != nil || visited < 2 {
			t.Fatalf("visit the sources in %s: %d files, %v", dir, visited, err)
		}
	}
}

// run runs a command that must succeed.
func run(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", cmd.Args, err, out)
	}
}

// startBuildkitd starts a daemon with an empty store: the OCI worker with
// runc, steps in the host's network, which is its default.
func (l *lab) startBuildkitd(t *testing.T, program string) {
	t.Helper()
	dir := t.TempDir()
	config := filepath.Join(dir, "buildkitd.toml")
	text := fmt.Sprintf("[registry.%q]\n  http = true\n", l.registry)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = log.Close() })
	socket := filepath.Join(dir, "socket")
	l.address = "unix://" + socket
	cmd := exec.Command(program, "--config", config, "--root", filepath.Join(dir, "state"), "--addr", l.address,
		"--oci-worker", "true", "--containerd-worker", "false", "--oci-worker-binary", testenv.Tool(t, "runc"),
		"--oci-worker-snapshotter", "overlayfs", "--oci-worker-net", "host", "--oci-worker-gc=false",
		"--allow-insecure-entitlement", "security.insecure", "--allow-insecure-entitlement", "network.host")
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stop(t, cmd) })
	if err := l.await(socket); err != nil {
		text, _ := os.ReadFile(log.Name())
		t.Fatalf("%v\n%s", err, text)
	}
}

// stop ends the daemon that this test started, and waits for it.
func stop(t *testing.T, cmd *exec.Cmd) {
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Error(err)
	}
	timer := time.AfterFunc(20*time.Second, func() { _ = cmd.Process.Kill() })
	defer timer.Stop()
	var exit *exec.ExitError
	if err := cmd.Wait(); err != nil && !errors.As(err, &exit) {
		t.Error(err)
	}
}

// await waits until the daemon answers.
func (l *lab) await(socket string) error {
	deadline := time.Now().Add(time.Minute)
	for time.Now().Before(deadline) {
		if conn, err := net.Dial("unix", socket); err == nil {
			if err := conn.Close(); err != nil {
				return err
			}
			if err := exec.Command(l.buildctl, "--addr", l.address, "debug", "workers").Run(); err == nil {
				return nil
			}
		}
		time.Sleep(50 * time.Millisecond)
	}
	return errors.New("buildkitd does not answer after a minute")
}

// serve serves the files and repositories of the cases: /CASE/www/… and
// /CASE/git/….
func (l *lab) serve(t *testing.T) {
	t.Helper()
	out, err := exec.Command("git", "--exec-path").Output()
	if err != nil {
		t.Fatal(err)
	}
	backend := filepath.Join(strings.TrimSpace(string(out)), "git-http-backend")
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name, rest, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
		dir, ok := l.cases.Load(name)
		if !ok {
			http.NotFound(w, r)
			return
		}
		kind, rest, _ := strings.Cut(rest, "/")
		root := filepath.Join(dir.(string), kind)
		switch kind {
		case "git":
			(&cgi.Handler{
				Path: backend, Root: "/" + name + "/git",
				Env: []string{"GIT_PROJECT_ROOT=" + root, "GIT_HTTP_EXPORT_ALL=1", "GIT_CONFIG_GLOBAL=/dev/null"},
			}).ServeHTTP(w, r)
		case "www":
			serveFile(w, r, root, rest)
		default:
			http.NotFound(w, r)
		}
	}))
	t.Cleanup(s.Close)
	l.www = s.URL
}

// serveAgent runs an ssh agent without keys.
func (l *lab) serveAgent(t *testing.T) {
	t.Helper()
	l.agent = filepath.Join(t.TempDir(), "agent")
	listener, err := net.Listen("unix", l.agent)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				_ = agent.ServeAgent(agent.NewKeyring(), conn)
				_ = conn.Close()
			}()
		}
	}()
}

// serveFile serves a file, or does what the path's first part says.
func serveFile(w http.ResponseWriter, r *http.Request, root, name string) {
	first, rest, _ := strings.Cut(name, "/")
	switch first {
	case "redirect": // to the file of the rest
		http.Redirect(w, r, strings.TrimSuffix(r.URL.Path, name)+rest, http.StatusFound)
	case "loop": // to itself
		http.Redirect(w, r, r.URL.Path, http.StatusFound)
	case "named": // with a name of its own
		w.Header().Set("Content-Disposition", `attachment; filename="given.txt"`)
		http.ServeFile(w, r, filepath.Join(root, rest))
	case "undated": // without Last-Modified
		data, err := os.ReadFile(filepath.Join(root, rest))
		if err != nil {
			http.NotFound(w, r)
			return
		}
		_, _ = w.Write(data)
	case "cut": // in the middle, each time
		w.Header().Set("Content-Length", "1000")
		_, _ = w.Write([]byte("the beginning"))
	case "forbidden":
		http.Error(w, "forbidden", http.StatusForbidden)
	default:
		http.ServeFile(w, r, filepath.Join(root, name))
	}
}

// replacer says what stands for itself in the texts of a case.
func (l *lab) replacer(name string) *strings.Replacer {
	return strings.NewReplacer(
		"@registry@", l.registry, "@base@", l.registry+"/base/"+name+":1",
		"@www@", l.www+"/"+name+"/www", "@git@", l.www+"/"+name+"/git", "@case@", name, "@agent@", l.agent,
	)
}

// restorer puts those back, for messages that are pinned.
func (l *lab) restorer(c *testCase) *strings.Replacer {
	return strings.NewReplacer(
		l.registry+"/base/"+c.name+":1", "@base@", l.www+"/"+c.name+"/www", "@www@",
		l.www+"/"+c.name+"/git", "@git@", l.registry, "@registry@", strings.TrimPrefix(l.www, "http://"), "@server@",
		c.dir, "@dir@",
	)
}
