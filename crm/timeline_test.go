package crm_test

import (
	"context"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/crm"
	"github.com/tandemhq/tandem/internal/events"
)

func (h *hub) timeline(q events.Timeline) (p tandem.Page[events.Row]) {
	h.t.Helper()
	h.tx(h.human, func(ctx context.Context, tx pgx.Tx) (err error) {
		p, err = events.ForLead(ctx, tx, q)
		return err
	})
	return p
}

// What is written about a lead is on its timeline, the newest first and each once.
func TestTimelineOfALead(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	lead, _ := h.lead(crm.NewLead{Contact: h.contact("ada@example.com", "Ada").ID})
	about := `{"lead_id":"` + string(lead.ID) + `",`
	if _, err := add(h, crm.Notes, about+`"body":"x"}`); err != nil {
		t.Fatal(err)
	}
	task := h.task(about + `"title":"Call her"}`)
	h.mustPatch(task.ID, `{"status":"completed"}`)
	if _, err := add(h, crm.Calls, about+`"direction":"inbound","outcome":"busy","started_at":"2026-11-30T15:04:05Z"}`); err != nil {
		t.Fatal(err)
	}
	if _, err := add(h, crm.Notes, `{"contact_id":"`+string(lead.ContactID)+`","body":"not of the lead"}`); err != nil {
		t.Fatal(err)
	}
	all := []string{"lead", "note", "task", "call", "contact"}
	for name, c := range map[string]struct {
		q    events.Timeline
		want string
	}{
		"all":     {events.Timeline{Nouns: all}, "call.created task.updated task.created note.created lead.created"},
		"type":    {events.Timeline{Nouns: []string{"task", "note"}}, "task.updated task.created note.created"},
		"actor":   {events.Timeline{Nouns: all, Actor: tandem.System}, "lead.created"},
		"nothing": {events.Timeline{Nouns: []string{}}, ""},
	} {
		for _, size := range []int{0, 1, 2, 5} {
			var got []string
			for q := c.q; ; {
				q.Lead, q.Limit = lead.ID, size
				p := h.timeline(q)
				for _, r := range p.Items {
					got = append(got, r.Topic())
				}
				if q.Cursor = p.Next; q.Cursor == "" {
					break
				}
			}
			if s := strings.Join(got, " "); s != c.want {
				t.Errorf("%s by %d: %s, want %s", name, size, s, c.want)
			}
		}
	}
	other := addOrg(t, h.db, "other")
	if p := other.timeline(events.Timeline{Lead: lead.ID, Nouns: all}); len(p.Items) != 0 {
		t.Errorf("another organization sees %d events", len(p.Items))
	}
	for _, cursor := range []string{"x", tandem.EncodeCursor("x"), tandem.EncodeCursor("1", "2")} {
		err := h.try(h.human, func(ctx context.Context, tx pgx.Tx) error {
			_, err := events.ForLead(ctx, tx, events.Timeline{Lead: lead.ID, Nouns: all, Cursor: cursor})
			return err
		})
		want(t, err, tandem.Invalid, "cursor "+cursor)
	}
}

// However long the log and the lead's part of it, a page is one walk along one index, under row-level security.
func TestTimelineUsesItsIndex(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	lead := tandem.NewID()
	for _, o := range []*hub{h, addOrg(t, h.db, "other")} {
		o.tx(o.sys, func(ctx context.Context, tx pgx.Tx) error {
			_, err := tx.Exec(ctx, `
				INSERT INTO events (org_id, id, noun, verb, record_id, actor_kind, actor_name, description, category, severity, lead_id, chain_id)
				SELECT $1, gen_random_uuid(), (ARRAY['message', 'note', 'task'])[1 + i % 3], 'created', gen_random_uuid(), 'system', 'x', 'x', 'crm', 'info',
					CASE WHEN i % 10 = 0 THEN $2 WHEN i % 3 = 0 THEN gen_random_uuid() END, gen_random_uuid()
				FROM generate_series(1, 20000) i`, o.org.ID, lead)
			return err
		})
	}
	h.analyze("events")
	all := []string{"message", "note", "task", "lead"}
	first := h.timeline(events.Timeline{Lead: lead, Nouns: all})
	for name, q := range map[string]events.Timeline{
		"a long lead": {Lead: lead, Nouns: all}, "its next page": {Lead: lead, Nouns: all, Cursor: first.Next}, "one type": {Lead: lead, Nouns: []string{"note"}, Actor: tandem.System},
		"a lead with nothing": {Lead: tandem.NewID(), Nouns: all},
	} {
		plan := h.explain(func(ctx context.Context, tx pgx.Tx) error {
			_, err := events.ForLead(ctx, tx, q)
			return err
		})
		if !strings.Contains(plan, "events_lead") || strings.Contains(plan, "Sort") || strings.Contains(plan, "Seq Scan") {
			t.Errorf("%s: the plan is not one walk along events_lead:\n%s", name, plan)
		}
	}
}
