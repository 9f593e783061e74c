package crm_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/crm"
	"github.com/tandemhq/tandem/internal/events"
	"github.com/tandemhq/tandem/internal/proof"
)

// past is a contact of an account with leads, conversations, notes, tasks and calls, and with events of all of them in a log
// that has much else.
type past struct {
	*hub
	account, contact, elsewhere tandem.ID
}

var pastNouns = []string{"account", "call", "contact", "conversation", "handoff", "lead", "message", "note", "run", "task"}

// newPast writes n events: what they are about goes round, and a part of them is of somebody else.
func newPast(t *testing.T, h *hub, n int) past {
	t.Helper()
	p := past{hub: h, account: tandem.NewID(), contact: h.contact("ada@example.com", "Ada").ID, elsewhere: h.contact("charles@example.com", "Charles").ID}
	lead, _ := h.lead(crm.NewLead{Contact: p.contact})
	other, _ := h.lead(crm.NewLead{Contact: p.elsewhere})
	args := pgx.StrictNamedArgs{"org": h.org.ID, "account": p.account, "contact": p.contact, "elsewhere": p.elsewhere, "lead": lead.ID, "other": other.ID, "channel": tandem.NewID()}
	h.tx(h.sys, func(ctx context.Context, tx pgx.Tx) error {
		for _, sql := range []string{
			`INSERT INTO accounts (org_id, id, name) VALUES (@org, @account, 'Engines')`,
			`UPDATE contacts SET account_id = @account WHERE org_id = @org AND id = @contact`,
			`INSERT INTO channels (org_id, id, kind, name) VALUES (@org, @channel, 'webhook', 'Form')`,
			`INSERT INTO conversations (org_id, id, channel_id, contact_id, lead_id, thread)
			 SELECT @org, gen_random_uuid(), @channel, CASE WHEN i % 3 = 0 THEN @elsewhere::uuid ELSE @contact END,
			        CASE i % 6 WHEN 0 THEN @other::uuid WHEN 1 THEN @lead END, i::text FROM generate_series(1, 30) i`,
			`INSERT INTO notes (org_id, id, contact_id, account_id, lead_id, body)
			 SELECT @org, gen_random_uuid(), CASE i % 4 WHEN 0 THEN @contact::uuid WHEN 1 THEN @elsewhere END, CASE i % 4 WHEN 2 THEN @account::uuid END,
			        CASE i % 4 WHEN 3 THEN @lead::uuid END, 'x' FROM generate_series(1, 400) i`,
			`INSERT INTO tasks (org_id, id, contact_id, account_id, title)
			 SELECT @org, gen_random_uuid(), CASE i % 3 WHEN 0 THEN @contact::uuid END, CASE i % 3 WHEN 1 THEN @account::uuid END, 'x' FROM generate_series(1, 60) i`,
			`INSERT INTO calls (org_id, id, contact_id, account_id, direction, outcome, started_at)
			 SELECT @org, gen_random_uuid(), CASE i % 2 WHEN 0 THEN @contact::uuid END, CASE i % 2 WHEN 1 THEN @account::uuid END, 'inbound', 'busy', now() FROM generate_series(1, 20) i`,
		} {
			named := pgx.StrictNamedArgs{}
			for name, v := range args {
				if strings.Contains(sql, "@"+name) {
					named[name] = v
				}
			}
			if _, err := tx.Exec(ctx, sql, named); err != nil {
				return fmt.Errorf("%s: %w", sql, err)
			}
		}
		_, err := tx.Exec(ctx, `
			WITH things AS (
				SELECT row_number() OVER (ORDER BY random()) AS k, count(*) OVER () AS n, x.* FROM (
					SELECT 'message' AS noun, gen_random_uuid() AS id, id AS conversation, lead_id AS lead FROM conversations, generate_series(1, 20)
					UNION ALL SELECT (ARRAY['conversation','handoff','run'])[1 + i], gen_random_uuid(), id, lead_id FROM conversations, generate_series(0, 2) i
					UNION ALL SELECT 'note', id, NULL, lead_id FROM notes UNION ALL SELECT 'task', id, NULL, lead_id FROM tasks UNION ALL SELECT 'call', id, NULL, lead_id FROM calls
					UNION ALL SELECT 'contact', id, NULL, NULL FROM contacts UNION ALL SELECT 'account', id, NULL, NULL FROM accounts
					UNION ALL SELECT 'lead', id, NULL, id FROM leads UNION ALL SELECT 'tag', gen_random_uuid(), NULL, NULL FROM generate_series(1, 40)) x)
			INSERT INTO events (org_id, id, noun, verb, record_id, actor_kind, actor_name, description, category, severity, conversation_id, lead_id, chain_id)
			SELECT $1, gen_random_uuid(), noun, 'updated', things.id, (ARRAY['human','ai','contact'])[1 + i % 3], 'x', 'x', 'crm', 'info', conversation, lead, gen_random_uuid()
			FROM generate_series(1, $2::int) i JOIN things ON k = 1 + (i * 7919::bigint) % n ORDER BY i`, h.org.ID, n)
		return err
	})
	h.analyze("events", "conversations", "notes", "tasks", "calls", "leads", "contacts")
	return p
}

// The same by one plain question to the whole log, the newest first: what the index and the pages must come to.
const sqlExpected = `
SELECT e.seq FROM events e WHERE e.org_id = @org AND e.noun = ANY(@nouns) AND (@actor = '' OR e.actor_kind = @actor) AND (
	e.record_id = ANY(@owners::uuid[])
	OR EXISTS (SELECT FROM leads x WHERE x.id = e.lead_id AND x.contact_id = @contact)
	OR EXISTS (SELECT FROM conversations x WHERE x.id = e.conversation_id AND x.contact_id = @contact)
	OR EXISTS (SELECT FROM notes x WHERE x.id = e.record_id AND (x.contact_id = ANY(@owners) OR x.account_id = ANY(@owners)))
	OR EXISTS (SELECT FROM tasks x WHERE x.id = e.record_id AND (x.contact_id = ANY(@owners) OR x.account_id = ANY(@owners)))
	OR EXISTS (SELECT FROM calls x WHERE x.id = e.record_id AND (x.contact_id = ANY(@owners) OR x.account_id = ANY(@owners))))
ORDER BY e.seq DESC`

func (p past) page(noun string, id tandem.ID, q events.Timeline) (got tandem.Page[events.Entry]) {
	p.t.Helper()
	p.tx(p.human, func(ctx context.Context, tx pgx.Tx) (err error) {
		got, err = crm.Timeline(ctx, tx, noun, id, q)
		return err
	})
	return got
}

// The pages of a contact's and of an account's timeline are together exactly what belongs to them, in order and without
// repeats, whatever is asked for and however large a page is.
func TestComposedTimelines(t *testing.T) {
	t.Parallel()
	p := newPast(t, newHub(t), proof.Size(6000, 60_000))
	total := 0
	for _, of := range []struct {
		noun   string
		id     tandem.ID
		owners []tandem.ID
	}{{"contact", p.contact, []tandem.ID{p.contact}}, {"account", p.account, []tandem.ID{p.account, p.contact}}} {
		for name, q := range map[string]events.Timeline{
			"all": {Nouns: pastNouns, Limit: 1000}, "small pages": {Nouns: pastNouns, Limit: 97}, "one type": {Nouns: []string{"note"}, Limit: 10}, "two": {Nouns: []string{"message", "task"}, Limit: 300},
			"of the lead": {Nouns: []string{"lead"}, Limit: 50}, "by whom": {Nouns: pastNouns, Actor: tandem.AI, Limit: 250}, "what none has": {Nouns: []string{"tag"}}, "nothing": {Nouns: []string{}},
		} {
			var want, got []int64
			p.tx(p.sys, func(ctx context.Context, tx pgx.Tx) error {
				rows, err := tx.Query(ctx, sqlExpected, pgx.StrictNamedArgs{"org": p.org.ID, "nouns": q.Nouns, "actor": string(q.Actor), "contact": p.contact, "owners": of.owners})
				if err != nil {
					return err
				}
				want, err = pgx.CollectRows(rows, pgx.RowTo[int64])
				return err
			})
			for pages := 0; ; pages++ {
				page := p.page(of.noun, of.id, q)
				for _, e := range page.Items {
					if got = append(got, e.Seq); e.About.ID == "" || e.About.Noun == "lead" && e.About.ID != e.Lead || e.About.Noun == "contact" && e.About.ID != p.contact {
						t.Errorf("%s: the event %+v is about %+v", of.noun, e.Event, e.About)
					}
				}
				if q.Cursor = page.Next; q.Cursor == "" || pages > len(want) {
					break
				}
			}
			if !slices.Equal(got, want) {
				t.Errorf("%s, %s: %d events, want %d", of.noun, name, len(got), len(want))
			}
			total += len(got)
		}
	}
	if total < 3000 {
		t.Errorf("only %d events were looked at", total)
	}
	other := past{hub: addOrg(t, p.db, "other")}
	if got := other.page("contact", p.contact, events.Timeline{Nouns: pastNouns}); len(got.Items) != 0 {
		t.Errorf("another organization sees %d events", len(got.Items))
	}
	err := p.try(p.human, func(ctx context.Context, tx pgx.Tx) error {
		_, err := crm.Timeline(ctx, tx, "contact", p.contact, events.Timeline{Nouns: pastNouns, Cursor: "x"})
		return err
	})
	want(t, err, tandem.Invalid, "a cursor that is none")
	t.Logf("figure: composed timelines: %d events paged, as one plain question finds them", total)
}

// A page reads the log along its indexes and no further than it must, under row-level security, however long the log is.
func TestComposedTimelineUsesIndexes(t *testing.T) {
	t.Parallel()
	size := proof.Size(20_000, 100_000)
	p := newPast(t, newHub(t), size)
	for name, id := range map[string]tandem.ID{"contact": p.contact, "account": p.account} {
		q := events.Timeline{Nouns: pastNouns}
		first := p.page(name, id, q)
		for _, q := range []events.Timeline{q, {Nouns: pastNouns, Cursor: first.Next}, {Nouns: []string{"note"}}} {
			plan := p.explain(func(ctx context.Context, tx pgx.Tx) error {
				_, err := crm.Timeline(ctx, tx, name, id, q)
				return err
			})
			if strings.Contains(plan, "Seq Scan on events") || !strings.Contains(plan, "events_record") || len(q.Nouns) > 1 && (!strings.Contains(plan, "events_lead") || !strings.Contains(plan, "events_conversation")) {
				t.Errorf("the plan of a timeline of a %s:\n%s", name, plan)
			}
		}
		var took []time.Duration
		for range 200 {
			start := time.Now()
			page := p.page(name, id, q)
			took = append(took, time.Since(start))
			if q.Cursor = page.Next; len(page.Items) != 50 {
				t.Fatalf("a page of %d", len(page.Items))
			}
		}
		slices.Sort(took)
		t.Logf("figure: timeline of a %s among %d events: page of 50 in p50 %.1f ms, p99 %.1f ms", name, size, took[100].Seconds()*1000, took[197].Seconds()*1000)
	}
}
