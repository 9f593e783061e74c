package pg_test

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/internal/pg"
	"github.com/tandemhq/tandem/internal/pg/pgtest"
	"github.com/tandemhq/tandem/internal/proof"
)

// withoutPolicy lists the only tables without row-level security, each with the reason.
// A new table that is neither protected nor listed here fails the test.
var withoutPolicy = map[string]string{
	"users":            "a login happens before an organization is known",
	"doors":            "hashes and ids: how a request finds its organization",
	"outbox":           "ids: the drain reads it across organizations",
	"processed":        "ids: what each consumer has applied",
	"timers":           "ids: the timer runner reads it across organizations",
	"loose_blobs":      "ids: the sweeper of the file store reads it across organizations",
	"goose_db_version": "which migrations are applied",
}

type table struct {
	Name    string `db:"name"`
	Enabled bool   `db:"enabled"`
	Forced  bool   `db:"forced"`
	Owner   string `db:"owner"`
	HasOrg  bool   `db:"has_org"`
	NotNull bool   `db:"org_not_null"`
	PKFirst string `db:"pk_first"`
}

const sqlTables = `
SELECT c.relname AS name, c.relrowsecurity AS enabled, c.relforcerowsecurity AS forced, pg_get_userbyid(c.relowner) AS owner,
       a.attname IS NOT NULL AS has_org, coalesce(a.attnotnull, false) AS org_not_null,
       coalesce((SELECT pa.attname FROM pg_index i JOIN pg_attribute pa ON pa.attrelid = c.oid AND pa.attnum = i.indkey[0]
                 WHERE i.indrelid = c.oid AND i.indisprimary), '') AS pk_first
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace AND n.nspname = 'public'
LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'org_id' AND NOT a.attisdropped
WHERE c.relkind IN ('r', 'p') ORDER BY c.relname`

// SEC-2, the catalog's half: every table is protected or listed with a reason.
func TestEveryTableIsProtected(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	conn := pgtest.Connect(t, pgtest.New(t), pgtest.Super)
	tables := collect[table](t, conn, sqlTables)
	protected := 0
	for _, tb := range tables {
		if tb.Owner != pgtest.Owner {
			t.Errorf("%s is owned by %s, want %s: an owner could switch its policy off", tb.Name, tb.Owner, pgtest.Owner)
		}
		if why := withoutPolicy[tb.Name]; why != "" {
			continue
		}
		if tb.Name != "organizations" && (!tb.HasOrg || !tb.NotNull) {
			t.Errorf("%s has no org_id NOT NULL, and is not among the reviewed tables", tb.Name)
			continue
		}
		if tb.Name != "organizations" && tb.PKFirst != "org_id" {
			t.Errorf("%s: the primary key begins with %q, want org_id", tb.Name, tb.PKFirst)
		}
		if !tb.Enabled || !tb.Forced {
			t.Errorf("%s: row-level security enabled=%v forced=%v, want both", tb.Name, tb.Enabled, tb.Forced)
		}
		var complete bool
		err := conn.QueryRow(ctx, `SELECT count(*) = 1 AND bool_and(polqual IS NOT NULL AND polwithcheck IS NOT NULL AND polcmd = '*')
			FROM pg_policy WHERE polrelid = $1::regclass`, tb.Name).Scan(&complete)
		if err != nil {
			t.Fatal(err)
		}
		if !complete {
			t.Errorf("%s: want exactly one policy, for all commands, with USING and WITH CHECK", tb.Name)
		}
		protected++
	}
	if protected < 20 {
		t.Fatalf("looked at %d protected tables; the schema has more", protected)
	}
	proof.Figure(t, "SEC-2", "catalog: %d tables protected, %d reviewed exceptions", protected, len(withoutPolicy))
}

type foreignKey struct {
	Table   string   `db:"tbl"`
	Name    string   `db:"name"`
	Target  string   `db:"target"`
	Columns []string `db:"cols"`
}

const sqlForeignKeys = `
SELECT conrelid::regclass::text AS tbl, conname AS name, confrelid::regclass::text AS target,
       ARRAY(SELECT a.attname::text FROM unnest(conkey) WITH ORDINALITY k(n, i) JOIN pg_attribute a ON a.attrelid = conrelid AND a.attnum = k.n ORDER BY k.i) AS cols
FROM pg_constraint WHERE contype = 'f' AND connamespace = 'public'::regnamespace`

// A foreign key between tenants' tables carries the organization, or one organization's
// row could point at another's.
func TestForeignKeysCarryTheOrganization(t *testing.T) {
	t.Parallel()
	conn := pgtest.Connect(t, pgtest.New(t), pgtest.Super)
	keys := collect[foreignKey](t, conn, sqlForeignKeys)
	for _, k := range keys {
		if k.Target == "organizations" || withoutPolicy[k.Target] != "" {
			continue
		}
		if len(k.Columns) < 2 || k.Columns[0] != "org_id" {
			t.Errorf("%s.%s references %s by (%s), want (org_id, ...)", k.Table, k.Name, k.Target, strings.Join(k.Columns, ", "))
		}
	}
	if len(keys) < 25 {
		t.Fatalf("looked at %d foreign keys; the schema has more", len(keys))
	}
}

// Nothing in the schema may see rows past row-level security.
func TestNothingLooksPastRowLevelSecurity(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	conn := pgtest.Connect(t, pgtest.New(t), pgtest.Super)
	for what, query := range map[string]string{
		"materialized views (they ignore policies)":       `SELECT relname FROM pg_class WHERE relkind = 'm' AND relnamespace = 'public'::regnamespace`,
		"views without security_invoker":                  `SELECT relname FROM pg_class WHERE relkind = 'v' AND relnamespace = 'public'::regnamespace AND NOT coalesce(reloptions @> '{security_invoker=true}', false)`,
		"SECURITY DEFINER functions":                      `SELECT proname FROM pg_proc WHERE prosecdef AND pronamespace = 'public'::regnamespace`,
		"app roles that are superuser or bypass policies": `SELECT rolname FROM pg_roles WHERE rolname IN ('tandem_app', 'tandem_owner') AND (rolsuper OR rolbypassrls)`,
		"rights of the app role to change the event log": `SELECT table_name || ' ' || privilege_type FROM information_schema.role_table_grants
			WHERE grantee = 'tandem_app' AND table_name IN ('events', 'event_seals') AND privilege_type NOT IN ('SELECT', 'INSERT')`,
		"indexes of protected tables that do not begin with org_id": `SELECT i.indexrelid::regclass::text FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid
			JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = i.indkey[0]
			WHERE c.relrowsecurity AND c.relname <> 'organizations' AND a.attname <> 'org_id'`,
	} {
		rows, err := conn.Query(ctx, query)
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		found, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		if len(found) > 0 {
			t.Errorf("%s: %v", what, found)
		}
	}
}

// SEC-2, the other half: whatever the table, another organization and no organization see
// nothing and can write nothing. The rows are made by the superuser, one per table, from
// the catalog, with the foreign keys switched off: only the policies stand in the way.
func TestForeignOrganizationSeesNothing(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	db := pgtest.New(t)
	super := pgtest.Connect(t, db, pgtest.Super)
	mine, other := tandem.NewID(), tandem.NewID()
	if _, err := super.Exec(ctx, `SET session_replication_role = replica`); err != nil {
		t.Fatal(err)
	}
	if _, err := super.Exec(ctx, `INSERT INTO organizations (id, name) VALUES ($1, 'mine'), ($2, 'other')`, mine, other); err != nil {
		t.Fatal(err)
	}
	checked := 0
	for _, tb := range collect[table](t, super, sqlTables) {
		if withoutPolicy[tb.Name] != "" || tb.Name == "organizations" {
			continue
		}
		insertAnyRow(t, super, tb.Name, mine)
		for who, enter := range map[string]tandem.ID{"a foreign organization": other, "no organization": ""} {
			attempt(t, db, who, tb.Name, enter, mine)
		}
		var n int
		if err := super.QueryRow(ctx, `SELECT count(*) FROM `+pgx.Identifier{tb.Name}.Sanitize()).Scan(&n); err != nil || n != 1 {
			t.Errorf("%s has %d rows afterwards (%v), want the 1 that was there", tb.Name, n, err)
		}
		checked++
	}
	proof.Figure(t, "SEC-2", "access: %d tables x 2 strangers x select/insert/update/delete: 0 rows seen, 0 written", checked)
}

// attempt tries all four verbs on a row that belongs to mine, from inside org.
func attempt(t *testing.T, db *pg.DB, who, name string, org, mine tandem.ID) {
	t.Helper()
	quoted := pgx.Identifier{name}.Sanitize()
	verbs := map[string]string{
		"select": `SELECT 1 FROM ` + quoted,
		"update": `UPDATE ` + quoted + ` SET org_id = org_id`,
		"delete": `DELETE FROM ` + quoted,
		"insert": fmt.Sprintf(`INSERT INTO %s SELECT (jsonb_populate_record(NULL::%s, jsonb_build_object('org_id', '%s'))).*`, quoted, quoted, mine),
	}
	for _, verb := range slices.Sorted(maps.Keys(verbs)) {
		err := db.Global(context.Background(), func(ctx context.Context, tx pgx.Tx) error {
			if org != "" {
				if _, err := tx.Exec(ctx, `SELECT set_config('app.org_id', $1, true)`, string(org)); err != nil {
					return err
				}
			}
			tag, err := tx.Exec(ctx, verbs[verb])
			if err == nil && (verb == "insert" || tag.RowsAffected() > 0) {
				t.Errorf("%s could %s %d rows of %s", who, verb, tag.RowsAffected(), name)
			}
			if err != nil && verb == "select" {
				t.Errorf("%s: select from %s failed instead of seeing nothing: %v", who, name, err)
			}
			return errRollback
		})
		if err == nil {
			t.Errorf("%s: %s on %s committed", who, verb, name)
		}
	}
}

var errRollback = fmt.Errorf("roll back")

type column struct {
	Name    string `db:"name"`
	Type    string `db:"type"`
	NotNull bool   `db:"not_null"`
}

// insertAnyRow writes one row with some value of the right type in every required column.
func insertAnyRow(t *testing.T, super *pgx.Conn, name string, org tandem.ID) {
	t.Helper()
	ctx := context.Background()
	cols := collect[column](t, super, fmt.Sprintf(`
		SELECT attname AS name, format_type(atttypid, NULL) AS type, attnotnull AND NOT atthasdef AND attidentity = '' AS not_null
		FROM pg_attribute WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped AND attgenerated = '' ORDER BY attnum`, quote(name)))
	samples := map[string]string{
		"uuid": "gen_random_uuid()", "text": "'x'", "bigint": "1", "integer": "1", "real": "1", "boolean": "false", "bytea": `'\x00'`,
		"jsonb": "'{}'", "timestamp with time zone": "now()", "text[]": "'{}'",
	}
	var names, values []string
	for _, c := range cols {
		switch {
		case c.Name == "org_id":
			names, values = append(names, c.Name), append(values, quote(string(org)))
		case c.NotNull:
			v, ok := samples[c.Type]
			if !ok {
				t.Fatalf("%s.%s: no sample for the type %s", name, c.Name, c.Type)
			}
			names, values = append(names, c.Name), append(values, v)
		}
	}
	// CHECK constraints are about content; this row is about its organization only.
	checks := collect[struct {
		Name string `db:"name"`
	}](t, super, fmt.Sprintf(`SELECT conname AS name FROM pg_constraint WHERE conrelid = %s::regclass AND contype = 'c'`, quote(name)))
	for _, c := range checks {
		if _, err := super.Exec(ctx, fmt.Sprintf("ALTER TABLE %s DROP CONSTRAINT %s", pgx.Identifier{name}.Sanitize(), pgx.Identifier{c.Name}.Sanitize())); err != nil {
			t.Fatal(err)
		}
	}
	sql := fmt.Sprintf("INSERT INTO %s (%s) VALUES (%s)", pgx.Identifier{name}.Sanitize(), strings.Join(names, ", "), strings.Join(values, ", "))
	if _, err := super.Exec(ctx, sql); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }

func collect[T any](t *testing.T, conn *pgx.Conn, sql string) []T {
	t.Helper()
	rows, err := conn.Query(context.Background(), sql)
	if err != nil {
		t.Fatal(err)
	}
	out, err := pgx.CollectRows(rows, pgx.RowToStructByName[T])
	if err != nil {
		t.Fatal(err)
	}
	return out
}
