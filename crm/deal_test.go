package crm_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/crm"
)

// dealBoard makes the organization's board for deals.
func (h *hub) dealBoard() (b crm.Board) {
	h.t.Helper()
	h.tx(h.sys, func(ctx context.Context, tx pgx.Tx) (err error) {
		b, err = crm.SeedDealBoard(ctx, tx)
		return err
	})
	return b
}

type walker interface {
	Stages(ctx context.Context, tx pgx.Tx, id tandem.ID, q tandem.Query) (tandem.Page[crm.StageStay], error)
}

// path is the stages that a record has been on, one page after the other; the last is where it is, and no time is missing.
func (h *hub) path(r walker, id tandem.ID) string {
	h.t.Helper()
	var names []string
	h.tx(h.human, func(ctx context.Context, tx pgx.Tx) error {
		var before *crm.StageStay
		for q := (tandem.Query{Limit: 1}); ; {
			p, err := r.Stages(ctx, tx, id, q)
			if err != nil {
				return err
			}
			s := p.Items[0]
			if before != nil && (before.LeftAt == nil || !before.LeftAt.Equal(s.EnteredAt)) {
				h.t.Errorf("%s was left at %v, %s entered at %v", before.Stage.Name, before.LeftAt, s.Stage.Name, s.EnteredAt)
			}
			names, before = append(names, s.Stage.Name), &s
			if q.Cursor = p.Next; p.Next == "" {
				if s.LeftAt != nil {
					h.t.Errorf("%s is the last stage, and was left", s.Stage.Name)
				}
				return nil
			}
		}
	})
	return strings.Join(names, " ")
}

func (h *hub) setDeal(as context.Context, id tandem.ID, body string) (d crm.Deal, err error) {
	err = h.try(as, func(ctx context.Context, tx pgx.Tx) (err error) {
		d, err = crm.Deals.Patch(ctx, tx, id, []byte(body), nil)
		return err
	})
	return d, err
}

func (h *hub) moveDeal(as context.Context, id tandem.ID, m crm.DealMove) (d crm.Deal, err error) {
	err = h.try(as, func(ctx context.Context, tx pgx.Tx) (err error) {
		d, err = crm.Deals.Move(ctx, tx, id, m)
		return err
	})
	return d, err
}

func TestDealsMoveAndClose(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	b := h.dealBoard()
	ada, bob := h.contact("ada@example.com", "Ada"), h.contact("bob@example.com", "Bob")
	lead, _ := h.lead(crm.NewLead{Contact: ada.ID})
	d, err := add(h, crm.Deals, `{"name":" Two racks ","contact_id":"`+string(ada.ID)+`","contact_ids":["`+string(bob.ID)+`","`+string(ada.ID)+`"],"lead_id":"`+string(lead.ID)+`","amount":{"minor":125000,"currency":"EUR"},"expected_close":"2026-12-31"}`)
	if err != nil {
		t.Fatal(err)
	}
	if d.Name != "Two racks" || d.Stage.Name != "Qualified" || *d.Probability != 20 || d.ForecastCategory != "pipeline" || d.Amount.Minor != 125000 ||
		len(d.ContactIDs) != 1 || d.ContactIDs[0] != bob.ID || *d.ExpectedClose != "2026-12-31" || d.Closed {
		t.Errorf("%+v", d)
	}
	if d, err = h.setDeal(h.human, d.ID, `{"probability":55,"forecast_category":"commit","amount":{"minor":99,"currency":"GBP"}}`); err != nil || *d.Probability != 55 || d.Amount.Currency != "GBP" || d.Version != 2 {
		t.Errorf("changed: %+v, %v", d, err)
	}
	if d, err = h.setDeal(h.human, d.ID, `{"contact_id":"`+string(bob.ID)+`"}`); err != nil || len(d.ContactIDs) != 0 {
		t.Errorf("the second contact becomes the first: %+v, %v", d, err)
	}
	for range 2 { // the second time nothing changes
		if d, err = h.moveDeal(h.human, d.ID, crm.DealMove{Stage: b.Stages[1].ID}); err != nil || *d.Probability != 40 || d.ForecastCategory != "commit" || d.Version != 5 {
			t.Errorf("moved: %+v, %v", d, err)
		}
	}
	if d, err = h.moveDeal(h.human, d.ID, crm.DealMove{Stage: b.Stages[3].ID, WonReason: "The price"}); err != nil || !d.Closed || d.ClosedAt == nil || *d.Probability != 100 || d.ForecastCategory != "closed" || *d.WonReason != "The price" {
		t.Errorf("won: %+v, %v", d, err)
	}
	for _, body := range []string{`{"probability":50}`, `{"forecast_category":"commit"}`} {
		_, err := h.setDeal(h.human, d.ID, body)
		want(t, err, tandem.Invalid, "of a won deal "+body)
	}
	if d, err = h.moveDeal(h.human, d.ID, crm.DealMove{Stage: b.Stages[4].ID, LostReason: "They are broke"}); err != nil || d.WonReason != nil || *d.LostReason != "They are broke" || *d.Probability != 0 {
		t.Errorf("lost after all: %+v, %v", d, err)
	}
	_, err = h.moveDeal(h.machine(), d.ID, crm.DealMove{Stage: b.Stages[0].ID})
	want(t, err, tandem.Forbidden, "an AI member reopens a deal")
	if d, err = h.moveDeal(h.human, d.ID, crm.DealMove{Stage: b.Stages[0].ID}); err != nil || d.Closed || d.ClosedAt != nil || d.LostReason != nil || d.ForecastCategory != "pipeline" || *d.Probability != 20 {
		t.Errorf("reopened: %+v, %v", d, err)
	}
	if got := h.path(crm.Deals, d.ID); got != "Qualified Proposal Won Lost Qualified" {
		t.Errorf("its way: %s", got)
	}
	for name, m := range map[string]crm.DealMove{"a lead's stage": {Stage: h.board.Stages[0].ID}, "no stage": {Stage: "x"}, "a reason": {Stage: b.Stages[1].ID, WonReason: "x"}} {
		_, err := h.moveDeal(h.human, d.ID, m)
		want(t, err, tandem.Invalid, name)
	}
	for name, fn := range map[string]func(ctx context.Context, tx pgx.Tx) error{
		"win it": func(ctx context.Context, tx pgx.Tx) error {
			_, err := crm.Deals.Move(ctx, tx, d.ID, crm.DealMove{Stage: b.Stages[3].ID})
			return err
		},
		"set its amount": func(ctx context.Context, tx pgx.Tx) error {
			_, err := crm.Deals.Patch(ctx, tx, d.ID, []byte(`{"amount":null}`), nil)
			return err
		},
		"assign it": func(ctx context.Context, tx pgx.Tx) error {
			_, err := crm.Deals.Assign(ctx, tx, d.ID, h.ava.ID)
			return err
		},
		"convert a lead": func(ctx context.Context, tx pgx.Tx) error {
			_, err := crm.Leads.Convert(ctx, tx, lead.ID, crm.Conversion{})
			return err
		},
	} {
		want(t, h.try(h.machine(), fn), tandem.Forbidden, "an AI member may not "+name)
	}
	for _, body := range []string{
		`{"name":"x","board_id":"` + string(h.board.ID) + `"}`, `{"name":"x","expected_close":"soon"}`, `{"name":"x","amount":{"minor":1,"currency":"euro"}}`, `{"name":"x","amount_minor":1}`,
		`{"name":"x","contact_ids":["` + string(tandem.NewID()) + `"]}`, `{"name":"x","forecast_category":"closed"}`, `{"name":"x","assignee_id":"` + string(h.ava.ID) + `"}`, `{"name":"x","account_id":"` + string(ada.ID) + `"}`,
	} {
		_, err := add(h, crm.Deals, body)
		want(t, err, tandem.Invalid, body)
	}
	if says := strings.Join(h.says(lead.ID), "\n"); !strings.Contains(says, "deal.created: Sam added the deal Two racks") || !strings.Contains(says, "deal.moved: Sam moved the deal Two racks to Won") {
		t.Errorf("the lead's facts: %s", says)
	}
}

// convert converts a lead as the person.
func (h *hub) convert(lead tandem.ID, c crm.Conversion) (out crm.Converted, err error) {
	err = h.try(h.human, func(ctx context.Context, tx pgx.Tx) (err error) {
		out, err = crm.Leads.Convert(ctx, tx, lead, c)
		return err
	})
	return out, err
}

func TestLeadsAreConvertedOnce(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	h.dealBoard()
	const leads, tries = 4, 6
	var ids []tandem.ID
	for i := range leads { // all of one company
		l, _ := h.lead(crm.NewLead{Contact: h.contact(fmt.Sprintf("c%d@engines.example.com", i), "C").ID, Value: &crm.Money{Minor: 5, Currency: "EUR"}})
		ids = append(ids, l.ID)
	}
	var mu sync.Mutex
	won, made := map[tandem.ID]crm.Converted{}, 0
	var refused []error
	var wg sync.WaitGroup
	for i := range leads * tries {
		wg.Go(func() {
			out, err := h.convert(ids[i%leads], crm.Conversion{AccountName: "Engines"})
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				refused = append(refused, err)
				return
			}
			won[out.LeadID] = out
			if out.AccountMade {
				made++
			}
		})
	}
	wg.Wait()
	if len(won) != leads || len(refused) != leads*(tries-1) || made != 1 {
		t.Errorf("%d leads converted, %d calls refused, %d accounts made", len(won), len(refused), made)
	}
	for _, err := range refused {
		if tandem.KindOf(err) != tandem.Conflict || !strings.Contains(err.Error(), "became the deal") {
			t.Error(err)
		}
	}
	for what, n := range map[string]int{"leads WHERE converted_at IS NOT NULL AND closed AND deal_id IS NOT NULL": leads, "deals WHERE amount_minor = 5 AND lead_id IS NOT NULL": leads, "accounts": 1, "contacts WHERE account_id IS NOT NULL": leads, "events WHERE noun = 'lead' AND verb = 'converted'": leads} {
		if got := h.count("SELECT count(*) FROM " + what); got != n {
			t.Errorf("%d %s, want %d", got, what, n)
		}
	}
	t.Logf("figure: conversion: %d calls for %d leads at once, %d conversions, %d account", leads*tries, leads, len(won), made)
}

func TestWhichAccountALeadBecomes(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	h.dealBoard()
	engines, err := add(h, crm.Accounts, `{"name":"Engines Ltd","domain":"engines.example.com"}`)
	if err != nil {
		t.Fatal(err)
	}
	looms, err := add(h, crm.Accounts, `{"name":"Looms"}`)
	if err != nil {
		t.Fatal(err)
	}
	lead := func(email, company string) tandem.ID {
		c, err := add(h, crm.Contacts, `{"name":"Somebody","email":"`+email+`","company":"`+company+`"}`)
		if err != nil {
			t.Fatal(err)
		}
		l, _ := h.lead(crm.NewLead{Contact: c.ID})
		return l.ID
	}
	for name, c := range map[string]struct {
		email, company string
		asked          crm.Conversion
		account        tandem.ID // "": a new one; "none": none
	}{
		"by domain":         {"a@engines.example.com", "Whatever", crm.Conversion{}, engines.ID},
		"by name":           {"b@gmail.com", "LOOMS", crm.Conversion{}, looms.ID},
		"by id":             {"c@engines.example.com", "", crm.Conversion{Account: looms.ID}, looms.ID},
		"by a given domain": {"d@gmail.com", "", crm.Conversion{Domain: "Engines.example.com"}, engines.ID},
		"a new company":     {"e@mills.example.com", "Mills", crm.Conversion{}, ""},
		"free mail, new":    {"f@web.de", "Wheels", crm.Conversion{}, ""},
		"nobody knows":      {"g@gmail.com", "", crm.Conversion{NoDeal: true}, "none"},
	} {
		out, err := h.convert(lead(c.email, c.company), c.asked)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		switch got := tandem.Deref(out.AccountID); {
		case c.account == "" && (got == "" || !out.AccountMade), c.account == "none" && got != "", len(c.account) > 4 && (got != c.account || out.AccountMade):
			t.Errorf("%s: %+v", name, out)
		}
		if (out.DealID == nil) != c.asked.NoDeal {
			t.Errorf("%s: the deal is %v", name, out.DealID)
		}
	}
	if n := h.count("SELECT count(*) FROM accounts WHERE domain IN ('web.de', 'gmail.com')"); n != 0 {
		t.Errorf("%d accounts of everybody's domain", n)
	}
	for name, c := range map[string]crm.Conversion{
		"no such account": {Account: tandem.NewID()}, "a domain": {Domain: "nothing"}, "a lead's board": {Deal: crm.Deal{BoardID: h.board.ID}}, "an amount": {Deal: crm.Deal{Amount: &crm.Money{Minor: -1, Currency: "EUR"}}},
	} {
		id := lead(strings.ReplaceAll(name, " ", "-")+"@gmail.com", "Acme")
		_, err := h.convert(id, c)
		want(t, err, tandem.Invalid, name)
		if n := h.count("SELECT count(*) FROM leads WHERE id = $1 AND converted_at IS NULL AND NOT closed", id); n != 1 {
			t.Errorf("%s: the lead has changed", name)
		}
	}
}

// A lead's history is whole although nothing is written when it is opened.
func TestStageHistoryOfLeads(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	l, _ := h.lead(crm.NewLead{Contact: h.contact("ada@example.com", "Ada").ID})
	if n := h.count("SELECT count(*) FROM stage_history"); n != 0 || h.path(crm.Leads, l.ID) != "New" {
		t.Errorf("%d rows; its way: %s", n, h.path(crm.Leads, l.ID))
	}
	var wg sync.WaitGroup
	for i := range 12 {
		wg.Go(func() {
			err := h.try(h.human, func(ctx context.Context, tx pgx.Tx) error {
				_, err := crm.Leads.Move(ctx, tx, l.ID, crm.LeadMove{Stage: h.board.Stages[i%2].ID})
				return err
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	moves := h.count("SELECT count(*) FROM events WHERE noun = 'lead' AND verb = 'moved'")
	if got := strings.Fields(h.path(crm.Leads, l.ID)); len(got) != moves+1 || got[0] != "New" {
		t.Errorf("%d moves, its way: %v", moves, got)
	}
}
