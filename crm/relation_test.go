package crm_test

import (
	"context"
	"reflect"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/crm"
)

// Every relation names its record, in a field of its own or in the part of the record that shows it.
func TestRelations(t *testing.T) {
	t.Parallel()
	var all []string
	for _, r := range crm.All {
		for _, rel := range r.Relations {
			all = append(all, r.Noun+"."+rel.Name+"="+rel.Noun)
			if id := rel.ID(reflect.New(r.Row).Elem()); id != "" {
				t.Errorf("an empty %s names the %s %q", r.Noun, rel.Name, id)
			}
		}
	}
	for _, want := range []string{"account.parent=account", "account.owner=member", "lead.assignee=member", "lead.contact=contact", "lead.stage=stage", "note.author=member", "task.follows=task", "call.member=member", "lead_source.channel=channel", "saved_view.owner=member"} {
		if !strings.Contains(strings.Join(all, " "), want) {
			t.Errorf("there is no %s among %v", want, all)
		}
	}
	id := tandem.NewID()
	for _, r := range crm.All {
		for _, rel := range r.Relations {
			v := any(crm.Lead{ContactID: id, Assignee: &tandem.MemberRef{ID: id}, Stage: crm.LeadStage{ID: id}, BoardID: id, AccountID: &id, DealID: &id, LeadSourceID: &id})
			if r.Noun == "lead" && rel.ID(reflect.ValueOf(v)) != id {
				t.Errorf("the lead does not name its %s", rel.Name)
			}
		}
	}
}

// Many are read by their ids in one question that walks the primary key, under row-level security.
func TestSomeByTheirIDs(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	ids := []tandem.ID{tandem.NewID()}
	h.tx(h.sys, func(ctx context.Context, tx pgx.Tx) error {
		rows, err := tx.Query(ctx, `INSERT INTO accounts (org_id, id, name) SELECT $1, gen_random_uuid(), i::text FROM generate_series(1, 20000) i RETURNING id`, h.org.ID)
		if err != nil {
			return err
		}
		made, err := pgx.CollectRows(rows, pgx.RowTo[tandem.ID])
		ids = append(ids, made[:999]...)
		return err
	})
	h.analyze("accounts")
	plan := ""
	for _, n := range []int{1000, 300} { // a page that names 1,000 different ones, which may as well read a table this small
		plan = h.explain(func(ctx context.Context, tx pgx.Tx) error {
			got, err := crm.Some(ctx, tx, crm.Accounts.List, ids[:n])
			if len(got) != n-1 {
				t.Errorf("%d accounts, want %d", len(got), n-1)
			}
			return err
		})
	}
	if strings.Contains(plan, "Seq Scan") || strings.Contains(plan, "accounts_recent") {
		t.Errorf("the plan of many by their ids:\n%.3000s", plan)
	}
	err := h.try(h.human, func(ctx context.Context, tx pgx.Tx) error {
		_, err := crm.Some(ctx, tx, crm.Accounts.List, append(ids, tandem.NewID()))
		return err
	})
	want(t, err, tandem.Invalid, "more than 1,000")
}
