package api

import (
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

// forwarded sets RemoteAddr to the client that a trusted proxy names in X-Forwarded-For.
// The header is read from the right: each proxy appends the address that it saw, so the
// first one that is no proxy of ours is the client, and what stands left of it is only
// what the client says about itself. From any other peer the header means nothing.
func forwarded(trusted []netip.Prefix) func(http.Handler) http.Handler {
	trusts := func(ip netip.Addr) bool {
		return slices.ContainsFunc(trusted, func(p netip.Prefix) bool { return p.Contains(ip) })
	}
	return func(next http.Handler) http.Handler {
		if len(trusted) == 0 {
			return next
		}
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			peer, ok := address(r.RemoteAddr)
			if !ok || !trusts(peer) {
				next.ServeHTTP(w, r)
				return
			}
			client := peer
			hops := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
			for _, hop := range slices.Backward(hops) {
				ip, ok := address(strings.TrimSpace(hop))
				if !ok {
					break // whoever wrote this is no proxy that we know: count for the last one that is
				}
				client = ip
				if !trusts(ip) {
					break
				}
			}
			if client != peer {
				r = r.Clone(r.Context())
				r.RemoteAddr = net.JoinHostPort(client.String(), "0")
			}
			next.ServeHTTP(w, r)
		})
	}
}

// address reads an IP address with or without a port.
func address(s string) (netip.Addr, bool) {
	if ap, err := netip.ParseAddrPort(s); err == nil {
		return ap.Addr().Unmap().WithZone(""), true
	}
	ip, err := netip.ParseAddr(strings.Trim(s, "[]"))
	return ip.Unmap().WithZone(""), err == nil
}

// clientIP is the address that limits are counted for. An IPv6 user has a whole /64, so that is one client.
func clientIP(remote string) string {
	ip, ok := address(remote)
	if !ok {
		return remote
	}
	if ip.Is6() {
		if p, err := ip.Prefix(64); err == nil {
			return p.String()
		}
	}
	return ip.String()
}
