package timers

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/internal/pg"
)

// Presence is how the others know that this process lives: a database session that holds an advisory lock of the
// process's own. The operating system ends the session together with the process, whatever ends it, so the timers that
// guard the process's work fall due within two seconds of its death. One that is frozen or cut off keeps its session, and
// its timers their time.
type Presence struct {
	DB     *pg.DB
	Logger *slog.Logger // nil means slog.Default
	id     int32
}

// NewPresence gives this process a number.
func NewPresence(db *pg.DB, log *slog.Logger) *Presence {
	if log == nil {
		log = slog.Default()
	}
	return &Presence{DB: db, Logger: log, id: 1 + rand.Int32N(1<<31-1)}
}

const (
	presenceLock  = 0x7a4d_e302 // the first half of the advisory lock's key; the second is the process
	presencePause = 200 * time.Millisecond
)

// Run holds the lock until ctx ends and then returns nil. A session that is lost is opened again: what happens to
// timers meanwhile costs another try of the work, never its correctness.
func (p *Presence) Run(ctx context.Context) error {
	for ctx.Err() == nil {
		if err := p.hold(ctx); err != nil && ctx.Err() == nil {
			p.Logger.WarnContext(ctx, "other processes cannot see this one", "err", err)
		}
		wait(ctx, presencePause)
	}
	return nil
}

func (p *Presence) hold(ctx context.Context) error {
	conn, err := pgx.ConnectConfig(ctx, p.DB.Pool().Config().ConnConfig.Copy())
	if err != nil {
		return fmt.Errorf("connect for presence: %w", err)
	}
	defer func() {
		cctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), handlerTimeout)
		defer cancel()
		_ = conn.Close(cctx) // the server ends the session, and with it the lock, either way
	}()
	// A session of ours that the server has not yet found dead may still hold it.
	if _, err := conn.Exec(ctx, "SELECT pg_advisory_lock($1, $2)", int32(presenceLock), p.id); err != nil {
		return fmt.Errorf("take the presence lock: %w", err)
	}
	// Nobody notifies; what ends the wait is the end of the session, or ours.
	_, err = conn.WaitForNotification(ctx)
	return fmt.Errorf("the presence session ended: %w", err)
}

func wait(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}

type processKey struct{}

// In returns ctx as work of this process: timers that Guard or StartGuard sets in it belong to the process.
func (p *Presence) In(ctx context.Context) context.Context {
	return context.WithValue(ctx, processKey{}, p.id)
}

// process is whose work ctx is; nil: nobody's.
func process(ctx context.Context) *int32 {
	if id, ok := ctx.Value(processKey{}).(int32); ok {
		return &id
	}
	return nil
}

// Orphaned tells a handler whether the timer that it handles guarded the work of a process that is gone. The caller holds
// the lock on the record under which guards of it are set.
func Orphaned(ctx context.Context, tx pgx.Tx, kind string, record tandem.ID) (gone bool, err error) {
	a, err := tandem.ActorFrom(ctx)
	if err != nil {
		return false, err
	}
	const q = `SELECT coalesce(bool_or(process = 0), false) FROM timers WHERE kind = $1 AND org_id = $2 AND record_id = $3`
	if err := tx.QueryRow(ctx, q, kind, a.Org, record).Scan(&gone); err != nil {
		return false, fmt.Errorf("look at timer %s: %w", kind, err)
	}
	return gone, nil
}

// A process is missing when timers name it and no session holds its lock.
const missingSQL = `
	SELECT DISTINCT t.process FROM timers t WHERE t.process > 0 AND NOT EXISTS (
		SELECT FROM pg_locks l WHERE l.locktype = 'advisory' AND l.classid = @class AND l.objid = t.process::oid AND l.objsubid = 2 AND l.granted
		  AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database()))`

// Rows that somebody works on are left for the next look: waiting for several rows here could close a circle.
const orphanSQL = `
	UPDATE timers t SET due_at = clock_timestamp(), process = 0
	FROM (SELECT kind, org_id, record_id FROM timers WHERE process = ANY(@gone) FOR UPDATE SKIP LOCKED) d
	WHERE t.kind = d.kind AND t.org_id = d.org_id AND t.record_id = d.record_id`

// lookEvery is the time between two looks. A process is gone when both miss it, so that one whose session is just being
// opened again is not.
const lookEvery = time.Second

// bury makes the timers of processes fall due that this look and the one before have missed.
func (r *Runner) bury(ctx context.Context) {
	if time.Since(r.looked) < lookEvery {
		return
	}
	r.looked = time.Now()
	ctx, cancel := context.WithTimeout(ctx, handlerTimeout)
	defer cancel()
	var missing []int32
	err := r.DB.Global(ctx, func(ctx context.Context, tx pgx.Tx) error {
		rows, err := tx.Query(ctx, missingSQL, pgx.StrictNamedArgs{"class": int64(presenceLock)})
		if err != nil {
			return err
		}
		if missing, err = pgx.CollectRows(rows, pgx.RowTo[int32]); err != nil {
			return err
		}
		gone := slices.DeleteFunc(slices.Clone(missing), func(p int32) bool { return !slices.Contains(r.missing, p) })
		if len(gone) == 0 {
			return nil
		}
		_, err = tx.Exec(ctx, orphanSQL, pgx.StrictNamedArgs{"gone": gone})
		return err
	})
	if err != nil {
		if ctx.Err() == nil {
			r.Logger.WarnContext(ctx, "look for processes that are gone", "err", err)
		}
		missing = nil
	}
	r.missing = missing
}
