package inbox

import (
	"sync"
	"time"

	"github.com/tandemhq/tandem"
)

// queue holds the messages that wait for one writer: a lane for each organization, from which
// they are taken in turn, so that nobody waits behind another organization's flood.
type queue struct {
	wake chan struct{} // has a token when something may be waiting

	mu     sync.Mutex
	lanes  map[tandem.ID]*lane
	turn   []*lane // lanes with messages; the first is the next
	n      int
	oldest time.Time // of the batch that is being written; zero when none is
}

type lane struct {
	org   tandem.ID
	items []*delivery
}

func newQueue() *queue {
	return &queue{wake: make(chan struct{}, 1), lanes: map[tandem.ID]*lane{}}
}

// room says whether a message of org would be taken at that time: not when the queue or the organization's lane is full,
// and not when that lane's first message has waited for longer than patience: what comes behind it would wait even longer.
func (q *queue) room(org tandem.ID, at time.Time, o BatchOptions) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.fits(org, at, o)
}

func (q *queue) fits(org tandem.ID, at time.Time, o BatchOptions) bool {
	l := q.lanes[org]
	return q.n < o.Queue && (l == nil || len(l.items) < o.Lane && at.Sub(l.items[0].at) <= o.Patience)
}

// put adds a message unless there is no room for it.
func (q *queue) put(d *delivery, o BatchOptions) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !q.fits(d.in.Org, d.at, o) {
		return false
	}
	l := q.lanes[d.in.Org]
	if l == nil {
		l = &lane{org: d.in.Org}
		q.lanes[l.org] = l
		q.turn = append(q.turn, l)
	}
	l.items = append(l.items, d)
	q.n++
	select {
	case q.wake <- struct{}{}:
	default:
	}
	return true
}

// take returns the next batch: at most share of each organization's messages and most in
// all, those of one organization together and in their order. It is empty when none waits.
// Whoever calls it has finished the batch before.
func (q *queue) take(most, share int) (batch []*delivery) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.oldest = time.Time{}
	lanes := min(len(q.turn), most)
	if lanes == 0 {
		return nil
	}
	share = min(share, max(1, most/lanes))
	later := make([]*lane, 0, len(q.turn))
	for _, l := range q.turn[:lanes] {
		n := min(share, len(l.items))
		batch = append(batch, l.items[:n]...)
		if l.items = l.items[n:]; len(l.items) > 0 {
			later = append(later, l)
		} else {
			delete(q.lanes, l.org)
		}
	}
	q.turn = append(append(make([]*lane, 0, len(q.turn)), q.turn[lanes:]...), later...)
	q.n -= len(batch)
	q.oldest = batch[0].at
	for _, d := range batch {
		if d.at.Before(q.oldest) {
			q.oldest = d.at
		}
	}
	if q.n > 0 {
		select {
		case q.wake <- struct{}{}:
		default:
		}
	}
	return batch
}

// waiting returns how many messages wait or are being written, and since when the oldest has.
func (q *queue) waiting() (n int, since time.Time) {
	q.mu.Lock()
	defer q.mu.Unlock()
	since = q.oldest
	for _, l := range q.turn {
		if at := l.items[0].at; since.IsZero() || at.Before(since) {
			since = at
		}
	}
	return q.n, since
}
