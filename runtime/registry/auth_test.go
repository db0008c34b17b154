package registry

import (
	"context"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/authn"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// basicAuth demands a user and password before anything else.
func basicAuth(user, password string, then fault) fault {
	return func(w http.ResponseWriter, r *http.Request, next http.Handler) bool {
		if u, p, ok := r.BasicAuth(); ok && u == user && p == password {
			return then != nil && then(w, r, next)
		}
		w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
		w.WriteHeader(http.StatusUnauthorized)
		return true
	}
}

// tokenAuth demands a token, which its /token path gives for a password.
func tokenAuth(s *server, user, password string) fault {
	return func(w http.ResponseWriter, r *http.Request, _ http.Handler) bool {
		if r.URL.Path == "/token" {
			if u, p, ok := r.BasicAuth(); !ok || u != user || p != password {
				w.WriteHeader(http.StatusUnauthorized)
				fmt.Fprint(w, `{"errors":[{"code":"UNAUTHORIZED","message":"incorrect username or password"}]}`)
				return true
			}
			_ = json.NewEncoder(w).Encode(map[string]string{"token": "token-for " + strings.Join(r.URL.Query()["scope"], " ")})
			return true
		}
		if strings.HasPrefix(r.Header.Get("Authorization"), "Bearer token-for") {
			return false
		}
		w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer realm="http://%s/token",service="test"`, s.host))
		w.WriteHeader(http.StatusUnauthorized)
		return true
	}
}

func TestCredentials(t *testing.T) {
	flows := map[string]func(*server) fault{
		"basic": func(*server) fault { return basicAuth("user", "secret-pw", nil) },
		"token": func(s *server) fault { return tokenAuth(s, "user", "secret-pw") },
	}
	for name, flow := range flows {
		t.Run(name, func(t *testing.T) {
			s := newServer(t)
			s.addImage(t, "a/b:1")
			s.misbehave(flow(s))
			r := ref(t, s.host+"/a/b:1")
			resolve := func(config string) error {
				path := write(t, config, t.TempDir(), "config.json")
				_, err := newClient(t, Options{ConfigPaths: []string{"/nonexistent", path}}).Resolve(context.Background(), r)
				return err
			}
			if err := resolve(`{"auths":{"` + s.host + `":{"username":"user","password":"secret-pw"}}}`); err != nil {
				t.Errorf("with credentials: %v", err)
			}
			if err := resolve(`{"auths":{"` + s.host + `/a":{"username":"user","password":"secret-pw"}}}`); err != nil {
				t.Errorf("with credentials for the path: %v", err)
			}
			err := resolve(`{}`)
			wantError(t, err, "strata login "+s.host, s.host+"/a/b")
			if !errors.Is(err, ErrUnauthorized) {
				t.Errorf("%v is not ErrUnauthorized", err)
			}
			err = resolve(`{"auths":{"` + s.host + `":{"username":"user","password":"other-pw"}}}`)
			wantError(t, err, "denied for user", "log in again")
			if strings.Contains(err.Error(), "other-pw") {
				t.Errorf("the error shows the password: %v", err)
			}
		})
	}
}

// An error body that quotes what it was sent does not lead it into our error.
func TestErrorsAreScrubbed(t *testing.T) {
	s := newServer(t)
	s.misbehave(basicAuth("user", "secret-pw", func(w http.ResponseWriter, r *http.Request, _ http.Handler) bool {
		if r.URL.Path == "/v2/" {
			return false
		}
		w.WriteHeader(http.StatusForbidden)
		fmt.Fprintf(w, `{"errors":[{"code":"DENIED","message":"you sent %s, that is secret-pw"}]}`, r.Header.Get("Authorization"))
		return true
	}))
	config := write(t, `{"auths":{"`+s.host+`":{"username":"user","password":"secret-pw"}}}`, t.TempDir(), "config.json")
	_, err := newClient(t, Options{ConfigPaths: []string{config}}).Resolve(context.Background(), ref(t, s.host+"/a/b:1"))
	wantError(t, err, "you sent", "***")
	if strings.Contains(err.Error(), "secret-pw") || strings.Contains(err.Error(), "dXNlcjpzZWNyZXQtcHc") {
		t.Errorf("the error shows credentials: %v", err)
	}
}

func TestLogin(t *testing.T) {
	s := newServer(t)
	for name, flow := range map[string]fault{"basic": basicAuth("user", "secret-pw", nil), "token": tokenAuth(s, "user", "secret-pw")} {
		s.misbehave(flow)
		if err := newClient(t, Options{}).Login(context.Background(), s.host, "user", "secret-pw"); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		err := newClient(t, Options{}).Login(context.Background(), s.host, "user", "wrong-pw")
		wantError(t, err, s.host, "does not accept")
		if !errors.Is(err, ErrUnauthorized) || strings.Contains(err.Error(), "wrong-pw") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestSaveAndEraseCredentials(t *testing.T) {
	path := filepath.Join(t.TempDir(), "deep", "config.json")
	for _, cred := range []Credentials{{"example.com:5000", "u", "p"}, {"docker.io", "hub", "q"}} {
		if plain, err := SaveCredentials(path, cred); err != nil || !plain {
			t.Fatalf("plain %t, %v", plain, err)
		}
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	k, err := newKeychain([]string{path})
	if err != nil {
		t.Fatal(err)
	}
	if cred := k.lookup(endpoint{host: "example.com:5000", repo: "a"}); cred.auth.Username != "u" || cred.auth.Password != "p" {
		t.Errorf("found %+v", cred)
	}
	if cred := k.lookup(endpoint{host: hubHost, repo: "library/debian"}); cred.auth.Username != "hub" {
		t.Errorf("found %+v for Docker Hub", cred)
	}
	for in, want := range map[string]string{
		"": authn.DefaultAuthKey, "docker.io": authn.DefaultAuthKey, "https://index.docker.io/v1/": authn.DefaultAuthKey,
		"https://reg.example:5000/": "reg.example:5000", "http://reg/v2/x": "reg", "reg.example": "reg.example",
	} {
		if got := credentialKey(in); got != want {
			t.Errorf("credentialKey(%q) = %q, want %q", in, got, want)
		}
	}
	for i, want := range []bool{true, false} {
		if had, err := EraseCredentials(path, "example.com:5000"); err != nil || had != want {
			t.Errorf("erase %d: %t, %v", i, had, err)
		}
	}
}

func TestCredentialHelper(t *testing.T) {
	s := newServer(t)
	s.addImage(t, "a/b:1")
	s.misbehave(basicAuth("helped", "helper-pw", nil))
	dir := t.TempDir()
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	script := write(t, "#!/bin/sh\nread host\necho \"{\\\"ServerURL\\\":\\\"$host\\\",\\\"Username\\\":\\\"helped\\\",\\\"Secret\\\":\\\"helper-pw\\\"}\"\n", dir, "docker-credential-test")
	if err := os.Chmod(script, 0o700); err != nil {
		t.Fatal(err)
	}
	resolve := func(config string) error {
		path := write(t, config, t.TempDir(), "config.json")
		_, err := newClient(t, Options{ConfigPaths: []string{path}}).Resolve(context.Background(), ref(t, s.host+"/a/b:1"))
		return err
	}
	if err := resolve(`{"credHelpers":{"` + s.host + `":"test"}}`); err != nil {
		t.Errorf("credHelpers: %v", err)
	}
	if err := resolve(`{"credsStore":"test"}`); err != nil {
		t.Errorf("credsStore: %v", err)
	}
	config := write(t, `{"credsStore":"test"}`, t.TempDir(), "config.json")
	if plain, err := SaveCredentials(config, Credentials{"h", "u", "saved-pw"}); err != nil || plain {
		t.Errorf("save with a helper: plain %t, %v", plain, err)
	}
	if data, err := os.ReadFile(config); err != nil || strings.Contains(string(data), "saved-pw") {
		t.Errorf("config is %s, %v", data, err)
	}
	wantError(t, resolve(`{"credsStore":"missing"}`), "credentials could not be read", "docker-credential-missing")
}

// A helper that does not work matters only where credentials do.
func TestBrokenHelperDoesNotHinderPublicPulls(t *testing.T) {
	s := newServer(t)
	s.addImage(t, "a/b:1")
	path := write(t, `{"credsStore":"missing"}`, t.TempDir(), "config.json")
	if _, err := newClient(t, Options{ConfigPaths: []string{path}}).Resolve(context.Background(), ref(t, s.host+"/a/b:1")); err != nil {
		t.Error(err)
	}
}

func TestMalformedConfigIsAnError(t *testing.T) {
	path := write(t, `{"auths": [`, t.TempDir(), "config.json")
	_, err := New(Options{ConfigPaths: []string{path}})
	wantError(t, err, path)
}

// plainHost routes a public-looking name to a test server.
func plainHost(s *server) *http.Transport {
	return &http.Transport{DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, s.host)
	}}
}

func TestPlainHTTPOnlyWhereAllowed(t *testing.T) {
	s := newServer(t)
	s.addImage(t, "a/b:1")
	for _, host := range []string{"registry.example", "10.1.2.3:5000", "registry.local"} {
		r := ref(t, host+"/a/b:1")
		_, err := newClient(t, Options{Transport: plainHost(s)}).Resolve(context.Background(), r)
		wantError(t, err, host, "http", "insecure")
		name, _, _ := strings.Cut(host, ":")
		if _, err := newClient(t, Options{Transport: plainHost(s), Insecure: []string{name}}).Resolve(context.Background(), r); err != nil {
			t.Errorf("%s listed as insecure: %v", host, err)
		}
	}
	if _, err := newClient(t, Options{Transport: plainHost(s), Insecure: []string{"10.1.0.0/16"}}).Resolve(context.Background(), ref(t, "10.1.2.3/a/b:1")); err != nil {
		t.Errorf("network listed as insecure: %v", err)
	}
}

func TestInsecureHosts(t *testing.T) {
	h, err := newHosts(Options{Insecure: []string{"reg:5000", "other", "10.0.0.0/8", "fd00::/8"}})
	if err != nil {
		t.Fatal(err)
	}
	for host, want := range map[string]bool{
		"localhost": true, "localhost:5000": true, "127.0.0.1": true, "127.9.9.9:5000": true, "[::1]:5000": true,
		"reg:5000": true, "reg": false, "reg:5001": false, "other": true, "other:99": true,
		"10.1.2.3:5000": true, "11.1.2.3": false, "[fd00::1]:5000": true, "[fe80::1]": false,
		"localhost.example.com": false, "192.168.1.1": false, "docker.io": false,
	} {
		if got := h.insecure(host); got != want {
			t.Errorf("insecure(%q) = %t", host, got)
		}
	}
	_, err = newHosts(Options{Insecure: []string{"10.0.0.0/99"}})
	wantError(t, err, "10.0.0.0/99")
}

func TestCertificates(t *testing.T) {
	s := newServer(t)
	s.addImage(t, "a/b:1")
	ts := httptest.NewTLSServer(s)
	defer ts.Close()
	// The test server's certificate is for example.com; a public name, for
	// loopback addresses are not verified.
	via := func(o Options) error {
		c := newClient(t, o)
		ep := endpoint{host: "example.com", repo: "a/b"}
		rt, err := c.hosts.transport(ep)
		if err != nil {
			return err
		}
		rt.(*guard).inner.(*http.Transport).DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, network, ts.Listener.Addr().String())
		}
		_, err = c.Resolve(context.Background(), ref(t, "example.com/a/b:1"))
		return err
	}
	dir := t.TempDir()
	wantError(t, via(Options{CertDirs: []string{dir}}), "certificate of example.com is not trusted", filepath.Join(dir, "example.com", "ca.crt"))
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ts.Certificate().Raw})
	write(t, string(ca), dir, "example.com", "ca.crt")
	if err := via(Options{CertDirs: []string{dir}}); err != nil {
		t.Errorf("with the CA: %v", err)
	}
	write(t, "nonsense", dir, "example.com", "ca.crt")
	wantError(t, via(Options{CertDirs: []string{dir}}), "holds no PEM certificate")
}

func TestUnreachableHosts(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	dead := listener.Addr().String()
	listener.Close()
	c := newClient(t, Options{})
	_, err = c.Resolve(context.Background(), ref(t, dead+"/a/b:1"))
	wantError(t, err, "nothing listens at "+dead)

	nowhere := &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) {
		return nil, &net.OpError{Op: "dial", Err: &net.DNSError{Err: "no such host", Name: "nowhere.example", IsNotFound: true}}
	}}
	_, err = newClient(t, Options{Transport: nowhere}).Resolve(context.Background(), ref(t, "nowhere.example/a:1"))
	wantError(t, err, "host nowhere.example cannot be found")
}

func TestDescriptorsAreChecked(t *testing.T) {
	c := newClient(t, Options{})
	for _, desc := range []ocispec.Descriptor{
		{Digest: "sha256:../../etc/passwd", Size: 1},
		{Digest: "md5:d41d8cd98f00b204e9800998ecf8427e", Size: 1},
		{Digest: "", Size: 1},
		{Digest: "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", Size: -5},
	} {
		if _, err := fetch(c, ref(t, "127.0.0.1:1/a"), desc, 0); err == nil {
			t.Errorf("descriptor %+v was accepted", desc)
		}
	}
}
