package api

import (
	"sync"
	"time"
)

// limiter is a token bucket per key, with a bounded number of keys: when it is full,
// the keys whose buckets have filled up again are forgotten, for they are as good as new.
// Keys that still find no room share one bucket.
type limiter struct {
	mu      sync.Mutex
	rate    float64 // tokens a second
	burst   float64
	maxKeys int
	buckets map[string]*bucket
	others  *bucket
}

type bucket struct {
	tokens float64
	at     time.Time
}

func newLimiter(rate float64, burst, maxKeys int) *limiter {
	return &limiter{rate: rate, burst: float64(burst), maxKeys: maxKeys, buckets: map[string]*bucket{}, others: &bucket{tokens: float64(burst), at: time.Now()}}
}

// take spends one token of key. When there is none it returns how long until there is.
func (l *limiter) take(key string, now time.Time) (wait time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	b := l.buckets[key]
	if b == nil {
		if len(l.buckets) >= l.maxKeys {
			l.forget(now)
		}
		b = l.others
		if len(l.buckets) < l.maxKeys {
			b = &bucket{tokens: l.burst, at: now}
			l.buckets[key] = b
		}
	}
	b.tokens = min(l.burst, b.tokens+now.Sub(b.at).Seconds()*l.rate)
	b.at = now
	if b.tokens >= 1 {
		b.tokens--
		return 0
	}
	return time.Duration((1 - b.tokens) / l.rate * float64(time.Second))
}

func (l *limiter) forget(now time.Time) {
	for k, b := range l.buckets {
		if b.tokens+now.Sub(b.at).Seconds()*l.rate >= l.burst {
			delete(l.buckets, k)
		}
	}
}
