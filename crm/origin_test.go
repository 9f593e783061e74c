package crm_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/crm"
)

// A lead belongs to the lead source of its source's name, however the lead came and whatever the case, and lists are
// chosen by it.
func TestALeadKnowsItsSource(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	var fair crm.LeadSource
	h.tx(h.human, func(ctx context.Context, tx pgx.Tx) (err error) {
		fair, err = crm.LeadSources.Create(ctx, tx, crm.LeadSource{Name: "Trade fair", Kind: "other"})
		return err
	})
	create := func(body string) (l crm.Lead, err error) {
		err = h.try(h.human, func(ctx context.Context, tx pgx.Tx) error {
			c, err := crm.Contacts.Create(ctx, tx, crm.Contact{Name: "Ada"})
			if err != nil {
				return err
			}
			in, err := crm.Leads.New(json.RawMessage(fmt.Sprintf(body, c.ID)))
			if err != nil {
				return err
			}
			l, err = crm.Leads.Create(ctx, tx, in)
			return err
		})
		return l, err
	}
	byName, _ := h.lead(crm.NewLead{Contact: h.contact("a@example.com", "A").ID, Source: "TRADE fair"})
	byID, err := create(`{"contact_id":"%s","title":"x","lead_source_id":"` + string(fair.ID) + `"}`)
	if err != nil || byID.Source != "Trade fair" {
		t.Fatalf("%+v, %v", byID, err)
	}
	other, err := create(`{"contact_id":"%s","title":"x","source":"nowhere known"}`)
	if err != nil || other.LeadSource != nil {
		t.Fatalf("%+v, %v", other.LeadSource, err)
	}
	for _, l := range []crm.Lead{byName, byID} {
		if l.LeadSource == nil || *l.LeadSource != (crm.LeadOrigin{ID: fair.ID, Name: "Trade fair", Kind: "other"}) {
			t.Errorf("%+v", l.LeadSource)
		}
	}
	for _, body := range []string{
		`{"contact_id":"%s","title":"x","source":"a","lead_source_id":"` + string(fair.ID) + `"}`,
		`{"contact_id":"%s","title":"x","lead_source_id":"` + string(tandem.NewID()) + `"}`,
		`{"contact_id":"%s","title":"x","lead_source_id":7}`,
	} {
		if _, err := create(body); tandem.KindOf(err) != tandem.Invalid {
			t.Errorf("%s: %v", body, err)
		}
	}
	patch := func(body string) (l crm.Lead, err error) {
		err = h.try(h.human, func(ctx context.Context, tx pgx.Tx) (err error) {
			l, err = crm.Leads.Patch(ctx, tx, other.ID, json.RawMessage(body), nil)
			return err
		})
		return l, err
	}
	if l, err := patch(`{"lead_source_id":"` + string(fair.ID) + `","title":"y"}`); err != nil || l.LeadSource == nil || l.Source != "Trade fair" || l.Title != "y" {
		t.Errorf("%+v, %v", l, err)
	}
	if l, err := patch(`{"lead_source_id":null}`); err != nil || l.LeadSource != nil || l.Source != "" {
		t.Errorf("%+v, %v", l, err)
	}
	if _, err := patch(`{"lead_source_id":"` + string(fair.ID) + `","source":"a"}`); tandem.KindOf(err) != tandem.Invalid {
		t.Errorf("%v", err)
	}
	list := func(ctx context.Context, tx pgx.Tx) (p tandem.Page[crm.Lead], err error) {
		return crm.Leads.List(ctx, tx, tandem.Query{Filter: map[string]string{"lead_source_id": string(fair.ID)}})
	}
	h.seedMany(5000)
	h.analyze("leads", "lead_sources", "contacts")
	plan := h.explain(func(ctx context.Context, tx pgx.Tx) error {
		p, err := list(ctx, tx)
		if err == nil && len(p.Items) != 2 {
			t.Errorf("%d leads", len(p.Items))
		}
		return err
	})
	if !strings.Contains(plan, "leads_origin") {
		t.Errorf("the list goes by no index:\n%s", plan)
	}
	h.tx(h.human, func(ctx context.Context, tx pgx.Tx) error { return crm.LeadSources.Archive(ctx, tx, fair.ID, nil) })
	h.tx(h.human, func(ctx context.Context, tx pgx.Tx) error {
		l, err := crm.Leads.Get(ctx, tx, byID.ID)
		if err == nil && l.LeadSource != nil {
			t.Errorf("an archived source is shown: %+v", l.LeadSource)
		}
		return err
	})
}
