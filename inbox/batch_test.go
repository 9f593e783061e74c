package inbox

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/channels"
	"github.com/tandemhq/tandem/internal/pg/pgtest"
)

// batcher runs one until the test ends.
func (w *world) batcher(o BatchOptions) *Batcher {
	o.Logger = quiet
	b := NewBatcher(w.db, o)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = b.Run(ctx)
	}()
	w.Cleanup(func() { cancel(); <-done })
	return b
}

// flush stores a batch and returns its answers.
func (w *world) flush(b *Batcher, batch []*delivery) []channels.Accepted {
	w.Helper()
	b.flush(batch)
	got := make([]channels.Accepted, len(batch))
	for i, d := range batch {
		<-d.done
		if d.err != nil {
			w.Fatal(d.err)
		}
		got[i] = d.got
	}
	return got
}

// 64 senders write 40 messages each, in turn; every message is also sent a second time while
// the first copy is on its way. Nothing is lost, nothing stored twice, nothing out of order.
func TestBatcherKeepsOrderAndRemovesRepeats(t *testing.T) {
	w := newWorld(t)
	b := w.batcher(BatchOptions{})
	const senders, each = 20, 100
	first := make([][]channels.Accepted, senders)
	var failed atomic.Int64
	began := time.Now()
	var wg sync.WaitGroup
	for s := range senders {
		first[s] = make([]channels.Accepted, each)
		wg.Go(func() {
			from := fmt.Sprint("hot-", s)
			for n := range each {
				in := w.inbound(from, fmt.Sprint(n))
				var twin sync.WaitGroup
				var copied channels.Accepted
				repeat := rand.IntN(10) == 0
				if repeat {
					twin.Go(func() {
						var err error
						if copied, err = b.Deliver(t.Context(), in); err != nil {
							failed.Add(1)
						}
					})
				}
				got, err := b.Deliver(t.Context(), in)
				twin.Wait()
				if err != nil {
					failed.Add(1)
					continue
				}
				first[s][n] = got
				if repeat && (copied.Message != got.Message || copied.Seq != got.Seq || copied.Duplicate == got.Duplicate) {
					t.Errorf("two copies: %+v and %+v", got, copied)
				}
			}
		})
	}
	wg.Wait()
	took := time.Since(began)
	if failed.Load() != 0 {
		t.Fatalf("%d deliveries failed", failed.Load())
	}
	for s := range senders {
		all := w.messages(first[s][0].Conversation)
		if len(all) != each {
			t.Fatalf("sender %d: %d messages stored, want %d", s, len(all), each)
		}
		for n, m := range all {
			if m.Text != fmt.Sprint(n) || m.Seq != int64(n+1) {
				t.Fatalf("sender %d: place %d holds %q seq %d", s, n, m.Text, m.Seq)
			}
		}
	}
	t.Logf("figure: %d hot contacts, %d messages, 10%% sent again in flight: 0 lost, 0 doubled, 0 out of order, 0 deadlocks shown, %.0f/s", senders, senders*each, senders*each/took.Seconds())
}

// Copies of one message inside one batch, beside messages that belong to nobody yet.
func TestBatchWithRepeatsInside(t *testing.T) {
	w := newWorld(t)
	w.ingest(w.inbound("known", "hello"))
	known, fresh := w.inbound("known", "a"), w.inbound("fresh", "b")
	b := NewBatcher(w.db, BatchOptions{Logger: quiet})
	var batch []*delivery
	for _, in := range []channels.Inbound{known, fresh, known, fresh, w.inbound("known", "c"), known} {
		batch = append(batch, &delivery{ctx: t.Context(), in: in, done: make(chan struct{})})
	}
	got := w.flush(b, batch)
	for _, pair := range [][2]int{{0, 2}, {0, 5}, {1, 3}} {
		x, y := got[pair[0]], got[pair[1]]
		if x.Message != y.Message || x.Seq != y.Seq || x.Duplicate || !y.Duplicate {
			t.Errorf("copies %v: %+v and %+v", pair, x, y)
		}
	}
	if got[0].Seq != 2 || got[4].Seq != 3 || got[1].Seq != 1 {
		t.Errorf("got %+v", got)
	}
	if n := len(w.messages(got[0].Conversation)) + len(w.messages(got[1].Conversation)); n != 4 {
		t.Errorf("%d messages stored", n)
	}
	if topics := w.topics(got[0].Conversation); count(topics, "message.received") != 3 {
		t.Errorf("events %v", topics)
	}
}

// A database that is away is asked once more after a whole batch has failed, and not by each message until its deadline.
func TestBatchIsRefusedAtOnceWhenTheDatabaseIsAway(t *testing.T) {
	w := newWorld(t)
	asked := 0
	b := NewBatcher(w.db, BatchOptions{Logger: quiet, Fault: func(point string) {
		if point == "ingest.alone" {
			asked++
		}
	}})
	var batch []*delivery
	for i := range 20 {
		batch = append(batch, &delivery{ctx: t.Context(), in: w.inbound("v", fmt.Sprint(i)), done: make(chan struct{})})
	}
	super := pgtest.Connect(t, w.db, pgtest.Super)
	if _, err := super.Exec(t.Context(), "ALTER DATABASE "+pgx.Identifier{pgtest.Name(w.db)}.Sanitize()+" SET statement_timeout = '200ms'"); err != nil {
		t.Fatal(err)
	}
	w.db.Pool().Reset()
	if _, err := super.Exec(t.Context(), "BEGIN; LOCK TABLE inbound"); err != nil { // it answers nobody
		t.Fatal(err)
	}
	b.flush(batch)
	for _, d := range batch {
		if tandem.KindOf(d.err) != tandem.Unavailable {
			t.Fatalf("got %v, want unavailable", d.err)
		}
	}
	if asked != 1 {
		t.Errorf("%d messages were tried alone, want 1", asked)
	}
}

// Behind a message of a sender that needs more than the fast path, that sender's other
// messages keep their place.
func TestBatchKeepsOrderAcrossPaths(t *testing.T) {
	w := newWorld(t)
	w.ingest(w.inbound("v", "0"))
	b := NewBatcher(w.db, BatchOptions{Logger: quiet})
	var batch []*delivery
	for i := range 4 {
		in := w.inbound("v", fmt.Sprint(i+1))
		if i == 1 {
			in.Lead = &channels.LeadFacts{Title: "Now with a lead"}
		}
		batch = append(batch, &delivery{ctx: t.Context(), in: in, done: make(chan struct{})})
	}
	got := w.flush(b, batch)
	for i, m := range w.messages(got[0].Conversation) {
		if m.Text != fmt.Sprint(i) {
			t.Errorf("place %d holds %q", i, m.Text)
		}
	}
}

func TestBatchPoisonFailsAlone(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	w, other := newWorldIn(t, db, "Acme"), newWorldIn(t, db, "Rival")
	b := NewBatcher(db, BatchOptions{Logger: quiet})
	var batch []*delivery
	for i := range 30 {
		in := w.inbound(fmt.Sprint("v", i%5), fmt.Sprint(i))
		switch {
		case i%10 == 3:
			in.Channel = tandem.NewID() // there is no such channel
		case i%10 == 5:
			in = other.inbound("v", fmt.Sprint(i)) // another organization in the same batch
		case i%10 == 7:
			in.Channel = other.chat // somebody else's channel
		}
		batch = append(batch, &delivery{ctx: t.Context(), in: in, done: make(chan struct{})})
	}
	b.flush(batch)
	good := 0
	for i, d := range batch {
		<-d.done
		poison := i%10 == 3 || i%10 == 7
		if poison != (d.err != nil) {
			t.Errorf("message %d: %v", i, d.err)
		}
		if poison && tandem.KindOf(d.err) != tandem.NotFound {
			t.Errorf("message %d: %v, want not_found", i, d.err)
		}
		if !poison {
			good++
		}
	}
	t.Logf("figure: a batch of 30 with 6 poisoned messages: %d stored, 6 refused by name", good)
}

func TestBatcherIsBounded(t *testing.T) {
	w := newWorld(t)
	b := NewBatcher(w.db, BatchOptions{Partitions: 1, Queue: 2, Lane: 2, Logger: quiet}) // nobody runs it
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() { want(t, second(b.Deliver(ctx, w.inbound("v", "x"))), tandem.Unavailable) })
	}
	w.until("the queue is full", func() bool { n, _ := b.Backlog(); return n == 2 })
	if te := want(t, second(b.Deliver(t.Context(), w.inbound("v", "x"))), tandem.Unavailable); te.RetryAfter != time.Second {
		t.Errorf("retry after %v", te.RetryAfter)
	}
	wg.Wait()
	stopped, stop := context.WithCancel(t.Context())
	stop()
	if err := b.Run(stopped); err != nil {
		t.Fatal(err)
	}
	var n int
	w.do(w.system(), func(ctx context.Context, tx pgx.Tx) error {
		return tx.QueryRow(ctx, `SELECT count(*) FROM inbound`).Scan(&n)
	})
	if n != 0 {
		t.Errorf("%d messages stored whose senders had gone", n)
	}
	want(t, second(b.Deliver(t.Context(), w.inbound("v", "x"))), tandem.Unavailable)
}

// However many write at once, and by whichever path, each message is stored once and nobody is refused.
func TestManyCallersAtOnce(t *testing.T) {
	w := newWorld(t)
	const contacts, callers, each = 200, 64, 15
	for i := range contacts {
		w.ingest(w.inbound(fmt.Sprint("v", i), "hello"))
	}
	b := w.batcher(BatchOptions{})
	for _, path := range []string{"one transaction each", "batched"} {
		var wg sync.WaitGroup
		for c := range callers {
			wg.Go(func() {
				for n := range each {
					in := w.inbound(fmt.Sprint("v", (c+n*callers)%contacts), "A question of some length about prices and seats.")
					var err error
					if path == "batched" {
						_, err = b.Deliver(t.Context(), in)
					} else {
						err = w.db.Tx(w.system(), func(ctx context.Context, tx pgx.Tx) error { return second(Ingest(ctx, tx, in)) })
					}
					if err != nil {
						t.Errorf("%s: %v", path, err)
						return
					}
				}
			})
		}
		wg.Wait()
	}
	w.stored(contacts + 2*callers*each)
}

// stored fails unless as many messages came in, each with a place of its own.
func (w *world) stored(n int) {
	w.Helper()
	w.do(w.system(), func(ctx context.Context, tx pgx.Tx) error {
		var all, places int
		err := tx.QueryRow(ctx, `SELECT count(*), count(DISTINCT (conversation_id, seq)) FROM messages WHERE direction = 'inbound'`).Scan(&all, &places)
		if all != n || places != n {
			w.Errorf("%d messages in %d places, want %d", all, places, n)
		}
		return err
	})
}
