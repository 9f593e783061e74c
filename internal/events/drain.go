package events

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/bus"
	"github.com/tandemhq/tandem/internal/pg"
)

// Drain carries outbox rows to the bus. Any number may run; one at a time works.
type Drain struct {
	DB *pg.DB
	// Publish and State are the bus's.
	Publish func(ctx context.Context, subject string, msgID tandem.ID, body []byte) (bus.Ack, error)
	State   func(ctx context.Context) (bus.State, error)
	// Consumers are all subscriptions of the program, whichever process runs them: an outbox row
	// is kept until each that wants its topic has processed it.
	Consumers []Subscription
	// ReconcileEvery is how often the outbox is compared with the stream; 0 means 30 s.
	ReconcileEvery time.Duration
	Logger         *slog.Logger // nil means slog.Default

	highest  bus.Ack     // the furthest position that this leader knows the stream to have reached
	holes    uint64      // messages missing inside the stream, as of the last reconciliation
	toSeal   []outboxRow // published, waiting for others to be sealed with
	since    time.Time   // when the first of them was published
	unsealed bool        // a seal failed, so that the next reconciliation looks for it

	releasing bool  // rows that are done are still to be let go of
	released  int64 // up to which row they have been looked for
}

const (
	drainLock      = 0x7a4d_e301 // advisory lock: one drainer per database
	drainBatch     = sealBatch   // one organization's rows of a batch are sealed in one go
	busyBatch      = 32          // rows in one go from which on it pays to let more come together
	busyWait       = 40 * time.Millisecond
	sealEvery      = 250 * time.Millisecond // the audit chain may be this far behind: each seal costs a commit
	lastSeal       = 5 * time.Second        // for what is not sealed when the drain stops
	drainPoll      = time.Second            // a NOTIFY can be lost; a poll cannot
	minDrainWait   = 50 * time.Millisecond
	maxDrainWait   = 2 * time.Second
	statementLimit = 30 * time.Second
)

// Run drains until ctx ends and then returns nil. It waits for its turn when another process
// drains, and takes over when that one's database session ends, which it does ten seconds after the
// process has begun to stand still.
func (d *Drain) Run(ctx context.Context) error {
	if d.Logger == nil {
		d.Logger = slog.Default()
	}
	if d.ReconcileEvery <= 0 {
		d.ReconcileEvery = 30 * time.Second
	}
	for ctx.Err() == nil {
		if err := d.lead(ctx); err != nil && ctx.Err() == nil {
			d.Logger.WarnContext(ctx, "outbox drain interrupted", "err", err)
		}
		_ = pause(ctx, drainPoll)
	}
	return nil
}

// lead takes the lock, if it is free, and drains for as long as the session that holds it lives.
// The lock and LISTEN share that session, so that its death is noticed at once.
func (d *Drain) lead(ctx context.Context) error {
	l, err := tryLead(ctx, d.DB.Pool(), leaderIdle)
	if err != nil || l == nil {
		return err
	}
	defer l.close(ctx)
	d.highest, d.holes, d.toSeal, d.unsealed = bus.Ack{}, 0, nil, true

	stopped := ctx
	ctx, cancel := context.WithCancelCause(ctx)
	wake, gone := make(chan struct{}, 1), make(chan struct{})
	go func() {
		defer close(gone)
		err := l.listen(ctx, func() {
			select {
			case wake <- struct{}{}:
			default:
			}
		})
		cancel(fmt.Errorf("the session that holds the outbox lock ended: %w", err))
	}()
	defer func() {
		cancel(nil)
		<-gone
		if stopped.Err() != nil { // not because the lock is lost: then another process seals
			sctx, done := context.WithTimeout(context.WithoutCancel(stopped), lastSeal)
			defer done()
			d.sealDue(sctx, true)
		}
	}()

	// Nothing is published before the stream is known: a stream that lost its end would give new
	// messages the positions of lost ones.
	reconciled, wait := time.Time{}, minDrainWait
	for {
		err := d.pass(ctx, &reconciled)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err != nil {
			d.Logger.WarnContext(ctx, "outbox drain waits", "for", wait, "err", err)
			if pause(ctx, wait) != nil {
				return context.Cause(ctx)
			}
			wait = min(2*wait, maxDrainWait)
			continue
		}
		wait = minDrainWait
		next := drainPoll
		if len(d.toSeal) > 0 {
			next = max(0, min(next, time.Until(d.since.Add(sealEvery))))
		}
		if d.releasing {
			next = 0
		}
		t := time.NewTimer(next)
		select {
		case <-ctx.Done():
		case <-wake:
		case <-t.C:
		}
		t.Stop()
	}
}

// pass reconciles when it is time to and publishes all that waits.
func (d *Drain) pass(ctx context.Context, reconciled *time.Time) error {
	for {
		if time.Since(*reconciled) >= d.ReconcileEvery {
			if err := d.reconcile(ctx); err != nil {
				return fmt.Errorf("reconcile the outbox: %w", err)
			}
			*reconciled = time.Now()
		}
		n, err := d.batch(ctx)
		d.sealDue(ctx, false)
		d.letGo(ctx)
		if err != nil || n < busyBatch {
			return err
		}
		if n < drainBatch && pause(ctx, busyWait) != nil { // each pass costs something per organization
			return nil
		}
	}
}

// quickPlansSQL is for transactions whose statements go by keys alone, a few rows at a time: each is planned once, because
// to plan it anew for each organization costs more than to run it, and by its keys, because a plan that was made when the
// tables were all but empty would read all of them for as long as it is kept.
const quickPlansSQL = `SELECT set_config('plan_cache_mode', 'force_generic_plan', true), set_config('enable_seqscan', 'off', true),
	set_config('enable_hashjoin', 'off', true), set_config('enable_mergejoin', 'off', true)`

// errRewound says that the stream lost its end while we were publishing.
var errRewound = errors.New("the stream lost its end")

type outboxRow struct {
	ID       int64
	OrgID    tandem.ID
	MsgID    tandem.ID
	Topic    string
	Subject  string
	RecordID tandem.ID
}

const unpublishedSQL = `
	SELECT id, org_id::text, msg_id::text, topic, subject, record_id::text FROM outbox
	WHERE published_at IS NULL ORDER BY id LIMIT @limit`

const markSQL = `
	UPDATE outbox o SET published_at = now(), epoch = u.epoch, stream_seq = u.seq
	FROM unnest(@ids::bigint[], @epochs::timestamptz[], @seqs::bigint[]) u(id, epoch, seq) WHERE o.id = u.id`

// batch publishes the oldest unpublished rows in the order of their ids and marks them. There
// is no cursor, so a row that commits after higher ones is found all the same.
func (d *Drain) batch(ctx context.Context) (int, error) {
	rows, err := readOutbox(ctx, d.DB, unpublishedSQL, pgx.StrictNamedArgs{"limit": drainBatch})
	if err != nil || len(rows) == 0 {
		return 0, wrap(err, "read the outbox")
	}
	var ids, seqs []int64
	var epochs []time.Time
	var taken []outboxRow
	var stopped error
	for _, r := range rows {
		ack, err := d.publish(ctx, r)
		switch {
		case err == nil:
			ids, seqs, epochs, taken = append(ids, r.ID), append(seqs, int64(ack.Seq)), append(epochs, ack.Epoch), append(taken, r)
			continue
		case tandem.KindOf(err) == tandem.Invalid:
			if err = d.refuse(ctx, r, err); err == nil {
				continue
			}
		}
		stopped = err
		break
	}
	if errors.Is(stopped, errRewound) {
		return 0, stopped // what this batch published before may be lost as well: all of it goes again
	}
	if len(ids) > 0 {
		err := d.DB.Again(ctx, func(ctx context.Context, tx pgx.Tx) error {
			_, err := tx.Exec(ctx, markSQL, pgx.StrictNamedArgs{"ids": ids, "epochs": epochs, "seqs": seqs})
			return err
		})
		if err != nil { // they are published again, under the same message ids
			return 0, fmt.Errorf("mark as published: %w", err)
		}
		if len(d.toSeal) == 0 {
			d.since = time.Now()
		}
		d.toSeal = append(d.toSeal, taken...)
	}
	return len(rows), wrap(stopped, "publish")
}

// publish puts one row on the bus. A position that was already given out means that the stream
// lost its end while we were publishing; what was there goes out again.
func (d *Drain) publish(ctx context.Context, r outboxRow) (bus.Ack, error) {
	body, err := json.Marshal(Fact{ID: r.MsgID, Org: r.OrgID, Topic: r.Topic, Record: r.RecordID})
	if err != nil {
		return bus.Ack{}, fmt.Errorf("encode the fact: %w", err)
	}
	ack, err := d.Publish(ctx, r.Subject, r.MsgID, body)
	if err != nil || ack.Duplicate {
		return ack, err
	}
	if ack.Epoch.Equal(d.highest.Epoch) && ack.Seq <= d.highest.Seq {
		n, err := d.unpublish(ctx, ack.Epoch, ack.Seq, 1)
		if err != nil {
			return ack, err
		}
		d.highest = ack
		return ack, fmt.Errorf("%w: %d rows are published again", errRewound, n)
	}
	d.highest = ack
	return ack, nil
}

const refusedSQL = `
	INSERT INTO dead_letters (org_id, id, consumer, msg_id, subject, body, error, tries)
	VALUES (@org, @id, 'drain', @msg, @subject, ''::bytea, @error, 1) ON CONFLICT (org_id, consumer, msg_id) DO NOTHING`

// refuse keeps a row that the bus can never take as a dead letter, so that it does not hold up
// all others. Its event is sealed like any other.
func (d *Drain) refuse(ctx context.Context, r outboxRow, cause error) error {
	d.Logger.ErrorContext(ctx, "the bus can never take this outbox row", "id", r.ID, "subject", r.Subject, "err", cause)
	return d.DB.Tx(systemOf(ctx, r.OrgID), func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, refusedSQL, pgx.StrictNamedArgs{"org": r.OrgID, "id": tandem.NewID(), "msg": r.MsgID, "subject": r.Subject, "error": clean(cause.Error())})
		if err != nil {
			return fmt.Errorf("keep a dead letter: %w", err)
		}
		if _, err := tx.Exec(ctx, "UPDATE outbox SET published_at = now() WHERE id = $1", r.ID); err != nil {
			return fmt.Errorf("mark as refused: %w", err)
		}
		if _, err := seal(ctx, tx, r.OrgID, []int64{r.ID}); err != nil {
			return err
		}
		_, err = tx.Exec(ctx, "DELETE FROM outbox WHERE id = $1", r.ID)
		return wrap(err, "let go of a refused row")
	})
}

// letGo releases some of what is done, while a reconciliation has left something to release.
func (d *Drain) letGo(ctx context.Context) {
	if !d.releasing {
		return
	}
	if err := d.release(ctx); err != nil {
		d.releasing = false // the next reconciliation looks again
		if ctx.Err() == nil {
			d.Logger.WarnContext(ctx, "what is done stays in the outbox for now", "err", err)
		}
	}
}

// sealDue seals published events when there are many, when the first has waited for long enough, or now.
func (d *Drain) sealDue(ctx context.Context, now bool) {
	for len(d.toSeal) >= sealBatch || len(d.toSeal) > 0 && (now || time.Since(d.since) >= sealEvery) {
		n := min(len(d.toSeal), sealBatch)
		d.sealRows(ctx, d.toSeal[:n])
		d.toSeal = d.toSeal[n:]
	}
	if len(d.toSeal) == 0 {
		d.toSeal = nil
	}
}

// sealRows seals published events, all organizations in one transaction. A failure does
// not stop the drain: the rows stay in the outbox until a reconciliation has sealed them, each
// organization by itself.
func (d *Drain) sealRows(ctx context.Context, rows []outboxRow) {
	perOrg := map[tandem.ID][]int64{}
	for _, r := range rows {
		if r.Topic != TopicOut {
			perOrg[r.OrgID] = append(perOrg[r.OrgID], r.ID)
		}
	}
	if len(perOrg) == 0 {
		return
	}
	limited, cancel := context.WithTimeout(ctx, statementLimit)
	defer cancel()
	err := d.DB.Global(limited, func(ctx context.Context, tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, quickPlansSQL); err != nil {
			return err
		}
		for org, ids := range perOrg {
			if err := pg.EnterOrg(ctx, tx, org); err != nil {
				return err
			}
			if _, err := seal(ctx, tx, org, ids); err != nil {
				return fmt.Errorf("seal events of %s: %w", org, err)
			}
		}
		return nil
	})
	if err != nil {
		d.unsealed = true
		if ctx.Err() == nil { // the next start seals them anyway
			d.Logger.WarnContext(ctx, "events not sealed yet", "err", err)
		}
	}
}

// Backlog returns how many outbox rows wait to be published and how long the oldest has.
func (d *Drain) Backlog(ctx context.Context) (n int64, oldest time.Duration, err error) {
	const q = `SELECT count(*), coalesce(extract(epoch FROM now() - min(created_at)), 0)::float8 FROM outbox WHERE published_at IS NULL`
	var seconds float64
	err = d.DB.Global(ctx, func(ctx context.Context, tx pgx.Tx) error {
		return tx.QueryRow(ctx, q).Scan(&n, &seconds)
	})
	return n, time.Duration(seconds * float64(time.Second)), wrap(err, "count the outbox")
}

// readOutbox reads outbox rows outside of any organization.
func readOutbox(ctx context.Context, db *pg.DB, q string, args pgx.StrictNamedArgs) (out []outboxRow, err error) {
	ctx, cancel := context.WithTimeout(ctx, statementLimit)
	defer cancel()
	err = db.Global(ctx, func(ctx context.Context, tx pgx.Tx) error {
		rows, err := tx.Query(ctx, q, args)
		if err != nil {
			return err
		}
		out, err = pgx.CollectRows(rows, pgx.RowToStructByName[outboxRow])
		return err
	})
	return out, err
}

// systemOf is ctx with Tandem itself acting inside org, on a causal chain of its own.
func systemOf(ctx context.Context, org tandem.ID) context.Context {
	return tandem.WithActor(ctx, tandem.Actor{Org: org, Kind: tandem.System, Name: "Tandem", Chain: tandem.NewID()})
}

func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return errors.Join(ctx.Err(), context.Cause(ctx))
	}
}
