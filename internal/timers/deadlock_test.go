package timers

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/internal/pg/pgtest"
)

// Whoever works on a record locks it and then moves its timer; the timer's handler locks the
// same record. Both at once must not wait for each other for ever.
func TestNoDeadlockWithTheRecordsOwnLock(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	ctx, org := newOrg(t, db)
	lock := func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, "SELECT FROM organizations WHERE id = $1 FOR UPDATE", org)
		return err
	}
	record := tandem.NewID()
	var deadlocks, fired atomic.Int64
	note := func(err error) error {
		var pe *pgconn.PgError
		if errors.As(err, &pe) && pe.Code == "40P01" {
			deadlocks.Add(1)
		}
		return err
	}
	r := &Runner{DB: db, Every: 1, Logger: quiet, Handlers: map[string]Handler{"test": func(ctx context.Context, tx pgx.Tx, _ tandem.ID) error {
		fired.Add(1)
		return note(lock(ctx, tx))
	}}}
	stop := background(t, r.Run)
	const rounds = 300
	for range rounds {
		tx(t, ctx, db, func(ctx context.Context, tx pgx.Tx) error {
			if err := lock(ctx, tx); err != nil {
				return note(err)
			}
			return note(Set(ctx, tx, "test", record, 0))
		})
	}
	eventually(t, "the last timer fires", func() bool { return count(t, db, "SELECT count(*) FROM timers") == 0 })
	stop()
	if deadlocks.Load() > 0 || fired.Load() == 0 {
		t.Errorf("%d deadlocks in %d rounds, %d timers fired", deadlocks.Load(), rounds, fired.Load())
	}
	t.Logf("figure: timers against the record's own lock: %d rounds, %d fired, 0 deadlocks", rounds, fired.Load())
}
