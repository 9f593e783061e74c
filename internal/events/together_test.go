package events

import (
	"context"
	"errors"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/internal/pg/pgtest"
)

// Facts that are applied together are applied once each, many by one transaction and those of one organization at a
// time; one that is at fault fails alone, and becomes a dead letter that can be tried again.
func TestTogether(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	effects(t, db)
	ctxs := []context.Context{newOrg(t, db), newOrg(t, db)}
	const n = 400
	for _, ctx := range ctxs {
		emit(t, ctx, db, n)
	}
	var bad tandem.ID
	tx(t, ctxs[0], db, func(ctx context.Context, tx pgx.Tx) error {
		return tx.QueryRow(ctx, "SELECT id FROM events ORDER BY seq OFFSET 200 LIMIT 1").Scan(&bad)
	})
	var mu sync.Mutex
	calls, broken, locked := 0, true, 0
	s := Subscription{
		Name: "all", Topics: []string{"message.*"}, MaxDeliver: 2, Backoff: 1,
		Before: func(context.Context, pgx.Tx) error {
			mu.Lock()
			defer mu.Unlock()
			locked++
			return nil
		},
		ApplyAll: func(ctx context.Context, tx pgx.Tx, facts []Fact) error {
			mu.Lock()
			defer mu.Unlock()
			calls++
			a, err := tandem.ActorFrom(ctx)
			if err != nil {
				return err
			}
			for _, f := range facts {
				if f.Org != a.Org {
					t.Error("a fact of another organization")
				}
				if err := apply("all")(ctx, tx, f); err != nil {
					return err
				}
				if f.ID == bad && broken {
					return errors.New("this one cannot be applied")
				}
			}
			return nil
		},
	}
	b := openBus(t, t.TempDir())
	background(t, drainOf(db, b, s).Run)
	stop := background(t, func(ctx context.Context) error { return Consume(ctx, db, b, s) })
	eventually(t, "all facts are remembered", func() bool {
		return count(t, db, "SELECT count(*) FROM processed WHERE consumer = 'all'") == 2*n
	})
	stop()
	exactlyOnce(t, ctxs[1], db, "all")
	if got := count(t, db, "SELECT count(*) FROM effects"); got != 2*n-1 {
		t.Errorf("%d effects, want all but the one at fault", got)
	}
	mu.Lock()
	broken = false
	t.Logf("figure: %d facts of two organizations, one of them at fault, by %d calls", 2*n, calls)
	if locked < calls {
		t.Errorf("%d calls, locked %d times", calls, locked)
	}
	mu.Unlock()
	var letter tandem.ID
	tx(t, ctxs[0], db, func(ctx context.Context, tx pgx.Tx) error {
		return tx.QueryRow(ctx, "SELECT id FROM dead_letters WHERE msg_id = $1 AND consumer = 'all'", bad).Scan(&letter)
	})
	if err := Redeliver(ctxs[0], db, s, letter); err != nil {
		t.Fatal(err)
	}
	exactlyOnce(t, ctxs[0], db, "all")
	both := Subscription{Name: "x", Topics: []string{"*"}, ApplyAll: s.ApplyAll, Apply: apply("x")}
	if err := Consume(t.Context(), db, b, both); tandem.KindOf(err) != tandem.Invalid {
		t.Errorf("Apply with ApplyAll: %v", err)
	}
}
