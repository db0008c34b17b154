package registry

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

// hosts holds what is special about each host: whether it may be insecure,
// and its certificates.
type hosts struct {
	names    []string
	networks []netip.Prefix
	certDirs []string
	fixed    http.RoundTripper // replaces the network

	mu         sync.Mutex
	transports map[string]http.RoundTripper
}

func newHosts(opts Options) (*hosts, error) {
	h := &hosts{certDirs: opts.CertDirs, fixed: opts.Transport, transports: map[string]http.RoundTripper{}}
	for _, entry := range opts.Insecure {
		if !strings.Contains(entry, "/") {
			h.names = append(h.names, entry)
			continue
		}
		network, err := netip.ParsePrefix(entry)
		if err != nil {
			return nil, fmt.Errorf("insecure registry %q is neither a host nor a network: %w", entry, err)
		}
		h.networks = append(h.networks, network)
	}
	return h, nil
}

// insecure tells whether a host may be spoken to over http, or without a valid
// certificate. Nobody can listen in on the loopback.
func (h *hosts) insecure(host string) bool {
	name := hostname(host)
	if name == "localhost" || strings.HasSuffix(name, ".localhost") {
		return true
	}
	if slices.Contains(h.names, host) || slices.Contains(h.names, name) {
		return true
	}
	addr, err := netip.ParseAddr(name)
	if err != nil {
		return false
	}
	in := func(network netip.Prefix) bool { return network.Contains(addr.Unmap()) }
	return addr.IsLoopback() || slices.ContainsFunc(h.networks, in)
}

func hostname(host string) string {
	if name, _, err := net.SplitHostPort(host); err == nil {
		return name
	}
	return strings.Trim(host, "[]")
}

// transport returns the connections to a host. They are kept per host, because
// certificates and trust are.
func (h *hosts) transport(ep endpoint) (http.RoundTripper, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	key := fmt.Sprintf("%s %t", ep.host, ep.insecure)
	if t, ok := h.transports[key]; ok {
		return t, nil
	}
	base := h.fixed
	if base == nil {
		config, err := h.tls(ep)
		if err != nil {
			return nil, err
		}
		base = connections(config)
	}
	t := &guard{host: ep.host, insecure: ep.insecure, inner: base}
	h.transports[key] = t
	return t, nil
}

// connections speak HTTP/1.1 on purpose: HTTP/2 would send the parts of a blob
// over one connection, which is what fetching it in parts shall avoid.
func connections(config *tls.Config) *http.Transport {
	return &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           (&net.Dialer{Timeout: 30 * time.Second, KeepAlive: 30 * time.Second}).DialContext,
		MaxIdleConnsPerHost:   32,
		IdleConnTimeout:       90 * time.Second,
		TLSHandshakeTimeout:   10 * time.Second,
		ResponseHeaderTimeout: 2 * time.Minute,
		ExpectContinueTimeout: time.Second,
		TLSClientConfig:       config,
		// A blob is verified as the bytes that were asked for.
		DisableCompression: true,
	}
}

// tls reads the host's certificates: *.crt are authorities, *.cert with *.key
// a client's own.
func (h *hosts) tls(ep endpoint) (*tls.Config, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: ep.insecure}
	for _, dir := range h.certDirs {
		dir = filepath.Join(dir, filepath.Base(ep.host))
		if err := addAuthorities(config, dir); err != nil {
			return nil, err
		}
		if err := addClient(config, dir); err != nil {
			return nil, err
		}
	}
	return config, nil
}

func addAuthorities(config *tls.Config, dir string) error {
	files, err := filepath.Glob(filepath.Join(dir, "*.crt"))
	if err != nil {
		return fmt.Errorf("read certificates: %w", err)
	}
	for _, file := range files {
		pem, err := os.ReadFile(file)
		if err != nil {
			return fmt.Errorf("read certificate: %w", err)
		}
		if config.RootCAs == nil {
			if config.RootCAs, err = x509.SystemCertPool(); err != nil {
				config.RootCAs = x509.NewCertPool()
			}
		}
		if !config.RootCAs.AppendCertsFromPEM(pem) {
			return fmt.Errorf("read certificate %s: it holds no PEM certificate", file)
		}
	}
	return nil
}

func addClient(config *tls.Config, dir string) error {
	files, err := filepath.Glob(filepath.Join(dir, "*.cert"))
	if err != nil {
		return fmt.Errorf("read certificates: %w", err)
	}
	for _, file := range files {
		pair, err := tls.LoadX509KeyPair(file, strings.TrimSuffix(file, ".cert")+".key")
		if err != nil {
			return fmt.Errorf("read client certificate %s: %w", file, err)
		}
		config.Certificates = append(config.Certificates, pair)
	}
	return nil
}

// certHint is where a user would put an authority for a host.
func (h *hosts) certHint(host string) string {
	if len(h.certDirs) == 0 {
		return "the system's certificates"
	}
	return filepath.Join(h.certDirs[0], host, "ca.crt")
}

var errPlain = errors.New("plain http is not allowed")

// guard refuses plain http to a registry that is not insecure, whatever the
// handshake or a redirect would do: it would show the credentials to anybody.
type guard struct {
	host     string
	insecure bool
	inner    http.RoundTripper
}

// RoundTrip implements http.RoundTripper.
func (g *guard) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.URL.Scheme != "https" && !g.insecure && req.URL.Host == g.host {
		return nil, errPlain
	}
	return g.inner.RoundTrip(req)
}
