package events

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/internal/pg"
	"github.com/tandemhq/tandem/internal/pg/pgtest"
	"github.com/tandemhq/tandem/internal/proof"
)

// audited is every column of events and event_seals; TestEveryTamperShows fails when a column is
// added to a table and not to this list, so that nothing escapes the seal.
var audited = []string{
	"actor_id", "actor_kind", "actor_name", "at", "category", "chain_id", "changes", "conversation_id", "description", "id", "lead_id",
	"noun", "on_behalf_of", "org_id", "record_id", "seq", "severity", "verb",
	"seal event_id", "seal hash", "seal n", "seal org_id",
}

// TestEveryTamperShows is SEC-16: somebody with every right in the database changes one byte
// of any column, removes an event, puts two in another order or slips one in, and the verifier sees it.
func TestEveryTamperShows(t *testing.T) {
	t.Parallel()
	rng := proof.Rand(t)
	began := time.Now()
	db := pgtest.New(t)
	ctx := newOrg(t, db)
	const n = 60
	tx(t, ctx, db, func(ctx context.Context, tx pgx.Tx) error {
		for i := range n {
			e := event(i)
			e.Actor = tandem.ActorStamp{ID: tandem.NewID(), Kind: tandem.Human, Name: fmt.Sprintf("Person %d", i), OnBehalf: tandem.NewID()}
			e.Conv, e.Lead = tandem.NewID(), tandem.NewID()
			if _, err := Emit(ctx, tx, e); err != nil {
				return err
			}
		}
		return nil
	})
	b := openBus(t, t.TempDir())
	stop := background(t, drainOf(db, b).Run)
	eventually(t, "all sealed and released", func() bool { return count(t, db, "SELECT count(*) FROM outbox") == 0 })
	stop()
	owner := pgtest.Connect(t, db, pgtest.Super)
	columnsAreKnown(t, owner)
	trials := proof.Size(100, 1000)
	undo := errors.New("undo")
	seen, byNumber, kinds := 0, 0, map[string]int{}
	for range trials {
		kind, sql := tamper(rng, orgOf(t, ctx), n)
		err := pgx.BeginFunc(t.Context(), owner, func(tx pgx.Tx) error {
			if err := pg.EnterOrg(t.Context(), tx, orgOf(t, ctx)); err != nil {
				return err
			}
			results, err := tx.Conn().PgConn().Exec(t.Context(), sql).ReadAll()
			if err != nil {
				return fmt.Errorf("%s: %s: %w", kind, sql, err)
			}
			if results[len(results)-1].CommandTag.RowsAffected() == 0 {
				return fmt.Errorf("%s changed nothing: %s", kind, sql)
			}
			kinds[strings.Fields(kind)[0]]++
			switch k, err := Verify(ctx, tx); {
			case tandem.KindOf(err) == tandem.Conflict:
				seen++
			case err == nil && k != n: // the last event is gone with its seal: a copy of Head shows it
				seen++
				byNumber++
			default:
				t.Errorf("%s: not seen, %d verified, %v: %s", kind, k, err, sql)
			}
			return undo
		})
		if !errors.Is(err, undo) {
			t.Fatal(err)
		}
	}
	if k, err := verify(t, ctx, db); err != nil || k != n {
		t.Errorf("after undoing everything: %d, %v", k, err)
	}
	proof.Figure(t, "SEC-16", "%d random tampers of a sealed chain of %d events (%v): %d seen, %d of them (the newest event gone with its seal) by the number of seals alone; %v", trials, n, kinds, seen, byNumber, time.Since(began).Round(time.Second))
}

func columnsAreKnown(t *testing.T, conn *pgx.Conn) {
	t.Helper()
	rows, err := conn.Query(t.Context(), `SELECT CASE table_name WHEN 'event_seals' THEN 'seal ' ELSE '' END || column_name
		FROM information_schema.columns WHERE table_schema = 'public' AND table_name IN ('events', 'event_seals')`)
	if err != nil {
		t.Fatal(err)
	}
	have, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	want := slices.Clone(audited)
	slices.Sort(have)
	slices.Sort(want)
	if !slices.Equal(have, want) {
		t.Fatalf("the columns are %v, this test tampers with %v", have, want)
	}
}

// tamper makes one change that leaves every constraint of the tables whole, as somebody would who
// knows them: what a constraint refuses needs no verifier.
func tamper(rng *rand.Rand, org tandem.ID, n int) (kind, sql string) {
	at := 1 + rng.IntN(n)
	victim := fmt.Sprintf("(SELECT event_id FROM event_seals WHERE n = %d)", at)
	loosen := "ALTER TABLE event_seals DROP CONSTRAINT IF EXISTS event_seals_org_id_event_id_fkey; ALTER TABLE events DROP CONSTRAINT IF EXISTS events_severity_check, DROP CONSTRAINT IF EXISTS events_actor_kind_check;"
	switch rng.IntN(8) {
	case 0:
		return "deletion with its seal", "CREATE TEMP TABLE v ON COMMIT DROP AS SELECT event_id FROM event_seals WHERE n = " + fmt.Sprint(at) +
			"; DELETE FROM event_seals WHERE event_id IN (SELECT event_id FROM v); DELETE FROM events WHERE id IN (SELECT event_id FROM v)"
	case 1:
		return "deletion and the gap closed", fmt.Sprintf("CREATE TEMP TABLE v ON COMMIT DROP AS SELECT event_id FROM event_seals WHERE n = %d; DELETE FROM event_seals WHERE n = %[1]d; "+
			"UPDATE event_seals SET n = -n WHERE n > %[1]d; UPDATE event_seals SET n = -n - 1 WHERE n < 0; DELETE FROM events WHERE id IN (SELECT event_id FROM v)", at)
	case 2:
		other := 1 + (at+rng.IntN(n-1))%n
		return "reorder", fmt.Sprintf("UPDATE event_seals SET n = -n WHERE n IN (%d, %d); UPDATE event_seals SET n = CASE n WHEN -%[1]d THEN %[2]d ELSE %[1]d END WHERE n < 0", at, other)
	case 3:
		return "insertion without a seal", "INSERT INTO events (org_id, id, noun, verb, record_id, actor_kind, actor_name, description, category, severity, chain_id) " +
			"SELECT org_id, gen_random_uuid(), noun, verb, record_id, actor_kind, actor_name, description, category, severity, chain_id FROM events WHERE id = " + victim
	case 4:
		return "insertion with a seal", fmt.Sprintf("CREATE TEMP TABLE v ON COMMIT DROP AS SELECT gen_random_uuid() AS id; INSERT INTO events (org_id, id, noun, verb, record_id, actor_kind, actor_name, description, category, severity, chain_id) "+
			"SELECT org_id, v.id, noun, verb, record_id, actor_kind, actor_name, description, category, severity, chain_id FROM events e, v WHERE e.id = %s; "+
			"UPDATE event_seals SET n = -n WHERE n >= %d; UPDATE event_seals SET n = 1 - n WHERE n < 0; INSERT INTO event_seals SELECT '%s', %[2]d, id, sha256(id::text::bytea) FROM v", victim, at, org)
	}
	column := audited[rng.IntN(len(audited))]
	digit := func(c string) string { // one hexadecimal digit of a uuid, but for the version
		place := []int{1, 2, 3, 4, 5, 6, 7, 8, 10, 11, 12, 13, 16, 17, 18, 25, 30, 36}[rng.IntN(18)]
		return fmt.Sprintf("overlay(%s::text PLACING translate(substr(%[1]s::text, %[2]d, 1), '0123456789abcdef', '123456789abcdef0') FROM %[2]d FOR 1)::uuid", c, place)
	}
	letter := func(c string) string { // one byte of a text
		place := fmt.Sprintf("(1 + mod(%d, greatest(length(%s), 1)))", rng.IntN(1000), c)
		return fmt.Sprintf("overlay(%s PLACING chr(CASE ascii(substr(%[1]s, %[2]s, 1)) WHEN 120 THEN 121 ELSE 120 END) FROM %[2]s FOR 1)", c, place)
	}
	kind = "edit of " + column
	switch column {
	case "seal hash":
		return kind, fmt.Sprintf("UPDATE event_seals SET hash = set_byte(hash, %d, get_byte(hash, %[1]d) # %d) WHERE n = %d", rng.IntN(32), 1<<rng.IntN(8), at)
	case "seal n":
		return kind, fmt.Sprintf("UPDATE event_seals SET n = n + %d WHERE n = %d", n+1, at)
	case "seal event_id":
		return kind, loosen + fmt.Sprintf("UPDATE event_seals SET event_id = %s WHERE n = %d", digit("event_id"), at)
	case "seal org_id", "org_id":
		// Into another organization, out of sight of this one.
		table, where := "event_seals", fmt.Sprintf("n = %d", at)
		if column == "org_id" {
			table, where = "events", "id = "+victim
		}
		return kind, loosen + fmt.Sprintf("ALTER TABLE events DROP CONSTRAINT IF EXISTS events_org_id_fkey; UPDATE %s SET org_id = %s WHERE %s", table, digit("org_id"), where)
	case "id":
		return kind, loosen + fmt.Sprintf("UPDATE events SET id = %s WHERE id = %s", digit("id"), victim)
	case "record_id", "actor_id", "on_behalf_of", "conversation_id", "lead_id", "chain_id":
		return kind, fmt.Sprintf("UPDATE events SET %s = %s WHERE id = %s", column, digit(column), victim)
	case "seq":
		return kind, fmt.Sprintf("ALTER TABLE events ALTER seq SET GENERATED BY DEFAULT; UPDATE events SET seq = seq + %d WHERE id = %s", 1000+rng.IntN(1000), victim)
	case "at":
		return kind, fmt.Sprintf("UPDATE events SET at = at + interval '%d microseconds' WHERE id = %s", 1+rng.IntN(1_000_000), victim)
	case "changes":
		return kind, fmt.Sprintf("UPDATE events SET changes = %s WHERE id = %s", []string{
			`jsonb_set(changes, '{1,old}', '1.50')`, `jsonb_set(changes, '{1,new}', '12345678901234568')`, `jsonb_set(changes, '{0,field}', '"texu"')`,
			`changes - 0`, `jsonb_build_array(changes->1, changes->0)`, `jsonb_set(changes, '{0,more}', 'null')`, `jsonb_set(changes, '{1,new}', '"12345678901234567"')`,
		}[rng.IntN(7)], victim)
	}
	return kind, loosen + fmt.Sprintf("UPDATE events SET %s = %s WHERE id = %s", column, letter(column), victim)
}

// TestTheLogIsOnlyAppended: the application's role may insert and select, and nothing else.
func TestTheLogIsOnlyAppended(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	conn := pgtest.Connect(t, db, pgtest.Super)
	for _, table := range []string{"events", "event_seals"} {
		have := map[string]bool{}
		for _, p := range []string{"SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE", "REFERENCES", "TRIGGER"} {
			var granted bool
			if err := conn.QueryRow(t.Context(), "SELECT has_table_privilege($1, $2, $3)", pgtest.App, table, p).Scan(&granted); err != nil {
				t.Fatal(err)
			}
			if granted {
				have[p] = true
			}
		}
		var columns int
		err := conn.QueryRow(t.Context(), `SELECT count(*) FROM information_schema.column_privileges WHERE grantee = $1 AND table_name = $2 AND privilege_type NOT IN ('SELECT', 'INSERT')`, pgtest.App, table).Scan(&columns)
		if err != nil {
			t.Fatal(err)
		}
		if got := slices.Sorted(maps.Keys(have)); !slices.Equal(got, []string{"INSERT", "SELECT"}) || columns > 0 {
			t.Errorf("%s: the application may %v, and more on %d columns", table, got, columns)
		}
	}
	proof.Figure(t, "SEC-16", "events and event_seals: the application's role holds INSERT and SELECT alone")
}
