package crm_test

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/crm"
)

func records(noun string) crm.Resource {
	return crm.All[slices.IndexFunc(crm.All, func(r crm.Resource) bool { return r.Noun == noun })]
}

// add makes a record as the API does.
func (h *hub) add(as context.Context, noun, raw string) (v any, err error) {
	err = h.try(as, func(ctx context.Context, tx pgx.Tx) (err error) {
		v, err = records(noun).Create(ctx, tx, json.RawMessage(raw))
		return err
	})
	return v, err
}

// patch changes a record as the API does.
func (h *hub) patch(as context.Context, noun string, id tandem.ID, raw string) (v any, err error) {
	err = h.try(as, func(ctx context.Context, tx pgx.Tx) (err error) {
		v, err = records(noun).Patch(ctx, tx, id, json.RawMessage(raw), nil)
		return err
	})
	return v, err
}

func (h *hub) archive(noun string, id tandem.ID) error {
	return h.try(h.human, func(ctx context.Context, tx pgx.Tx) error { return records(noun).Archive(ctx, tx, id, nil) })
}

func (h *hub) restore(noun string, id tandem.ID) error {
	return h.try(h.human, func(ctx context.Context, tx pgx.Tx) error {
		_, err := records(noun).Restore(ctx, tx, id)
		return err
	})
}

// define makes a custom field.
func (h *hub) define(raw string) crm.CustomField {
	h.t.Helper()
	v, err := h.add(h.human, "custom_field", raw)
	if err != nil {
		h.t.Fatal(raw, err)
	}
	return v.(crm.CustomField)
}

// names is the sentence about each wrong field, by field.
func names(err error) map[string]string {
	out := map[string]string{}
	for _, f := range tandem.FieldErrors(err) {
		out[f.Field] = f.Message
	}
	return out
}

// oneOfEach are definitions of every type but relation and user.
var oneOfEach = []string{
	`"key":"motto","type":"text","validation":{"min_length":2,"max_length":5,"pattern":"[a-zé]+"}`, `"key":"story","type":"long_text"`,
	`"key":"seats","type":"number","validation":{"min":-1,"max":1000.5}`, `"key":"budget","type":"money","validation":{"min":0}`, `"key":"renewal","type":"date"`,
	`"key":"met","type":"datetime"`, `"key":"plan","type":"select","options":[{"value":"pro"},{"value":"free"}]`,
	`"key":"needs","type":"multi_select","options":[{"value":"sso"},{"value":"api"}]`, `"key":"vip","type":"checkbox"`, `"key":"site","type":"url"`,
	`"key":"mail","type":"email"`, `"key":"line","type":"phone"`,
}

func (h *hub) defineAll(recordType string) {
	h.t.Helper()
	for _, d := range oneOfEach {
		h.define(`{"record_type":"` + recordType + `","label":"A field",` + d + `}`)
	}
}

// Every value is brought into the one spelling of its type, and what is none is named.
func TestCustomValuesAreOfTheirType(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	h.defineAll("account")
	h.define(`{"record_type":"account","label":"Buddy","key":"buddy","type":"user"}`)
	h.define(`{"record_type":"account","label":"Broker","key":"broker","type":"relation","target":"contact"}`)
	c, gone := h.contact("sara@example.com", "Sara"), h.contact("bo@example.com", "Bo")
	if err := h.archive("contact", gone.ID); err != nil {
		t.Fatal(err)
	}
	foreign := addOrg(t, h.db, "other")
	stranger := foreign.contact("x@example.com", "X")
	a := h.account(`{"name":"Engines"}`)
	q := func(v any) string { return fmt.Sprintf("%q", v) }
	for _, x := range []struct{ key, in, out string }{ // no out: refused
		{"motto", `" été "`, `"été"`},
		{"motto", `"x"`, ""},
		{"motto", `"abcdef"`, ""},
		{"motto", `"ab1"`, ""},
		{"motto", `5`, ""},
		{"motto", `"a\u0000b"`, ""},
		{"story", `"` + strings.Repeat("x", 20_000) + `"`, `"` + strings.Repeat("x", 20_000) + `"`},
		{"story", `"` + strings.Repeat("x", 20_001) + `"`, ""},
		{"seats", `12.50`, `12.5`},
		{"seats", `-1`, `-1`},
		{"seats", `1000.6`, ""},
		{"seats", `"12"`, ""},
		{"seats", `1e300`, ""},
		{"budget", `{"minor":125000,"currency":"EUR"}`, `{"currency":"EUR","minor":125000}`},
		{"budget", `{"minor":-1,"currency":"EUR"}`, ""},
		{"budget", `{"minor":1.5,"currency":"EUR"}`, ""},
		{"budget", `{"minor":1,"currency":"euro"}`, ""},
		{"budget", `{"minor":1,"currency":"EUR","x":1}`, ""},
		{"budget", `1`, ""},
		{"renewal", `"2026-11-30"`, `"2026-11-30"`},
		{"renewal", `"2026-02-30"`, ""},
		{"renewal", `"0000-01-01"`, ""},
		{"renewal", `"30.11.2026"`, ""},
		{"met", `"2026-11-30T16:04:05.75+01:00"`, `"2026-11-30T15:04:05Z"`},
		{"met", `"2026-11-30"`, ""},
		{"plan", `"pro"`, `"pro"`},
		{"plan", `"Pro"`, ""},
		{"needs", `["sso","api","sso"]`, `["sso","api"]`},
		{"needs", `"sso"`, ""},
		{"needs", `["gold"]`, ""},
		{"vip", `true`, `true`},
		{"vip", `"true"`, ""},
		{"site", `"https://example.com/a b"`, `"https://example.com/a b"`},
		{"site", `"javascript:alert(1)"`, ""},
		{"site", `"example.com"`, ""},
		{"mail", `" Ada@Example.com"`, `"ada@example.com"`},
		{"mail", `"ada"`, ""},
		{"line", `"+49 40 123456"`, `"+4940123456"`},
		{"line", `"12"`, ""},
		{"buddy", q(h.sam.ID), q(h.sam.ID)},
		{"buddy", q(foreign.sam.ID), ""},
		{"buddy", q(c.ID), ""},
		{"broker", q(c.ID), q(c.ID)},
		{"broker", q(gone.ID), ""},
		{"broker", q(stranger.ID), ""},
		{"broker", q(a.ID), ""},
		{"broker", `"nobody"`, ""},
		{"nonsense", `1`, ""},
		{"nonsense", `null`, ""},
		{"org_id", q(foreign.org.ID), ""},
	} {
		v, err := h.patch(h.human, "account", a.ID, `{"custom":{"`+x.key+`":`+x.in+`}}`)
		if x.out == "" {
			want(t, err, tandem.Invalid, x.key+" "+x.in)
			if names(err)["custom."+x.key] == "" {
				t.Errorf("%s %s: the error names no such field: %v", x.key, x.in, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s %.100s: %v", x.key, x.in, err)
			continue
		}
		if got, err := json.Marshal(v.(crm.Account).Custom[x.key]); err != nil || string(got) != x.out {
			t.Errorf("%s %.100s is %.100s, want %.100s", x.key, x.in, got, x.out)
		}
	}
	// All that is wrong is named in one answer, with the record's own fields.
	_, err := h.add(h.human, "account", `{"name":" ","custom":{"seats":"many","plan":"gold","nope":1,"buddy":"`+string(c.ID)+`"}}`)
	for _, f := range []string{"name", "custom.seats", "custom.plan", "custom.nope", "custom.buddy"} {
		if names(err)[f] == "" {
			t.Errorf("%v does not name %s", err, f)
		}
	}
	for _, raw := range []string{`{"custom":null}`, `{"custom":[]}`, `{"custom":"x"}`, `{"custom":{"seats":1},"id":"x"}`} {
		_, err := h.patch(h.human, "account", a.ID, raw)
		want(t, err, tandem.Invalid, raw)
	}
}

// A patch changes the keys that it names, null removes one, and the event tells each.
func TestCustomValuesAreMerged(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	h.define(`{"record_type":"account","label":"Seats","key":"seats","type":"number","required":true}`)
	h.define(`{"record_type":"account","label":"Plan","key":"plan","type":"select","options":[{"value":"pro"},{"value":"free"}],"default_value":"free"}`)
	h.define(`{"record_type":"account","label":"Motto","key":"motto","type":"text"}`)
	_, err := h.add(h.human, "account", `{"name":"x"}`)
	if names(err)["custom.seats"] == "" {
		t.Errorf("without what is required: %v", err)
	}
	_, err = h.add(h.human, "account", `{"name":"x","custom":{"seats":null}}`)
	if names(err)["custom.seats"] == "" {
		t.Errorf("with null for what is required: %v", err)
	}
	a := h.account(`{"name":"Engines","custom":{"seats":3,"motto":"Go"}}`)
	if a.Custom["plan"] != "free" || a.Custom["seats"] != 3.0 {
		t.Fatalf("%v", a.Custom)
	}
	none := h.account(`{"name":"No plan","custom":{"seats":1,"plan":null}}`)
	if _, ok := none.Custom["plan"]; ok {
		t.Errorf("null takes the default: %v", none.Custom)
	}
	v, err := h.patch(h.human, "account", a.ID, `{"industry":"Steam","custom":{"seats":4,"motto":null,"plan":"free"}}`)
	if err != nil || fmt.Sprint(v.(crm.Account).Custom) != "map[plan:free seats:4]" {
		t.Fatalf("%+v, %v", v, err)
	}
	if again, err := h.patch(h.human, "account", a.ID, `{"custom":{"seats":4,"motto":null}}`); err != nil || again.(crm.Account).Version != v.(crm.Account).Version {
		t.Errorf("a patch that changes nothing: %+v, %v", again, err)
	}
	_, err = h.patch(h.human, "account", a.ID, `{"custom":{"seats":null}}`)
	if names(err)["custom.seats"] == "" {
		t.Errorf("what is required was removed: %v", err)
	}
	var told, said string
	h.tx(h.sys, func(ctx context.Context, tx pgx.Tx) error {
		return tx.QueryRow(ctx, "SELECT changes::text, description FROM events WHERE record_id = $1 AND verb = 'updated'", a.ID).Scan(&told, &said)
	})
	for _, part := range []string{`{"new": 4, "old": 3, "field": "custom.seats"}`, `{"old": "Go", "field": "custom.motto"}`, `"field": "industry"`} {
		if !strings.Contains(told, part) {
			t.Errorf("the event %s does not tell %s", told, part)
		}
	}
	if strings.Contains(told, "plan") || said != "Sam changed the industry, motto, seats of the account Engines" {
		t.Errorf("%s: %s", said, told)
	}
}

// Of all who want a unique value one gets it, whatever its case; archiving frees it and restoring wants it back.
func TestUniqueValues(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	f := h.define(`{"record_type":"account","label":"Customer number","key":"no","type":"text","is_unique":true}`)
	h.define(`{"record_type":"contact","label":"Customer number","key":"no","type":"text","is_unique":true}`)
	var wg sync.WaitGroup
	errs := make([]error, 16)
	for i := range errs {
		wg.Go(func() {
			_, errs[i] = h.add(h.human, "account", fmt.Sprintf(`{"name":"n%d","custom":{"no":"%s"}}`, i, []string{"K-1", "k-1"}[i%2]))
		})
	}
	wg.Wait()
	won := 0
	for _, err := range errs {
		if err == nil {
			won++
			continue
		}
		want(t, err, tandem.Conflict, "a value that is taken")
		if !strings.Contains(err.Error(), "Customer number") {
			t.Errorf("the error does not say which: %v", err)
		}
	}
	if won != 1 {
		t.Errorf("%d records have a unique value", won)
	}
	if _, err := h.add(h.human, "contact", `{"name":"A contact","custom":{"no":"K-1"}}`); err != nil {
		t.Errorf("another type of record: %v", err)
	}
	a, b := h.account(`{"name":"a","custom":{"no":"A"}}`), h.account(`{"name":"b","custom":{"no":"B"}}`)
	_, err := h.patch(h.human, "account", b.ID, `{"custom":{"no":"a"}}`)
	want(t, err, tandem.Conflict, "a patch to a value that is taken")
	if _, err := h.patch(h.human, "account", a.ID, `{"custom":{"no":"C"}}`); err != nil {
		t.Error(err)
	}
	if _, err := h.patch(h.human, "account", b.ID, `{"custom":{"no":"a"}}`); err != nil {
		t.Errorf("a value that is free again: %v", err)
	}
	if err := h.archive("account", b.ID); err != nil {
		t.Fatal(err)
	}
	if _, err := h.patch(h.human, "account", a.ID, `{"custom":{"no":"A"}}`); err != nil {
		t.Errorf("an archived record's value: %v", err)
	}
	want(t, h.restore("account", b.ID), tandem.Conflict, "restoring a record whose value is taken")
	if _, err := h.patch(h.human, "account", a.ID, `{"custom":{"no":null}}`); err != nil {
		t.Error(err)
	}
	if err := h.restore("account", b.ID); err != nil {
		t.Error(err)
	}
	_, err = h.patch(h.human, "account", a.ID, `{"custom":{"no":"a"}}`)
	want(t, err, tandem.Conflict, "a restored record's value")

	// Not unique for a while, then duplicates are in the way until they are mended.
	if _, err := h.patch(h.human, "custom_field", f.ID, `{"is_unique":false}`); err != nil {
		t.Fatal(err)
	}
	if _, err = h.patch(h.human, "account", a.ID, `{"custom":{"no":"a"}}`); err != nil {
		t.Error(err)
	}
	_, err = h.patch(h.human, "custom_field", f.ID, `{"is_unique":true}`)
	want(t, err, tandem.Conflict, "unique with duplicates")
	if _, err = h.patch(h.human, "account", a.ID, `{"custom":{"no":"d"}}`); err != nil {
		t.Error(err)
	}
	if _, err = h.patch(h.human, "custom_field", f.ID, `{"is_unique":true}`); err != nil {
		t.Error(err)
	}
	if err := h.archive("custom_field", f.ID); err != nil {
		t.Fatal(err)
	}
	if n := h.count("SELECT count(*) FROM custom_uniques WHERE field_id = $1", f.ID); n != 0 {
		t.Errorf("an archived definition keeps %d values", n)
	}
	if err := h.restore("custom_field", f.ID); err != nil {
		t.Error(err)
	}
	if n := h.count("SELECT count(*) FROM custom_uniques WHERE field_id = $1", f.ID); n != 3 {
		t.Errorf("a restored definition has %d values, want 3", n)
	}
}

// A field becomes unique while records are written: whoever comes first, no two live records have the same value.
func TestAFieldBecomesUniqueUnderWriters(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	for round := range 5 {
		f := h.define(fmt.Sprintf(`{"record_type":"account","label":"Number","key":"no%d","type":"number"}`, round))
		var wg sync.WaitGroup
		for i := range 8 {
			wg.Go(func() {
				_, err := h.add(h.human, "account", fmt.Sprintf(`{"name":"n%d","custom":{"no%d":%d}}`, i, round, i%4))
				if err != nil && tandem.KindOf(err) != tandem.Conflict {
					t.Error(err)
				}
			})
		}
		wg.Go(func() {
			_, err := h.patch(h.human, "custom_field", f.ID, `{"is_unique":true}`)
			if err != nil && tandem.KindOf(err) != tandem.Conflict {
				t.Error(err)
			}
		})
		wg.Wait()
		key := fmt.Sprintf("no%d", round)
		if unique := h.count("SELECT count(*) FROM custom_fields WHERE id = $1 AND is_unique", f.ID); unique == 1 {
			if n := h.count("SELECT count(*) - count(DISTINCT custom->>$1::text) FROM accounts WHERE custom ? $1", key); n != 0 {
				t.Errorf("round %d: %d duplicates of a unique value", round, n)
			}
		}
	}
}

// A definition that makes no sense is refused, and what records have stays understood.
func TestDefinitionsAreChecked(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	for _, raw := range []string{
		`"key":"A","type":"text"`, `"key":"a-b","type":"text"`, `"key":"","type":"text"`, `"key":"a'b","type":"text"`, `"key":"` + strings.Repeat("a", 41) + `","type":"text"`,
		`"key":"a","type":"rumor"`, `"key":"a","type":"select"`, `"key":"a","type":"text","options":[{"value":"x"}]`, `"key":"a","type":"select","options":[{"value":"x"},{"value":"x"}]`,
		`"key":"a","type":"select","options":[{"value":"x,y"}]`, `"key":"a","type":"select","options":[{"value":"x","colour":"red"}]`, `"key":"a","type":"select","options":[{"value":"x","color":"red"}]`,
		`"key":"a","type":"checkbox","is_unique":true`, `"key":"a","type":"long_text","is_unique":true`, `"key":"a","type":"relation"`, `"key":"a","type":"text","target":"lead"`,
		`"key":"a","type":"relation","target":"task"`, `"key":"a","type":"number","validation":{"pattern":"x"}`, `"key":"a","type":"text","validation":{"min":1}`, `"key":"a","type":"text","validation":{"pattern":"("}`,
		`"key":"a","type":"text","validation":{"pattern":"(?=x)"}`, `"key":"a","type":"text","validation":{"pattern":"` + strings.Repeat("x", 201) + `"}`, `"key":"a","type":"number","validation":{"min":2,"max":1}`,
		`"key":"a","type":"text","validation":{"min_length":5,"max_length":2}`, `"key":"a","type":"text","validation":{"least":5}`, `"key":"a","type":"number","default_value":"x"`,
		`"key":"a","type":"text","is_unique":true,"default_value":"x"`, `"key":"a","type":"user","default_value":"` + string(h.sam.ID) + `"`, `"key":"a","type":"user","ai_may_write":true`, `"key":"a","type":"text","label":" "`, `"key":"a","type":"text","id":"x"`,
	} {
		_, err := h.add(h.human, "custom_field", `{"record_type":"lead","label":"x",`+raw+`}`)
		want(t, err, tandem.Invalid, raw)
	}
	_, err := h.add(h.human, "custom_field", `{"record_type":"task","label":"x","key":"a","type":"text"}`)
	want(t, err, tandem.Invalid, "a record type without custom fields")
	h.define(`{"record_type":"deal","label":"x","key":"a","type":"text","is_unique":true}`)
	f := h.define(`{"record_type":"account","label":"Plan","key":"plan","type":"select","options":[{"value":"pro"},{"value":"free"},{"value":"old"}]}`)
	_, err = h.add(h.human, "custom_field", `{"record_type":"account","label":"Plan","key":"plan","type":"text"}`)
	want(t, err, tandem.Conflict, "a key that is taken")
	for _, raw := range []string{`{"key":"tariff"}`, `{"type":"text"}`, `{"record_type":"lead"}`, `{"target":"lead"}`} {
		_, err := h.patch(h.human, "custom_field", f.ID, raw)
		want(t, err, tandem.Invalid, "to set again "+raw)
	}
	a := h.account(`{"name":"x","custom":{"plan":"old"}}`)
	_, err = h.patch(h.human, "custom_field", f.ID, `{"options":[{"value":"pro"},{"value":"free"}]}`)
	want(t, err, tandem.Conflict, "an option that a record has")
	if _, err := h.patch(h.human, "custom_field", f.ID, `{"options":[{"value":"old","label":"Legacy"},{"value":"free"}]}`); err != nil {
		t.Errorf("a new label, and an option that nobody has: %v", err)
	}
	if err := h.archive("custom_field", f.ID); err != nil {
		t.Fatal(err)
	}
	_, err = h.patch(h.human, "account", a.ID, `{"custom":{"plan":"free"}}`)
	want(t, err, tandem.Invalid, "a value of an archived definition")
	if v, err := h.patch(h.human, "account", a.ID, `{"custom":{"plan":null}}`); err != nil || len(v.(crm.Account).Custom) != 0 {
		t.Errorf("removing it: %+v, %v", v, err)
	}
	h.define(`{"record_type":"account","label":"Plan","key":"plan","type":"text"}`)
	want(t, h.restore("custom_field", f.ID), tandem.Conflict, "a definition whose key is taken")

	for i := range 99 {
		h.define(fmt.Sprintf(`{"record_type":"account","label":"x","key":"k%d","type":"text"}`, i))
	}
	_, err = h.add(h.human, "custom_field", `{"record_type":"account","label":"x","key":"one_more","type":"text"}`)
	want(t, err, tandem.Conflict, "the 101st field")
	h.define(`{"record_type":"contact","label":"x","key":"one_more","type":"text"}`)
}

// AI members define nothing and write what a definition leaves to them, of leads as of their contacts.
func TestAIMembersWriteWhatTheyMay(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	for _, of := range []string{"lead", "contact"} {
		h.define(`{"record_type":"` + of + `","label":"Seats","key":"seats","type":"number","ai_may_write":true}`)
		h.define(`{"record_type":"` + of + `","label":"Discount","key":"discount","type":"number"}`)
	}
	_, err := h.add(h.ai, "custom_field", `{"record_type":"lead","label":"x","key":"x","type":"text"}`)
	want(t, err, tandem.Forbidden, "a definition by an AI member")
	a, err := tandem.ActorFrom(h.ai)
	if err != nil {
		t.Fatal(err)
	}
	a.Grants["custom_field:write"] = true
	_, err = h.add(tandem.WithActor(t.Context(), a), "custom_field", `{"record_type":"lead","label":"x","key":"x","type":"text"}`)
	want(t, err, tandem.Forbidden, "a definition by an AI member whose role would do")
	c := h.contact("sara@example.com", "Sara")
	l, _ := h.lead(crm.NewLead{Contact: c.ID, Custom: map[string]any{"outside": true}})
	if _, err := h.patch(h.ai, "lead", l.ID, `{"custom":{"seats":3}}`); err != nil {
		t.Error(err)
	}
	_, err = h.patch(h.ai, "lead", l.ID, `{"custom":{"discount":3}}`)
	want(t, err, tandem.Forbidden, "a field that is for people")
	_, err = h.patch(h.ai, "lead", l.ID, `{"custom":{"outside":null}}`)
	want(t, err, tandem.Invalid, "to remove what came from outside")
	_, err = h.patch(h.ai, "contact", c.ID, `{"custom":{"seats":3}}`)
	want(t, err, tandem.Forbidden, "a contact by the API")
	set := func(key, text string) error {
		return h.try(h.ai, func(ctx context.Context, tx pgx.Tx) error {
			_, err := crm.Contacts.SetCustom(ctx, tx, c.ID, key, text)
			return err
		})
	}
	if err := set("seats", " 3 "); err != nil {
		t.Error(err)
	}
	want(t, set("discount", "3"), tandem.Forbidden, "a contact's field that is for people")
	want(t, set("name", "x"), tandem.Invalid, "a field of another kind")
	want(t, set("seats", "many"), tandem.Invalid, "a text for a number")

	// A model writes texts; each type reads them.
	for _, d := range oneOfEach {
		if !strings.Contains(d, `"seats"`) {
			h.define(`{"record_type":"lead","label":"A field",` + d + `}`)
		}
	}
	h.tx(h.sys, func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, "UPDATE custom_fields SET ai_may_write = true")
		return err
	})
	h.tx(h.ai, func(ctx context.Context, tx pgx.Tx) error {
		for _, x := range [][2]string{{"motto", "abc"}, {"budget", "125000 EUR"}, {"needs", "sso, api"}, {"vip", "true"}, {"renewal", "2026-11-30"}, {"plan", "pro"}, {"seats", ""}} {
			v, err := crm.Leads.SetCustom(ctx, tx, l.ID, x[0], x[1])
			if l = v; err != nil {
				return err
			}
		}
		return nil
	})
	if got := fmt.Sprint(l.Custom); got != "map[budget:map[currency:EUR minor:125000] motto:abc needs:[sso api] outside:true plan:pro renewal:2026-11-30 vip:true]" {
		t.Error(got)
	}
}

// What comes from outside is kept as it comes, whatever the definitions say.
func TestIntakeIsLenient(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	h.defineAll("lead")
	h.define(`{"record_type":"lead","label":"Number","key":"no","type":"text","is_unique":true,"required":true}`)
	custom := map[string]any{"seats": "many", "plan": "gold", "renewal": "soon", "unheard_of": []any{1.0, "x"}, "no": "1", "budget": true, "met": "2026-02-31T99:00:00Z", "vip": "yes"}
	var all []crm.Lead
	for i := range 2 {
		l, made := h.lead(crm.NewLead{Contact: h.contact(fmt.Sprintf("c%d@example.com", i), "C").ID, Custom: custom})
		if !made || fmt.Sprint(l.Custom) != fmt.Sprint(custom) {
			t.Fatalf("%v", l.Custom)
		}
		all = append(all, l)
	}
	// A person may mend one value without touching the others.
	v, err := h.patch(h.human, "lead", all[0].ID, `{"custom":{"seats":5}}`)
	if err != nil || v.(crm.Lead).Custom["seats"] != 5.0 || v.(crm.Lead).Custom["plan"] != "gold" {
		t.Errorf("%+v, %v", v, err)
	}
	for i, value := range []string{`"2"`, `"2"`} {
		_, err := h.patch(h.human, "lead", all[i].ID, `{"custom":{"no":`+value+`}}`)
		if i == 1 {
			want(t, err, tandem.Conflict, "a unique value that a person has set")
		} else if err != nil {
			t.Error(err)
		}
	}
}
