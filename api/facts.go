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
	factsKept   = 2048
	factsAtOnce = 256 // facts of a reader that is behind, in one question to the database
	factTimeout = 10 * time.Second
)

// facts reads each fact once per process, however many streams want it: the first one
// that asks reads, the others wait for it.
type facts struct {
	read func(ctx context.Context, ids []tandem.ID) ([]events.Row, error)

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

// get returns the facts with those ids, in their order. The key needs no organization: ids are
// unique, and only a stream that the fanout gave the id to, for its own organization, asks for
// it. Those that nobody has asked for yet are read together.
func (f *facts) get(ctx context.Context, ids []tandem.ID) ([]*fact, error) {
	all := make([]*fact, len(ids))
	mine := map[tandem.ID]*fact{}
	f.mu.Lock()
	for i, id := range ids {
		e := f.known[id]
		if e == nil {
			e = &fact{done: make(chan struct{})}
			delete(f.known, f.ring[f.next])
			f.ring[f.next] = id
			f.next = (f.next + 1) % factsKept
			f.known[id] = e
			mine[id] = e
		}
		all[i] = e
	}
	f.mu.Unlock()
	if len(mine) > 0 {
		aside(func() { f.load(ctx, mine) })
	}
	for _, e := range all {
		select {
		case <-e.done:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		if e.err != nil {
			return nil, e.err
		}
	}
	return all, nil
}

// load reads facts. Others wait for them, so it outlives the stream that began it.
func (f *facts) load(ctx context.Context, mine map[tandem.ID]*fact) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), factTimeout)
	defer cancel()
	ids := make([]tandem.ID, 0, len(mine))
	for id, e := range mine {
		ids, e.err = append(ids, id), tandem.Errorf(tandem.NotFound, "There is no such event.")
	}
	rows, err := f.read(ctx, ids)
	for _, row := range rows {
		e := mine[row.ID]
		e.row, e.err = row, nil
		e.frame, e.err = factFrame(row)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for id, e := range mine {
		if err != nil {
			e.err = err
		}
		if e.err != nil && f.known[id] == e {
			delete(f.known, id)
		}
		close(e.done)
	}
}

func newFacts(s *server) *facts {
	return &facts{known: map[tandem.ID]*fact{}, read: func(ctx context.Context, ids []tandem.ID) (rows []events.Row, err error) {
		err = s.DB.Read(ctx, func(ctx context.Context, tx pgx.Tx) (err error) {
			rows, err = events.Some(ctx, tx, ids)
			return err
		})
		return rows, err
	}}
}
