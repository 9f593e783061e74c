package events

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"go.uber.org/goleak"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/bus"
	"github.com/tandemhq/tandem/internal/pg"
	"github.com/tandemhq/tandem/internal/pg/pgtest"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m)
}

const patience = 60 * time.Second

var quiet = slog.New(slog.DiscardHandler)

// newOrg makes an organization and returns a context in which Tandem itself acts inside it.
func newOrg(t *testing.T, db *pg.DB) context.Context {
	t.Helper()
	ctx := tandem.AsSystem(t.Context(), tandem.NewID())
	a, err := tandem.ActorFrom(ctx)
	if err != nil {
		t.Fatal(err)
	}
	tx(t, ctx, db, func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, "INSERT INTO organizations (id, name) VALUES ($1, 'Test')", a.Org)
		return err
	})
	return ctx
}

func orgOf(t *testing.T, ctx context.Context) tandem.ID {
	t.Helper()
	a, err := tandem.ActorFrom(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return a.Org
}

func tx(t *testing.T, ctx context.Context, db *pg.DB, fn pg.TxFunc) {
	t.Helper()
	if err := db.Tx(ctx, fn); err != nil {
		t.Fatal(err)
	}
}

func event(n int) tandem.Event {
	return tandem.Event{
		Noun: "message", Verb: "received", Record: tandem.NewID(), Category: "conversation",
		Description: fmt.Sprintf("Message %d arrived", n), Changes: []tandem.Change{{Field: "text", New: "a\\b\"\n<é> " + fmt.Sprint(n)}, {Field: "price", Old: 1.5, New: 12345678901234567}},
	}
}

// emit writes n events in transactions of 100.
func emit(t *testing.T, ctx context.Context, db *pg.DB, n int) {
	t.Helper()
	for done := 0; done < n; {
		size := min(100, n-done)
		tx(t, ctx, db, func(ctx context.Context, tx pgx.Tx) error {
			var m Many
			for i := range size {
				if err := m.Add(ctx, event(done+i)); err != nil {
					return err
				}
			}
			return m.Flush(ctx, tx)
		})
		done += size
	}
}

func openBus(t *testing.T, dir string) *bus.Bus {
	t.Helper()
	b, err := bus.Open(t.Context(), bus.Options{Dir: dir, ProbeEvery: 100 * time.Millisecond, Logger: quiet, MaxStore: 64 << 20})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeBus(t, b) })
	return b
}

func closeBus(t *testing.T, b *bus.Bus) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := b.Close(ctx); err != nil {
		t.Errorf("close the bus: %v", err)
	}
}

func drainOf(db *pg.DB, b *bus.Bus, subs ...Subscription) *Drain {
	return &Drain{DB: db, Publish: b.Publish, State: b.State, Consumers: subs, ReconcileEvery: 100 * time.Millisecond, Logger: quiet}
}

// background runs fn until stop is called or the test ends, and fails the test when it returns an error.
func background(t *testing.T, fn func(ctx context.Context) error) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- fn(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("background: %v", err)
			}
		case <-time.After(patience):
			t.Error("background work does not stop")
		}
	})
	t.Cleanup(stop)
	return stop
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !ok(); {
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %s", patience, what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// count runs a query for one number outside of any organization.
func count(t *testing.T, db *pg.DB, query string, args ...any) (n int64) {
	t.Helper()
	err := db.Global(t.Context(), func(ctx context.Context, tx pgx.Tx) error { return tx.QueryRow(ctx, query, args...).Scan(&n) })
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// countIn runs a query for one number inside ctx's organization.
func countIn(t *testing.T, ctx context.Context, db *pg.DB, query string, args ...any) (n int64) {
	t.Helper()
	tx(t, ctx, db, func(ctx context.Context, tx pgx.Tx) error { return tx.QueryRow(ctx, query, args...).Scan(&n) })
	return n
}

// effects makes a table in which each effect of a consumer is one row, so that a second one shows.
func effects(t *testing.T, db *pg.DB) {
	t.Helper()
	owner := pgtest.Connect(t, db, pgtest.Owner)
	if _, err := owner.Exec(t.Context(), "CREATE TABLE effects (consumer text, msg_id uuid, record_id uuid); GRANT ALL ON effects TO "+pgtest.App); err != nil {
		t.Fatal(err)
	}
}

// apply is an Apply that leaves one row of effects.
func apply(consumer string) func(ctx context.Context, tx pgx.Tx, f Fact) error {
	return func(ctx context.Context, tx pgx.Tx, f Fact) error {
		_, err := tx.Exec(ctx, "INSERT INTO effects VALUES ($1, $2, $3)", consumer, f.ID, f.Record)
		return err
	}
}

// exactlyOnce checks that each event of ctx's organization had exactly one effect of the consumer.
func exactlyOnce(t *testing.T, ctx context.Context, db *pg.DB, consumer string) {
	t.Helper()
	const q = `SELECT count(*) FROM events e
		LEFT JOIN (SELECT msg_id, record_id, count(*) AS n FROM effects WHERE consumer = $1 GROUP BY 1, 2) f ON f.msg_id = e.id AND f.record_id = e.record_id
		WHERE f.n IS DISTINCT FROM 1`
	if n := countIn(t, ctx, db, q, consumer); n != 0 {
		t.Errorf("%d events without exactly one effect of %s", n, consumer)
	}
}
