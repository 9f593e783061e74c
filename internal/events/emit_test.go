package events

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/internal/pg/pgtest"
)

func TestEmitAndRead(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	ctx, other := newOrg(t, db), newOrg(t, db)
	org, member, conv, lead := orgOf(t, ctx), tandem.NewID(), tandem.NewID(), tandem.NewID()
	chain := tandem.NewID()
	acting := tandem.WithActor(ctx, tandem.Actor{Org: org, Member: member, Kind: tandem.Human, Name: "Ann", OnBehalf: lead, Chain: chain})
	in := event(1)
	in.Conv, in.Lead = conv, lead
	var id tandem.ID
	tx(t, acting, db, func(ctx context.Context, tx pgx.Tx) (err error) {
		id, err = Emit(ctx, tx, in)
		return err
	})
	var rows, none []Row
	tx(t, ctx, db, func(ctx context.Context, tx pgx.Tx) (err error) {
		rows, err = Since(ctx, tx, 0, 10)
		return err
	})
	tx(t, other, db, func(ctx context.Context, tx pgx.Tx) (err error) {
		none, err = Since(ctx, tx, 0, 10)
		return err
	})
	if len(rows) != 1 || len(none) != 0 {
		t.Fatalf("%d rows, %d in another organization", len(rows), len(none))
	}
	want := in
	want.ID, want.Org, want.Chain, want.Severity, want.At = id, org, chain, "info", rows[0].At
	want.Actor = tandem.ActorStamp{ID: member, Kind: tandem.Human, Name: "Ann", OnBehalf: lead}
	want.Changes = []tandem.Change{in.Changes[0], {Field: "price", Old: 1.5, New: 1.2345678901234568e16}} // any JSON reader sees a float
	if diff := cmp.Diff(want, rows[0].Event); diff != "" {
		t.Error(diff)
	}
	if time.Since(rows[0].At).Abs() > time.Minute {
		t.Errorf("at %v", rows[0].At)
	}
	if n := count(t, db, "SELECT count(*) FROM outbox WHERE msg_id = $1 AND topic = 'message.received' AND subject = $2 AND published_at IS NULL", id, "ev."+string(org)+".message.received"); n != 1 {
		t.Errorf("%d outbox rows", n)
	}

	for _, c := range []struct {
		conv, lead tandem.ID
		from, to   time.Time
		want       int
	}{
		{conv, "", time.Time{}, time.Time{}, 1},
		{"", lead, time.Time{}, time.Time{}, 1},
		{conv, lead, rows[0].At, rows[0].At, 1},
		{conv, lead, rows[0].At.Add(time.Second), time.Time{}, 0},
		{conv, lead, time.Time{}, rows[0].At.Add(-time.Second), 0},
		{lead, conv, time.Time{}, time.Time{}, 0},
		{"", "", time.Time{}, time.Time{}, 0},
	} {
		tx(t, ctx, db, func(ctx context.Context, tx pgx.Tx) error {
			got, err := ForConversation(ctx, tx, c.conv, c.lead, c.from, c.to, 10)
			if len(got) != c.want {
				t.Errorf("%+v: %d rows", c, len(got))
			}
			return err
		})
	}
}

func TestEmitRefuses(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	ctx := newOrg(t, db)
	foreign, wild := event(1), event(1)
	foreign.Org, wild.Verb = tandem.NewID(), "a.>"
	err := db.Tx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		for name, e := range map[string]tandem.Event{"empty": {}, "foreign": foreign, "wild": wild} {
			if _, err := Emit(ctx, tx, e); tandem.KindOf(err) != tandem.Internal || err == nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		if _, err := Emit(context.Background(), tx, event(1)); tandem.KindOf(err) != tandem.Unauthenticated {
			t.Errorf("without an actor: %v", err)
		}
		org := string(orgOf(t, ctx))
		if err := Command(ctx, tx, "out."+string(tandem.NewID())+".email.x", tandem.NewID()); err == nil {
			t.Error("a command of another organization")
		}
		if err := Command(ctx, tx, "out."+org+".email.x", tandem.NewID()); err != nil {
			t.Error(err)
		}
		if _, err := Emit(ctx, tx, event(1)); err != nil {
			t.Error(err)
		}
		return errors.New("roll back")
	})
	if err == nil || count(t, db, "SELECT count(*) FROM outbox") != 0 {
		t.Errorf("after a rollback something is left: %v", err)
	}
}

// What a transaction says is heard when it has committed, and never when it rolls back.
func TestNothingIsSaidBeforeTheCommit(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	ctx := newOrg(t, db)
	said := func() int64 { return count(t, db, "SELECT count(*) FROM outbox") }
	say := func(ctx context.Context, tx pgx.Tx) error {
		if _, err := Emit(ctx, tx, event(1)); err != nil {
			return err
		}
		return Command(ctx, tx, "out."+string(orgOf(t, ctx))+".test.one", tandem.NewID())
	}
	changedMind := errors.New("changed my mind")
	err := db.Tx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		if err := say(ctx, tx); err != nil {
			return err
		}
		if n := said(); n != 0 {
			t.Errorf("%d rows are heard before the commit", n)
		}
		return changedMind
	})
	if !errors.Is(err, changedMind) || said() != 0 {
		t.Errorf("after the rollback %d rows are heard, error %v", said(), err)
	}
	tx(t, ctx, db, say)
	if n := said(); n != 2 {
		t.Errorf("after the commit %d rows are heard, want 2", n)
	}
}
