package inbox

import (
	"context"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/internal/pg/pgtest"
)

func (w *world) list(a tandem.Actor, q ConversationQuery) (p tandem.Page[Conversation]) {
	w.Helper()
	w.do(w.as(a), func(ctx context.Context, tx pgx.Tx) (err error) {
		p, err = ListConversations(ctx, tx, q)
		return err
	})
	return p
}

func TestListViewsAndCounts(t *testing.T) {
	w := newWorld(t)
	mine, ai, waits, free, closed := w.conversation(), w.conversation(), w.conversation(), w.conversation(), w.conversation()
	me := w.people(1, "agent")[0]
	w.do(w.as(me), func(ctx context.Context, tx pgx.Tx) error {
		if _, err := Claim(ctx, tx, mine); err != nil {
			return err
		}
		_, err := Resolve(ctx, tx, closed)
		return err
	})
	w.run(w.ava, ai, time.Minute)
	w.ask(waits, HandoffRequest{})
	wanted := map[string][]tandem.ID{
		"mine": {mine}, "ai": {waits, ai}, "needs_you": {waits}, "unowned": {free}, "all": {closed, free, waits, ai, mine}, "": {closed, free, waits, ai, mine},
	}
	for view, ids := range wanted {
		var got []tandem.ID
		for _, c := range w.list(me, ConversationQuery{View: view}).Items {
			got = append(got, c.ID)
		}
		if !slices.Equal(got, ids) {
			t.Errorf("view %q: %v, want %v", view, got, ids)
		}
	}
	var n Counts
	w.do(w.as(me), func(ctx context.Context, tx pgx.Tx) (err error) {
		n, err = CountConversations(ctx, tx)
		return err
	})
	if n != (Counts{Mine: 1, NeedsYou: 1, AI: 2, Unowned: 1, All: 5}) {
		t.Errorf("counts %+v", n)
	}
	if p := w.list(me, ConversationQuery{State: StateResolved}); len(p.Items) != 1 || p.Items[0].ID != closed {
		t.Errorf("resolved: %+v", p.Items)
	}
	c := w.get(ai)
	for _, q := range []ConversationQuery{{Contact: c.Contact.ID}, {Lead: c.Lead.ID}} {
		if p := w.list(me, q); len(p.Items) != 1 || p.Items[0].ID != ai {
			t.Errorf("%+v: %d items", q, len(p.Items))
		}
	}
	if p := w.list(me, ConversationQuery{Channel: w.form}); len(p.Items) != 0 {
		t.Errorf("other channel: %d items", len(p.Items))
	}
	for _, q := range []ConversationQuery{{View: "x"}, {State: "x"}, {Channel: "x"}, {Query: tandem.Query{Cursor: "x"}}} {
		err := w.db.Read(w.as(me), func(ctx context.Context, tx pgx.Tx) error { return second(ListConversations(ctx, tx, q)) })
		want(t, err, tandem.Invalid)
	}
}

// What a row of the list shows is what the conversation shows by itself: no value is that of another row.
func TestListedAsByItself(t *testing.T) {
	w := newWorld(t)
	var snoozed []tandem.ID
	for range 3 {
		w.ask(w.conversation(), HandoffRequest{})
		w.conversation()
		snoozed = append(snoozed, w.conversation())
	}
	w.do(w.as(w.owner), func(ctx context.Context, tx pgx.Tx) error {
		for i, id := range snoozed {
			_, err := tx.Exec(ctx, `UPDATE conversations SET state = 'snoozed', snoozed_until = $2 WHERE id = $1`, id, time.Date(2099, 1, 1+i, 0, 0, 0, 0, time.UTC))
			if err != nil {
				return err
			}
		}
		return nil
	})
	items := w.list(w.owner, ConversationQuery{}).Items
	if len(items) != 9 {
		t.Fatalf("%d conversations", len(items))
	}
	for _, c := range items {
		if one := w.get(c.ID); !reflect.DeepEqual(c, one) {
			t.Errorf("listed: %+v\nalone: %+v", c, one)
		}
	}
}

func TestListPagesSeeEverythingOnce(t *testing.T) {
	w := newWorld(t)
	for range 23 {
		w.conversation()
	}
	seen := map[tandem.ID]bool{}
	q := ConversationQuery{Query: tandem.Query{Limit: 5}}
	last := time.Now().Add(time.Hour)
	for pages := 1; ; pages++ {
		p := w.list(w.owner, q)
		for _, c := range p.Items {
			if seen[c.ID] || c.LastMessageAt.After(last) {
				t.Fatalf("page %d: %s again or out of order", pages, c.ID)
			}
			seen[c.ID], last = true, c.LastMessageAt
		}
		if p.Next == "" {
			break
		}
		q.Cursor = p.Next
	}
	if len(seen) != 23 {
		t.Errorf("%d of 23 seen", len(seen))
	}
}

func TestThreadWithEvents(t *testing.T) {
	w := newWorld(t)
	conv := w.ingest(w.inbound("v", "first")).Conversation
	for i := range 6 {
		w.ingest(w.inbound("v", fmt.Sprint("more ", i)))
	}
	w.do(w.as(w.owner), func(ctx context.Context, tx pgx.Tx) error {
		_, err := Claim(ctx, tx, conv)
		return err
	})
	if _, err := w.reply(w.owner, conv, Draft{Text: "answer"}); err != nil {
		t.Fatal(err)
	}
	thread := func(q ThreadQuery) (p tandem.Page[Message]) {
		t.Helper()
		w.do(w.as(w.owner), func(ctx context.Context, tx pgx.Tx) (err error) {
			p, err = Thread(ctx, tx, conv, q)
			return err
		})
		return p
	}
	all := thread(ThreadQuery{})
	var texts []string
	seq := int64(0)
	for _, m := range all.Items {
		if m.Seq < seq {
			t.Errorf("seq falls to %d at %q", m.Seq, m.Text)
		}
		seq = m.Seq
		if m.Kind == "event" {
			texts = append(texts, m.Text)
		}
	}
	if !slices.ContainsFunc(texts, func(s string) bool { return strings.HasPrefix(s, "Sam claimed") }) || all.Next != "" {
		t.Errorf("event lines %q, next %q", texts, all.Next)
	}
	// Pages together are the whole, each event once.
	var paged []tandem.ID
	q := ThreadQuery{Limit: 3}
	for {
		p := thread(q)
		var ids []tandem.ID
		for _, m := range p.Items {
			ids = append(ids, m.ID)
		}
		paged = append(ids, paged...)
		if p.Next == "" {
			break
		}
		if _, err := fmt.Sscan(p.Next, &q.Before); err != nil {
			t.Fatal(err)
		}
	}
	var whole []tandem.ID
	for _, m := range all.Items {
		whole = append(whole, m.ID)
	}
	if !slices.Equal(paged, whole) {
		t.Errorf("pages hold %d lines, the whole %d", len(paged), len(whole))
	}
	after := thread(ThreadQuery{After: 6})
	if len(after.Items) == 0 || after.Items[0].Seq < 6 {
		t.Errorf("after 6: %+v", after.Items)
	}
}

// With 20,000 conversations under row-level security every list and every lookup of the
// road is served by its index.
func TestPlansUseIndexes(t *testing.T) {
	w := newWorld(t)
	seedConversations(w, 20_000)
	plan := func(sql string, args ...any) string {
		t.Helper()
		var out []string
		w.do(w.as(w.owner), func(ctx context.Context, tx pgx.Tx) error {
			rows, err := tx.Query(ctx, "EXPLAIN (COSTS OFF) "+sql, args...)
			if err != nil {
				return err
			}
			out, err = pgx.CollectRows(rows, pgx.RowTo[string])
			return err
		})
		return strings.Join(out, "\n")
	}
	tests := []struct {
		q     ConversationQuery
		index string
	}{
		{ConversationQuery{}, "conversations_recent"},
		{ConversationQuery{State: StateOpen}, "conversations_"},
		{ConversationQuery{View: "mine"}, "conversations_owner"},
		{ConversationQuery{View: "ai"}, "conversations_owner_kind"},
		{ConversationQuery{View: "needs_you"}, "conversations_handoff"},
		{ConversationQuery{View: "unowned"}, "conversations_"},
		{ConversationQuery{Query: tandem.Query{Cursor: tandem.EncodeCursor(time.Now().Add(-time.Hour).UTC().Format(time.RFC3339Nano), string(tandem.NewID()))}}, "conversations_recent"},
	}
	for _, tt := range tests {
		where, args, err := tt.q.where(w.owner)
		if err != nil {
			t.Fatal(err)
		}
		args["limit"] = 51
		p := plan("SELECT * FROM conversations WHERE "+where+" ORDER BY last_message_at DESC, id DESC LIMIT @limit", args)
		if !strings.Contains(p, tt.index) || strings.Contains(p, "Seq Scan") || strings.Contains(p, "Sort") {
			t.Errorf("%+v:\n%s", tt.q, p)
		}
		began := time.Now()
		if n := len(w.list(w.owner, tt.q).Items); n != 50 && tt.q.View != "mine" {
			t.Errorf("%+v: %d items", tt.q, n)
		}
		t.Logf("figure: list %q %q of 20,000: by its index, %v", tt.q.View, tt.q.State, time.Since(began).Round(100*time.Microsecond))
	}
	var took []time.Duration
	for i := range 200 {
		began := time.Now()
		w.ingest(w.inbound(fmt.Sprint("v", i), "x"))
		took = append(took, time.Since(began))
	}
	t.Logf("figure: fast path among 20,000 conversations, one caller: p50 %v, p99 %v", took[100], p99(took))
	began := time.Now()
	w.do(w.as(w.owner), func(ctx context.Context, tx pgx.Tx) error { return second(CountConversations(ctx, tx)) })
	t.Logf("figure: tab counts of 20,000, capped at 1,000: %v", time.Since(began).Round(100*time.Microsecond))
}

// seedConversations fills the tables directly: contacts v0, v1, ... each with one conversation.
func seedConversations(w *world, n int) {
	w.Helper()
	lead := w.ingest(w.inbound("seed", "x")).Lead
	super := pgtest.Connect(w.T, w.db, pgtest.Super)
	steps := []struct {
		sql  string
		args pgx.NamedArgs
	}{
		{`INSERT INTO contacts (org_id, id, name) SELECT tandem_org(), gen_random_uuid(), 'v' || i FROM generate_series(0, @n::int - 1) i`, pgx.NamedArgs{"n": n}},
		{`INSERT INTO contact_identities (org_id, kind, scope, value, contact_id)
			  SELECT tandem_org(), 'visitor', @chat::text, name, id FROM contacts WHERE name LIKE 'v%'`, pgx.NamedArgs{"chat": string(w.chat)}},
		{`INSERT INTO conversations (org_id, id, channel_id, contact_id, lead_id, owner_id, owner_kind, last_message_at)
			  SELECT tandem_org(), gen_random_uuid(), @chat::uuid, id, @lead::uuid, CASE WHEN i % 3 = 0 THEN @ava::uuid END, CASE WHEN i % 3 = 0 THEN 'ai' END,
			         now() - i * interval '1 minute'
			  FROM (SELECT id, substr(name, 2)::int AS i FROM contacts WHERE name LIKE 'v%') c`, pgx.NamedArgs{"chat": w.chat, "lead": lead, "ava": w.ava.Member}},
		{`INSERT INTO handoffs (org_id, id, conversation_id, reason, packet, from_id, to_skill, deadline)
			  SELECT tandem_org(), gen_random_uuid(), id, 'policy', '{}', owner_id, 'x', now() + interval '1 day'
			  FROM conversations WHERE owner_id IS NOT NULL ORDER BY id LIMIT 200`, nil},
		{`UPDATE conversations c SET handoff_id = h.id FROM handoffs h WHERE h.org_id = c.org_id AND h.conversation_id = c.id`, nil},
	}
	for _, step := range steps {
		w.do(w.system(), func(ctx context.Context, tx pgx.Tx) error {
			if _, err := tx.Exec(ctx, step.sql, step.args); err != nil {
				return fmt.Errorf("%s: %w", step.sql, err)
			}
			return nil
		})
		// The rows of a step are looked up by those of the next, for which the server plans by their number.
		if _, err := super.Exec(w.Context(), "ANALYZE"); err != nil {
			w.Fatal(err)
		}
	}
}
