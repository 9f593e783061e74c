package events

import (
	"context"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/bus"
	"github.com/tandemhq/tandem/internal/pg/pgtest"
	"github.com/tandemhq/tandem/internal/proof"
)

// TestAmnesia (REL-3) deletes the whole store of the bus while its events are under way: some
// published, some not, one consumer partway, another not begun.
func TestAmnesia(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	ctx := newOrg(t, db)
	effects(t, db)
	n, published, applied := proof.Size(2000, 10_000), proof.Size(1200, 6000), proof.Size(700, 3500)
	emit(t, ctx, db, n)

	var did atomic.Int64
	enough := make(chan struct{})
	half := Subscription{Name: "half", Topics: []string{"message.received"}, Workers: 2, Apply: func(ctx context.Context, tx pgx.Tx, f Fact) error {
		switch k := did.Add(1); {
		case k == int64(applied):
			close(enough)
		case k > int64(applied):
			return errors.New("stopped")
		}
		return apply("half")(ctx, tx, f)
	}}
	late := Subscription{Name: "late", Topics: []string{"message.*"}, Workers: 2, Handle: func(ctx context.Context, f Fact) error {
		return db.Tx(ctx, func(ctx context.Context, tx pgx.Tx) error { return apply("late")(ctx, tx, f) })
	}}
	dir := filepath.Join(t.TempDir(), "bus")
	b := openBus(t, dir)
	d := drainOf(db, b, half, late)
	var sent atomic.Int64
	d.Publish = func(ctx context.Context, subject string, id tandem.ID, body []byte) (bus.Ack, error) {
		if sent.Add(1) > int64(published) {
			return bus.Ack{}, tandem.Errorf(tandem.Unavailable, "Enough for now.")
		}
		return b.Publish(ctx, subject, id, body)
	}
	stopDrain := background(t, d.Run)
	stopHalf := background(t, func(ctx context.Context) error { return Consume(ctx, db, b, half) })
	<-enough
	eventually(t, "enough published", func() bool {
		return count(t, db, "SELECT count(*) FROM outbox WHERE published_at IS NULL") == int64(n-published)
	})
	stopHalf()
	stopDrain()
	closeBus(t, b)
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}

	began := time.Now()
	b = openBus(t, dir)
	half.Apply = apply("half")
	background(t, drainOf(db, b, half, late).Run)
	background(t, func(ctx context.Context) error { return Consume(ctx, db, b, half) })
	background(t, func(ctx context.Context) error { return Consume(ctx, db, b, late) })
	eventually(t, "everything applied", func() bool { return count(t, db, "SELECT count(*) FROM effects") >= int64(2*n) })
	took := time.Since(began)
	eventually(t, "the outbox is empty", func() bool { return count(t, db, "SELECT count(*) FROM outbox") == 0 })
	exactlyOnce(t, ctx, db, "half")
	exactlyOnce(t, ctx, db, "late")
	if k, err := verify(t, ctx, db); err != nil || k != int64(n) {
		t.Errorf("verified %d, %v", k, err)
	}
	if k := count(t, db, "SELECT count(*) FROM processed"); k != int64(2*n) {
		t.Errorf("%d processed rows", k)
	}
	proof.Figure(t, "REL-3", "bus store deleted with %d events pending (%d published, %d applied by one of two consumers): 0 lost, 0 twice, the %d remaining effects in %.1f s", n, published, applied, 2*n-applied, took.Seconds())
	if took > 60*time.Second {
		t.Errorf("took %v", took)
	}
}

// TestRedeliveryStorm (REL-9) delivers every event three times, shuffled and at once, and loses
// 30 % of the acknowledgements on top.
func TestRedeliveryStorm(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	ctx := newOrg(t, db)
	effects(t, db)
	n := proof.Size(400, 5000)
	emit(t, ctx, db, n)
	b := openBus(t, t.TempDir())
	sub := Subscription{Name: "storm", Topics: []string{"*"}, Apply: apply("storm")}
	background(t, drainOf(db, b, sub).Run)

	r := &reader{db: db, s: sub}
	var deliveries, lost atomic.Int64
	handle := func(ctx context.Context, m bus.Msg) error {
		deliveries.Add(1)
		if err := r.handle(ctx, m); err != nil {
			return err
		}
		if rand.IntN(10) < 3 { // done, but the bus does not hear of it
			lost.Add(1)
			return &tandem.Error{Kind: tandem.Unavailable, Msg: "Acknowledgement lost.", RetryAfter: time.Duration(1+rand.IntN(20)) * time.Millisecond}
		}
		return nil
	}
	background(t, func(ctx context.Context) error {
		return b.Consume(ctx, bus.Consumer{Name: "storm", Subjects: []string{"ev.>"}, Workers: 3, Handle: handle, Dead: r.dead})
	})
	var msgs []bus.Msg
	tx(t, ctx, db, func(ctx context.Context, tx pgx.Tx) error {
		rows, err := Since(ctx, tx, 0, n)
		for _, e := range rows {
			body, _ := json.Marshal(Fact{ID: e.ID, Org: e.Org, Topic: e.Topic(), Record: e.Record})
			m := bus.Msg{Subject: e.Subject(), ID: e.ID, Body: body, Delivered: 1}
			msgs = append(msgs, m, m)
		}
		return err
	})
	rand.Shuffle(len(msgs), func(i, j int) { msgs[i], msgs[j] = msgs[j], msgs[i] })
	var wg sync.WaitGroup
	for w := range 2 {
		wg.Go(func() {
			for i := w; i < len(msgs); i += 2 {
				if err := r.handle(t.Context(), msgs[i]); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	eventually(t, "all processed and released", func() bool {
		return count(t, db, "SELECT count(*) FROM outbox") == 0 && deliveries.Load()-lost.Load() >= int64(n)
	})
	exactlyOnce(t, ctx, db, "storm")
	if k := countIn(t, ctx, db, "SELECT count(*) FROM dead_letters"); k != 0 {
		t.Errorf("%d dead letters", k)
	}
	proof.Figure(t, "REL-9", "%d events, %d deliveries, %d acknowledgements lost: each effect once", n, int(deliveries.Load())+len(msgs), lost.Load())
}

func TestDeadLetters(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	ctx := newOrg(t, db)
	effects(t, db)
	b := openBus(t, t.TempDir())
	var poison atomic.Pointer[tandem.ID]
	var tries atomic.Int64
	fail := func(f Fact) error {
		if p := poison.Load(); p == nil || f.ID != *p {
			return nil
		}
		tries.Add(1)
		return errors.New("a bug\x00 with a \xff odd text")
	}
	sub := Subscription{Name: "s", Topics: []string{"message.received"}, MaxDeliver: 2, Apply: func(ctx context.Context, tx pgx.Tx, f Fact) error {
		if err := apply("s")(ctx, tx, f); err != nil { // rolled back with the failure
			return err
		}
		return fail(f)
	}}
	permanent := Subscription{Name: "p", Topics: []string{"message.received", "out"}, Handle: func(_ context.Context, f Fact) error {
		if fail(f) != nil || f.Topic == TopicOut {
			return tandem.Errorf(tandem.NotFound, "There is nothing with this id.")
		}
		return nil
	}}
	var id tandem.ID
	tx(t, ctx, db, func(ctx context.Context, tx pgx.Tx) (err error) {
		id, err = Emit(ctx, tx, event(0))
		return errors.Join(err, Command(ctx, tx, "out."+string(orgOf(t, ctx))+".email.x", tandem.NewID()))
	})
	poison.Store(&id)
	background(t, drainOf(db, b, sub, permanent).Run)
	background(t, func(ctx context.Context) error { return Consume(ctx, db, b, sub) })
	background(t, func(ctx context.Context) error { return Consume(ctx, db, b, permanent) })
	emit(t, ctx, db, 20)
	eventually(t, "the outbox lets go of everything", func() bool { return count(t, db, "SELECT count(*) FROM outbox") == 0 })
	if n := count(t, db, "SELECT count(*) FROM effects"); n != 20 {
		t.Errorf("%d effects", n)
	}
	if n := tries.Load(); n != 2+1 {
		t.Errorf("tried %d times", n)
	}
	var body []byte
	var text string
	var n int
	tx(t, ctx, db, func(ctx context.Context, tx pgx.Tx) error {
		return tx.QueryRow(ctx, "SELECT body, error, tries FROM dead_letters WHERE consumer = 's' AND msg_id = $1", id).Scan(&body, &text, &n)
	})
	var f Fact
	if err := json.Unmarshal(body, &f); err != nil || f.ID != id || n != 2 || text != "a bug with a ? odd text" {
		t.Errorf("fact %+v, tries %d, error %q, %v", f, n, text, err)
	}
	if n := countIn(t, ctx, db, "SELECT count(*) FROM dead_letters WHERE consumer = 'p'"); n != 2 {
		t.Errorf("%d dead letters of the permanent failures", n)
	}
	// After the bug is fixed, somebody sends the letter once more.
	var letter tandem.ID
	tx(t, ctx, db, func(ctx context.Context, tx pgx.Tx) error {
		return tx.QueryRow(ctx, "SELECT id::text FROM dead_letters WHERE consumer = 's'").Scan(&letter)
	})
	if err := Redeliver(ctx, db, sub, letter); err == nil {
		t.Error("redelivered although it fails still")
	}
	poison.Store(nil)
	if err := Redeliver(newOrg(t, db), db, sub, letter); tandem.KindOf(err) != tandem.NotFound {
		t.Errorf("from another organization: %v", err)
	}
	var wg sync.WaitGroup
	var done atomic.Int64
	for range 3 {
		wg.Go(func() {
			if err := Redeliver(ctx, db, sub, letter); err == nil {
				done.Add(1)
			} else if tandem.KindOf(err) != tandem.NotFound {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if k := count(t, db, "SELECT count(*) FROM effects WHERE msg_id = $1", id); k != 1 || done.Load() != 1 {
		t.Errorf("%d effects of %d redeliveries", k, done.Load())
	}
	// Nonsense on the bus neither blocks anybody nor is forgotten when it names an organization.
	for _, m := range []bus.Msg{
		{Subject: "ev." + string(orgOf(t, ctx)) + ".a.b", ID: tandem.NewID(), Body: []byte("{")},
		{Subject: "ev.nobody.a.b", ID: "x", Body: []byte(`{"id":"1","org":"2"}`)},
	} {
		r := &reader{db: db, s: sub}
		err := r.handle(t.Context(), m)
		if tandem.KindOf(err) != tandem.Invalid {
			t.Errorf("%s: %v", m.Body, err)
		}
		if err := r.dead(t.Context(), m, err); err != nil {
			t.Errorf("%s: %v", m.Body, err)
		}
	}
	if n := countIn(t, ctx, db, "SELECT count(*) FROM dead_letters WHERE consumer = 's'"); n != 1 {
		t.Errorf("%d dead letters", n)
	}
}

// TestChainAndActor checks what a consumer acts as.
func TestChainAndActor(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	ctx := newOrg(t, db)
	b := openBus(t, t.TempDir())
	got := make(chan tandem.Actor, 2)
	see := func(ctx context.Context) error {
		a, err := tandem.ActorFrom(ctx)
		got <- a
		return err
	}
	subs := []Subscription{
		{Name: "a", Topics: []string{"message.received"}, Apply: func(ctx context.Context, _ pgx.Tx, _ Fact) error { return see(ctx) }},
		{Name: "h", Topics: []string{"message.received"}, Handle: func(ctx context.Context, _ Fact) error { return see(ctx) }},
	}
	background(t, drainOf(db, b, subs...).Run)
	for _, s := range subs {
		background(t, func(ctx context.Context) error { return Consume(ctx, db, b, s) })
	}
	chain := tandem.ChainFrom(ctx)
	emit(t, ctx, db, 1)
	for range subs {
		a := <-got
		if a.Kind != tandem.System || a.Org != orgOf(t, ctx) || a.Chain != chain {
			t.Errorf("actor %+v, want chain %s", a, chain)
		}
	}
	for _, s := range []Subscription{{Name: "x", Topics: []string{"*"}}, {Name: "x", Topics: []string{"message"}, Apply: apply("x")}} {
		if err := Consume(t.Context(), db, b, s); tandem.KindOf(err) != tandem.Invalid {
			t.Errorf("%+v: %v", s, err)
		}
	}
}
