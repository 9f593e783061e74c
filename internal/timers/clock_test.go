package timers

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/internal/pg"
	"github.com/tandemhq/tandem/internal/pg/pgtest"
	"github.com/tandemhq/tandem/internal/proof"
)

// TestOurOwnClockDoesNotMatter (REL-12) runs a runner whose own clock says the first of January 2000, and then passes
// hours in no time, against a database with the right time. Timers fire by the database's clock alone.
func TestOurOwnClockDoesNotMatter(t *testing.T) {
	t.Parallel()
	database := pgtest.Create(t)
	synctest.Test(t, func(t *testing.T) {
		if y := time.Now().Year(); y != 2000 {
			t.Fatalf("our own clock is in %d: nothing is shown", y)
		}
		db, err := pg.Open(context.Background(), pg.Config{URL: pgtest.URL(t, database, pgtest.App), AllowUnsafe: true, Logger: quiet})
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		org := tandem.NewID()
		ctx := tandem.AsSystem(context.Background(), org)
		put := func(record tandem.ID, after time.Duration) {
			t.Helper()
			tx(t, ctx, db, func(ctx context.Context, tx pgx.Tx) error { return Set(ctx, tx, "test", record, after) })
		}
		tx(t, ctx, db, func(ctx context.Context, tx pgx.Tx) error {
			_, err := tx.Exec(ctx, "INSERT INTO organizations (id, name) VALUES ($1, 'Clock')", org)
			return err
		})
		hour, due := tandem.NewID(), tandem.NewID()
		put(hour, time.Hour)
		put(due, 0)
		fired := map[tandem.ID]int{}
		var late []time.Duration
		r := &Runner{
			DB: db, Every: time.Minute, Workers: 1, Logger: quiet, Late: func(_ string, d time.Duration) { late = append(late, d) },
			Handlers: map[string]Handler{"test": func(_ context.Context, _ pgx.Tx, record tandem.ID) error { fired[record]++; return nil }},
		}
		run, stop := context.WithCancel(context.Background())
		ended := make(chan error)
		go func() { ended <- r.Run(run) }()
		time.Sleep(3 * time.Hour) // of our clock: the runner has looked 180 times
		stop()
		if err := <-ended; err != nil {
			t.Fatal(err)
		}
		if fired[due] != 1 || fired[hour] != 0 {
			t.Errorf("what was due fired %d times, what is due in an hour %d times", fired[due], fired[hour])
		}
		if len(late) != 1 || late[0] < 0 || late[0] > time.Minute {
			t.Errorf("lateness %v is not the database's", late)
		}
		proof.Figure(t, "REL-12", "our own clock 26 years behind and 3 hours further within moments: what is due on the database's clock fires once, what is due in an hour does not")
	})
}
