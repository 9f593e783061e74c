// Package timers makes things happen later: one row per kind and record, fired once, on the
// database's clock. A timer survives any crash, and its effect commits together with its end.
package timers

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/internal/mutant"
	"github.com/tandemhq/tandem/internal/pg"
)

const (
	setSQL = `
	INSERT INTO timers (kind, org_id, record_id, due_at, process) VALUES (@kind, @org, @record, now() + make_interval(secs => @after), @process)
	ON CONFLICT (kind, org_id, record_id) DO UPDATE SET due_at = excluded.due_at, process = excluded.process`

	startSQL = `
	INSERT INTO timers (kind, org_id, record_id, due_at, process) VALUES (@kind, @org, @record, now() + make_interval(secs => @after), @process)
	ON CONFLICT (kind, org_id, record_id) DO NOTHING`
)

// Set arranges in tx that the handler of kind runs for record after the given time, counted
// from the start of tx on the database's clock. A timer of the same kind and record is moved.
func Set(ctx context.Context, tx pgx.Tx, kind string, record tandem.ID, after time.Duration) error {
	return put(ctx, tx, setSQL, kind, record, after, nil)
}

// Guard is Set for a timer that watches over the work of this process: it falls due early when the process is gone. Its
// handler asks Orphaned. Without a process in ctx, see [Presence.In], it is Set.
func Guard(ctx context.Context, tx pgx.Tx, kind string, record tandem.ID, after time.Duration) error {
	return put(ctx, tx, setSQL, kind, record, after, process(ctx))
}

// StartGuard is Guard, but a timer of the same kind and record that runs already keeps its time and its process.
func StartGuard(ctx context.Context, tx pgx.Tx, kind string, record tandem.ID, after time.Duration) error {
	return put(ctx, tx, startSQL, kind, record, after, process(ctx))
}

// QueueGuard is Guard as one more statement of b, for a transaction that has others to send with it.
func QueueGuard(ctx context.Context, b *pgx.Batch, kind string, record tandem.ID, after time.Duration) error {
	args, err := putArgs(ctx, kind, record, after, process(ctx))
	if err != nil {
		return err
	}
	b.Queue(setSQL, args)
	return nil
}

func putArgs(ctx context.Context, kind string, record tandem.ID, after time.Duration, process *int32) (pgx.StrictNamedArgs, error) {
	a, err := tandem.ActorFrom(ctx)
	if err != nil {
		return nil, err
	}
	return pgx.StrictNamedArgs{"kind": kind, "org": a.Org, "record": record, "after": after.Seconds(), "process": process}, nil
}

func put(ctx context.Context, tx pgx.Tx, sql, kind string, record tandem.ID, after time.Duration, process *int32) error {
	args, err := putArgs(ctx, kind, record, after, process)
	if err != nil {
		return err
	}
	if _, err := tx.Exec(ctx, sql, args); err != nil {
		return fmt.Errorf("set timer %s: %w", kind, err)
	}
	return nil
}

// Clear takes the timer back in tx. One that does not exist is no error.
func Clear(ctx context.Context, tx pgx.Tx, kind string, record tandem.ID) error {
	a, err := tandem.ActorFrom(ctx)
	if err != nil {
		return err
	}
	const q = `DELETE FROM timers WHERE kind = @kind AND org_id = @org AND record_id = @record`
	if _, err := tx.Exec(ctx, q, pgx.StrictNamedArgs{"kind": kind, "org": a.Org, "record": record}); err != nil {
		return fmt.Errorf("clear timer %s: %w", kind, err)
	}
	return nil
}

// Handler does what a timer is for, in the transaction that ends the timer. It may Set the same
// timer again.
type Handler = func(ctx context.Context, tx pgx.Tx, record tandem.ID) error

// Runner fires due timers. Any number may run at once, in one process or in many.
type Runner struct {
	DB *pg.DB
	// Handlers by kind. Timers of other kinds are left alone.
	Handlers map[string]Handler
	// Every is how often to look for due timers; 0 means 500 ms.
	Every time.Duration
	// Workers bounds how many timers fire at once, and so how many connections are used; 0 means 4: what fell due while
	// nobody ran is caught up with on a busy machine too.
	Workers int
	// Late, when set, is told how long after its time each timer fired.
	Late   func(kind string, late time.Duration)
	Logger *slog.Logger // nil means slog.Default

	mu    sync.Mutex
	fails map[key]int

	looked  time.Time // when processes were last looked for
	missing []int32   // those that the last look missed
}

type key struct {
	kind        string
	org, record tandem.ID
}

const (
	handlerTimeout = 30 * time.Second
	minBackoff     = time.Second
	maxBackoff     = 5 * time.Minute
	maxRemembered  = 10_000
)

// Run fires timers until ctx ends and then returns nil, after the handlers that run have come
// to their end.
func (r *Runner) Run(ctx context.Context) error {
	if r.Logger == nil {
		r.Logger = slog.Default()
	}
	if r.Every <= 0 {
		r.Every = 500 * time.Millisecond
	}
	if r.Workers <= 0 {
		r.Workers = 4
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	slots := make(chan struct{}, r.Workers)
	t := time.NewTicker(r.Every)
	defer t.Stop()
	for {
		// At most one new worker each time: it goes on while timers are due, so a slow handler
		// occupies its own slot and never the others'.
		r.bury(ctx)
		r.spawn(ctx, slots, &wg)
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
	}
}

func (r *Runner) spawn(ctx context.Context, slots chan struct{}, wg *sync.WaitGroup) {
	select {
	case slots <- struct{}{}:
	default:
		return
	}
	wg.Go(func() {
		defer func() { <-slots }()
		for first := true; ctx.Err() == nil; first = false {
			found, err := r.fire(ctx, func() {
				if first {
					r.spawn(ctx, slots, wg) // there may be more than one due: help each other
				}
			})
			if err != nil && ctx.Err() == nil {
				r.Logger.WarnContext(ctx, "timers wait", "err", err)
			}
			if err != nil || !found {
				return
			}
		}
	})
}

// Runners keep out of each other's way by advisory locks, not by locking the row: everybody
// else locks a record first and sets its timer then, and a runner that held the timer while
// its handler waits for the record would be the other half of a deadlock.
const dueSQL = `
	WITH due AS MATERIALIZED (
		SELECT kind, org_id, record_id FROM timers
		WHERE due_at <= now() AND kind = ANY(@kinds) ORDER BY due_at LIMIT 50)
	SELECT kind, org_id::text, record_id::text FROM due
	WHERE pg_try_advisory_xact_lock(hashtextextended(kind || record_id::text, 0)) LIMIT 1`

// Due by the time at which this transaction began, which is the time that what it writes carries: nothing seems to have
// happened early. With the lock held: the row as it is now, for another runner may just have fired it.
const stillSQL = `
	SELECT due_at, extract(epoch FROM clock_timestamp() - due_at)::float8 FROM timers
	WHERE kind = @kind AND org_id = @org AND record_id = @record AND due_at <= now()`

// A timer that was set again, by its handler or by somebody else meanwhile, stays.
const endSQL = `DELETE FROM timers WHERE kind = @kind AND org_id = @org AND record_id = @record AND due_at = @due`

// A timer that its handler has meanwhile set again, in another runner, is left alone. So is one that another runner is
// firing: moved under its hands, it would not end with its effect, and would fire twice.
const backoffSQL = `
	UPDATE timers SET due_at = clock_timestamp() + make_interval(secs => @wait)
	WHERE kind = @kind AND org_id = @org AND record_id = @record AND due_at <= clock_timestamp()
	  AND pg_try_advisory_xact_lock(hashtextextended(kind || record_id::text, 0))`

// fire runs the handler of the timer that is due longest and that nobody else holds. The
// handler and the end of the timer stand in a savepoint: a failing handler leaves no trace but
// a later time to try again.
func (r *Runner) fire(ctx context.Context, held func()) (found bool, err error) {
	// A handler that has begun may finish although we are stopping.
	base := context.WithoutCancel(ctx)
	ctx, cancel := context.WithTimeout(base, handlerTimeout)
	defer cancel()
	var k key
	var late float64
	var failure error
	var gone bool
	err = r.DB.Global(ctx, func(ctx context.Context, tx pgx.Tx) error {
		found, gone, failure = false, false, nil
		kinds := slices.Collect(maps.Keys(r.Handlers))
		err := tx.QueryRow(ctx, dueSQL, pgx.StrictNamedArgs{"kinds": kinds}).Scan(&k.kind, &k.org, &k.record)
		if pg.NoRows(err) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("look for due timers: %w", err)
		}
		found = true
		held()
		var due time.Time
		err = tx.QueryRow(ctx, stillSQL, pgx.StrictNamedArgs{"kind": k.kind, "org": k.org, "record": k.record}).Scan(&due, &late)
		if pg.NoRows(err) {
			gone = true
			return nil
		}
		if err != nil {
			return fmt.Errorf("look at a due timer: %w", err)
		}
		if failure = r.run(ctx, tx, k, due); failure != nil {
			return r.putOff(ctx, tx, k)
		}
		return nil
	})
	switch {
	case err != nil && found:
		// The transaction is lost, by a handler out of time for example. Without this the timer
		// would be first again and again, and hold up all others.
		pctx, stop := context.WithTimeout(base, handlerTimeout)
		defer stop()
		perr := r.DB.Global(pctx, func(ctx context.Context, tx pgx.Tx) error { return r.putOff(ctx, tx, k) })
		return false, fmt.Errorf("timer %s of %s: %w", k.kind, k.record, errors.Join(failure, err, perr))
	case err != nil || !found:
		return false, err
	case gone:
		return true, nil
	case failure != nil:
		r.Logger.ErrorContext(ctx, "timer failed; it will be tried again", "kind", k.kind, "org", k.org, "record", k.record, "err", failure)
	default:
		r.forget(k)
		if r.Late != nil {
			r.Late(k.kind, time.Duration(late*float64(time.Second)))
		}
	}
	return true, nil
}

func (r *Runner) run(ctx context.Context, tx pgx.Tx, k key, due time.Time) error {
	ctx = tandem.WithActor(ctx, tandem.Actor{Org: k.org, Kind: tandem.System, Name: "Tandem", Chain: tandem.NewID()})
	return pgx.BeginFunc(ctx, tx, func(sp pgx.Tx) (err error) {
		defer func() {
			if p := recover(); p != nil {
				r.Logger.ErrorContext(ctx, "panic in a timer", "kind", k.kind, "record", k.record, "panic", p, "stack", string(debug.Stack()))
				err = fmt.Errorf("panic: %v", p)
			}
		}()
		if err := pg.EnterOrg(ctx, sp, k.org); err != nil {
			return err
		}
		if err := r.Handlers[k.kind](ctx, sp, k.record); err != nil {
			return err
		}
		if mutant.Is("timers-fire-twice") {
			return nil
		}
		if _, err := sp.Exec(ctx, endSQL, pgx.StrictNamedArgs{"kind": k.kind, "org": k.org, "record": k.record, "due": due}); err != nil {
			return fmt.Errorf("end the timer: %w", err)
		}
		return nil
	})
}

// putOff moves a timer that failed to a later time.
func (r *Runner) putOff(ctx context.Context, tx pgx.Tx, k key) error {
	_, err := tx.Exec(ctx, backoffSQL, pgx.StrictNamedArgs{"kind": k.kind, "org": k.org, "record": k.record, "wait": r.backoff(k).Seconds()})
	if err != nil {
		return fmt.Errorf("put timer %s off: %w", k.kind, err)
	}
	return nil
}

// backoff counts a failure and returns how long to wait. The count lives in this process only:
// after a restart a failing timer starts over at one second.
func (r *Runner) backoff(k key) time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.fails == nil || len(r.fails) >= maxRemembered {
		r.fails = map[key]int{}
	}
	r.fails[k]++
	return min(minBackoff<<min(r.fails[k]-1, 20), maxBackoff)
}

func (r *Runner) forget(k key) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.fails, k)
}
