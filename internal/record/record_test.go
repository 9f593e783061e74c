package record_test

import (
	"bytes"
	"context"
	"encoding/json"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/internal/pg"
	"github.com/tandemhq/tandem/internal/pg/pgtest"
	"github.com/tandemhq/tandem/internal/record"
)

// widget is a record of these tests only.
type widget struct {
	ID        tandem.ID      `json:"id" db:"id"`
	Name      string         `json:"name" db:"name"`
	Kind      string         `json:"kind" db:"kind"`
	Lead      *tandem.ID     `json:"lead_id" db:"lead_id"`
	Tags      []string       `json:"tags" db:"tags"`
	Custom    map[string]any `json:"custom" db:"custom"`
	Secret    []byte         `json:"-" db:"secret"`
	Body      string         `json:"body" db:"body"`
	On        bool           `json:"on" db:"is_on"`
	Rank      int64          `json:"rank" db:"rank"`
	DueAt     *time.Time     `json:"due_at" db:"due_at"`
	CreatedAt time.Time      `json:"created_at" db:"created_at"`
	UpdatedAt time.Time      `json:"updated_at" db:"updated_at"`
	Version   int64          `json:"version" db:"version"`
}

var widgets = record.Set[widget]{
	Noun: "widget", Table: "widgets", Label: "name", Category: "crm", Archivable: true, Search: []string{"widgets.name"},
	Fields: []record.Field{
		{Name: "name", Write: true, Filter: true, Needed: true, Sort: "lower(widgets.name)"},
		{Name: "rank", Type: record.Int, Write: true, Filter: true, Sort: "widgets.rank"},
		{Name: "due_at", Type: record.Time, Write: true, Filter: true, Sort: "coalesce(widgets.due_at, 'infinity')"},
		{Name: "kind", Once: true, Filter: true},
		{Name: "lead_id", Type: record.ID, Filter: true, Write: true},
		{Name: "tags", Type: record.Texts, Write: true, Filter: true},
		{Name: "custom", Write: true},
		{Name: "secret", Once: true, Hidden: true},
		{Name: "body", Write: true, Hidden: true},
		{Name: "is_on", Type: record.Bool, Filter: true},
	},
	Check: func(w *widget) error {
		if w.Name = strings.TrimSpace(w.Name); w.Name == "" {
			return tandem.InvalidFields(tandem.FieldError{Field: "name", Message: "This is needed."})
		}
		return nil
	},
}

const createWidgets = `
CREATE TABLE widgets (
	org_id uuid NOT NULL REFERENCES organizations (id), id uuid NOT NULL, name text NOT NULL UNIQUE CHECK (length(name) < 50),
	kind text NOT NULL DEFAULT 'plain', lead_id uuid, tags text[] NOT NULL DEFAULT '{}', custom jsonb NOT NULL DEFAULT '{}',
	rank bigint NOT NULL DEFAULT 0, due_at timestamptz, secret bytea, body text NOT NULL DEFAULT '', is_on boolean NOT NULL DEFAULT false,
	created_at timestamptz NOT NULL DEFAULT now(), updated_at timestamptz NOT NULL DEFAULT now(), archived_at timestamptz, version bigint NOT NULL DEFAULT 1,
	PRIMARY KEY (org_id, id));
CALL tandem_protect('widgets');`

// shop is a database with widgets and an organization in it.
func shop(t *testing.T) (db *pg.DB, writer, reader context.Context) {
	t.Helper()
	db = pgtest.New(t)
	if _, err := pgtest.Connect(t, db, pgtest.Owner).Exec(t.Context(), createWidgets); err != nil {
		t.Fatal(err)
	}
	org := tandem.NewID()
	err := db.Tx(tandem.AsSystem(t.Context(), org), func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, "INSERT INTO organizations (id, name) VALUES ($1, 'Shop')", org)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	as := func(grants ...string) context.Context {
		a := tandem.Actor{Org: org, Member: tandem.NewID(), Kind: tandem.Human, Name: "Sam", Grants: map[string]bool{}}
		for _, g := range grants {
			a.Grants[g] = true
		}
		return tandem.WithActor(t.Context(), a)
	}
	return db, as("widget:read", "widget:write"), as("widget:read")
}

func want(t *testing.T, err error, k tandem.Kind, what string) {
	t.Helper()
	if err == nil || tandem.KindOf(err) != k {
		t.Errorf("%s: got %v, want %s", what, err, k)
	}
}

type fact struct {
	Topic       string          `db:"topic"`
	Description string          `db:"description"`
	Changes     []tandem.Change `db:"changes"`
	Category    string          `db:"category"`
}

func facts(t *testing.T, db *pg.DB, ctx context.Context) (all []fact) {
	t.Helper()
	err := db.Read(ctx, func(ctx context.Context, tx pgx.Tx) error {
		rows, err := tx.Query(ctx, "SELECT noun || '.' || verb AS topic, description, changes, category FROM events ORDER BY seq")
		if err != nil {
			return err
		}
		all, err = pgx.CollectRows(rows, pgx.RowToStructByName[fact])
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestARecordsLife(t *testing.T) {
	t.Parallel()
	db, writer, reader := shop(t)
	var w widget
	do := func(ctx context.Context, fn func(ctx context.Context, tx pgx.Tx) error) error { return db.Tx(ctx, fn) }
	create := func(ctx context.Context, v widget) error {
		return do(ctx, func(ctx context.Context, tx pgx.Tx) (err error) { w, err = widgets.Create(ctx, tx, v); return err })
	}
	patch := func(ctx context.Context, id tandem.ID, body string, version *int64) error {
		return do(ctx, func(ctx context.Context, tx pgx.Tx) (err error) {
			w, err = widgets.Patch(ctx, tx, id, json.RawMessage(body), version)
			return err
		})
	}
	archive := func(ctx context.Context, id tandem.ID, version *int64) error {
		return do(ctx, func(ctx context.Context, tx pgx.Tx) error { return widgets.Archive(ctx, tx, id, version) })
	}
	want(t, create(reader, widget{Name: "A"}), tandem.Forbidden, "creating without the permission")
	want(t, create(writer, widget{Name: " "}), tandem.Invalid, "what Check refuses")
	want(t, create(writer, widget{Name: strings.Repeat("x", 60)}), tandem.Invalid, "what the table refuses")
	want(t, create(writer, widget{Name: "a\x00b"}), tandem.Invalid, "a NUL")
	want(t, create(writer, widget{Name: "a\xff"}), tandem.Invalid, "no UTF-8")
	if err := create(writer, widget{Name: " One ", Kind: "fine", Secret: []byte("canary-secret"), Body: "canary-body"}); err != nil {
		t.Fatal(err)
	}
	if w.Name != "One" || w.Kind != "fine" || w.Tags == nil || w.Custom == nil || w.Version != 1 || w.CreatedAt.IsZero() || string(w.Secret) != "canary-secret" {
		t.Fatalf("%+v", w)
	}
	one := w.ID
	want(t, create(writer, widget{Name: "One"}), tandem.Conflict, "a name that is taken")
	if err := db.Read(writer, func(ctx context.Context, tx pgx.Tx) (err error) { w, err = widgets.Get(ctx, tx, one); return err }); err != nil {
		t.Fatal(err)
	}
	want(t, patch(reader, one, `{"name":"Two"}`, nil), tandem.Forbidden, "patching without the permission")
	for _, body := range []string{`{"kind":"other"}`, `{"secret":"x"}`, `{"is_on":true}`, `{"id":"x"}`, `{"org_id":"x"}`, `{"nope":1}`, `{"name":1}`, `{"name":null}`, `{"rank":null}`, `{"tags":{}}`, `""`, `{"custom":{"x":"\u0000"}}`, `{"name":"\u0000x"}`} {
		want(t, patch(writer, one, body, nil), tandem.Invalid, "patch "+body)
	}
	old := int64(1)
	if err := patch(writer, one, `{"name":"Two","tags":["a"],"body":"canary-new","custom":{"n":1}}`, &old); err != nil {
		t.Fatal(err)
	}
	if w.Version != 2 || !w.UpdatedAt.After(w.CreatedAt) || w.Name != "Two" || !slices.Equal(w.Tags, []string{"a"}) {
		t.Errorf("%+v", w)
	}
	want(t, patch(writer, one, `{"name":"Three"}`, &old), tandem.Conflict, "an old version")
	if err := patch(writer, one, `{"name":"Two","custom":{"n":1}}`, nil); err != nil || w.Version != 2 {
		t.Errorf("a patch that changes nothing: version %d, %v", w.Version, err)
	}
	if err := patch(writer, one, `{"tags":null}`, nil); err != nil || len(w.Tags) != 0 {
		t.Errorf("null clears a list: %v, %v", w.Tags, err)
	}
	if _, err := widgets.New([]byte(`{"name":"One","kind": null }`)); tandem.KindOf(err) != tandem.Invalid {
		t.Errorf("null for a text: %v", err)
	}
	lead := tandem.NewID()
	if err := patch(writer, one, `{"lead_id":"`+string(lead)+`"}`, nil); err != nil || tandem.Deref(w.Lead) != lead {
		t.Errorf("%v, %v", w.Lead, err)
	}
	if err := patch(writer, one, `{"lead_id":null}`, nil); err != nil || w.Lead != nil {
		t.Errorf("null clears a reference: %v, %v", w.Lead, err)
	}
	want(t, archive(reader, one, nil), tandem.Forbidden, "archiving without the permission")
	want(t, archive(writer, one, &old), tandem.Conflict, "archiving an old version")
	if err := archive(writer, one, nil); err != nil {
		t.Fatal(err)
	}
	want(t, archive(writer, one, nil), tandem.NotFound, "archiving twice")
	want(t, patch(writer, one, `{"name":"X"}`, nil), tandem.NotFound, "patching what is archived")
	all := facts(t, db, writer)
	var said []string
	for _, f := range all {
		said = append(said, f.Topic+": "+f.Description)
		if b, _ := json.Marshal(f); strings.Contains(string(b), "canary") {
			t.Errorf("a hidden value is in the event: %s", b)
		}
	}
	w1 := []string{
		"widget.created: Sam added the widget One", "widget.updated: Sam changed the name, tags, n, body of the widget Two", "widget.updated: Sam changed the tags of the widget Two",
		"widget.updated: Sam changed the lead id of the widget Two", "widget.updated: Sam changed the lead id of the widget Two", "widget.archived: Sam archived the widget Two",
	}
	if !slices.Equal(said, w1) {
		t.Errorf("events\n%s\nwant\n%s", strings.Join(said, "\n"), strings.Join(w1, "\n"))
	}
	if c := all[1].Changes; len(c) != 4 || c[0] != (tandem.Change{Field: "name", Old: "One", New: "Two"}) || c[3].Field != "body" {
		t.Errorf("changes %+v", c)
	}
}

func TestNothingOfAnotherOrganization(t *testing.T) {
	t.Parallel()
	db, writer, _ := shop(t)
	var w widget
	if err := db.Tx(writer, func(ctx context.Context, tx pgx.Tx) (err error) {
		w, err = widgets.Create(ctx, tx, widget{Name: "Mine"})
		return err
	}); err != nil {
		t.Fatal(err)
	}
	other := tandem.AsSystem(t.Context(), tandem.NewID())
	for name, fn := range map[string]pg.TxFunc{
		"get": func(ctx context.Context, tx pgx.Tx) error { _, err := widgets.Get(ctx, tx, w.ID); return err },
		"patch": func(ctx context.Context, tx pgx.Tx) error {
			_, err := widgets.Patch(ctx, tx, w.ID, []byte(`{"name":"x"}`), nil)
			return err
		},
		"archive": func(ctx context.Context, tx pgx.Tx) error { return widgets.Archive(ctx, tx, w.ID, nil) },
	} {
		want(t, db.Tx(other, fn), tandem.NotFound, name)
	}
	// The organization is asked for in the statement too, not by row-level security alone:
	// as the superuser, whom it does not bind, an actor of another organization sees nothing.
	conn := pgtest.Connect(t, db, pgtest.Super)
	tx, err := conn.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback(context.WithoutCancel(t.Context())) }()
	if p, err := widgets.List(other, tx, tandem.Query{}); err != nil || len(p.Items) != 0 {
		t.Errorf("list: %d widgets, %v", len(p.Items), err)
	}
	_, err = widgets.Get(other, tx, w.ID)
	want(t, err, tandem.NotFound, "get as superuser")
}

// Whatever a caller sends as filter, search, cursor or patch, the answer is a page or Invalid.
func TestHostileInputNeverReachesTheStatement(t *testing.T) {
	t.Parallel()
	db, writer, _ := shop(t)
	var id tandem.ID
	if err := db.Tx(writer, func(ctx context.Context, tx pgx.Tx) error {
		w, err := widgets.Create(ctx, tx, widget{Name: "Only"})
		id = w.ID
		return err
	}); err != nil {
		t.Fatal(err)
	}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	parts := []string{"'", `"`, ";", "--", "/*", "*/", "\\", "%", "_", "\x00", "\xff", "@org", "@limit", "$1", "{", "}", "NULL", " OR 1=1", "::uuid", "name", "kind", "lead_id", "is_on", "true", "ü", "\u202e", "\n", "1e999", "2026-01-01T00:00:00Z", string(id), "DROP TABLE widgets"}
	word := func() string {
		var b strings.Builder
		for range r.IntN(4) {
			b.WriteString(parts[r.IntN(len(parts))])
		}
		return b.String()
	}
	const tries = 3000
	kinds := map[string]int{}
	for range tries {
		q := tandem.Query{Limit: r.IntN(3) - 1}
		switch r.IntN(4) {
		case 0:
			q.Filter = map[string]string{word(): word()}
		case 1:
			q.Filter = map[string]string{[]string{"kind", "lead_id", "is_on"}[r.IntN(3)]: word()}
		case 2:
			q.Search = word()
		case 3:
			q.Cursor = []string{word(), tandem.EncodeCursor(word(), word()), tandem.EncodeCursor("2026-01-01T00:00:00Z", word())}[r.IntN(3)]
		}
		err := db.Read(writer, func(ctx context.Context, tx pgx.Tx) error { _, err := widgets.List(ctx, tx, q); return err })
		if err != nil && tandem.KindOf(err) != tandem.Invalid {
			t.Fatalf("%#v: %v", q, err)
		}
		if err == nil {
			kinds["page"]++
		} else {
			kinds["invalid"]++
		}
	}
	for range 300 {
		body, err := json.Marshal(map[string]any{word(): word(), []string{"name", "tags", "custom", "lead_id", "body"}[r.IntN(5)]: []any{word(), []string{word()}, map[string]string{word(): word()}, 1.5, nil, true}[r.IntN(6)]})
		if err != nil {
			t.Fatal(err)
		}
		err = db.Tx(writer, func(ctx context.Context, tx pgx.Tx) error {
			_, err := widgets.Patch(ctx, tx, id, body, nil)
			return err
		})
		if err != nil && tandem.KindOf(err) != tandem.Invalid {
			t.Fatalf("patch %s: %v", body, err)
		}
	}
	if kinds["page"] == 0 || kinds["invalid"] == 0 {
		t.Errorf("%v: this test asks for too little", kinds)
	}
	t.Logf("%d lists: %v", tries, kinds)
}

// The engine stays small enough to be read in one go: what only one or two records need is a method of theirs.
func TestStaysSmall(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	lines := 0
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		lines += bytes.Count(b, []byte("\n"))
	}
	if lines == 0 || lines >= 900 {
		t.Errorf("internal/record has %d lines, want less than 900", lines)
	}
}
