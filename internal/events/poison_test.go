package events

import (
	"context"
	"encoding/json"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/internal/pg"
	"github.com/tandemhq/tandem/internal/pg/pgtest"
	"github.com/tandemhq/tandem/internal/proof"
)

// TestPoison (REL-8) lets one consumer fail, panic or break its transaction for one fact in a hundred, always, while
// another consumer is well. Everything else goes on, each poison is kept with its body, and can be sent once more.
func TestPoison(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	ctx := newOrg(t, db)
	effects(t, db)
	b := openBus(t, t.TempDir())
	r := proof.Rand(t)
	n := proof.Size(1000, 10_000)
	poisoned := n / 100
	emit(t, ctx, db, n)

	poison := map[tandem.ID]int{}
	ids, err := listIDs(ctx, db)
	if err != nil || len(ids) != n {
		t.Fatalf("%d events, %v", len(ids), err)
	}
	for i, k := range r.Perm(n)[:poisoned] {
		poison[ids[k]] = i
	}
	var mended atomic.Bool
	var tries atomic.Int64
	sick := Subscription{Name: "sick", Topics: []string{"message.received"}, Workers: 4, Backoff: 5 * time.Millisecond, Apply: func(ctx context.Context, tx pgx.Tx, f Fact) error {
		if err := apply("sick")(ctx, tx, f); err != nil { // gone again with the failure
			return err
		}
		i, bad := poison[f.ID]
		if !bad || mended.Load() {
			return nil
		}
		tries.Add(1)
		switch i % 3 {
		case 0:
			panic("a bug")
		case 1:
			_, err := tx.Exec(ctx, "SELECT 1/0")
			return err
		}
		return errors.New("a bug")
	}}
	well := Subscription{Name: "well", Topics: []string{"message.*"}, Workers: 2, Apply: apply("well")}
	background(t, drainOf(db, b, sick, well).Run)
	began := time.Now()
	for _, s := range []Subscription{sick, well} {
		background(t, func(ctx context.Context) error { return Consume(ctx, db, b, s) })
	}
	effectsOf := func(consumer string) int64 {
		return count(t, db, "SELECT count(*) FROM effects WHERE consumer = $1", consumer)
	}
	eventually(t, "all that is well is done", func() bool {
		return effectsOf("well") >= int64(n) && effectsOf("sick") >= int64(n-poisoned)
	})
	took := time.Since(began)
	eventually(t, "every poison is kept", func() bool {
		return countIn(t, ctx, db, "SELECT count(*) FROM dead_letters") >= int64(poisoned)
	})
	eventually(t, "the outbox lets go of everything", func() bool { return count(t, db, "SELECT count(*) FROM outbox") == 0 })
	if k := tries.Load(); k != int64(5*poisoned) {
		t.Errorf("%d tries of %d poisons", k, poisoned)
	}

	var letters []tandem.ID
	tx(t, ctx, db, func(ctx context.Context, tx pgx.Tx) error {
		rows, err := tx.Query(ctx, "SELECT id::text, msg_id::text, body, tries FROM dead_letters WHERE consumer = 'sick'")
		if err != nil {
			return err
		}
		var id, msg tandem.ID
		var body []byte
		var times int
		_, err = pgx.ForEachRow(rows, []any{&id, &msg, &body, &times}, func() error {
			var f Fact
			if _, ok := poison[msg]; !ok || json.Unmarshal(body, &f) != nil || f.ID != msg || times > 5 {
				t.Errorf("a dead letter of %s with body %s after %d tries", msg, body, times)
			}
			letters = append(letters, id)
			return nil
		})
		return err
	})
	mended.Store(true)
	for _, id := range letters {
		if err := Redeliver(ctx, db, sick, id); err != nil {
			t.Fatalf("send it once more: %v", err)
		}
	}
	exactlyOnce(t, ctx, db, "sick")
	exactlyOnce(t, ctx, db, "well")
	if k := countIn(t, ctx, db, "SELECT count(*) FROM dead_letters"); k != 0 || len(letters) != poisoned {
		t.Errorf("%d dead letters left of %d", k, len(letters))
	}
	proof.Figure(t, "REL-8", "%d of %d facts fail one consumer for good (error, panic, broken transaction): the other %d done in %.1f s, 0 exits, %d dead letters after 5 tries each, all sent once more with success",
		poisoned, n, n-poisoned, took.Seconds(), len(letters))
}

func listIDs(ctx context.Context, db *pg.DB) (ids []tandem.ID, err error) {
	err = db.Tx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		rows, err := tx.Query(ctx, "SELECT id::text FROM events")
		if err != nil {
			return err
		}
		ids, err = pgx.CollectRows(rows, pgx.RowTo[tandem.ID])
		return err
	})
	return ids, err
}
