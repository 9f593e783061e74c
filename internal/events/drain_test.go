package events

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/bus"
	"github.com/tandemhq/tandem/internal/pg"
	"github.com/tandemhq/tandem/internal/pg/pgtest"
)

// journal is a Publish that writes down the order and then does the real thing.
type journal struct {
	b   *bus.Bus
	mu  sync.Mutex
	ids []tandem.ID
}

func (j *journal) publish(ctx context.Context, subject string, id tandem.ID, body []byte) (bus.Ack, error) {
	ack, err := j.b.Publish(ctx, subject, id, body)
	if err == nil {
		j.mu.Lock()
		defer j.mu.Unlock()
		j.ids = append(j.ids, id)
	}
	return ack, err
}

func (j *journal) list() []tandem.ID {
	j.mu.Lock()
	defer j.mu.Unlock()
	return slices.Clone(j.ids)
}

// outboxIDs are the message ids in the order of the outbox.
func outboxIDs(t *testing.T, db *pg.DB) (ids []tandem.ID) {
	t.Helper()
	err := db.Global(t.Context(), func(ctx context.Context, tx pgx.Tx) error {
		rows, err := tx.Query(ctx, "SELECT msg_id::text FROM outbox ORDER BY id")
		if err != nil {
			return err
		}
		ids, err = pgx.CollectRows(rows, pgx.RowTo[tandem.ID])
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return ids
}

func unpublished(t *testing.T, db *pg.DB) int64 {
	t.Helper()
	return count(t, db, "SELECT count(*) FROM outbox WHERE published_at IS NULL")
}

// keeper is a subscription that nobody runs, so that the outbox keeps its rows.
var keeper = Subscription{Name: "keeper", Topics: []string{"*"}, Apply: apply("keeper")}

func TestOrderAndOutage(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	ctx := newOrg(t, db)
	emit(t, ctx, db, 700)
	j := &journal{b: openBus(t, t.TempDir())}
	d := drainOf(db, j.b, keeper)
	var calls atomic.Int64
	d.Publish = func(ctx context.Context, subject string, id tandem.ID, body []byte) (bus.Ack, error) {
		if k := calls.Add(1); k > 300 && k <= 303 { // away for three tries
			return bus.Ack{}, tandem.Errorf(tandem.Unavailable, "Away.")
		}
		return j.publish(ctx, subject, id, body)
	}
	background(t, d.Run)
	eventually(t, "all published", func() bool { return unpublished(t, db) == 0 })
	if got := j.list(); !slices.Equal(got, outboxIDs(t, db)) {
		t.Errorf("%d published, not each once in the order of the outbox", len(got))
	}
	if n, oldest, err := d.Backlog(t.Context()); n != 0 || oldest != 0 || err != nil {
		t.Errorf("backlog %d, %v, %v", n, oldest, err)
	}
}

// TestLateCommit holds a transaction open whose row has the lowest id.
func TestLateCommit(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	ctx := newOrg(t, db)
	j := &journal{b: openBus(t, t.TempDir())}
	d := drainOf(db, j.b, keeper)
	d.Publish = j.publish
	background(t, d.Run)
	var late tandem.ID
	tx(t, ctx, db, func(ctx context.Context, tx pgx.Tx) (err error) {
		if late, err = Emit(ctx, tx, event(0)); err != nil {
			return err
		}
		emit(t, ctx, db, 10)
		eventually(t, "the later ones are published", func() bool { return len(j.list()) == 10 })
		return nil
	})
	eventually(t, "the late one is published", func() bool { return slices.Contains(j.list(), late) })
	eventually(t, "marked", func() bool { return unpublished(t, db) == 0 })
	if ids := outboxIDs(t, db); ids[0] != late {
		t.Error("the test is wrong: the late row does not have the lowest id")
	}
}

// TestOneDrainAtATime kills the database session of the drain that works; another takes over.
func TestOneDrainAtATime(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	ctx := newOrg(t, db)
	j := &journal{b: openBus(t, t.TempDir())}
	for range 3 {
		d := drainOf(db, j.b, keeper)
		d.Publish = j.publish
		background(t, d.Run)
	}
	emit(t, ctx, db, 500)
	eventually(t, "published", func() bool { return unpublished(t, db) == 0 })
	super := pgtest.Connect(t, db, pgtest.Super)
	var killed int
	const kill = `SELECT count(pg_terminate_backend(l.pid)) FROM pg_locks l JOIN pg_database b ON b.oid = l.database
		WHERE l.locktype = 'advisory' AND l.granted AND b.datname = current_database()`
	if err := super.QueryRow(t.Context(), kill).Scan(&killed); err != nil || killed != 1 {
		t.Fatalf("%d sessions held the lock, %v", killed, err)
	}
	began := time.Now()
	emit(t, ctx, db, 500)
	eventually(t, "published after the takeover", func() bool { return unpublished(t, db) == 0 })
	t.Logf("figure: another drain took over within %v", time.Since(began))
	if got := j.list(); !slices.Equal(got, outboxIDs(t, db)) {
		t.Errorf("%d published, not each once in order", len(got))
	}
}

// TestLatency measures from commit to the bus.
func TestLatency(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	ctx := newOrg(t, db)
	b := openBus(t, t.TempDir())
	heard := make(chan time.Time, 1)
	stop, err := b.Listen("ev.>", func(string, []byte) { heard <- time.Now() })
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	d := drainOf(db, b)
	d.ReconcileEvery = time.Minute
	background(t, d.Run)
	var all []time.Duration
	for range 50 {
		emit(t, ctx, db, 1)
		began := time.Now()
		all = append(all, (<-heard).Sub(began))
	}
	slices.Sort(all)
	t.Logf("figure: commit to bus p50 %v, max %v", all[25], all[49])
	if all[25] > 500*time.Millisecond {
		t.Error("the notification does not wake the drain")
	}
}

// TestRelease keeps an outbox row until every subscription that wants it has processed it.
func TestRelease(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	ctx := newOrg(t, db)
	b := openBus(t, t.TempDir())
	subs := []Subscription{
		{Name: "one", Topics: []string{"message.received"}},
		{Name: "two", Topics: []string{"lead.moved", "message.*"}},
		{Name: "other", Topics: []string{"messageXreceived", "lead.moved", "out"}},
	}
	d := drainOf(db, b, subs...)
	d.Logger = quiet
	emit(t, ctx, db, 3)
	background(t, d.Run)
	eventually(t, "sealed", func() bool { n, err := verify(t, ctx, db); return err == nil && n == 3 })
	ids := outboxIDs(t, db)
	process := func(consumer string, id tandem.ID, age string) {
		err := db.Global(t.Context(), func(ctx context.Context, tx pgx.Tx) error {
			_, err := tx.Exec(ctx, "INSERT INTO processed (consumer, msg_id, at) VALUES ($1, $2, now() - $3::interval)", consumer, id, age)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	process("one", ids[0], "0")
	process("two", ids[0], "0")
	process("one", ids[1], "30 days") // remembered for as long as its outbox row lives
	process("one", tandem.NewID(), "8 days")
	process("one", tandem.NewID(), "6 days")
	eventually(t, "the first is released", func() bool { return len(outboxIDs(t, db)) == 2 })
	eventually(t, "old memories go", func() bool { return count(t, db, "SELECT count(*) FROM processed") == 4 })
	if got := outboxIDs(t, db); !slices.Equal(got, ids[1:]) {
		t.Errorf("left %v of %v", got, ids)
	}
	process("two", ids[1], "0")
	eventually(t, "the second is released", func() bool { return len(outboxIDs(t, db)) == 1 })
}

// What is done leaves the outbox some at a time between two passes: in one go it held up publishing for seconds. Only a
// stream that has lost something waits until all of it is gone.
func TestReleaseGivesWay(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	ctx := newOrg(t, db)
	d := drainOf(db, openBus(t, t.TempDir()))     // nobody reads: what is published and sealed is done
	d.Logger, d.ReconcileEvery = quiet, time.Hour // only when we say
	const rows = 2*releaseBatch + releaseBatch/2
	emit(t, ctx, db, rows)
	reconciled := time.Now()
	if err := d.reconcile(t.Context()); err != nil { // learns of the stream
		t.Fatal(err)
	}
	if err := d.pass(t.Context(), &reconciled); err != nil {
		t.Fatal(err)
	}
	d.sealDue(t.Context(), true)
	if n := len(outboxIDs(t, db)); n != rows {
		t.Fatalf("%d rows before anything is let go of, want %d", n, rows)
	}
	if err := d.reconcile(t.Context()); err != nil {
		t.Fatal(err)
	}
	left := []int{len(outboxIDs(t, db))}
	for d.releasing {
		d.letGo(t.Context())
		left = append(left, len(outboxIDs(t, db)))
	}
	if want := []int{rows, rows - releaseBatch, rows - 2*releaseBatch, 0}; !slices.Equal(left, want) {
		t.Errorf("rows left after each step: %v, want %v", left, want)
	}
	emit(t, ctx, db, rows)
	if err := d.pass(t.Context(), &reconciled); err != nil {
		t.Fatal(err)
	}
	d.sealDue(t.Context(), true)
	d.highest = bus.Ack{} // another stream than the one we knew
	if err := d.reconcile(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := len(outboxIDs(t, db)); n != 0 {
		t.Errorf("%d rows that are done would be published again", n)
	}
}

// TestLostEnd plays a stream that loses its last messages in a power cut while the drain goes
// on: positions are given out a second time.
func TestLostEnd(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	ctx := newOrg(t, db)
	epoch := time.Now().UTC().Truncate(time.Microsecond)
	var mu sync.Mutex
	var calls int
	var stream []tandem.ID // what the scripted stream holds, position = index + 1
	d := drainOf(db, nil, keeper)
	d.ReconcileEvery = time.Hour // only the drain itself can notice
	d.State = func(context.Context) (bus.State, error) {
		mu.Lock()
		defer mu.Unlock()
		return bus.State{Epoch: epoch, First: 1, Last: uint64(len(stream)), Messages: uint64(len(stream))}, nil
	}
	d.Publish = func(_ context.Context, _ string, id tandem.ID, _ []byte) (bus.Ack, error) {
		mu.Lock()
		defer mu.Unlock()
		if i := slices.Index(stream, id); i >= 0 {
			return bus.Ack{Seq: uint64(i + 1), Epoch: epoch, Duplicate: true}, nil
		}
		if calls++; calls == 58 { // in the middle of a batch
			stream = stream[:22]
		}
		stream = append(stream, id)
		return bus.Ack{Seq: uint64(len(stream)), Epoch: epoch}, nil
	}
	background(t, d.Run)
	emit(t, ctx, db, 50)
	eventually(t, "published", func() bool { return unpublished(t, db) == 0 })
	mu.Lock()
	stream = stream[:20] // between two batches
	calls = 50
	mu.Unlock()
	emit(t, ctx, db, 20)
	eventually(t, "everything is in the stream again", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return len(stream) == 70
	})
	eventually(t, "and marked", func() bool { return unpublished(t, db) == 0 })
	mu.Lock()
	defer mu.Unlock()
	for _, id := range outboxIDs(t, db) {
		if !slices.Contains(stream, id) {
			t.Errorf("%s is lost", id)
		}
	}
}

// TestRefusedRow puts a row into the outbox that the bus can never take.
func TestRefusedRow(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	ctx := newOrg(t, db)
	b := openBus(t, t.TempDir())
	emit(t, ctx, db, 3)
	if n := count(t, db, "WITH u AS (UPDATE outbox SET subject = 'ev.a b' WHERE id = (SELECT min(id) FROM outbox) RETURNING 1) SELECT count(*) FROM u"); n != 1 {
		t.Fatal("no row to spoil")
	}
	background(t, drainOf(db, b).Run)
	eventually(t, "released", func() bool { return count(t, db, "SELECT count(*) FROM outbox") == 0 })
	if n := countIn(t, ctx, db, "SELECT count(*) FROM dead_letters WHERE consumer = 'drain' AND subject = 'ev.a b'"); n != 1 {
		t.Errorf("%d dead letters", n)
	}
	if n, err := verify(t, ctx, db); err != nil || n != 3 {
		t.Errorf("verified %d, %v", n, err)
	}
}
