package team

import (
	"crypto/sha256"
	"sync"
	"time"

	"github.com/tandemhq/tandem/internal/pg"
)

const (
	cacheFor = 900 * time.Millisecond // so that a revocation bites within a second
	cacheMax = 10_000
)

// door names a presented secret in one database; several may live in one process.
type door struct {
	db   *pg.DB
	hash [sha256.Size]byte
}

// cache remembers for less than a second who a token or key is. It never remembers
// that one is unknown, so a flood of guesses cannot fill it.
type cache[T any] struct {
	now func() time.Time
	mu  sync.Mutex
	m   map[door]cached[T]
}

type cached[T any] struct {
	v     T
	until time.Time
}

func newCache[T any](now func() time.Time) *cache[T] {
	return &cache[T]{now: now, m: map[door]cached[T]{}}
}

func (c *cache[T]) get(d door) (v T, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.m[d]
	if !ok || !c.now().Before(e.until) {
		return v, false
	}
	return e.v, true
}

// put stores what was read from the database by a query that began at asked.
func (c *cache[T]) put(d door, v T, asked time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.m) >= cacheMax {
		now := c.now()
		for k, e := range c.m {
			if !now.Before(e.until) {
				delete(c.m, k)
			}
		}
		if len(c.m) >= cacheMax {
			clear(c.m) // all younger than a second: the next requests ask again
		}
	}
	c.m[d] = cached[T]{v, asked.Add(cacheFor)}
}

func (c *cache[T]) drop(d door) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.m, d)
}
