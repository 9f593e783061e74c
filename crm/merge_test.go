package crm_test

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/crm"
)

// mergeHandles are the columns that name a contact and that a merge treats by itself, each with what becomes of it. A new
// column is here or its table in crm.MovesWithContact; else a merge would leave its rows with a contact that nobody sees.
var mergeHandles = map[string]string{
	"contact_identities.contact_id": "moved",
	"deal_contacts.contact_id":      "the contact that stays is a further one where either was",
	"conversations.contact_id":      "moved",
	"leads.contact_id":              "moved",
	"contact_consents.contact_id":   "the stricter word counts; the merged contact keeps its own",
	"contact_merges.into_id":        "what the merge was",
	"contact_merges.from_id":        "what the merge was",
	"contacts.merged_into":          "leads on to the contact that has it now, however many merges later",
	"inbound.contact_id":            "says what the message became when it came",
}

// Whatever table names a contact, a merge knows what to do with it.
func TestMergeKnowsEveryReference(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	var found []string
	h.tx(h.sys, func(ctx context.Context, tx pgx.Tx) error {
		rows, _ := tx.Query(ctx, `
			SELECT DISTINCT conrelid::regclass::text || '.' || a.attname FROM pg_constraint c
			JOIN pg_attribute a ON a.attrelid = c.conrelid AND a.attnum = ANY (c.conkey) AND a.attname <> 'org_id'
			WHERE c.contype = 'f' AND c.confrelid = 'contacts'::regclass
			UNION SELECT table_name || '.' || column_name FROM information_schema.columns
			WHERE table_schema = 'public' AND column_name LIKE '%contact\_id' ORDER BY 1`)
		var err error
		found, err = pgx.CollectRows(rows, pgx.RowTo[string])
		return err
	})
	for _, ref := range found {
		table, column, _ := strings.Cut(ref, ".")
		if mergeHandles[ref] == "" && !(column == "contact_id" && slices.Contains(crm.MovesWithContact, table)) {
			t.Errorf("%s names a contact, and a merge forgets it: add the table to crm.MovesWithContact, or handle it in Merge and Split", ref)
		}
	}
	if len(found) < len(mergeHandles)+len(crm.MovesWithContact) {
		t.Errorf("found only %v", found)
	}
}

func (h *hub) merge(ctx context.Context, into tandem.ID, from ...tandem.ID) (c crm.Contact, ms []crm.Merge, err error) {
	err = h.try(ctx, func(ctx context.Context, tx pgx.Tx) (err error) {
		c, ms, err = crm.Contacts.Merge(ctx, tx, into, from)
		return err
	})
	return c, ms, err
}

func (h *hub) split(into, merge tandem.ID) (s crm.Split, err error) {
	err = h.try(h.human, func(ctx context.Context, tx pgx.Tx) (err error) {
		s, err = crm.Contacts.Split(ctx, tx, into, merge)
		return err
	})
	return s, err
}

func TestMergeFillsAndSplitEmpties(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	for _, key := range []string{"a", "b"} {
		h.define(`{"record_type":"contact","key":"` + key + `","label":"` + key + `","type":"text"}`)
	}
	one, err := add(h, crm.Contacts, `{"name":"ada@example.com","email":"ada@example.com","tags":["VIP"],"custom":{"a":"1"}}`)
	if err != nil {
		t.Fatal(err)
	}
	two, err := add(h, crm.Contacts, `{"name":"Ada Lovelace","first_name":"Ada","last_name":"Lovelace","email":"ada@home.example","phone":"+49 40 123456","company":"Engines","title":"Countess","language":"en","city":"London","country":"GB","tags":["vip","b2b"],"custom":{"a":"2","b":"c"}}`)
	if err != nil {
		t.Fatal(err)
	}
	c, ms, err := h.merge(h.human, one.ID, two.ID)
	if err != nil {
		t.Fatal(err)
	}
	if c.Name != "Ada Lovelace" || *c.Email != "ada@example.com" || c.Phone == nil || c.Title != "Countess" || *c.Country != "GB" ||
		fmt.Sprint(c.Tags) != "[VIP b2b]" || fmt.Sprint(c.Custom["a"]) != "1" || c.Custom["b"] == nil || len(c.Identities) != 3 {
		t.Errorf("merged: %+v", c)
	}
	if ms[0].Moved["identities"] != 2 || !slices.Contains(ms[0].Filled, "phone") || slices.Contains(ms[0].Filled, "email") {
		t.Errorf("the merge says %+v", ms[0])
	}
	h.tx(h.human, func(ctx context.Context, tx pgx.Tx) error {
		_, err := crm.Contacts.Get(ctx, tx, two.ID)
		if want(t, err, tandem.NotFound, "a merged contact"); !strings.Contains(tandem.Message(err), string(one.ID)) {
			t.Errorf("the refusal does not say where it went: %v", err)
		}
		_, err = crm.Contacts.Restore(ctx, tx, two.ID)
		want(t, err, tandem.Conflict, "restoring a merged contact")
		_, err = crm.Contacts.Patch(ctx, tx, one.ID, json.RawMessage(`{"title":"Analyst","tags":["VIP","b2b","new"]}`), nil)
		return err
	})
	s, err := h.split(one.ID, ms[0].ID)
	if err != nil {
		t.Fatal(err)
	}
	if a := s.Contact; a.Name != "ada@example.com" || a.FirstName != "" || a.Phone != nil || a.Title != "Analyst" || a.City != "" || a.Country != nil ||
		fmt.Sprint(a.Tags) != "[VIP new]" || len(a.Custom) != 1 || len(a.Identities) != 1 {
		t.Errorf("after the split: %+v", a)
	}
	if b := s.Other; b.ID != two.ID || b.Name != "Ada Lovelace" || len(b.Identities) != 2 {
		t.Errorf("the other after the split: %+v", b)
	}
	for name, fn := range map[string]func() error{
		"an AI member":  func() error { _, _, err := h.merge(h.ai, one.ID, two.ID); return err },
		"Tandem itself": func() error { _, _, err := h.merge(h.sys, one.ID, two.ID); return err },
	} {
		want(t, fn(), tandem.Forbidden, name)
	}
	_, _, err = h.merge(h.human, one.ID)
	want(t, err, tandem.Invalid, "nobody")
	_, _, err = h.merge(h.human, one.ID, two.ID, two.ID)
	want(t, err, tandem.Invalid, "somebody twice")
	_, _, err = h.merge(h.human, one.ID, one.ID)
	want(t, err, tandem.Invalid, "itself")
	o := addOrg(t, h.db, "other")
	_, _, err = o.merge(o.human, one.ID, two.ID)
	want(t, err, tandem.NotFound, "foreign contacts")
	_, err = o.split(one.ID, ms[0].ID)
	want(t, err, tandem.NotFound, "a foreign merge")
}

// Fifty at once who look for the same person find one.
func TestFindOrCreateMakesOne(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	find := func(in crm.Wanted) (c crm.Contact, made bool, err error) {
		err = h.try(h.human, func(ctx context.Context, tx pgx.Tx) (err error) {
			c, made, err = crm.Contacts.FindOrCreate(ctx, tx, in)
			return err
		})
		return c, made, err
	}
	var made atomic.Int32
	ids := make([]tandem.ID, 50)
	var wg sync.WaitGroup
	for i := range ids {
		wg.Go(func() {
			in := crm.Wanted{Facts: crm.ContactFacts{Name: "Sara Weber", Email: "sara@example.com"}, Identities: []crm.Identity{{Kind: "external", Value: "4711"}, {Kind: "whatsapp", Value: "040 123456"}}}
			if i%2 == 0 { // in another order and with other spellings
				in = crm.Wanted{Facts: crm.ContactFacts{Name: "Sara Weber", Phone: "+4940123456"}, Identities: []crm.Identity{{Kind: "whatsapp", Value: "+49 40 123456"}, {Kind: "email", Value: "SARA@example.com"}, {Kind: "external", Value: "4711"}}}
			}
			c, isNew, err := find(in)
			if ids[i] = c.ID; err != nil {
				t.Error(err)
			}
			if isNew {
				made.Add(1)
			}
		})
	}
	wg.Wait()
	if n := h.count("SELECT count(*) FROM contacts"); n != 1 || made.Load() != 1 || len(slices.Compact(ids)) != 1 {
		t.Errorf("%d contacts, %d were told that they made one", n, made.Load())
	}
	if n := h.count("SELECT count(*) FROM contact_identities"); n != 4 {
		t.Errorf("%d identities, want e-mail, phone, whatsapp and the external one", n)
	}
	t.Logf("figure: find or create: 50 at once, %d contact", h.count("SELECT count(*) FROM contacts"))
	bo := h.contact("bo@example.com", "Bo")
	_, _, err := find(crm.Wanted{Facts: crm.ContactFacts{Email: "bo@example.com"}, Identities: []crm.Identity{{Kind: "external", Value: "4711"}}})
	if want(t, err, tandem.Conflict, "addresses of two"); !strings.Contains(tandem.Message(err), string(bo.ID)) || !strings.Contains(tandem.Message(err), string(ids[0])) {
		t.Errorf("the refusal does not name both: %v", err)
	}
	for name, in := range map[string]crm.Wanted{
		"nothing to look for": {Facts: crm.ContactFacts{Name: "x"}},
		"no address":          {Facts: crm.ContactFacts{Email: "nobody"}},
		"no number":           {Facts: crm.ContactFacts{Phone: "12"}},
		"a visitor":           {Identities: []crm.Identity{{Kind: "visitor", Scope: string(tandem.NewID()), Value: "v"}}},
		"an unknown channel":  {Identities: []crm.Identity{{Kind: "external", Scope: string(tandem.NewID()), Value: "v"}}},
	} {
		_, _, err := find(in)
		want(t, err, tandem.Invalid, name)
	}
}

func TestContactsFindTheirAccount(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	var account, mail crm.Account
	h.tx(h.human, func(ctx context.Context, tx pgx.Tx) (err error) {
		domain, public := "engines.example.com", "gmail.com"
		if account, err = crm.Accounts.Create(ctx, tx, crm.Account{Name: "Engines", Domain: &domain}); err != nil {
			return err
		}
		mail, err = crm.Accounts.Create(ctx, tx, crm.Account{Name: "Mail", Domain: &public})
		return err
	})
	for body, want := range map[string]tandem.ID{
		`{"name":"a","email":"A@Engines.example.com"}`:      account.ID,
		`{"name":"b","email":"b@gmail.com"}`:                "",
		`{"name":"c","email":"c@mail.engines.example.com"}`: "",
		`{"name":"d"}`: "",
		`{"name":"e","email":"e@engines.example.com","account_id":"` + string(mail.ID) + `"}`: mail.ID,
	} {
		c, err := add(h, crm.Contacts, body)
		if err != nil || tandem.Deref(c.AccountID) != want {
			t.Errorf("%s works for %q, %v; want %q", body, tandem.Deref(c.AccountID), err, want)
		}
	}
	h.tx(h.human, func(ctx context.Context, tx pgx.Tx) error {
		c, made, err := crm.Contacts.FindOrCreate(ctx, tx, crm.Wanted{Facts: crm.ContactFacts{Name: "f", Email: "f@engines.example.com"}})
		if err == nil && (!made || tandem.Deref(c.AccountID) != account.ID) {
			t.Errorf("found or made: %+v", c)
		}
		return err
	})
}

func TestIdentitiesAreAddedAndRemoved(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	ada, bo := h.contact("ada@example.com", "Ada"), h.contact("bo@example.com", "Bo")
	try := func(contact tandem.ID, in crm.Identity) (got crm.Recognized, err error) {
		err = h.try(h.human, func(ctx context.Context, tx pgx.Tx) (err error) {
			got, err = crm.Contacts.AddIdentity(ctx, tx, contact, in)
			return err
		})
		return got, err
	}
	got, err := try(ada.ID, crm.Identity{Kind: "phone", Value: "040 123456", Evidence: "her card"})
	if err != nil || got.Value != "+4940123456" || got.Evidence != "her card" {
		t.Fatalf("%+v, %v", got, err)
	}
	if again, err := try(ada.ID, crm.Identity{Kind: "phone", Value: "+49 40 123456", Evidence: "another card"}); err != nil || again != got {
		t.Errorf("the same again: %+v, %v", again, err)
	}
	if n := h.count("SELECT count(*) FROM events WHERE verb = 'identity_added'"); n != 1 {
		t.Errorf("%d events for one identity", n)
	}
	_, err = try(bo.ID, crm.Identity{Kind: "phone", Value: "+4940123456"})
	if want(t, err, tandem.Conflict, "another contact's"); !strings.Contains(tandem.Message(err), "Ada ("+string(ada.ID)+")") {
		t.Errorf("the refusal does not name the other: %v", err)
	}
	for _, in := range []crm.Identity{{Kind: "pigeon", Value: "x"}, {Kind: "email", Value: "x"}, {Kind: "visitor", Value: "x"}, {Kind: "email", Scope: string(tandem.NewID()), Value: "x@example.com"}, {Kind: "external", Scope: "x", Value: "x"}} {
		_, err = try(ada.ID, in)
		want(t, err, tandem.Invalid, fmt.Sprintf("%+v", in))
	}
	remove := func(contact, id tandem.ID) error {
		return h.try(h.human, func(ctx context.Context, tx pgx.Tx) error { return crm.Contacts.RemoveIdentity(ctx, tx, contact, id) })
	}
	want(t, remove(bo.ID, got.ID), tandem.NotFound, "from another contact")
	if err := remove(ada.ID, got.ID); err != nil {
		t.Fatal(err)
	}
	want(t, remove(ada.ID, got.ID), tandem.NotFound, "twice")
	if moved, err := try(bo.ID, crm.Identity{Kind: "phone", Value: "+4940123456"}); err != nil || moved.ID != got.ID {
		t.Errorf("once it is free: %+v, %v", moved, err)
	}
}

// A further contact of deals is one of them after a merge and no longer twice, and both are what they were after a split.
func TestMergeKeepsTheDealsContacts(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	if _, err := add(h, crm.Boards, `{"name":"Deals","kind":"deal"}`); err != nil {
		t.Fatal(err)
	}
	one, two := h.contact("one@example.com", "One"), h.contact("two@example.com", "Two")
	deal := func(first tandem.ID, further ...tandem.ID) tandem.ID {
		t.Helper()
		d, err := add(h, crm.Deals, `{"name":"A deal","contact_id":"`+string(first)+`"}`)
		if err != nil {
			t.Fatal(err)
		}
		h.tx(h.human, func(ctx context.Context, tx pgx.Tx) error {
			ids, err := json.Marshal(further)
			if err != nil {
				return err
			}
			_, err = crm.Deals.Patch(ctx, tx, d.ID, []byte(`{"contact_ids":`+string(ids)+`}`), nil)
			return err
		})
		return d.ID
	}
	other := h.contact("other@example.com", "Other")
	deals := []tandem.ID{deal(other.ID, one.ID, two.ID), deal(other.ID, two.ID), deal(two.ID, one.ID), deal(one.ID, two.ID), deal(one.ID, other.ID)}
	people := func() (all []string) {
		h.tx(h.human, func(ctx context.Context, tx pgx.Tx) error {
			for _, id := range deals {
				d, err := crm.Deals.Get(ctx, tx, id)
				if err != nil {
					return err
				}
				slices.Sort(d.ContactIDs)
				all = append(all, fmt.Sprint(tandem.Deref(d.ContactID), d.ContactIDs))
			}
			return nil
		})
		return all
	}
	before := people()
	_, ms, err := h.merge(h.human, one.ID, two.ID)
	if err != nil {
		t.Fatal(err)
	}
	is := func(first tandem.ID, further ...tandem.ID) string { return fmt.Sprint(first, further) }
	want := []string{is(other.ID, one.ID), is(other.ID, one.ID), is(one.ID), is(one.ID), is(one.ID, other.ID)}
	if got := people(); !slices.Equal(got, want) {
		t.Errorf("after the merge %v, want %v", got, want)
	}
	if _, err := h.split(one.ID, ms[0].ID); err != nil {
		t.Fatal(err)
	}
	if got := people(); !slices.Equal(got, before) {
		t.Errorf("after the split %v, want %v", got, before)
	}
}
