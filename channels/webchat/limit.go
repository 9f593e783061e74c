package webchat

import (
	"math"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"sync"
	"time"

	"github.com/tandemhq/tandem"
)

const (
	limiterKeys  = 20_000      // at most this many callers are told apart, about 3 MB
	limiterSweep = time.Second // at most one full sweep in this time
)

// limiter allows each key so many calls per minute and so many at once. It is the
// generic cell rate algorithm: one time per key, exact to the nanosecond. A key
// at rest is forgotten; when the table is full of busy keys, all new ones share a
// single allowance, so that a flood of made-up callers can use up neither memory nor the
// allowance of those who are already talking.
type limiter struct {
	every time.Duration // one call earns back after this
	slack time.Duration // how far ahead of time a key may run: every * (burst-1)

	mu       sync.Mutex
	free     map[string]time.Time // when the key's allowance is whole again
	overflow time.Time            // the same for all keys that found no room
	swept    time.Time
}

func newLimiter(perMinute, burst int) *limiter {
	every := time.Minute / time.Duration(perMinute)
	return &limiter{every: every, slack: every * time.Duration(burst-1), free: map[string]time.Time{}}
}

// take spends one call of key, or returns a Throttled error that says exactly how long to wait.
func (l *limiter) take(key string, now time.Time) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	at, known := l.free[key]
	room := known || len(l.free) < limiterKeys || l.sweep(now)
	if !room {
		at = l.overflow
	}
	if at.Before(now) {
		at = now
	}
	if wait := at.Sub(now) - l.slack; wait > 0 {
		e := tandem.Errorf(tandem.Throttled, "That was too much at once. Try again in %s.", seconds(wait))
		e.RetryAfter = wait
		return e
	}
	if room {
		l.free[key] = at.Add(l.every)
	} else {
		l.overflow = at.Add(l.every)
	}
	return nil
}

// sweep forgets the keys at rest and reports whether there is room now.
func (l *limiter) sweep(now time.Time) bool {
	if now.Sub(l.swept) >= limiterSweep {
		l.swept = now
		for k, at := range l.free {
			if !at.After(now) {
				delete(l.free, k)
			}
		}
	}
	return len(l.free) < limiterKeys
}

func seconds(d time.Duration) string {
	if n := retrySeconds(d); n != 1 {
		return strconv.Itoa(n) + " seconds"
	}
	return "1 second"
}

// retrySeconds rounds up, so that who waits that long is let in.
func retrySeconds(d time.Duration) int { return max(1, int(math.Ceil(d.Seconds()))) }

// caller is the key of the address a request came from. An IPv6 user owns a whole
// /64, so that is one caller. Behind a proxy the api sets RemoteAddr.
func caller(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		host = r.RemoteAddr
	}
	ip, err := netip.ParseAddr(host)
	if err != nil {
		return host
	}
	ip = ip.Unmap().WithZone("")
	if ip.Is6() {
		if p, err := ip.Prefix(64); err == nil {
			return p.String()
		}
	}
	return ip.String()
}
