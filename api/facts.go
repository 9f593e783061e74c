package api

import (
	"context"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/internal/events"
)

const (
	factsKept   = 1024
	factTimeout = 10 * time.Second
)

// facts reads each fact once per process, however many streams want it: the first one
// that asks reads, the others wait for it.
type facts struct {
	read func(ctx context.Context, id tandem.ID) (events.Row, error)

	mu    sync.Mutex
	known map[tandem.ID]*fact
	ring  [factsKept]tandem.ID // in order of arrival, to forget the oldest
	next  int
}

type fact struct {
	done  chan struct{}
	row   events.Row
	frame []byte // as every stream sends it
	err   error
}

// get returns the fact with that id. The key needs no organization: ids are unique, and
// only a stream that the fanout gave the id to, for its own organization, asks for it.
func (f *facts) get(ctx context.Context, id tandem.ID) (*fact, error) {
	f.mu.Lock()
	e := f.known[id]
	first := e == nil
	if first {
		e = &fact{done: make(chan struct{})}
		delete(f.known, f.ring[f.next])
		f.ring[f.next] = id
		f.next = (f.next + 1) % factsKept
		f.known[id] = e
	}
	f.mu.Unlock()
	if !first {
		select {
		case <-e.done:
			return e, e.err
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	aside(func() { e.load(ctx, f.read, id) })
	if e.err != nil {
		f.mu.Lock()
		if f.known[id] == e {
			delete(f.known, id)
		}
		f.mu.Unlock()
	}
	close(e.done)
	return e, e.err
}

// load reads the fact. Others wait for it, so it outlives the stream that began it.
func (e *fact) load(ctx context.Context, read func(context.Context, tandem.ID) (events.Row, error), id tandem.ID) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), factTimeout)
	defer cancel()
	if e.row, e.err = read(ctx, id); e.err == nil {
		e.frame, e.err = factFrame(e.row)
	}
}

func newFacts(s *server) *facts {
	return &facts{known: map[tandem.ID]*fact{}, read: func(ctx context.Context, id tandem.ID) (row events.Row, err error) {
		err = s.DB.Read(ctx, func(ctx context.Context, tx pgx.Tx) (err error) {
			row, err = events.Get(ctx, tx, id)
			return err
		})
		return row, err
	}}
}
