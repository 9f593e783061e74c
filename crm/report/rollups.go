package report

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/internal/events"
	"github.com/tandemhq/tandem/internal/pg"
	"github.com/tandemhq/tandem/internal/timers"
)

const (
	consumer = "rollups"
	// buildTimer marks an organization whose events are to be counted anew. Its record is the organization.
	buildTimer = "rollups"
	buildEvery = 3 * time.Second
)

// topics are the facts that something counts.
var topics = []string{
	"message.received", "message.sent", "message.delivered", "message.read",
	"conversation.opened", "conversation.reopened", "conversation.resolved", "conversation.marked_spam", "conversation.snoozed",
	"handoff.requested", "handoff.accepted", "handoff.rejected", "handoff.expired", "handoff.cancelled",
	"lead.created", "lead.updated",
}

// Rollups keeps the tables rollups and rollup_hours: each fact is added once, in the transaction that remembers it, and an
// organization can be counted anew from its events at any time.
type Rollups struct {
	DB     *pg.DB
	Logger *slog.Logger // nil means slog.Default

	built sync.Map // organizations that are known to be counted
}

// Subscription is the place of the rollups on the bus.
func (r *Rollups) Subscription() events.Subscription {
	return events.Subscription{Name: consumer, Topics: topics, Before: shareLock, ApplyAll: r.add}
}

// Whoever adds facts shares a lock with others who do; whoever counts anew has it alone.
const (
	shareSQL = `SELECT pg_advisory_xact_lock_shared(hashtext('rollups'), hashtext(@org::text))`
	aloneSQL = `SELECT pg_advisory_xact_lock(hashtext('rollups'), hashtext(@org::text))`
)

func shareLock(ctx context.Context, tx pgx.Tx) error { return lock(ctx, tx, shareSQL) }

func lock(ctx context.Context, tx pgx.Tx, sql string) error {
	a, err := tandem.ActorFrom(ctx)
	if err != nil {
		return err
	}
	if _, err := tx.Exec(ctx, sql, pgx.StrictNamedArgs{"org": a.Org}); err != nil {
		return fmt.Errorf("lock the rollups: %w", err)
	}
	return nil
}

// An organization that is new has no events that we will not be told of; one that has them is in the table without a time.
const (
	beginSQL = `INSERT INTO rollup_state (org_id, built_at) VALUES (@org, now()) ON CONFLICT (org_id) DO NOTHING`
	builtSQL = `SELECT built_at IS NOT NULL FROM rollup_state WHERE org_id = @org`
)

// Looked up by their keys, whatever statistics there are.
var addFactsSQL = contributions(`e.org_id = @org AND e.id = ANY(@ids::uuid[])`) + addSQL + ` SELECT`

// add counts facts of one organization. Those of one that is still to be counted are left to that.
func (r *Rollups) add(ctx context.Context, tx pgx.Tx, facts []events.Fact) error {
	org := facts[0].Org
	if _, ok := r.built.Load(org); !ok {
		if _, err := tx.Exec(ctx, beginSQL, pgx.StrictNamedArgs{"org": org}); err != nil {
			return fmt.Errorf("begin the rollups: %w", err)
		}
		var built bool
		if err := tx.QueryRow(ctx, builtSQL, pgx.StrictNamedArgs{"org": org}).Scan(&built); err != nil {
			return fmt.Errorf("look at the rollups: %w", err)
		}
		if !built {
			return nil
		}
		r.built.Store(org, true)
	}
	ids := make([]tandem.ID, len(facts))
	for i, f := range facts {
		ids[i] = f.ID
	}
	if _, err := tx.Exec(ctx, addFactsSQL, pgx.StrictNamedArgs{"org": org, "ids": ids}); err != nil {
		return fmt.Errorf("add %d facts to the rollups: %w", len(facts), err)
	}
	return nil
}

// everything is all events of the organization that something counts.
var everything = `e.org_id = @org AND (e.noun || '.' || e.verb) IN ('` + strings.Join(topics, "', '") + `')`

// What the bus may still deliver, or deliver again, is remembered with the count: whatever has not been let go of, and
// whatever is younger than the bus keeps its messages. One statement sees one state of the database, so that a fact is
// either counted and remembered here or neither, and then its turn comes.
var countAllSQL = contributions(everything) + addSQL + `, remembered AS (
		INSERT INTO processed (consumer, msg_id)
		SELECT '` + consumer + `', f.id FROM f WHERE f.at > now() - interval '7 days' OR EXISTS (SELECT FROM outbox o WHERE o.msg_id = f.id)
		ON CONFLICT DO NOTHING)
	SELECT count(*) FROM f`

// Build counts all events of the actor's organization anew, in tx, and returns how many. Facts of the organization wait
// until tx ends.
func Build(ctx context.Context, tx pgx.Tx) (n int64, err error) {
	a, err := tandem.ActorFrom(ctx)
	if err != nil {
		return 0, err
	}
	if err := lock(ctx, tx, aloneSQL); err != nil {
		return 0, err
	}
	args := pgx.StrictNamedArgs{"org": a.Org}
	for _, q := range []string{`DELETE FROM rollups WHERE org_id = @org`, `DELETE FROM rollup_hours WHERE org_id = @org`} {
		if _, err := tx.Exec(ctx, q, args); err != nil {
			return 0, fmt.Errorf("empty the rollups: %w", err)
		}
	}
	// Planned with what the tables hold now.
	if err := tx.QueryRow(ctx, countAllSQL, pgx.QueryExecModeCacheDescribe, args).Scan(&n); err != nil {
		return 0, fmt.Errorf("count events: %w", err)
	}
	const done = `INSERT INTO rollup_state (org_id, built_at) VALUES (@org, now()) ON CONFLICT (org_id) DO UPDATE SET built_at = excluded.built_at`
	if _, err := tx.Exec(ctx, done, args); err != nil {
		return 0, fmt.Errorf("note that the events are counted: %w", err)
	}
	return n, nil
}

// Ask has the rollups of every organization, or of one when org is not empty, counted anew by a process with the role
// jobs, and returns of how many. An organization that there is not is NotFound.
func Ask(ctx context.Context, db *pg.DB, org tandem.ID) (n int64, err error) {
	const q = `
	INSERT INTO timers (kind, org_id, record_id, due_at)
	SELECT DISTINCT @kind, d.org_id, d.org_id, now() FROM doors d WHERE @org::uuid IS NULL OR d.org_id = @org
	ON CONFLICT (kind, org_id, record_id) DO UPDATE SET due_at = excluded.due_at`
	err = db.Global(ctx, func(ctx context.Context, tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, q, pgx.StrictNamedArgs{"kind": buildTimer, "org": org.Ptr()})
		n = tag.RowsAffected()
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("ask for rollups: %w", err)
	}
	if org != "" && n == 0 {
		return 0, tandem.Errorf(tandem.NotFound, "There is no such organization.")
	}
	return n, nil
}

// Run counts, until ctx ends, the organizations for which that was asked, one after the other. What a crash interrupts is
// done again from its beginning.
func (r *Rollups) Run(ctx context.Context) error {
	log := r.Logger
	if log == nil {
		log = slog.Default()
	}
	tick := time.NewTicker(buildEvery)
	defer tick.Stop()
	for {
		due, err := timers.DueNow(ctx, r.DB, []string{buildTimer}, 100)
		for _, d := range due {
			if err == nil && ctx.Err() == nil {
				err = r.buildOne(tandem.AsSystem(ctx, d.Org), log, d)
			}
		}
		if err != nil && ctx.Err() == nil {
			log.WarnContext(ctx, "the rollups wait", "err", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// The timer ends with its effect. It is looked for once more with the lock held: another process may just have been faster.
func (r *Rollups) buildOne(ctx context.Context, log *slog.Logger, d timers.Due) error {
	began := time.Now()
	var n int64
	err := r.DB.Tx(ctx, func(ctx context.Context, tx pgx.Tx) (err error) {
		if err := lock(ctx, tx, aloneSQL); err != nil {
			return err
		}
		tag, err := tx.Exec(ctx, `DELETE FROM timers WHERE kind = @kind AND org_id = @org AND record_id = @org`, pgx.StrictNamedArgs{"kind": buildTimer, "org": d.Org})
		if err != nil || tag.RowsAffected() == 0 {
			n = 0
			return err
		}
		n, err = Build(ctx, tx)
		return err
	})
	if err != nil {
		return fmt.Errorf("count the events of %s: %w", d.Org, err)
	}
	log.InfoContext(ctx, "rollups counted anew", "organization", d.Org, "events", n, "took", time.Since(began))
	return nil
}

var differencesSQL = contributions(everything) + `
	SELECT (SELECT count(*) FROM fine FULL JOIN (SELECT * FROM rollups WHERE org_id = @org AND (n <> 0 OR amount <> 0)) r USING (grain, measure, at, subject, label, bucket)
	        WHERE (fine.n, fine.amount) IS DISTINCT FROM (r.n, r.amount)),
	       (SELECT count(*) FROM (SELECT * FROM coarse WHERE (received, sent_people, sent_ai, sent_other, opened, resolved, leads) <> (0, 0, 0, 0, 0, 0, 0)) c
	        FULL JOIN (SELECT * FROM rollup_hours WHERE org_id = @org AND (received, sent_people, sent_ai, sent_other, opened, resolved, leads) <> (0, 0, 0, 0, 0, 0, 0)) h USING (hour)
	        WHERE (c.received, c.sent_people, c.sent_ai, c.sent_other, c.opened, c.resolved, c.leads)
	              IS DISTINCT FROM (h.received, h.sent_people, h.sent_ai, h.sent_other, h.opened, h.resolved, h.leads))`

// Differences counts the organization's rows of rollups and rollup_hours that are not what its events say. While facts
// wait to be added there are some.
func Differences(ctx context.Context, tx pgx.Tx) (rows, hours int64, err error) {
	a, err := tandem.ActorFrom(ctx)
	if err != nil {
		return 0, 0, err
	}
	if err := tx.QueryRow(ctx, differencesSQL, pgx.QueryExecModeCacheDescribe, pgx.StrictNamedArgs{"org": a.Org}).Scan(&rows, &hours); err != nil {
		return 0, 0, fmt.Errorf("compare the rollups: %w", err)
	}
	return rows, hours, nil
}
