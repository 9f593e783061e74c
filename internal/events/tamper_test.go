package events

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/internal/pg"
	"github.com/tandemhq/tandem/internal/pg/pgtest"
	"github.com/tandemhq/tandem/internal/proof"
)

// oneEdit is a change of one place, somewhere in the log or in its chain, as somebody with the owner's password makes it.
func oneEdit(r *rand.Rand, n int) string {
	at := 1 + r.IntN(n)
	event := fmt.Sprintf("(SELECT event_id FROM event_seals WHERE n = %d)", at)
	text := []string{"noun", "verb", "actor_name", "description", "category"}[r.IntN(5)]
	switch r.IntN(9) {
	case 0: // one character of a text becomes another
		return fmt.Sprintf("UPDATE events SET %[1]s = overlay(%[1]s PLACING chr(ascii(substr(%[1]s, p, 1)) + 1) FROM p) FROM (SELECT 1 + %[2]d AS p) x WHERE id = %[3]s AND p <= length(%[1]s)", text, r.IntN(4), event)
	case 1:
		return fmt.Sprintf("UPDATE events SET changes = jsonb_set(changes, '{0,new}', to_jsonb((changes #>> '{0,new}') || '%d')) WHERE id = %s", r.IntN(10), event)
	case 2:
		column := []string{"record_id", "chain_id", "lead_id", "conversation_id", "actor_id", "on_behalf_of"}[r.IntN(6)]
		return fmt.Sprintf("UPDATE events SET %s = gen_random_uuid() WHERE id = %s", column, event)
	case 3:
		return fmt.Sprintf("UPDATE events SET at = at + interval '%d microseconds' WHERE id = %s", 1+r.IntN(1_000_000), event)
	case 4: // one bit of a seal
		return fmt.Sprintf("UPDATE event_seals SET hash = set_bit(hash, b, 1 - get_bit(hash, b)) FROM (SELECT %d AS b) x WHERE n = %d", r.IntN(256), at)
	case 5: // removed, and the gap closed, unless it is the last, whose removal no chain can show
		at = min(at, n-1)
		return fmt.Sprintf("DELETE FROM event_seals WHERE n = %[1]d; DELETE FROM events WHERE NOT EXISTS (SELECT FROM event_seals s WHERE s.event_id = events.id); UPDATE event_seals SET n = -n WHERE n > %[1]d; UPDATE event_seals SET n = -n - 1 WHERE n < 0", at)
	case 6: // the seal alone
		return fmt.Sprintf("DELETE FROM event_seals WHERE n = %d", at)
	case 7: // two change places
		other := 1 + (at+r.IntN(n-1))%n
		return fmt.Sprintf("UPDATE event_seals SET n = -n WHERE n IN (%[1]d, %[2]d); UPDATE event_seals SET n = CASE n WHEN -%[1]d THEN %[2]d ELSE %[1]d END WHERE n < 0", at, other)
	default: // a copy slipped in
		return fmt.Sprintf("INSERT INTO events (org_id, id, noun, verb, record_id, actor_kind, actor_name, description, category, severity, chain_id) SELECT org_id, gen_random_uuid(), noun, verb, record_id, actor_kind, actor_name, description, category, severity, chain_id FROM events WHERE id = %s", event)
	}
}

// TestTampering is SEC-16: whatever single thing is changed in the log, Verify sees it.
func TestTampering(t *testing.T) {
	t.Parallel()
	r := proof.Rand(t)
	db := pgtest.New(t)
	org := newOrg(t, db)
	const n = 120
	emit(t, org, db, n)
	b := openBus(t, t.TempDir())
	background(t, drainOf(db, b).Run)
	eventually(t, "all sealed and released", func() bool { return count(t, db, "SELECT count(*) FROM outbox") == 0 })
	owner := pgtest.Connect(t, db, pgtest.Owner)
	undo := errors.New("undo")
	tried, unseen := 0, 0
	for trials := proof.Size(100, 1000); tried < trials; {
		edit := oneEdit(r, n)
		err := pgx.BeginFunc(t.Context(), owner, func(tx pgx.Tx) error {
			if err := pg.EnterOrg(t.Context(), tx, orgOf(t, org)); err != nil {
				return err
			}
			results, err := tx.Conn().PgConn().Exec(t.Context(), edit).ReadAll()
			if err != nil {
				return err
			}
			if results[0].CommandTag.RowsAffected() == 0 {
				return undo // the text is shorter than the place chosen
			}
			tried++
			if _, err := Verify(org, tx); tandem.KindOf(err) != tandem.Conflict {
				unseen++
				t.Errorf("not seen (%v): %s", err, edit)
			}
			return undo
		})
		if !errors.Is(err, undo) {
			t.Fatalf("%s: %v", edit, err)
		}
	}
	proof.Figure(t, "SEC-16", "%d random edits, removals, reorders and insertions in a log of %d: %d not found", tried, n, unseen)
}
