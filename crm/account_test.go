package crm_test

import (
	"context"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/crm"
)

func (h *hub) account(body string) crm.Account {
	h.t.Helper()
	a, err := add(h, crm.Accounts, body)
	if err != nil {
		h.t.Fatal(err)
	}
	return a
}

// An account shows what belongs to it, and only that.
func TestAccountAtAGlance(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	a := h.account(`{"name":"Engines"}`)
	for _, name := range []string{"b part", "A part"} {
		h.account(`{"name":"` + name + `","parent_id":"` + string(a.ID) + `"}`)
	}
	ada, gone, other := h.contact("ada@example.com", "Ada"), h.contact("gone@example.com", "Gone"), h.contact("other@example.com", "Other")
	open, _ := h.lead(crm.NewLead{Contact: ada.ID})
	h.lead(crm.NewLead{Contact: gone.ID})
	h.lead(crm.NewLead{Contact: other.ID})
	h.tx(h.sys, func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `UPDATE contacts SET account_id = $1, archived_at = CASE WHEN id = $3 THEN now() END WHERE id IN ($2, $3)`, a.ID, ada.ID, gone.ID)
		if err != nil {
			return err
		}
		_, err = tx.Exec(ctx, `WITH ch AS (INSERT INTO channels (org_id, id, kind, name) VALUES ($1, gen_random_uuid(), 'webhook', 'Form') RETURNING id)
			INSERT INTO conversations (org_id, id, channel_id, contact_id, thread, state, snoozed_until)
			SELECT $1, gen_random_uuid(), ch.id, $2, s, s, CASE s WHEN 'snoozed' THEN now() END FROM ch, unnest(ARRAY['open', 'waiting', 'snoozed', 'resolved', 'spam']) s`, h.org.ID, ada.ID)
		return err
	})
	get := func() (g crm.AccountGlance) {
		h.tx(h.human, func(ctx context.Context, tx pgx.Tx) error {
			v, err := crm.Accounts.Get(ctx, tx, a.ID)
			g = *v.Glance
			return err
		})
		return g
	}
	if g := get(); g.Contacts != 1 || g.OpenLeads != 1 || g.OpenConversations != 3 || len(g.Children) != 2 || g.Children[0].Name != "A part" {
		t.Errorf("the account shows %+v", g)
	}
	h.tx(h.human, func(ctx context.Context, tx pgx.Tx) error {
		_, err := crm.Leads.Move(ctx, tx, open.ID, crm.LeadMove{Stage: h.board.Stages[2].ID})
		return err
	})
	h.tx(h.sys, func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `INSERT INTO contacts (org_id, id, name, account_id) SELECT $1, gen_random_uuid(), 'x', $2 FROM generate_series(1, 1200)`, h.org.ID, a.ID)
		return err
	})
	if g := get(); g.Contacts != 1000 || g.OpenLeads != 0 {
		t.Errorf("the account shows %+v", g)
	}
}

// Those who write from an account's domain are found, a thousand at a time, each with a fact; nobody else is.
func TestMatch(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	a, taken := h.account(`{"name":"Engines","domain":"engines.example"}`), h.account(`{"name":"Other"}`)
	strangers := addOrg(t, h.db, "strangers")
	for _, o := range []*hub{h, strangers} {
		o.tx(o.sys, func(ctx context.Context, tx pgx.Tx) error {
			_, err := tx.Exec(ctx, `INSERT INTO contacts (org_id, id, name, email) SELECT $1, gen_random_uuid(), 'Somebody ' || i, 'p' || i || '@engines.example' FROM generate_series(1, 1300) i`, o.org.ID)
			return err
		})
	}
	h.tx(h.sys, func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `INSERT INTO contacts (org_id, id, name, email, account_id, archived_at) VALUES
			($1, gen_random_uuid(), 'Theirs', 'a@engines.example', $2, NULL), ($1, gen_random_uuid(), 'Gone', 'b@engines.example', NULL, now()),
			($1, gen_random_uuid(), 'Below', 'c@sub.engines.example', NULL, NULL), ($1, gen_random_uuid(), 'Beside', 'd@notengines.example', NULL, NULL), ($1, gen_random_uuid(), 'None', NULL, NULL, NULL)`, h.org.ID, taken.ID)
		return err
	})
	h.analyze("contacts")
	match := func(id tandem.ID) (m crm.Matched, err error) {
		err = h.try(h.human, func(ctx context.Context, tx pgx.Tx) (err error) {
			m, err = crm.Accounts.Match(ctx, tx, id)
			return err
		})
		return m, err
	}
	for _, want := range []crm.Matched{{Linked: 1000, More: true}, {Linked: 300}, {}} {
		if got, err := match(a.ID); err != nil || got != want {
			t.Errorf("matched %+v, %v, want %+v", got, err, want)
		}
	}
	if n := h.count("SELECT count(*) FROM contacts WHERE account_id = $1 AND name LIKE 'Somebody %' AND version = 2", a.ID); n != 1300 {
		t.Errorf("%d contacts belong to the account, want 1,300", n)
	}
	if n := h.count("SELECT count(DISTINCT record_id) FROM events WHERE noun = 'contact' AND verb = 'updated' AND changes @> $1", []map[string]any{{"field": "account_id", "new": a.ID}}); n != 1300 {
		t.Errorf("%d facts of contacts, want 1,300", n)
	}
	if n := strangers.count("SELECT count(*) FROM contacts WHERE account_id IS NOT NULL"); n != 0 {
		t.Errorf("%d contacts of another organization were changed", n)
	}
	_, err := match(taken.ID)
	want(t, err, tandem.Conflict, "an account without a domain")
	_, err = match(h.account(`{"name":"Mail","domain":"gmail.com"}`).ID)
	want(t, err, tandem.Conflict, "a domain where anybody can have an address")
	_, err = match(tandem.NewID())
	want(t, err, tandem.NotFound, "no account")
	h.analyze("contacts")
	plan := h.explain(func(ctx context.Context, tx pgx.Tx) error {
		_, err := crm.Accounts.Match(ctx, tx, h.account(`{"name":"None","domain":"none.example"}`).ID)
		return err
	})
	if !strings.Contains(plan, "contacts_unmatched") {
		t.Errorf("the plan of finding contacts:\n%s", plan)
	}
}
