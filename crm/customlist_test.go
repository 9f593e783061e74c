package crm_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/crm"
	"github.com/tandemhq/tandem/internal/proof"
)

// filled gives accounts values of every type, and some what only comes from outside.
func (h *hub) filled(n int) (all []crm.Account) {
	h.t.Helper()
	h.defineAll("account")
	r := proof.Rand(h.t)
	pick := func(of ...any) any { return of[r.IntN(len(of))] }
	for i := range n {
		custom := map[string]any{}
		for key, v := range map[string]any{
			"motto": pick("abc", "abd", "zz"), "story": "once upon", "seats": pick(-1.0, 0.5, 3.0, 12.0, 1000.0), "renewal": pick("2026-01-05", "2025-12-31", "2100-02-28"),
			"budget": map[string]any{"minor": pick(0.0, 900.0, 125000.0), "currency": "EUR"}, "met": pick("2026-01-05T10:00:00Z", "2026-01-05T10:00:01Z", "0001-01-01T00:00:00Z"),
			"plan": pick("pro", "free"), "needs": pick([]any{"sso"}, []any{"api", "sso"}), "vip": pick(true, false), "mail": pick("a@example.com", "b@example.com"),
		} {
			if r.IntN(4) > 0 {
				custom[key] = v
			}
		}
		raw, err := json.Marshal(map[string]any{"name": fmt.Sprint("Account ", i), "custom": custom})
		if err != nil {
			h.t.Fatal(err)
		}
		all = append(all, h.account(string(raw)))
	}
	h.tx(h.sys, func(ctx context.Context, tx pgx.Tx) error {
		for i, custom := range []string{
			`{"seats":"many","renewal":"2026-02-31","met":"2026-02-31T25:00:00Z","vip":"yes","budget":7,"needs":"sso","motto":["abc"],"plan":{"a":1},"mail":null}`,
			`{"seats":1e300,"renewal":5,"met":"2026-01-05T10:00:00+01:00","vip":1,"budget":{"minor":"x"},"needs":{"sso":true},"story":7}`,
			`{"renewal":"2026-02-31","met":"9999-12-31T23:59:59Z","budget":{"minor":1e200},"seats":-0.000000000000000000001}`,
		} {
			if _, err := tx.Exec(ctx, "INSERT INTO accounts (org_id, id, name, custom) VALUES ($1, $2, $3, $4)", h.org.ID, tandem.NewID(), fmt.Sprint("Outside ", i), custom); err != nil {
				return err
			}
		}
		return nil
	})
	return all
}

func (h *hub) accounts(q tandem.Query) (all []crm.Account, err error) {
	for {
		var p tandem.Page[crm.Account]
		err := h.db.Read(h.human, func(ctx context.Context, tx pgx.Tx) (err error) {
			p, err = crm.Accounts.List(ctx, tx, q)
			return err
		})
		if err != nil {
			return all, err
		}
		all = append(all, p.Items...)
		if q.Cursor = p.Next; p.Next == "" {
			return all, nil
		}
	}
}

// Conditions on custom fields select what a plain loop selects, by the type that the definition says.
func TestCustomFilters(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	all := h.filled(60)
	num := func(v any, ok func(float64) bool) bool { n, is := v.(float64); return is && ok(n) }
	text := func(v any, ok func(string) bool) bool { s, is := v.(string); return is && ok(s) }
	for _, x := range []struct {
		key, op, value string
		is             func(v any) bool
		outside        int // how many of those from outside it selects
	}{
		{"seats", "eq", "3.0", func(v any) bool { return v == 3.0 }, 0},
		{"seats", "ne", "3", func(v any) bool { return v != 3.0 }, 3},
		{"seats", "gte", "0.5", func(v any) bool { return num(v, func(n float64) bool { return n >= 0.5 }) }, 1},
		{"seats", "lt", "0", func(v any) bool { return num(v, func(n float64) bool { return n < 0 }) }, 1},
		{"seats", "in", "3,12.0,7", func(v any) bool { return v == 3.0 || v == 12.0 }, 0},
		{"seats", "null", "true", func(v any) bool { return v == nil }, 1},
		{"budget", "gt", "899", func(v any) bool { m, _ := v.(map[string]any); n, _ := m["minor"].(float64); return n > 899 }, 1},
		{"budget", "eq", "900", func(v any) bool { m, _ := v.(map[string]any); return m["minor"] == 900.0 }, 0},
		{"renewal", "lte", "2026-01-05", func(v any) bool { return text(v, func(s string) bool { return s <= "2026-01-05" }) }, 0},
		{"renewal", "eq", "2026-01-05", func(v any) bool { return v == "2026-01-05" }, 0},
		{"met", "eq", "2026-01-05T11:00:00+01:00", func(v any) bool { return v == "2026-01-05T10:00:00Z" }, 0},
		{"met", "gt", "2026-01-05T10:00:00Z", func(v any) bool { return text(v, func(s string) bool { return s > "2026-01-05T10:00:00Z" }) }, 1},
		{"plan", "", "pro", func(v any) bool { return v == "pro" }, 0},
		{"plan", "in", "pro,gold", func(v any) bool { return v == "pro" }, 0},
		{"motto", "has", "B", func(v any) bool { return text(v, func(s string) bool { return strings.Contains(s, "b") }) }, 1},
		{"needs", "has", "api", func(v any) bool { l, _ := v.([]any); return slices.Contains(l, any("api")) }, 0},
		{"needs", "null", "false", func(v any) bool { return v != nil }, 2},
		{"vip", "eq", "true", func(v any) bool { return v == true }, 0},
		{"vip", "ne", "true", func(v any) bool { return v != true }, 3},
		{"mail", "eq", "a@example.com", func(v any) bool { return v == "a@example.com" }, 0},
	} {
		wanted := x.outside
		for _, a := range all {
			if x.is(a.Custom[x.key]) {
				wanted++
			}
		}
		where := &tandem.Where{Or: []tandem.Where{{Field: "custom." + x.key, Op: x.op, Value: x.value}}}
		if got, err := h.accounts(tandem.Query{Where: where, Limit: 1000}); err != nil || len(got) != wanted {
			t.Errorf("%s %s %s: %d accounts, want %d, %v", x.key, x.op, x.value, len(got), wanted, err)
		}
	}
	for _, w := range []tandem.Where{
		{Field: "custom.seats", Value: "many"},
		{Field: "custom.seats", Op: "gt", Value: "1e5"},
		{Field: "custom.seats", Op: "has", Value: "1"},
		{Field: "custom.renewal", Value: "2026-02-31"},
		{Field: "custom.renewal", Op: "lt", Value: "infinity"},
		{Field: "custom.seats", Value: strings.Repeat("9", 500)},
		{Field: "custom.met", Value: "2026-01-05"},
		{Field: "custom.vip", Value: "yes"},
		{Field: "custom.plan", Op: "gt", Value: "a"},
		{Field: "custom.needs", Op: "eq", Value: "sso"},
		{Field: "custom.nope", Value: "1"},
		{Field: "custom.", Value: "1"},
		{Field: "custom", Value: "1"},
	} {
		_, err := h.accounts(tandem.Query{Where: &w})
		want(t, err, tandem.Invalid, fmt.Sprint(w))
	}
	_, err := h.accounts(tandem.Query{Filter: map[string]string{"custom.nope": "1"}})
	if names(err)["custom.nope"] == "" {
		t.Errorf("an unknown field in a filter: %v", err)
	}
	if got, err := h.accounts(tandem.Query{Filter: map[string]string{"custom.plan": "pro", "custom.vip": ""}}); err != nil || len(got) == 0 || len(got) == len(all) {
		t.Errorf("a plain filter: %d, %v", len(got), err)
	}
}

// Lists sorted by a custom field are whole and in order, page after page; what has no value stands at one end.
func TestCustomSorts(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	all := h.filled(60)
	for key, value := range map[string]func(v any) string{
		"seats": func(v any) string {
			n, ok := v.(float64)
			return map[bool]string{true: fmt.Sprintf("%030.15f", n+1e6)}[ok]
		},
		"renewal": func(v any) string { s, _ := v.(string); return s },
		"met":     func(v any) string { s, _ := v.(string); return s },
		"plan":    func(v any) string { s, _ := v.(string); return s },
		"vip":     func(v any) string { return map[bool]string{true: "1"}[v == true] },
		"budget": func(v any) string {
			m, ok := v.(map[string]any)
			n, _ := m["minor"].(float64)
			return map[bool]string{true: fmt.Sprintf("%030.0f", n)}[ok]
		},
	} {
		var up []tandem.ID
		for _, sort := range []string{"custom." + key, "-custom." + key} {
			got, err := h.accounts(tandem.Query{Sort: sort, Limit: 7})
			if err != nil || len(got) != len(all)+3 {
				t.Fatalf("%s: %d accounts, %v", sort, len(got), err)
			}
			var ids []tandem.ID
			var values []string
			for _, a := range got {
				ids = append(ids, a.ID)
				if v := value(a.Custom[key]); v != "" && strings.HasPrefix(a.Name, "Account") {
					values = append(values, v)
				}
			}
			if up == nil {
				up = ids
			} else {
				slices.Reverse(ids)
				slices.Reverse(values)
			}
			if !slices.Equal(up, ids) || !slices.IsSorted(values) || len(values) == 0 {
				t.Errorf("%s is not in order: %v", sort, values)
			}
		}
	}
	for _, sort := range []string{"custom.story", "custom.needs", "custom.nope", "custom.", "-custom", "custom.seats; --"} {
		_, err := h.accounts(tandem.Query{Sort: sort})
		want(t, err, tandem.Invalid, "sorted by "+sort)
	}
}

// A view may name the custom fields that there are.
func TestViewsOfCustomFields(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	f := h.define(`{"record_type":"lead","label":"Seats","key":"seats","type":"number"}`)
	good := `{"name":"x","record_type":"lead","query":{"filter":{"custom.seats":"3"},"where":{"field":"custom.seats","op":"gt","value":"1"},"sort":"-custom.seats","fields":["title","custom.seats"]}}`
	if _, err := h.view(h.human, good); err != nil {
		t.Error(err)
	}
	for _, bad := range []string{`{"sort":"custom.nope"}`, `{"filter":{"custom.nope":"1"}}`, `{"fields":["custom.nope"]}`, `{"where":{"field":"custom.seats","value":"many"}}`} {
		_, err := h.view(h.human, `{"name":"x","record_type":"lead","query":`+bad+`}`)
		want(t, err, tandem.Invalid, bad)
	}
	_, err := h.view(h.human, `{"name":"x","record_type":"contact","query":{"sort":"custom.seats"}}`)
	want(t, err, tandem.Invalid, "a field of another type of record")
	if err := h.archive("custom_field", f.ID); err != nil {
		t.Fatal(err)
	}
	_, err = h.view(h.human, good)
	want(t, err, tandem.Invalid, "an archived field")
}

// What few records have is found by the index on custom, under row-level security; writing unique values reads one record.
func TestCustomFiltersUseTheIndex(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	h.defineAll("lead")
	h.define(`{"record_type":"lead","label":"Number","key":"no","type":"text","is_unique":true}`)
	for _, of := range []*hub{h, addOrg(t, h.db, "other")} {
		of.seedMany(20_000)
		h.tx(of.sys, func(ctx context.Context, tx pgx.Tx) error {
			_, err := tx.Exec(ctx, `UPDATE leads SET custom = jsonb_build_object('seats', right(title, 3)::int, 'needs', jsonb_build_array('n' || right(title, 3)), 'renewal', '2026-01-05', 'no', title)
				WHERE title ~ '[0-9]{3}$' AND right(title, 1) <> '7'`)
			return err
		})
	}
	h.analyze("leads", "contacts", "stages", "members")
	for name, w := range map[string]tandem.Where{
		"equality": {Field: "custom.seats", Value: "131"}, "one of a list": {Field: "custom.needs", Value: "n131"}, "nobody's value": {Field: "custom.plan", Value: "pro"},
	} {
		plan := h.explain(func(ctx context.Context, tx pgx.Tx) error {
			_, err := crm.Leads.List(ctx, tx, tandem.Query{Where: &w})
			return err
		})
		t.Logf("%s:\n%s", name, plan)
		if !strings.Contains(plan, "leads_custom") || strings.Contains(plan, "Seq Scan on leads") {
			t.Errorf("%s does not use leads_custom", name)
		}
	}
}

// hostile is a generator of queries and values that nobody means well.
type hostile struct{ *rand.Rand }

func (g hostile) of(all ...string) string { return all[g.IntN(len(all))] }

func (g hostile) text() string {
	s := g.of("", "'", "''", `"`, `\`, "--", ";", "/*", "*/", ")", "(", "$1", "@org", "@w0", "?", "%s", "::text", "' OR 1=1 --", "'; DROP TABLE leads; --", "\x00", "\xff", "é", "漢字", "🦊", "\u202e",
		"null", "true", "NaN", "Infinity", "-infinity", "1e5", "-0", "0x10", "12", "12.5", "2026-02-30", "2026-01-05", "2026-01-05T10:00:00Z", "0000-00-00", "{}", "[]", `{"a":1}`, "pro", "sso", "a,b,c",
		",", "..", "pg_sleep(9)", "(SELECT password_hash FROM users)", "01890000-0000-7000-8000-00000000dead", "now()", "org_id", "archived_at")
	switch g.IntN(12) {
	case 0:
		return s + g.text()
	case 1:
		return strings.Repeat(s, g.IntN(400))
	case 2:
		return string([]rune{rune(g.IntN(0x10ffff)), rune(g.IntN(128))}) + s
	}
	return s
}

var hostileKeys = []string{"motto", "story", "seats", "budget", "renewal", "met", "plan", "needs", "vip", "site", "mail", "line", "no", "buddy"}

func (g hostile) key() string {
	key := hostileKeys[g.IntN(len(hostileKeys))]
	switch g.IntN(16) {
	case 0:
		return key + g.text()
	case 1:
		return g.text() + key
	case 2:
		return g.text()
	case 3:
		return strings.ToUpper(key)
	}
	return key
}

func (g hostile) field() string {
	if g.IntN(6) == 0 {
		return g.of("name", "created_at", "tags", "custom", "org_id", "custom.", "owner_id", g.text())
	}
	return "custom." + g.key()
}

func (g hostile) where(depth int) tandem.Where {
	if depth < 5 && g.IntN(5) == 0 {
		w := tandem.Where{}
		for range g.IntN(4) {
			w.And = append(w.And, g.where(depth+1))
		}
		if g.IntN(2) == 0 {
			w.And, w.Or = w.Or, w.And
		}
		return w
	}
	return tandem.Where{Field: g.field(), Op: g.of("", "eq", "ne", "in", "lt", "lte", "gt", "gte", "has", "null", g.text()), Value: g.text()}
}

func (g hostile) query() tandem.Query {
	q := tandem.Query{Limit: 3, Total: g.IntN(20) == 0}
	switch g.IntN(4) {
	case 0:
		q.Filter = map[string]string{g.field(): g.text()}
	case 1:
		q.Sort = g.of("", "-", "--") + g.field()
		if g.IntN(3) == 0 {
			q.Cursor = tandem.EncodeCursor(q.Sort, g.text(), g.of("01890000-0000-7000-8000-00000000dead", g.text()))
		}
	default:
		w := g.where(0)
		q.Where = &w
	}
	return q
}

func (g hostile) value(depth int) any {
	switch g.IntN(9) {
	case 0:
		return nil
	case 1:
		return g.IntN(2) == 0
	case 2:
		return []float64{0, -1, 1.5, 1e15, 1e300, -1e-300, 1 << 53}[g.IntN(7)]
	case 3:
		if depth < 3 {
			return []any{g.value(depth + 1), g.text()}
		}
	case 4:
		if depth < 3 {
			return map[string]any{g.of("minor", g.text()): g.value(depth + 1), "currency": g.of("EUR", g.text())}
		}
	}
	return g.text()
}

// definition is a body whose key is hostile, which its type may also be.
func (g hostile) definition() map[string]any {
	return map[string]any{
		"record_type": g.of("account", "lead", g.text()), "key": g.key(), "label": g.text(), "type": g.of("text", "select", "number", "relation", g.text()),
		"default_value": g.value(0), "options": []any{map[string]any{"value": g.text(), "label": g.text()}}, "validation": map[string]any{g.of("pattern", "min", g.text()): g.value(0)}, "target": g.of("lead", g.text()),
	}
}

// SEC-5: whatever is asked and written, the database never sees SQL that it cannot read, and nobody gets a failure of ours.
func TestHostileCustomFields(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	all := h.filled(8)
	h.define(`{"record_type":"account","label":"Number","key":"no","type":"text","is_unique":true}`)
	h.define(`{"record_type":"account","label":"Buddy","key":"buddy","type":"user"}`)
	g := hostile{proof.Rand(t)}
	inputs := proof.Size(4_000, 100_000)
	answered, failures, syntax := map[string]int{}, 0, 0
	note := func(what string, in any, err error) {
		kind := "answered"
		if err != nil {
			kind = tandem.KindOf(err).String()
		}
		answered[what+" "+kind]++
		var pe *pgconn.PgError
		if errors.As(err, &pe) && !(pe.Code == "23505" || pe.Code == "23514") || tandem.KindOf(err) == tandem.Internal && err != nil {
			if failures++; pe != nil && strings.HasPrefix(pe.Code, "42") {
				syntax++
			}
			if failures < 10 {
				t.Errorf("%s %q: %v", what, fmt.Sprint(in), err)
			}
		}
	}
	for i := 0; i < inputs; {
		h.tx(h.human, func(ctx context.Context, tx pgx.Tx) error {
			for range 200 {
				i++
				switch {
				case i%10 == 0:
					raw, err := json.Marshal(map[string]any{"custom": map[string]any{g.key(): g.value(0)}})
					if err != nil {
						return err
					}
					note("value", string(raw), pgx.BeginFunc(ctx, tx, func(tx pgx.Tx) error {
						_, err := crm.Accounts.Patch(ctx, tx, all[g.IntN(len(all))].ID, raw, nil)
						return err
					}))
				case i%50 == 1:
					raw, err := json.Marshal(g.definition())
					if err != nil {
						return err
					}
					note("definition", string(raw), pgx.BeginFunc(ctx, tx, func(tx pgx.Tx) error {
						_, err := records("custom_field").Create(ctx, tx, raw)
						return err
					}))
				default:
					q := g.query()
					note("list", q, pgx.BeginFunc(ctx, tx, func(tx pgx.Tx) error {
						_, err := crm.Accounts.List(ctx, tx, q)
						return err
					}))
				}
			}
			return nil
		})
	}
	for _, what := range []string{"list answered", "list invalid", "value answered", "value invalid", "definition invalid"} {
		if answered[what] == 0 {
			t.Errorf("no %s: the inputs prove nothing: %v", what, answered)
		}
	}
	proof.Figure(t, "SEC-5", "%s hostile filters, sorts, values and definitions of custom fields: %d failures, %d syntax errors; %v", strconv.Itoa(inputs), failures, syntax, answered)
}
