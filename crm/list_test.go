package crm_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/crm"
)

// seedMany adds contacts, each with a lead, straight into the tables. Several share one
// moment of creation, so that a page must go by the id as well.
func (h *hub) seedMany(n int) {
	h.t.Helper()
	h.tx(h.sys, func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `
			INSERT INTO contacts (org_id, id, name, email, created_at)
			SELECT $1, gen_random_uuid(), 'Contact ' || i, 'c' || i || '@example.com', timestamptz '2026-01-01' + (i / 7) * interval '1 second' + interval '123 microseconds'
			FROM generate_series(1, $2) i`, h.org.ID, n)
		if err != nil {
			return err
		}
		_, err = tx.Exec(ctx, `
			INSERT INTO leads (org_id, id, contact_id, board_id, stage_id, title, created_at)
			SELECT $1, gen_random_uuid(), id, $2, CASE WHEN right(name, 1) IN ('0', '5') THEN $4::uuid ELSE $3::uuid END, 'Lead of ' || name, created_at
			FROM contacts WHERE email LIKE 'c%'`, h.org.ID, h.board.ID, h.board.Stages[0].ID, h.board.Stages[1].ID)
		return err
	})
}

func TestPagesAreCompleteAndStable(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	const n = 237
	h.seedMany(n)
	o := addOrg(t, h.db, "other")
	o.seedMany(20)
	seen := map[tandem.ID]int{}
	q := tandem.Query{Limit: 10}
	pages := 0
	for {
		var p tandem.Page[crm.Lead]
		h.tx(h.human, func(ctx context.Context, tx pgx.Tx) (err error) {
			p, err = crm.Leads.List(ctx, tx, q)
			return err
		})
		pages++
		for _, l := range p.Items {
			seen[l.ID]++
		}
		// A new lead on top must not shift what is still to come.
		h.lead(crm.NewLead{Contact: h.contact(fmt.Sprintf("new%d@example.com", pages), "New").ID})
		if q.Cursor = p.Next; q.Cursor == "" {
			break
		}
	}
	for id, times := range seen {
		if times != 1 {
			t.Errorf("lead %s came %d times", id, times)
		}
	}
	if len(seen) != n {
		t.Errorf("%d leads on %d pages, want %d", len(seen), pages, n)
	}
	for _, c := range []string{"x", "WzFd", tandem.EncodeCursor("a", "b"), tandem.EncodeCursor("2026-01-01T00:00:00Z", "' OR 1=1"), tandem.EncodeCursor("-999999-01-01", string(tandem.NewID()))} {
		err := h.try(h.human, func(ctx context.Context, tx pgx.Tx) error {
			_, err := crm.Leads.List(ctx, tx, tandem.Query{Cursor: c})
			return err
		})
		want(t, err, tandem.Invalid, "cursor "+c)
	}
}

func TestFiltersAndSearch(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	h.seedMany(50)
	leads := func(q tandem.Query) (p tandem.Page[crm.Lead], err error) {
		q.Limit = 1000
		err = h.try(h.human, func(ctx context.Context, tx pgx.Tx) (err error) {
			p, err = crm.Leads.List(ctx, tx, q)
			return err
		})
		return p, err
	}
	for name, c := range map[string]struct {
		q tandem.Query
		n int
	}{
		"all":             {tandem.Query{}, 50},
		"stage":           {tandem.Query{Filter: map[string]string{"stage_id": string(h.board.Stages[1].ID)}}, 10},
		"board and stage": {tandem.Query{Filter: map[string]string{"board_id": string(h.board.ID), "stage_id": string(h.board.Stages[0].ID)}}, 40},
		"empty filter":    {tandem.Query{Filter: map[string]string{"stage_id": ""}}, 50},
		"closed":          {tandem.Query{Filter: map[string]string{"closed": "true"}}, 0},
		"search":          {tandem.Query{Search: "lead of contact 4"}, 11},
		"search contact":  {tandem.Query{Search: "CONTACT 50"}, 1},
		"a wildcard":      {tandem.Query{Search: "%"}, 0},
		"an underscore":   {tandem.Query{Search: "lead_of"}, 0},
		"a quote":         {tandem.Query{Search: "' OR '1'='1"}, 0},
		"a backslash":     {tandem.Query{Search: `\`}, 0},
	} {
		if p, err := leads(c.q); err != nil || len(p.Items) != c.n {
			t.Errorf("%s: %d leads, %v; want %d", name, len(p.Items), err, c.n)
		}
	}
	for name, q := range map[string]tandem.Query{
		"undeclared": {Filter: map[string]string{"org_id": string(h.org.ID)}}, "injection": {Filter: map[string]string{"1=1; --": "x"}},
		"no id": {Filter: map[string]string{"stage_id": "x"}}, "write-only field": {Filter: map[string]string{"custom": "x"}},
		"no bool": {Filter: map[string]string{"closed": "maybe"}}, "nul": {Search: "a\x00"}, "no utf-8": {Search: "\xff"}, "nul filter": {Filter: map[string]string{"priority": "\x00"}},
	} {
		_, err := leads(q)
		want(t, err, tandem.Invalid, name)
		for f := range q.Filter {
			if err != nil && !strings.Contains(err.Error(), f) {
				t.Errorf("%s: the error does not name the field %q: %v", name, f, err)
			}
		}
	}
}

func TestBoardsShowStagesAndCounts(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	h.seedMany(1300)
	var b crm.Board
	var all tandem.Page[crm.Board]
	var st tandem.Page[crm.Stage]
	var rest tandem.Page[crm.Stage]
	h.tx(h.human, func(ctx context.Context, tx pgx.Tx) (err error) {
		if b, err = crm.Boards.Get(ctx, tx, h.board.ID); err != nil {
			return err
		}
		if all, err = crm.Boards.List(ctx, tx, tandem.Query{}); err != nil {
			return err
		}
		if st, err = crm.Stages.List(ctx, tx, tandem.Query{Limit: 3, Sort: "position", Filter: map[string]string{"board_id": string(h.board.ID)}}); err != nil {
			return err
		}
		rest, err = crm.Stages.List(ctx, tx, tandem.Query{Limit: 3, Sort: "position", Cursor: st.Next})
		return err
	})
	if len(b.Stages) != 4 || b.Stages[0].LeadCount != 1000 || b.Stages[1].LeadCount != 260 || b.Stages[2].LeadCount != 0 || b.Stages[2].Kind != "won" {
		t.Errorf("stages %+v", b.Stages)
	}
	if !b.IsDefault || len(all.Items) != 1 || len(all.Items[0].Stages) != 4 {
		t.Errorf("list %+v", all.Items)
	}
	if len(st.Items) != 3 || len(rest.Items) != 1 || rest.Items[0].Name != "Lost" || rest.Next != "" {
		t.Errorf("stages by page: %+v then %+v", st.Items, rest.Items)
	}
	for name, in := range map[string][]crm.BoardStage{"none": nil, "only won": {{Name: "W", Kind: "won"}}, "kind": {{Name: "A", Kind: "maybe"}}, "same name": {{Name: "A"}, {Name: "A"}}} {
		err := h.try(h.human, func(ctx context.Context, tx pgx.Tx) error { _, err := crm.SeedBoard(ctx, tx, "B", in); return err })
		want(t, err, tandem.Invalid, "stages: "+name)
	}
	err := h.try(h.human, func(ctx context.Context, tx pgx.Tx) error {
		_, err := crm.SeedBoard(ctx, tx, "Sales", []crm.BoardStage{{Name: "A"}})
		return err
	})
	want(t, err, tandem.Conflict, "a second board of one name")
}

// Under row-level security, as the application's role, a page costs one walk along an index.
func TestListsUseTheirIndexes(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	o := addOrg(t, h.db, "other")
	h.seedMany(20_000)
	o.seedMany(20_000)
	h.analyze("contacts", "leads", "stages", "members")
	var cursor string
	h.tx(h.human, func(ctx context.Context, tx pgx.Tx) error {
		p, err := crm.Leads.List(ctx, tx, tandem.Query{})
		cursor = p.Next
		return err
	})
	for name, q := range map[string]struct {
		list  func(ctx context.Context, tx pgx.Tx) error
		index string
	}{
		"leads": {func(ctx context.Context, tx pgx.Tx) error {
			_, err := crm.Leads.List(ctx, tx, tandem.Query{})
			return err
		}, "leads_recent"},
		"leads, next page": {func(ctx context.Context, tx pgx.Tx) error {
			_, err := crm.Leads.List(ctx, tx, tandem.Query{Cursor: cursor})
			return err
		}, "leads_recent"},
		"leads of a stage": {func(ctx context.Context, tx pgx.Tx) error {
			_, err := crm.Leads.List(ctx, tx, tandem.Query{Filter: map[string]string{"stage_id": string(h.board.Stages[1].ID)}, Cursor: cursor})
			return err
		}, "leads_stage"},
		"leads of a board": {func(ctx context.Context, tx pgx.Tx) error {
			_, err := crm.Leads.List(ctx, tx, tandem.Query{Filter: map[string]string{"board_id": string(tandem.NewID())}})
			return err
		}, "leads_board"},
		"leads of an assignee": {func(ctx context.Context, tx pgx.Tx) error {
			_, err := crm.Leads.List(ctx, tx, tandem.Query{Filter: map[string]string{"assignee_id": string(tandem.NewID())}, Cursor: cursor})
			return err
		}, "leads_assignee"},
		"leads of a contact": {func(ctx context.Context, tx pgx.Tx) error {
			_, err := crm.Leads.List(ctx, tx, tandem.Query{Filter: map[string]string{"contact_id": string(tandem.NewID())}})
			return err
		}, "leads_contact"},
		"contacts": {func(ctx context.Context, tx pgx.Tx) error {
			_, err := crm.Contacts.List(ctx, tx, tandem.Query{})
			return err
		}, "contacts_recent"},
		"contacts, searched": {func(ctx context.Context, tx pgx.Tx) error {
			_, err := crm.Contacts.List(ctx, tx, tandem.Query{Search: "contact 1"})
			return err
		}, "contacts_recent"},
		"contacts, searched for somebody who is not there": {func(ctx context.Context, tx pgx.Tx) error {
			_, err := crm.Contacts.List(ctx, tx, tandem.Query{Search: "Zebedee"})
			return err
		}, "contacts_search"},
		"contacts with a rare tag": {func(ctx context.Context, tx pgx.Tx) error {
			_, err := crm.Contacts.List(ctx, tx, tandem.Query{Filter: map[string]string{"tags": "seldom"}})
			return err
		}, "contacts_tags"},
		"contacts of an address": {func(ctx context.Context, tx pgx.Tx) error {
			_, err := crm.Contacts.List(ctx, tx, tandem.Query{Filter: map[string]string{"email": "zebedee@example.com"}})
			return err
		}, "contacts_search"},
		"leads with a rare tag": {func(ctx context.Context, tx pgx.Tx) error {
			_, err := crm.Leads.List(ctx, tx, tandem.Query{Filter: map[string]string{"tags": "seldom"}})
			return err
		}, "leads_tags"},
		"leads of a source": {func(ctx context.Context, tx pgx.Tx) error {
			_, err := crm.Leads.List(ctx, tx, tandem.Query{Filter: map[string]string{"source": "fair"}})
			return err
		}, "leads_source"},
		"boards with counts": {func(ctx context.Context, tx pgx.Tx) error {
			_, err := crm.Boards.List(ctx, tx, tandem.Query{})
			return err
		}, "leads_stage"},
		"stages with counts": {func(ctx context.Context, tx pgx.Tx) error {
			p, err := crm.Stages.List(ctx, tx, tandem.Query{Limit: 2})
			if err == nil {
				_, err = crm.Stages.List(ctx, tx, tandem.Query{Cursor: p.Next})
			}
			return err
		}, "leads_stage"},
		"board with counts": {func(ctx context.Context, tx pgx.Tx) error { _, err := crm.Boards.Get(ctx, tx, h.board.ID); return err }, "leads_stage"},
	} {
		plans := h.explain(q.list)
		t.Logf("%s:\n%s", name, plans)
		for _, table := range []string{"Seq Scan on leads", "Seq Scan on contacts", "Sort"} {
			if strings.Contains(plans, table) && !(table == "Sort" && (strings.HasSuffix(name, " with counts") || name == "leads of a contact" || strings.HasSuffix(q.index, "_tags") || q.index == "contacts_search")) {
				t.Errorf("%s: the plan has %q", name, table)
			}
		}
		if !strings.Contains(plans, q.index) {
			t.Errorf("%s: the plan does not use %s", name, q.index)
		}
	}
}
