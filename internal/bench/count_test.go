package bench

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/channels"
	"github.com/tandemhq/tandem/inbox"
	"github.com/tandemhq/tandem/internal/hub"
	"github.com/tandemhq/tandem/internal/pg/pgtest"
	"github.com/tandemhq/tandem/internal/seal"
)

// Count must see each way in which a database can differ from what was confirmed.
func TestCount(t *testing.T) {
	t.Parallel()
	name := pgtest.Create(t)
	sealer, err := seal.Open(make([]byte, seal.KeySize))
	if err != nil {
		t.Fatal(err)
	}
	d := &Database{Name: name, DB: pgtest.Open(t, name), Sealer: sealer}
	d.Inbox = inbox.New(inbox.Options{DB: d.DB, Sealer: sealer, Kinds: hub.Kinds})
	org, err := d.NewOrg(t.Context(), "Counted", nil)
	if err != nil {
		t.Fatal(err)
	}
	pool, err := pgxpool.New(t.Context(), pgtest.URL(t, name, pgtest.Super))
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	store := func(external string) Accepted {
		a := Accepted{Org: org.ID, Channel: org.Form.ID, External: external}
		err := d.DB.Tx(tandem.AsSystem(t.Context(), org.ID), func(ctx context.Context, tx pgx.Tx) error {
			got, err := inbox.Ingest(ctx, tx, channels.Inbound{
				Org: org.ID, Channel: org.Form.ID, ID: channels.ExternalID(external), From: "somebody@example.com", FromKind: channels.IdentityEmail, Text: "Hello",
			})
			a.Message = got.Message
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	store("before the measurement")
	time.Sleep(2 * time.Millisecond) // the ids of the next ones begin with a later millisecond
	began := time.Now()
	accepted := []Accepted{store("1"), store("2"), store("2"), store("3")}

	count := func() Effects {
		f, err := Count(t.Context(), pool, began, accepted)
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	want := Effects{Accepted: 3, Stored: 3, Inbound: 3, Messages: 3, Events: 3, Told: 3}
	if f := count(); f != want || f.Check(0) != nil {
		t.Fatalf("%+v, want %+v", f, want)
	}
	for what, c := range map[string]struct {
		sql  string
		want func(f *Effects)
	}{
		"a counter": {`UPDATE conversations SET message_count = message_count + 1`, func(f *Effects) { f.Wrong = 1 }},
		"a fact that never reached the outbox": {
			`DELETE FROM outbox WHERE record_id = (SELECT message_id FROM inbound WHERE external_id = '3')`, func(f *Effects) { f.Unsealed = 1 },
		},
		"a lost fact": {
			`DELETE FROM events WHERE record_id = (SELECT message_id FROM inbound WHERE external_id = '3')`, func(f *Effects) { f.Events, f.Told = 2, 2 },
		},
		"an answer with another message's id": {
			`UPDATE inbound SET message_id = (SELECT message_id FROM inbound WHERE external_id = '1') WHERE external_id = '2'`, func(f *Effects) { f.Stored = 2 },
		},
	} {
		tx, err := pool.Begin(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := tx.Exec(t.Context(), c.sql); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		f, err := Count(t.Context(), tx, began, accepted)
		if err != nil {
			t.Fatal(err)
		}
		differs := want
		c.want(&differs)
		if f != differs || f.Check(0) == nil {
			t.Errorf("%s: %+v, want %+v", what, f, differs)
		}
		if err := tx.Rollback(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	accepted = append(accepted, Accepted{Org: org.ID, Channel: org.Form.ID, External: "never stored", Message: tandem.NewID()})
	if f := count(); f.Accepted != 4 || f.Stored != 3 || f.Check(0) == nil {
		t.Errorf("a lead that was never stored: %+v", f)
	}
}
