// Package testregistry runs Debian's docker-registry on loopback for tests,
// plain or with TLS and a password, and proxies before it that break.
package testregistry

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"

	"github.com/strata-build/strata/internal/testenv"
)

// Name, User and Password are those of a secure registry.
const (
	Name     = "registry.example"
	User     = "ann"
	Password = "secret-pw"
)

// Plain runs a registry without TLS and password. It returns its address and
// the directory that it keeps its blobs in.
func Plain(t testing.TB) (addr, blobs string) {
	t.Helper()
	dir := t.TempDir()
	return start(t, dir, ""), filepath.Join(dir, "data", "docker", "registry", "v2", "blobs")
}

// Secure runs a registry with a certificate for Name and a password. It
// returns its address and the certificate of its authority.
func Secure(t testing.TB) (addr string, ca []byte) {
	t.Helper()
	dir := t.TempDir()
	hash, err := bcrypt.GenerateFromPassword([]byte(Password), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "htpasswd"), []byte(User+":"+string(hash)+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if ca, err = certificate(dir); err != nil {
		t.Fatal(err)
	}
	return start(t, dir, fmt.Sprintf(
		", tls: {certificate: %[1]s/cert.pem, key: %[1]s/key.pem}}\nauth: {htpasswd: {realm: test, path: %[1]s/htpasswd}", dir)), ca
}

// start runs a registry whose configuration has more in its http section.
func start(t testing.TB, dir, more string) string {
	t.Helper()
	program := testenv.Tool(t, "docker-registry")
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := listener.Addr().String()
	listener.Close()
	conf := filepath.Join(dir, "config.yml")
	text := fmt.Sprintf(`version: 0.1
log: {level: info, accesslog: {disabled: true}}
storage: {filesystem: {rootdirectory: %s/data}, delete: {enabled: true}}
http: {addr: %q, secret: x%s}
`, dir, addr, more)
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program, "serve", conf)
	said, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	await(t, said)
	return addr
}

// await reads what the registry says until it listens, and drops the rest.
func await(t testing.TB, said io.Reader) {
	t.Helper()
	lines := bufio.NewScanner(said)
	var all strings.Builder
	for lines.Scan() {
		if strings.Contains(lines.Text(), "listening on") {
			go func() { _, _ = io.Copy(io.Discard, said) }()
			return
		}
		all.WriteString(lines.Text() + "\n")
	}
	t.Fatalf("the registry ended, saying:\n%s", all.String())
}

// certificate writes cert.pem and key.pem, and returns the certificate.
func certificate(dir string) ([]byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: []string{Name},
		NotBefore: time.Unix(0, 0), NotAfter: time.Now().AddDate(1, 0, 0), IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return nil, err
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	cert := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	err = os.WriteFile(filepath.Join(dir, "cert.pem"), cert, 0o600)
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "key.pem"), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}), 0o600)
	}
	return cert, err
}

// Tunnel is an HTTPS proxy that leads every connection to one address, so that
// names which are nobody's can be spoken to.
func Tunnel(t testing.TB, target string) (url string) {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodConnect {
			http.Error(w, "only CONNECT", http.StatusMethodNotAllowed)
			return
		}
		conn, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			return
		}
		_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\n\r\n")
		join(conn, target, -1)
	}))
	t.Cleanup(s.Close)
	return s.URL
}

// Gate passes connections on, until it has passed a number of bytes to the
// client: then it is shut for good.
type Gate struct {
	Addr   string
	passed atomic.Int64
	limit  atomic.Int64
}

// NewGate makes a gate before an address that lets limit bytes pass; a
// negative limit is none.
func NewGate(t testing.TB, target string, limit int64) *Gate {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	g := &Gate{Addr: l.Addr().String()}
	g.limit.Store(limit)
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go g.serve(conn, target)
		}
	}()
	return g
}

// Open lets everything pass from now on.
func (g *Gate) Open() { g.limit.Store(-1) }

// Passed returns the bytes that went to clients since the last call.
func (g *Gate) Passed() int64 { return g.passed.Swap(0) }

func (g *Gate) serve(conn net.Conn, target string) {
	limit := g.limit.Load()
	if limit >= 0 {
		limit -= g.passed.Load()
		if limit <= 0 {
			conn.Close()
			return
		}
	}
	g.passed.Add(join(conn, target, limit))
}

// join copies between a connection and an address, at most limit bytes to the
// connection, and returns how many those were.
func join(conn net.Conn, target string, limit int64) int64 {
	defer conn.Close()
	up, err := net.Dial("tcp", target)
	if err != nil {
		return 0
	}
	defer up.Close()
	go func() {
		_, _ = io.Copy(up, conn)
		up.Close()
	}()
	var from io.Reader = up
	if limit >= 0 {
		from = io.LimitReader(up, limit)
	}
	n, _ := io.Copy(conn, from)
	return n
}
