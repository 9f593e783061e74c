package events

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/internal/pg"
	"github.com/tandemhq/tandem/internal/pg/pgtest"
)

func verify(t *testing.T, ctx context.Context, db *pg.DB) (n int64, err error) {
	t.Helper()
	err = db.Read(ctx, func(ctx context.Context, tx pgx.Tx) error {
		n, err = Verify(ctx, tx)
		return err
	})
	return n, err
}

func TestChainShowsEveryEdit(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	one, two := newOrg(t, db), newOrg(t, db)
	const n = 300
	emit(t, one, db, n)
	emit(t, two, db, 7)
	b := openBus(t, t.TempDir())
	background(t, drainOf(db, b).Run)
	eventually(t, "all sealed and released", func() bool { return count(t, db, "SELECT count(*) FROM outbox") == 0 })
	for ctx, want := range map[context.Context]int64{one: n, two: 7} {
		if got, err := verify(t, ctx, db); err != nil || got != want {
			t.Fatalf("verified %d, %v; want %d", got, err, want)
		}
	}
	var hash []byte
	tx(t, one, db, func(ctx context.Context, tx pgx.Tx) (err error) {
		var k int64
		if k, hash, err = Head(ctx, tx); k != n || len(hash) != 32 {
			t.Errorf("head %d %x", k, hash)
		}
		return err
	})
	if err := db.Tx(one, func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, "UPDATE events SET description = 'x'")
		return err
	}); err == nil {
		t.Error("the application role may edit events")
	}

	// What somebody with the owner's password might do. Every edit is undone again.
	const victim = "(SELECT event_id FROM event_seals WHERE n = 150)"
	edits := map[string]string{
		"one byte of text":     "UPDATE events SET description = replace(description, 'Message', 'Nessage') WHERE id = " + victim,
		"a change's value":     `UPDATE events SET changes = jsonb_set(changes, '{1,old}', '1.50') WHERE id = ` + victim,
		"a large number":       `UPDATE events SET changes = jsonb_set(changes, '{1,new}', '12345678901234568') WHERE id = ` + victim,
		"the actor":            "UPDATE events SET actor_name = 'Tandem ' WHERE id = " + victim,
		"the actor's id":       "UPDATE events SET actor_id = record_id WHERE id = " + victim,
		"one microsecond":      "UPDATE events SET at = at + interval '1 microsecond' WHERE id = " + victim,
		"the conversation":     "UPDATE events SET conversation_id = id WHERE id = " + victim,
		"a seal":               "UPDATE event_seals SET hash = set_byte(hash, 5, 255 - get_byte(hash, 5)) WHERE n = 150",
		"a deletion":           "WITH s AS (DELETE FROM event_seals WHERE n = 150 RETURNING event_id) SELECT 1; DELETE FROM events WHERE NOT EXISTS (SELECT FROM event_seals s WHERE s.event_id = events.id)",
		"a deletion, closed":   "DELETE FROM event_seals WHERE n = 150; DELETE FROM events WHERE NOT EXISTS (SELECT FROM event_seals s WHERE s.event_id = events.id); UPDATE event_seals SET n = -n WHERE n > 150; UPDATE event_seals SET n = -n - 1 WHERE n < 0",
		"the first deleted":    "DELETE FROM event_seals WHERE n = 1; DELETE FROM events WHERE NOT EXISTS (SELECT FROM event_seals s WHERE s.event_id = events.id)",
		"two in another order": "UPDATE event_seals SET n = -n WHERE n IN (10, 11); UPDATE event_seals SET n = CASE n WHEN -10 THEN 11 ELSE 10 END WHERE n < 0",
		"one slipped in":       "INSERT INTO events (org_id, id, noun, verb, record_id, actor_kind, actor_name, description, category, severity, chain_id) SELECT org_id, gen_random_uuid(), noun, verb, record_id, actor_kind, actor_name, description, category, severity, chain_id FROM events LIMIT 1",
	}
	owner := pgtest.Connect(t, db, pgtest.Owner)
	undo := errors.New("undo")
	for name, edit := range edits {
		err := pgx.BeginFunc(t.Context(), owner, func(tx pgx.Tx) error {
			if err := pg.EnterOrg(t.Context(), tx, orgOf(t, one)); err != nil {
				return err
			}
			tag, err := tx.Conn().PgConn().Exec(t.Context(), edit).ReadAll()
			if err != nil {
				return err
			}
			if tag[len(tag)-1].CommandTag.RowsAffected() == 0 {
				return fmt.Errorf("%s changed nothing", name)
			}
			k, err := Verify(one, tx)
			if tandem.KindOf(err) != tandem.Conflict {
				t.Errorf("%s: not seen, %d verified, %v", name, k, err)
			}
			return undo
		})
		if !errors.Is(err, undo) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if got, err := verify(t, one, db); err != nil || got != n {
		t.Errorf("after undoing: %d, %v", got, err)
	}
	// Sealing goes on where it was.
	emit(t, one, db, 3)
	eventually(t, "sealed", func() bool { k, err := verify(t, one, db); return err == nil && k == n+3 })
	tx(t, one, db, func(ctx context.Context, tx pgx.Tx) error {
		var same []byte
		err := tx.QueryRow(ctx, "SELECT hash FROM event_seals WHERE n = $1", n).Scan(&same)
		if !bytes.Equal(same, hash) {
			t.Error("an old seal changed")
		}
		return err
	})
}

// TestSealLater lets sealing fail while publishing goes on, as a crash between the two does.
// Every outbox row waits for its seal.
func TestSealLater(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	ctx := newOrg(t, db)
	owner := pgtest.Connect(t, db, pgtest.Owner)
	allow := func(statement string) {
		if _, err := owner.Exec(t.Context(), statement+pgtest.App); err != nil {
			t.Fatal(err)
		}
	}
	allow("REVOKE INSERT ON event_seals FROM ")
	const n = 1200
	emit(t, ctx, db, n)
	b := openBus(t, t.TempDir())
	background(t, drainOf(db, b).Run)
	eventually(t, "published without seals", func() bool { return unpublished(t, db) == 0 })
	// A reconciliation ends with forgetting: two of them have passed when two such rows are gone.
	for range 2 {
		count(t, db, "WITH i AS (INSERT INTO processed (consumer, msg_id, at) VALUES ('x', gen_random_uuid(), now() - interval '8 days') RETURNING 1) SELECT count(*) FROM i")
		eventually(t, "a reconciliation", func() bool { return count(t, db, "SELECT count(*) FROM processed") == 0 })
	}
	if k := count(t, db, "SELECT count(*) FROM outbox WHERE published_at IS NOT NULL"); k != n {
		t.Errorf("%d of %d unsealed rows are left", k, n)
	}
	allow("GRANT INSERT ON event_seals TO ")
	eventually(t, "all sealed and released", func() bool { return count(t, db, "SELECT count(*) FROM outbox") == 0 })
	if k, err := verify(t, ctx, db); err != nil || k != n {
		t.Errorf("verified %d, %v", k, err)
	}
}
