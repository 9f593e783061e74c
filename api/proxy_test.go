package api

import (
	"net/http"
	"net/http/httptest"
	"net/netip"
	"testing"
)

// The client is the rightmost address that no proxy of ours has.
func TestForwarded(t *testing.T) {
	t.Parallel()
	trusted := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/8")}
	for _, c := range []struct {
		name, peer string
		header     []string
		want       string
	}{
		{"no header", "10.0.0.1:5", nil, "10.0.0.1"},
		{"one proxy", "10.0.0.1:5", []string{"198.51.100.7"}, "198.51.100.7"},
		{"the client wrote the left part", "10.0.0.1:5", []string{"1.2.3.4, 198.51.100.7"}, "198.51.100.7"},
		{"two proxies", "10.0.0.1:5", []string{"1.2.3.4, 198.51.100.7, 10.9.9.9"}, "198.51.100.7"},
		{"two headers", "10.0.0.1:5", []string{"1.2.3.4", "198.51.100.7, 10.9.9.9"}, "198.51.100.7"},
		{"only proxies", "10.0.0.1:5", []string{"10.1.1.1, 10.2.2.2"}, "10.1.1.1"},
		{"a stranger", "198.51.100.7:5", []string{"1.2.3.4"}, "198.51.100.7"},
		{"garbage at the right", "10.0.0.1:5", []string{"1.2.3.4, nonsense"}, "10.0.0.1"},
		{"garbage behind a proxy", "10.0.0.1:5", []string{"1.2.3.4, nonsense, 10.2.2.2"}, "10.2.2.2"},
		{"empty", "10.0.0.1:5", []string{""}, "10.0.0.1"},
		{"with a port", "10.0.0.1:5", []string{"198.51.100.7:4711"}, "198.51.100.7"},
		{"a mapped peer", "[::ffff:10.0.0.1]:5", []string{"198.51.100.7"}, "198.51.100.7"},
		{"a whole /64 is one client", "[fd00::1]:5", []string{"[2001:db8:1:2:3:4:5:6]:99"}, "2001:db8:1:2::/64"},
	} {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.RemoteAddr = c.peer
		for _, v := range c.header {
			r.Header.Add("X-Forwarded-For", v)
		}
		var got string
		forwarded(trusted)(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got = clientIP(r.RemoteAddr) })).ServeHTTP(httptest.NewRecorder(), r)
		if got != c.want {
			t.Errorf("%s: the client is %s, want %s", c.name, got, c.want)
		}
	}
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	r.RemoteAddr = "10.0.0.1:5"
	r.Header.Set("X-Forwarded-For", "1.2.3.4")
	forwarded(nil)(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if r.RemoteAddr != "10.0.0.1:5" {
			t.Errorf("without trusted proxies the client is %s", r.RemoteAddr)
		}
	})).ServeHTTP(httptest.NewRecorder(), r)
}
