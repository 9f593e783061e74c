package egress

import (
	"compress/gzip"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// canary listens on every local address and counts who connects. Nobody may.
func canary(t *testing.T) (port string, hits *atomic.Int64) {
	t.Helper()
	hits = new(atomic.Int64)
	l, err := net.Listen("tcp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			hits.Add(1)
			_ = c.Close()
		}
	}()
	_, port, _ = net.SplitHostPort(l.Addr().String())
	return port, hits
}

// lyingResolver answers every question with the given local addresses, as a rebinding name server does.
func lyingResolver(t *testing.T, a, aaaa netip.Addr) *net.Resolver {
	t.Helper()
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = pc.Close() })
	go func() {
		buf := make([]byte, 1500)
		for {
			n, from, err := pc.ReadFrom(buf)
			if err != nil {
				return
			}
			var m dnsmessage.Message
			if m.Unpack(buf[:n]) != nil || len(m.Questions) == 0 {
				continue
			}
			q := m.Questions[0]
			m.Response, m.Authoritative = true, true
			m.Additionals = nil
			h := dnsmessage.ResourceHeader{Name: q.Name, Class: dnsmessage.ClassINET, TTL: 0}
			switch {
			case q.Type == dnsmessage.TypeA && a.IsValid():
				m.Answers = append(m.Answers, dnsmessage.Resource{Header: h, Body: &dnsmessage.AResource{A: a.As4()}})
			case q.Type == dnsmessage.TypeAAAA && aaaa.IsValid():
				m.Answers = append(m.Answers, dnsmessage.Resource{Header: h, Body: &dnsmessage.AAAAResource{AAAA: aaaa.As16()}})
			}
			out, err := m.Pack()
			if err == nil {
				_, _ = pc.WriteTo(out, from)
			}
		}
	}()
	addr := pc.LocalAddr().String()
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "udp", addr)
	}}
}

// hostileHosts are spellings of the local machine, of private networks and of metadata services.
var hostileHosts = []string{
	// plain and odd IPv4
	"127.0.0.1", "127.0.0.2", "127.1", "127.0.1", "127.255.255.254", "2130706433", "0x7f000001", "0x7f.0.0.1", "0x7f.1",
	"017700000001", "0177.0.0.1", "0177.0.0.01", "0x7F.0x0.0x0.0x1", "127.0.0.1.", "00127.0.0.1", "127.000.000.001", "127.0.0.01",
	"4294967297", "0", "0.0.0.0", "00.00.00.00", "0.1.2.3", "0x0", "127。0。0。1", "１２７.0.0.1", "①②⑦.⓪.⓪.①",
	"10.0.0.1", "10.255.255.255", "172.16.0.1", "172.31.255.254", "192.168.0.1", "192.168.1.1", "3232235777", "0xc0a80101",
	"169.254.169.254", "2852039166", "0xa9fea9fe", "0251.0376.0251.0376", "169.254.170.2", "169.254.0.1", "168.63.129.16",
	"100.64.0.1", "100.100.100.200", "100.127.255.254", "192.0.0.1", "192.0.0.192", "192.0.2.1", "192.31.196.1", "192.52.193.1",
	"192.88.99.1", "192.175.48.1", "198.18.0.1", "198.19.255.254", "198.51.100.7", "203.0.113.9", "224.0.0.1", "239.255.255.250", "240.0.0.1",
	"255.255.255.255",
	// IPv6 and what hides IPv4 in it
	"[::1]", "[::]", "[0:0:0:0:0:0:0:1]", "[0000::0001]", "[::127.0.0.1]", "[::7f00:1]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]",
	"[0:0:0:0:0:ffff:7f00:1]", "[::ffff:0.0.0.0]", "[::ffff:10.0.0.1]", "[::ffff:169.254.169.254]", "[::ffff:0:127.0.0.1]",
	"[64:ff9b::127.0.0.1]", "[64:ff9b::7f00:1]", "[64:ff9b:1::127.0.0.1]", "[64:ff9b:1:ffff::1]", "[2002:7f00:1::]", "[2002:7f00:1::1]",
	"[2002:a9fe:a9fe::]", "[2001:0:7f00:1::]", "[2001::1]", "[2001:0:0:0:0:0:80ff:fffe]", "[2001:2::1]", "[2001:10::1]", "[2001:20::1]",
	"[2001:db8::1]", "[3fff::1]", "[2620:4f:8000::1]", "[fc00::1]", "[fd00::1]", "[fd00:ec2::254]", "[fe80::1]", "[fe80::1%25lo]", "[fe80::1%25eth0]",
	"[::1%25lo]", "[fec0::1]", "[ff02::1]", "[ff0e::1]", "[100::1]", "[5f00::1]", "[4000::1]", "[2a00:1450::5efe:7f00:1]",
	"[2a00:1450::200:5efe:7f00:1]", "[2a00:1450::5efe:10.0.0.1]", "[::5efe:127.0.0.1]",
	// names
	"localhost", "LOCALHOST", "localhost.", "localhost.localdomain", "ip6-localhost", "foo.localhost", "rebind.example", "metadata.google.internal",
	"instance-data", "kubernetes.default.svc", "127.0.0.1.nip.io", "app.127-0-0-1.sslip.io", "localtest.me", "xn--localhost-x.example", "a..b", "-",
	"loc\u00adalhost", "lo\u0441alhost", "ⓛⓞⓒⓐⓛⓗⓞⓢⓣ",
}

func TestHostileDestinationsNeverReachTheCanary(t *testing.T) {
	port, hits := canary(t)
	for _, e := range []string{"HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy"} {
		t.Setenv(e, "http://127.0.0.1:"+port)
	}
	c := New(Options{
		Timeout:  2 * time.Second,
		Resolver: lyingResolver(t, netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("::1")),
	})
	defer c.Close()

	var urls []string
	for _, h := range hostileHosts {
		urls = append(urls, "http://"+h+":"+port+"/")
	}
	for _, u := range []string{
		"https://127.0.0.1:P/", "https://rebind.example:P/", "HTTP://127.0.0.1:P/", "http:127.0.0.1:P", "http:/127.0.0.1:P/", "//127.0.0.1:P/",
		"http:///127.0.0.1:P/", "http://user@127.0.0.1:P/", "http://example.com@127.0.0.1:P/", "http://example.com:80@127.0.0.1:P/",
		"http://127.0.0.1:P@example.com/", "http://127.0.0.1:P#@example.com/", "http://127.0.0.1:P?@example.com/", "http://example.com\\@127.0.0.1:P/",
		"http://127.0.0.1\\.example.com:P/", "http://127.0.0.1%00.example.com:P/", "http://127.0.0.1%2eexample.com:P/", "http://127.0.0.1%20:P/",
		"http://[::1]:P@example.com/", "http://rebind.example.:P/", "http://rebind.example:0P/", "http://rebind.example:+P/",
		"http://rebind.example:22/", "http://rebind.example:25/", "http://rebind.example:6379/", "http://rebind.example:5432/", "http://rebind.example:4222/",
		"http://rebind.example:0/", "http://rebind.example:65536/", "http://rebind.example:-1/", "http://rebind.example:/",
		"http://:P/", "http://", "http://%6c%6f%63alhost:P/", "file:///etc/passwd", "file://127.0.0.1:P/", "gopher://127.0.0.1:P/_x", "ftp://127.0.0.1:P/",
		"dict://127.0.0.1:P/d", "ldap://127.0.0.1:P/", "unix:///var/run/docker.sock", "data:text/plain,x", "javascript:alert(1)", "jar:http://127.0.0.1:P!/",
		"ws://127.0.0.1:P/", "tftp://127.0.0.1:P/", "http+unix://%2Fvar%2Frun%2Fdocker.sock/", "https://[::1]:P/", "",
	} {
		urls = append(urls, strings.ReplaceAll(u, "P", port))
	}
	refused := 0
	for _, u := range urls {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, u, nil)
		if err == nil {
			var resp *http.Response
			if resp, err = c.Do(req); err == nil {
				_ = resp.Body.Close()
				t.Errorf("%q was answered with %d", u, resp.StatusCode)
				continue
			}
		}
		refused++
	}
	if len(urls) < 120 {
		t.Errorf("only %d hostile URLs, want at least 120", len(urls))
	}
	if n := hits.Load(); n != 0 {
		t.Errorf("the canary was reached %d times", n)
	}
	if c.tr.Proxy != nil {
		t.Error("the transport has a proxy")
	}
	t.Logf("SEC-6: %d hostile URLs, %d refused, canary hits %d", len(urls), refused, hits.Load())
}

// The same requests through a plain client do reach the canary, so the test above can fail.
func TestCanaryIsAlive(t *testing.T) {
	t.Parallel()
	port, hits := canary(t)
	req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://127.0.0.1:"+port+"/", nil)
	if resp, err := (&http.Transport{}).RoundTrip(req); err == nil {
		_ = resp.Body.Close()
	}
	if hits.Load() == 0 {
		t.Fatal("the canary does not count")
	}
}

func TestSocketDecidesForNames(t *testing.T) {
	t.Parallel()
	port, hits := canary(t)
	for _, tc := range []struct{ name, a, aaaa string }{
		{"loopback", "127.0.0.1", ""},
		{"loopback six", "", "::1"},
		{"mapped", "", "::ffff:127.0.0.1"},
		{"metadata", "169.254.169.254", ""},
		{"nat64", "", "64:ff9b::7f00:1"},
		{"unspecified", "0.0.0.0", "::"},
	} {
		var a, aaaa netip.Addr
		if tc.a != "" {
			a = netip.MustParseAddr(tc.a)
		}
		if tc.aaaa != "" {
			aaaa = netip.MustParseAddr(tc.aaaa)
		}
		c := New(Options{Timeout: 2 * time.Second, Resolver: lyingResolver(t, a, aaaa)})
		req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://rebind.example:"+port+"/", nil)
		_, err := c.Do(req)
		if !errors.Is(err, ErrRefused) {
			t.Errorf("%s: %v, want ErrRefused", tc.name, err)
		}
		if _, err := c.DialContext(t.Context(), "tcp", "rebind.example:"+port); !errors.Is(err, ErrRefused) {
			t.Errorf("%s: dial: %v, want ErrRefused", tc.name, err)
		}
		if _, err := c.DialContext(t.Context(), "udp", "127.0.0.1:"+port); !errors.Is(err, ErrRefused) {
			t.Errorf("%s: dial udp: %v, want ErrRefused", tc.name, err)
		}
		c.Close()
	}
	if hits.Load() != 0 {
		t.Errorf("canary hits %d", hits.Load())
	}
}

func TestPublicAddressesPass(t *testing.T) {
	t.Parallel()
	for _, s := range []string{"1.1.1.1", "8.8.8.8", "93.184.216.34", "172.32.0.1", "100.128.0.1", "192.0.1.1", "198.20.0.1", "2606:4700::1111", "2a00:1450:4001::8a", "2001:4860:4860::8888", "::ffff:8.8.8.8"} {
		if !public(netip.MustParseAddr(s)) {
			t.Errorf("%s is refused", s)
		}
	}
	c := New(Options{})
	for _, u := range []string{"https://example.com/hook", "http://example.com:8080/a?b=c", "https://8.8.8.8/", "https://xn--mnchen-3ya.example/", "https://api.example.com.:443/x"} {
		if err := c.Check(u); err != nil {
			t.Errorf("%s: %v", u, err)
		}
	}
	strict := New(Options{TLSOnly: true})
	if strict.Check("http://example.com/") == nil || strict.Check("https://example.com/") != nil {
		t.Error("TLSOnly does not hold")
	}
}

func TestAllowedNetworkRedirectsAndLimits(t *testing.T) {
	t.Parallel()
	port, hits := canary(t)
	mux := http.NewServeMux()
	mux.HandleFunc("/ok", func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, r.UserAgent()) })
	mux.HandleFunc("/hop", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "http://127.0.0.1:"+port+"/", http.StatusFound)
	})
	mux.HandleFunc("/exact", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(make([]byte, 1000)) })
	mux.HandleFunc("/over", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(make([]byte, 1001)) })
	mux.HandleFunc("/bomb", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Encoding", "gzip")
		z := gzip.NewWriter(w)
		_, _ = z.Write(make([]byte, 1<<20))
		_ = z.Close()
	})
	mux.HandleFunc("/hang", func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	srv := httptest.NewServer(mux)
	defer srv.Close()
	ap := netip.MustParseAddrPort(strings.TrimPrefix(srv.URL, "http://"))
	c := New(Options{
		Timeout: 2 * time.Second, MaxBody: 1000,
		Allow: []Allow{{Net: netip.MustParsePrefix("127.0.0.0/8"), Port: ap.Port()}},
	})
	defer c.Close()
	get := func(u string) (int, string, error) {
		req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, u, nil)
		resp, err := c.Do(req)
		if err != nil {
			return 0, "", err
		}
		defer func() { _ = resp.Body.Close() }()
		b, err := io.ReadAll(resp.Body)
		return resp.StatusCode, string(b), err
	}
	if s, b, err := get(srv.URL + "/ok"); s != 200 || b != "Tandem" || err != nil {
		t.Errorf("allowed: %d %q %v", s, b, err)
	}
	if s, _, err := get(srv.URL + "/hop"); s != 302 || err != nil {
		t.Errorf("redirect is followed or fails: %d %v", s, err)
	}
	if s, b, err := get(srv.URL + "/exact"); s != 200 || len(b) != 1000 || err != nil {
		t.Errorf("body at the limit: %d, %d bytes, %v", s, len(b), err)
	}
	for _, p := range []string{"/over", "/bomb"} {
		if _, b, err := get(srv.URL + p); !errors.Is(err, ErrTooLarge) || len(b) > 1000 {
			t.Errorf("%s: %d bytes, %v, want ErrTooLarge", p, len(b), err)
		}
	}
	if _, _, err := get(srv.URL + "/hang"); err == nil {
		t.Error("a silent server does not time out")
	}
	if _, _, err := get("http://127.0.0.1:" + port + "/"); !errors.Is(err, ErrRefused) {
		t.Errorf("the allowed network on another port: %v", err)
	}
	req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, srv.URL+"/ok", nil)
	req.Host = "internal.example"
	if _, err := c.Do(req); !errors.Is(err, ErrRefused) {
		t.Errorf("forged Host header: %v", err)
	}
	if hits.Load() != 0 {
		t.Errorf("canary hits %d", hits.Load())
	}
}

func TestParseAllow(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]Allow{
		"10.0.0.5":             {netip.MustParsePrefix("10.0.0.5/32"), 0},
		"10.0.0.5/24":          {netip.MustParsePrefix("10.0.0.0/24"), 0},
		"192.168.0.0/16:11434": {netip.MustParsePrefix("192.168.0.0/16"), 11434},
		"[fd00::/8]:443":       {netip.MustParsePrefix("fd00::/8"), 443},
		"fd00::/8":             {netip.MustParsePrefix("fd00::/8"), 0},
		"127.0.0.1:8000":       {netip.MustParsePrefix("127.0.0.1/32"), 8000},
	} {
		if got, err := ParseAllow(in); err != nil || got != want {
			t.Errorf("ParseAllow(%q) = %v, %v; want %v", in, got, err, want)
		}
	}
	for _, in := range []string{"", "example.com", "10.0.0.0/33", "10.0.0.1:0", "10.0.0.1:" + strconv.Itoa(70000), "[fd00::/8", "[fd00::/8]443"} {
		if a, err := ParseAllow(in); err == nil {
			t.Errorf("ParseAllow(%q) = %v, want an error", in, a)
		}
	}
}
