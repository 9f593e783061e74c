// Package egress is the one HTTP client for addresses that users supply: webhooks, model servers,
// link previews, media, and the host tests of mail settings. It decides at the socket, on the very
// address that is about to be connected to, so no spelling of a host, no name server that changes
// its mind and no redirect can reach what is not public.
package egress

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"syscall"
	"time"

	"github.com/tandemhq/tandem/internal/mutant"
)

// ErrRefused is in the chain of every error that says: this destination is not allowed.
var ErrRefused = errors.New("destination refused")

// ErrTooLarge is what reading a body returns once it exceeds Options.MaxBody.
var ErrTooLarge = errors.New("egress: response body over the limit")

// Options configures a Client. The zero value is the strict one: public addresses only.
type Options struct {
	Allow     []Allow       // networks the operator lets tenants reach although they are not public
	Timeout   time.Duration // for a whole request with its body; 0 means 10 s
	MaxBody   int64         // bytes of a response body after decompression; 0 means 1 MiB
	TLSOnly   bool          // refuse http:// except to an address in Allow
	Resolver  *net.Resolver // nil means the system's
	UserAgent string        // empty means "Tandem"
}

// Client sends requests to destinations that users supply. It never uses a proxy from the
// environment, never follows a redirect (the 3xx response is returned), and caps time and body.
// Use it from several goroutines; Close drops idle connections.
type Client struct {
	o    Options
	http *http.Client
	tr   *http.Transport
	dial *net.Dialer
}

// New returns a Client. Make one per set of Options and keep it.
func New(o Options) *Client {
	if o.Timeout <= 0 {
		o.Timeout = 10 * time.Second
	}
	if o.MaxBody <= 0 {
		o.MaxBody = 1 << 20
	}
	if o.UserAgent == "" {
		o.UserAgent = "Tandem"
	}
	c := &Client{o: o}
	c.dial = &net.Dialer{
		Timeout:        min(o.Timeout, 10*time.Second),
		KeepAlive:      30 * time.Second,
		Resolver:       o.Resolver,
		ControlContext: c.control,
	}
	c.tr = &http.Transport{
		Proxy:                  nil, // a proxy would hide the real address from control
		DialContext:            c.DialContext,
		ForceAttemptHTTP2:      true,
		TLSHandshakeTimeout:    min(o.Timeout, 10*time.Second),
		ResponseHeaderTimeout:  o.Timeout,
		ExpectContinueTimeout:  time.Second,
		IdleConnTimeout:        60 * time.Second,
		MaxIdleConns:           64,
		MaxIdleConnsPerHost:    16, // turns ask one model at the same time, and each new connection costs a handshake
		MaxConnsPerHost:        32,
		MaxResponseHeaderBytes: 64 << 10,
	}
	c.http = &http.Client{
		Transport:     c,
		Timeout:       o.Timeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return c
}

// Do sends req and returns the response, whatever its status. The caller closes the body.
// A refused destination gives an error that wraps ErrRefused.
func (c *Client) Do(req *http.Request) (*http.Response, error) {
	return c.http.Do(req)
}

// HTTP returns the client as a plain *http.Client, for libraries that want one.
func (c *Client) HTTP() *http.Client { return c.http }

// Close drops idle connections.
func (c *Client) Close() { c.tr.CloseIdleConnections() }

// RoundTrip makes the Client a transport for callers with their own retry or timeout policy.
// It checks the URL, and caps the body.
func (c *Client) RoundTrip(req *http.Request) (*http.Response, error) {
	if err := c.checkURL(req.URL); err != nil {
		closeBody(req)
		return nil, err
	}
	if req.Host != "" && req.Host != req.URL.Host {
		closeBody(req)
		return nil, fmt.Errorf("egress: %w: Host header differs from the URL", ErrRefused)
	}
	if req.Header.Get("User-Agent") == "" {
		req = req.Clone(req.Context())
		req.Header.Set("User-Agent", c.o.UserAgent)
	}
	resp, err := c.tr.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode == http.StatusSwitchingProtocols {
		_ = resp.Body.Close()
		return nil, fmt.Errorf("egress: %w: protocol switch", ErrRefused)
	}
	resp.Body = &cappedBody{ReadCloser: resp.Body, left: c.o.MaxBody}
	return resp, nil
}

// DialContext opens a TCP connection under the same rules, for mail servers and the like.
// It applies the address rules; deniedPorts do not apply, since mail is their purpose.
func (c *Client) DialContext(ctx context.Context, network, addr string) (net.Conn, error) {
	switch network {
	case "tcp", "tcp4", "tcp6":
	default:
		return nil, fmt.Errorf("egress: %w: network %q", ErrRefused, network)
	}
	return c.dial.DialContext(ctx, network, addr)
}

// control runs on every socket after name resolution and before connect.
func (c *Client) control(_ context.Context, network, address string, _ syscall.RawConn) error {
	if network != "tcp4" && network != "tcp6" {
		return fmt.Errorf("egress: %w: network %q", ErrRefused, network)
	}
	ap, err := netip.ParseAddrPort(address)
	if err != nil {
		return fmt.Errorf("egress: %w: address %q", ErrRefused, address)
	}
	if public(ap.Addr()) || c.allowed(ap) || mutant.Is("ssrf-check-on-name-only") {
		return nil
	}
	return fmt.Errorf("egress: %w: %s is not a public address", ErrRefused, ap.Addr())
}

func (c *Client) allowed(ap netip.AddrPort) bool {
	for _, a := range c.o.Allow {
		if a.Contains(ap) {
			return true
		}
	}
	return false
}

// Check says whether raw may be stored as a destination: an absolute http or https URL without
// credentials, whose port is not another protocol's, and whose host, when written as an address,
// is allowed. A name is not resolved here; the socket decides when it is used.
func (c *Client) Check(raw string) error {
	u, err := url.Parse(raw)
	if err != nil {
		return fmt.Errorf("egress: %w: not a URL", ErrRefused)
	}
	return c.checkURL(u)
}

func (c *Client) checkURL(u *url.URL) error {
	scheme := strings.ToLower(u.Scheme)
	if scheme != "http" && scheme != "https" || u.Opaque != "" {
		return fmt.Errorf("egress: %w: only http and https are allowed", ErrRefused)
	}
	if u.User != nil {
		return fmt.Errorf("egress: %w: no user or password in a URL", ErrRefused)
	}
	host := u.Hostname()
	if host == "" || strings.ContainsAny(host, "%\\ \t\r\n@") {
		return fmt.Errorf("egress: %w: host %q", ErrRefused, host)
	}
	port, err := portOf(u, scheme)
	if err != nil {
		return err
	}
	listed := false
	if ip, err := netip.ParseAddr(host); err == nil {
		listed = c.allowed(netip.AddrPortFrom(ip, port))
		if !listed && !public(ip) {
			return fmt.Errorf("egress: %w: %s is not a public address", ErrRefused, ip)
		}
	} else if !hostName(host) {
		return fmt.Errorf("egress: %w: host %q", ErrRefused, host)
	} else {
		listed = c.namedPort(port)
	}
	if deniedPorts[port] && !listed {
		return fmt.Errorf("egress: %w: port %d", ErrRefused, port)
	}
	if c.o.TLSOnly && scheme != "https" && !listed {
		return fmt.Errorf("egress: %w: https is required", ErrRefused)
	}
	return nil
}

// namedPort reports whether an Allow entry names this very port, so that a host name behind it may
// use plain http or an odd port. The address itself is still checked at the socket.
func (c *Client) namedPort(port uint16) bool {
	for _, a := range c.o.Allow {
		if a.Port == port {
			return true
		}
	}
	return false
}

func portOf(u *url.URL, scheme string) (uint16, error) {
	p := u.Port()
	if p == "" {
		if strings.HasSuffix(u.Host, ":") {
			return 0, fmt.Errorf("egress: %w: empty port", ErrRefused)
		}
		if scheme == "https" {
			return 443, nil
		}
		return 80, nil
	}
	n := 0
	for _, r := range p {
		if r < '0' || r > '9' || n > 65535 {
			return 0, fmt.Errorf("egress: %w: port %q", ErrRefused, p)
		}
		n = n*10 + int(r-'0')
	}
	if n == 0 || n > 65535 {
		return 0, fmt.Errorf("egress: %w: port %q", ErrRefused, p)
	}
	return uint16(n), nil
}

// hostName accepts what the domain name system could hold and refuses numbers that other
// resolvers read as IPv4 addresses: 2130706433, 0x7f.1, 017700000001, 127.1.
func hostName(h string) bool {
	h = strings.TrimSuffix(h, ".")
	if h == "" || len(h) > 253 {
		return false
	}
	labels := strings.Split(h, ".")
	for _, l := range labels {
		if l == "" || len(l) > 63 {
			return false
		}
		for _, r := range l {
			switch {
			case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '-', r == '_':
			case r > 0x7f:
				return false // write it in its xn-- form: look-alike digits and dots stay out
			default:
				return false
			}
		}
	}
	last := labels[len(labels)-1]
	if last[0] >= '0' && last[0] <= '9' {
		return false // no top-level domain begins with a digit; 0x7f and 1 do
	}
	return true
}

func closeBody(req *http.Request) {
	if req.Body != nil {
		_ = req.Body.Close()
	}
}

// cappedBody fails with ErrTooLarge instead of ending early, so a cut body never passes for a whole one.
type cappedBody struct {
	io.ReadCloser
	left int64
}

func (b *cappedBody) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if int64(len(p)) > b.left+1 {
		p = p[:b.left+1]
	}
	n, err := b.ReadCloser.Read(p)
	if int64(n) > b.left {
		n, err = int(b.left), ErrTooLarge
	}
	b.left -= int64(n)
	return n, err
}
