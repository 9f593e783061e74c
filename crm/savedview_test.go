package crm_test

import (
	"context"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/crm"
	"github.com/tandemhq/tandem/team"
)

func (h *hub) view(as context.Context, raw string) (v crm.SavedView, err error) {
	err = h.try(as, func(ctx context.Context, tx pgx.Tx) (err error) {
		if v, err = crm.SavedViews.New([]byte(raw)); err == nil {
			v, err = crm.SavedViews.Create(ctx, tx, v)
		}
		return err
	})
	return v, err
}

// A view that is not shared is for its owner alone, in every verb; a shared one is for all, and its owner says so.
func TestPrivateViewsAreTheirOwners(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	var rita team.Member
	h.tx(h.sys, func(ctx context.Context, tx pgx.Tx) (err error) {
		rita, err = team.AddHuman(ctx, tx, team.NewHuman{Name: "Rita", Email: "rita@example.com", Password: "correct horse battery", Role: team.Admin})
		return err
	})
	other := h.as(rita.ID)
	mine, err := h.view(h.human, `{"name":"My secret plan","record_type":"lead","query":{"filter":{"priority":"high"}}}`)
	if err != nil || mine.OwnerID != h.sam.ID || mine.Shared || mine.Query.Filter["priority"] != "high" {
		t.Fatalf("%+v, %v", mine, err)
	}
	shared, err := h.view(h.human, `{"name":"Everybody's","record_type":"contact","shared":true,"position":-1}`)
	if err != nil {
		t.Fatal(err)
	}
	names := func(as context.Context, q tandem.Query) string {
		var all []string
		h.tx(as, func(ctx context.Context, tx pgx.Tx) error {
			q.Total = true
			p, err := crm.SavedViews.List(ctx, tx, q)
			for _, v := range p.Items {
				all = append(all, v.Name)
			}
			if err == nil && *p.Total != len(p.Items) {
				t.Errorf("a total of %d with %d views", *p.Total, len(p.Items))
			}
			return err
		})
		return strings.Join(all, ", ")
	}
	for _, q := range []tandem.Query{{Sort: "position"}, {Sort: "position", Filter: map[string]string{"owner_id": string(h.sam.ID)}}} {
		if got := names(h.human, q); got != "Everybody's, My secret plan" {
			t.Errorf("the owner sees %q", got)
		}
		for who, as := range map[string]context.Context{"another member": other, "Tandem itself": h.sys} {
			if got := names(as, q); got != "Everybody's" {
				t.Errorf("%s sees %q", who, got)
			}
		}
	}
	patch := func(as context.Context, id tandem.ID, raw string) error {
		return h.try(as, func(ctx context.Context, tx pgx.Tx) error {
			_, err := crm.SavedViews.Patch(ctx, tx, id, []byte(raw), nil)
			return err
		})
	}
	restore := func(ctx context.Context, tx pgx.Tx) error {
		_, err := crm.SavedViews.Restore(ctx, tx, mine.ID)
		return err
	}
	archive := func(ctx context.Context, tx pgx.Tx) error { return crm.SavedViews.Archive(ctx, tx, mine.ID, nil) }
	want(t, h.try(other, func(ctx context.Context, tx pgx.Tx) error { _, err := crm.SavedViews.Get(ctx, tx, mine.ID); return err }), tandem.NotFound, "another member's get")
	want(t, patch(other, mine.ID, `{"name":"Mine now"}`), tandem.NotFound, "another member's patch")
	want(t, h.try(other, archive), tandem.NotFound, "another member's archive")
	h.tx(h.human, archive)
	// In one transaction with what is seen after it: nothing may have been written.
	h.tx(other, func(ctx context.Context, tx pgx.Tx) error {
		want(t, restore(ctx, tx), tandem.NotFound, "another member's restore")
		var archived bool
		err := tx.QueryRow(ctx, "SELECT archived_at IS NOT NULL FROM saved_views WHERE id = $1", mine.ID).Scan(&archived)
		if !archived {
			t.Error("another member restored a private view")
		}
		return err
	})
	h.tx(h.human, restore)

	if err := patch(other, shared.ID, `{"position":3,"shared":true}`); err != nil {
		t.Errorf("another member changes a shared view: %v", err)
	}
	want(t, patch(other, shared.ID, `{"shared":false}`), tandem.Forbidden, "another member hides a shared view")
	if err := patch(h.human, shared.ID, `{"shared":false}`); err != nil {
		t.Error(err)
	}
	if got := names(other, tandem.Query{}); got != "" {
		t.Errorf("after its owner hid it, another member sees %q", got)
	}
	if n := h.count("SELECT count(*) FROM events WHERE noun = 'saved_view' AND (description || changes::text) ~ 'secret|Everybody|high'"); n != 0 {
		t.Errorf("%d facts tell what a view is", n)
	}
	if n := h.count("SELECT count(*) FROM events WHERE noun = 'saved_view'"); n != 6 {
		t.Errorf("%d facts of views, want 6", n)
	}
}

// Only what its list would answer can be saved.
func TestSavedViewsAreTried(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	whole := `{"name":"x","record_type":"lead","query":{"filter":{"priority":"high"},"where":{"or":[{"field":"value","op":"gte","value":"5"}]},"sort":"-value","fields":["title","tags"]}}`
	v, err := h.view(h.human, whole)
	if err != nil || v.Query.Where == nil || v.Query.Where.Or[0].Op != "gte" || v.Query.Sort != "-value" || len(v.Query.Fields) != 2 {
		t.Fatalf("%+v, %v", v, err)
	}
	for name, query := range map[string]string{
		"field": `{"filter":{"nonsense":"1"}}`, "value": `{"filter":{"closed":"maybe"}}`, "condition": `{"where":{"field":"value","op":"has","value":"1"}}`,
		"sort": `{"sort":"nonsense"}`, "fields": `{"fields":["nonsense"]}`, "member": `{"page":3}`, "type": `"all"`, "nul": `{"filter":{"title":"\u0000"}}`,
	} {
		_, err := h.view(h.human, `{"name":"x","record_type":"lead","query":`+query+`}`)
		want(t, err, tandem.Invalid, "a wrong "+name)
		err = h.try(h.human, func(ctx context.Context, tx pgx.Tx) error {
			_, err := crm.SavedViews.Patch(ctx, tx, v.ID, []byte(`{"query":`+query+`}`), nil)
			return err
		})
		want(t, err, tandem.Invalid, "a patch with a wrong "+name)
	}
	for _, raw := range []string{`{"name":"x","record_type":"lead","owner_id":"` + string(h.ava.ID) + `"}`, `{"name":"x","record_type":"rumor"}`, `{"name":" ","record_type":"lead"}`, `{"name":"x","record_type":"lead","position":3000000000}`} {
		_, err := h.view(h.human, raw)
		want(t, err, tandem.Invalid, raw)
	}
	_, err = h.view(h.sys, whole)
	want(t, err, tandem.Forbidden, "a view of nobody")
	a, err := tandem.ActorFrom(h.human)
	if err != nil {
		t.Fatal(err)
	}
	a.Grants = map[string]bool{"saved_view:write": true}
	_, err = h.view(tandem.WithActor(t.Context(), a), whole)
	want(t, err, tandem.Forbidden, "a view of records that one may not read")
}
