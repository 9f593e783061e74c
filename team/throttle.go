package team

import (
	"container/list"
	"crypto/sha256"
	"sync"
	"time"

	"github.com/tandemhq/tandem"
)

const (
	maxFailures   = 10
	failureWindow = 15 * time.Minute
	maxThrottled  = 100_000 // accounts and addresses remembered; the longest untouched go first
)

// throttle counts failed logins by account and by address. An attempt counts before its
// password is looked at and is forgiven when it was right, so that parallel attempts
// cannot slip past the limit.
type throttle struct {
	now func() time.Time
	max int

	mu   sync.Mutex
	keys map[[sha256.Size]byte]*list.Element
	used *list.List // of *failures, most recently touched first
}

type failures struct {
	key [sha256.Size]byte
	at  []time.Time // oldest first, at most maxFailures
}

func newThrottle(now func() time.Time, limit int) *throttle {
	return &throttle{now: now, max: limit, keys: map[[sha256.Size]byte]*list.Element{}, used: list.New()}
}

// take counts one attempt for every key, or none and answers Throttled when one of them
// has had ten failures within 15 minutes.
func (t *throttle) take(keys ...string) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.now()
	var wait time.Duration
	for _, k := range keys {
		if f := t.find(k, now); f != nil && len(f.at) >= maxFailures {
			wait = max(wait, f.at[0].Add(failureWindow).Sub(now))
		}
	}
	if wait > 0 {
		return &tandem.Error{Kind: tandem.Throttled, Msg: "There were too many failed attempts to sign in. Wait a few minutes and try again.", RetryAfter: wait}
	}
	for _, k := range keys {
		f := t.find(k, now)
		if f == nil {
			f = &failures{key: sha256.Sum256([]byte(k))}
			t.keys[f.key] = t.used.PushFront(f)
		}
		f.at = append(f.at, now)
	}
	for t.used.Len() > t.max {
		last := t.used.Back()
		delete(t.keys, t.used.Remove(last).(*failures).key)
	}
	return nil
}

// forgive takes back the attempt just counted for each key.
func (t *throttle) forgive(keys ...string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, k := range keys {
		if f := t.find(k, t.now()); f != nil && len(f.at) > 0 {
			f.at = f.at[:len(f.at)-1]
		}
	}
}

// clear forgets all failures of a key.
func (t *throttle) clear(k string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if e := t.keys[sha256.Sum256([]byte(k))]; e != nil {
		delete(t.keys, t.used.Remove(e).(*failures).key)
	}
}

// find returns a key's recent failures, with those older than the window dropped.
func (t *throttle) find(k string, now time.Time) *failures {
	e := t.keys[sha256.Sum256([]byte(k))]
	if e == nil {
		return nil
	}
	t.used.MoveToFront(e)
	f := e.Value.(*failures)
	for len(f.at) > 0 && now.Sub(f.at[0]) >= failureWindow {
		f.at = f.at[1:]
	}
	return f
}
