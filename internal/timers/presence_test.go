package timers

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/internal/pg/pgtest"
)

// What guards the work of a process falls due when the process is gone, long before its time; what guards the work of a
// process that lives, and what guards nobody's, keep their time.
func TestGuardsOfADeadProcessFallDue(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	ctx, _ := newOrg(t, db)
	dead, alive := NewPresence(db, quiet), NewPresence(db, quiet)
	kill := background(t, dead.Run)
	background(t, alive.Run)
	held := func() int {
		return count(t, db, `SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND classid = $1 AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`, int64(presenceLock))
	}
	eventually(t, "both are present", func() bool { return held() == 2 })

	orphan, working, plain, taken := tandem.NewID(), tandem.NewID(), tandem.NewID(), tandem.NewID()
	guard := func(ctx context.Context, record tandem.ID) {
		tx(t, ctx, db, func(ctx context.Context, tx pgx.Tx) error { return Guard(ctx, tx, "lease", record, time.Hour) })
	}
	guard(dead.In(ctx), orphan)
	guard(alive.In(ctx), working)
	guard(ctx, plain)
	guard(dead.In(ctx), taken)
	guard(alive.In(ctx), taken) // whoever takes the work over takes the guard over
	tx(t, dead.In(ctx), db, func(ctx context.Context, tx pgx.Tx) error { return StartGuard(ctx, tx, "lease", working, time.Hour) })

	type firing struct {
		record tandem.ID
		gone   bool
	}
	fired := make(chan firing, 10)
	handle := func(ctx context.Context, tx pgx.Tx, record tandem.ID) error {
		gone, err := Orphaned(ctx, tx, "lease", record)
		if err == nil {
			fired <- firing{record, gone}
		}
		return err
	}
	r := &Runner{DB: db, Handlers: map[string]Handler{"lease": handle}, Every: 20 * time.Millisecond, Logger: quiet}
	background(t, r.Run)
	killed := time.Now()
	kill()
	select {
	case f := <-fired:
		if f.record != orphan || !f.gone {
			t.Errorf("fired %+v, want the dead process's", f)
		}
		t.Logf("figure: the guard of a dead process fired after %d ms", time.Since(killed).Milliseconds())
	case <-time.After(patience):
		t.Fatal("the guard of a dead process waits for its time")
	}
	eventually(t, "three timers are left", func() bool { return count(t, db, "SELECT count(*) FROM timers") == 3 })
	if n := count(t, db, "SELECT count(*) FROM timers WHERE due_at < now() + interval '50 minutes'"); n > 0 || len(fired) > 0 {
		t.Errorf("%d others fell due, %d fired", n, len(fired))
	}
}

// A session that is lost, by a restart of the database for example, is opened again under the same number.
func TestPresenceReturns(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	p := NewPresence(db, quiet)
	background(t, p.Run)
	const q = `SELECT coalesce(max(pid), 0) FROM pg_locks WHERE locktype = 'advisory' AND classid = $1 AND objid = $2 AND granted AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`
	pid := func() int { return count(t, db, q, int64(presenceLock), int64(p.id)) }
	eventually(t, "it is present", func() bool { return pid() > 0 })
	first := pid()
	super := pgtest.Connect(t, db, pgtest.Super)
	if _, err := super.Exec(t.Context(), "SELECT pg_terminate_backend($1)", first); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it is present again", func() bool { n := pid(); return n > 0 && n != first })
}
