package registry

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"syscall"
	"time"

	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
)

// Errors that callers tell apart with errors.Is. The error that wraps one of
// them says which host, what happened and what to do.
var (
	// ErrUnauthorized means that the registry wants other credentials.
	ErrUnauthorized = errors.New("unauthorized")
	// ErrNotFound means that the repository, tag, manifest or blob is unknown.
	ErrNotFound = errors.New("not found")
	// ErrUnverified means that what the registry sent is not what was asked for.
	ErrUnverified = errors.New("content does not match its digest")
	// ErrBlocked means that registries.conf forbids the registry.
	ErrBlocked = errors.New("registry is blocked")
)

// failure is an error whose text was made for the user, free of credentials.
// It unwraps to sentinels only: the transport's own errors may hold URLs with
// tokens.
type failure struct {
	doing string // what was to be done, if that is to be said
	text  string
	kinds []error
}

// Error implements error.
func (f *failure) Error() string {
	if f.doing == "" {
		return f.text
	}
	return f.doing + ": " + f.text
}

// Reason is an error of this package without what was to be done ("resolve
// debian:12"), for who says so himself.
func Reason(err error) error {
	f, ok := err.(*failure)
	if !ok || f.doing == "" {
		return err
	}
	return &failure{text: f.text, kinds: f.kinds}
}

// because is a failure for the same reason, and of the same purpose, as an
// error; say makes its text of the error's.
func because(err error, say func(reason string) string) *failure {
	f := &failure{text: say(Reason(err).Error()), kinds: []error{err}}
	var known *failure
	if errors.As(err, &known) {
		f.doing = known.doing
	}
	return f
}

// Unwrap implements errors.Is.
func (f *failure) Unwrap() []error { return f.kinds }

// statusError is an answer that is not the one that was asked for.
type statusError struct {
	code  int
	after time.Duration // Retry-After
	text  string
}

// Error implements error.
func (e *statusError) Error() string { return e.text }

// check returns a statusError unless the response has one of the codes. It
// reads the body of an error, and closes it.
func check(resp *http.Response, codes ...int) error {
	for _, code := range codes {
		if resp.StatusCode == code {
			return nil
		}
	}
	defer resp.Body.Close()
	err := transport.CheckError(resp, codes...)
	var terr *transport.Error
	if !errors.As(err, &terr) {
		return err
	}
	return &statusError{code: resp.StatusCode, after: retryAfter(resp), text: diagnostics(terr)}
}

// diagnostics is what the registry says about an error, on one short line.
func diagnostics(terr *transport.Error) string {
	said := make([]string, 0, len(terr.Errors))
	for _, d := range terr.Errors {
		said = append(said, strings.TrimSpace(strings.ToLower(string(d.Code))+": "+d.Message))
	}
	text := fmt.Sprintf("%d %s", terr.StatusCode, strings.ToLower(http.StatusText(terr.StatusCode)))
	if len(said) > 0 {
		text += ": " + strings.Join(said, "; ")
	}
	return oneLine(text)
}

func oneLine(s string) string {
	s = strings.Join(strings.Fields(s), " ")
	if len(s) > 300 {
		s = s[:300] + "…"
	}
	return s
}

// retryAfter reads the header; a registry cannot make us wait above a minute.
func retryAfter(resp *http.Response) time.Duration {
	d, err := time.ParseDuration(resp.Header.Get("Retry-After") + "s")
	if err != nil || d < 0 {
		return 0
	}
	return min(d, time.Minute)
}

// asStatus finds the status code behind an error of ours or of
// go-containerregistry's handshake.
func asStatus(err error) (*statusError, bool) {
	var serr *statusError
	if errors.As(err, &serr) {
		return serr, true
	}
	var terr *transport.Error
	if errors.As(err, &terr) {
		return &statusError{code: terr.StatusCode, text: diagnostics(terr)}, true
	}
	return nil, false
}

// temporary tells whether the same request may succeed later. Everything that
// happens to a connection does, but for what names, certificates and dead
// ports will say again.
func temporary(err error) bool {
	if serr, ok := asStatus(err); ok {
		switch serr.code {
		case http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests, 499:
			return true
		}
		return serr.code >= 500 && serr.code != http.StatusNotImplemented
	}
	var kind *failure
	if errors.As(err, &kind) || errors.Is(err, context.Canceled) {
		return false
	}
	return !permanent(err)
}

func permanent(err error) bool {
	var dns *net.DNSError
	if errors.As(err, &dns) {
		return dns.IsNotFound
	}
	return errors.Is(err, http.ErrSchemeMismatch) || errors.Is(err, syscall.ECONNREFUSED) || certificate(err) != nil
}

// certificate returns the part of an error that is about TLS trust.
func certificate(err error) error {
	var (
		verify  *tls.CertificateVerificationError
		unknown x509.UnknownAuthorityError
		name    x509.HostnameError
		invalid x509.CertificateInvalidError
		alert   tls.AlertError
	)
	switch {
	case errors.As(err, &unknown):
		return unknown
	case errors.As(err, &name):
		return name
	case errors.As(err, &invalid):
		return invalid
	case errors.As(err, &verify):
		return verify
	case errors.As(err, &alert):
		return alert
	}
	return nil
}

// occasion is what was being done when an error came.
type occasion struct {
	doing string // "resolve debian:12", without "registry"
	host  string
	repo  string
}

// explain turns any error into one that says what happened where, and what to
// do. An error that was explained before passes unchanged.
func (c *Client) explain(err error, o occasion) error {
	var done *failure
	if err == nil || errors.As(err, &done) || errors.Is(err, context.Canceled) {
		return err
	}
	text, kinds := c.diagnose(err, o)
	return &failure{doing: o.doing, text: c.keys.scrub(text), kinds: kinds}
}

func (c *Client) diagnose(err error, o occasion) (string, []error) {
	if serr, ok := asStatus(err); ok {
		return c.diagnoseStatus(serr, o)
	}
	var dns *net.DNSError
	switch {
	case certificate(err) != nil:
		return fmt.Sprintf("the certificate of %s is not trusted (%v): put its CA certificate into %s, or list the host as insecure in registries.conf if you trust the network",
			o.host, certificate(err), c.hosts.certHint(o.host)), nil
	case errors.Is(err, http.ErrSchemeMismatch):
		return fmt.Sprintf("%s speaks http, not https: list it as insecure (insecure = true in registries.conf) if you trust the network", o.host), nil
	case errors.Is(err, errPlain):
		return fmt.Sprintf("%s does not answer over https, and plain http is allowed for insecure registries only: list it as insecure (insecure = true in registries.conf) if you trust the network", o.host), nil
	case errors.As(err, &dns):
		return fmt.Sprintf("the host %s cannot be found (%s): check its spelling and the network", o.host, oneLine(dns.Err)), nil
	case errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Sprintf("nothing listens at %s (connection refused): check the port, and whether the registry runs", o.host), nil
	}
	return fmt.Sprintf("%s: %s", o.host, plain(err)), nil
}

func (c *Client) diagnoseStatus(e *statusError, o occasion) (string, []error) {
	switch e.code {
	case http.StatusUnauthorized, http.StatusForbidden:
		return c.diagnoseAccess(e, o), []error{ErrUnauthorized}
	case http.StatusNotFound:
		return fmt.Sprintf("%s does not have it (%s)", o.host, e.text), []error{ErrNotFound}
	case http.StatusTooManyRequests:
		return fmt.Sprintf("%s limits the rate of requests (%s): wait, log in with `strata login %s`, or use a mirror", o.host, e.text, loginName(o.host)), nil
	}
	if e.code >= 500 {
		return fmt.Sprintf("%s has an error of its own (%s): try again later", o.host, e.text), nil
	}
	return fmt.Sprintf("%s answered %s", o.host, e.text), nil
}

func (c *Client) diagnoseAccess(e *statusError, o occasion) string {
	target := o.host
	if o.repo != "" {
		target += "/" + o.repo
	}
	login := loginName(o.host)
	if helper := c.keys.helperFailure(o.host); helper != "" {
		return fmt.Sprintf("access to %s is denied (%s), and its credentials could not be read: %s", target, e.text, helper)
	}
	if user := c.keys.user(o.host); user != "" {
		return fmt.Sprintf("access to %s is denied for %s (%s): check that it exists and that the account may use it, or log in again with `strata login %s`", target, user, e.text, login)
	}
	return fmt.Sprintf("access to %s is denied (%s): log in with `strata login %s`, or check the name", target, e.text, login)
}

// loginName is the host as users write it.
func loginName(host string) string {
	if host == hubHost {
		return hubName
	}
	return host
}

// plain prints an error without the query strings of its URLs, which may hold
// signatures and tokens.
func plain(err error) string {
	var uerr *url.Error
	if !errors.As(err, &uerr) {
		return oneLine(err.Error())
	}
	inner := uerr.Err
	var next *url.Error
	if errors.As(inner, &next) {
		return plain(inner)
	}
	if u, perr := url.Parse(uerr.URL); perr == nil {
		return oneLine(fmt.Sprintf("%s %s: %v", uerr.Op, u.Host, inner))
	}
	return oneLine(inner.Error())
}

// unverified says that content is not what its digest promises.
func unverified(host, digest, how string) error {
	return &failure{
		text:  fmt.Sprintf("%s sent wrong bytes for %s (%s): try again; if it stays so, the registry or a proxy before it is damaged, so pull from another one", host, digest, how),
		kinds: []error{ErrUnverified},
	}
}
