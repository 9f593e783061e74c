package inbox

import (
	"context"
	"fmt"
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem/channels"
	"github.com/tandemhq/tandem/internal/pg/pgtest"
	"github.com/tandemhq/tandem/internal/proof"
)

// The same random messages, by the slow path, one by one by the statement, and in batches,
// become the same rows and the same events, and get the same answers.
func TestEveryPathDoesTheSame(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	r := proof.Rand(t)
	n := proof.Size(150, 3000)
	worlds := []*world{newWorldIn(t, db, "Slow"), newWorldIn(t, db, "Alone"), newWorldIn(t, db, "Batch")}
	inputs := make([][]channels.Inbound, len(worlds))
	var past []channels.Inbound
	for k := range n {
		in := randomInbound(r, k)
		if r.IntN(8) == 0 && k > 0 { // a repeat, perhaps with something to tell; never under somebody else's id, where the first would win
			old := past[r.IntN(k)]
			if in.ID = old.ID; r.IntN(2) == 0 || in.From != old.From {
				in = old
			}
		}
		past = append(past, in)
		for i, w := range worlds {
			mine := in
			mine.Org, mine.Channel = w.org, w.chat
			if in.Lead != nil {
				mine.Channel = w.form
			}
			inputs[i] = append(inputs[i], mine)
		}
	}
	answers := make([][]channels.Accepted, len(worlds))
	for i, w := range worlds[:2] {
		for _, in := range inputs[i] {
			var got channels.Accepted
			w.do(w.system(), func(ctx context.Context, tx pgx.Tx) (err error) {
				if i == 1 {
					got, err = Ingest(ctx, tx, in)
					return err
				}
				one, err := newIncoming(ctx, in)
				if err != nil {
					return err
				}
				got, err = one.slow(ctx, tx)
				return err
			})
			answers[i] = append(answers[i], got)
		}
	}
	w := worlds[2]
	b := NewBatcher(db, BatchOptions{Logger: quiet})
	for rest := inputs[2]; len(rest) > 0; {
		size := min(1+r.IntN(60), len(rest))
		var batch []*delivery
		for _, in := range rest[:size] {
			batch = append(batch, &delivery{ctx: t.Context(), in: in, done: make(chan struct{})})
		}
		rest = rest[size:]
		answers[2] = append(answers[2], w.flush(b, batch)...)
	}
	for k := range inputs[0] {
		for i := range worlds[1:] {
			x, y := answers[0][k], answers[i+1][k]
			if x.Seq != y.Seq || x.Duplicate != y.Duplicate || (x.Lead == "") != (y.Lead == "") {
				t.Errorf("message %d (%+v): the answers are %+v and %+v", k, inputs[0][k], x, y)
			}
		}
	}
	want, rows := worlds[0].dump(), 0
	for _, w := range worlds[1:] {
		got := w.dump()
		for table := range want {
			x, y := want[table], got[table]
			rows += len(x)
			if slices.Equal(x, y) {
				continue
			}
			for i := range max(len(x), len(y)) {
				if i >= len(x) || i >= len(y) || x[i] != y[i] {
					t.Errorf("%s: %d and %d rows, different from\n%s\nand\n%s", table, len(x), len(y), strings.Join(x[i:min(i+2, len(x))], "\n"), strings.Join(y[min(i, len(y)):min(i+2, len(y))], "\n"))
					break
				}
			}
		}
	}
	if t.Failed() {
		return
	}
	proof.Figure(t, "G18", "%d random messages by three paths: equal answers, %d rows compared, all equal", n, rows)
}

// randomInbound writes as one of few people, each by one address, so that known and new
// contacts, repeats, new facts and further leads come in every order.
func randomInbound(r *rand.Rand, k int) channels.Inbound {
	who := r.IntN(1 + k/4)
	in := channels.Inbound{
		ID: channels.ExternalID(fmt.Sprint("m", k)), Text: fmt.Sprint("text ", k), Raw: fmt.Append(nil, "raw ", k),
		From: channels.Address(fmt.Sprintf("p%d@example.com", who)), FromKind: channels.IdentityEmail,
	}
	switch who % 4 {
	case 0:
		in.From, in.FromKind = channels.Address(fmt.Sprint("visitor-", who)), channels.IdentityVisitor
	case 1:
		in.From, in.FromKind = channels.Address(fmt.Sprintf("+4930%06d", 901820+who)), channels.IdentityPhone
	}
	maybe := func(s string) string {
		if r.IntN(3) == 0 {
			return s
		}
		return ""
	}
	in.Contact.Name, in.Contact.Company = maybe(fmt.Sprint("Person ", who)), maybe(fmt.Sprint("Company ", who))
	in.Contact.Email, in.Contact.Phone = maybe(fmt.Sprintf("p%d@example.com", who)), maybe([]string{fmt.Sprintf("+4940%06d", 301820+who), "030 12", "none"}[r.IntN(3)])
	in.Subject = maybe("A subject")
	if r.IntN(5) == 0 {
		in.Thread = "t" + fmt.Sprint(r.IntN(2))
	}
	if who%2 == 0 {
		return in
	}
	in.Lead = &channels.LeadFacts{Title: maybe(fmt.Sprint("Lead ", k)), Source: maybe("website"), Board: maybe("sales"), Priority: maybe("high")}
	if r.IntN(4) == 0 {
		value := int64(k)
		in.Lead.Value, in.Lead.Currency = &value, "EUR"
	}
	if r.IntN(3) == 0 {
		in.Lead.Tags, in.Lead.Custom = []string{"a", maybe("b"), " a "}, map[string]any{"seats": who, "plan": maybe("pro")}
	}
	return in
}

var visitorName = regexp.MustCompile(`Visitor [0-9a-f]{4}`)

// dump is what an organization holds of its contacts and what they wrote, without ids and times.
func (w *world) dump() map[string][]string {
	w.Helper()
	out := map[string][]string{}
	w.do(w.system(), func(ctx context.Context, tx pgx.Tx) error {
		for table, q := range map[string]string{
			"contacts": `SELECT row(name, first_name, last_name, email, phone, company, tags, custom, archived_at IS NULL,
				(SELECT array_agg(row(i.kind, i.scope = '', CASE WHEN i.kind = 'visitor' THEN '' ELSE i.value END, i.evidence) ORDER BY i.kind, i.value) FROM contact_identities i WHERE i.contact_id = c.id))::text FROM contacts c`,
			"leads": `SELECT row(l.title, l.source, l.value_minor, l.currency, l.priority, l.tags, l.custom, l.closed, s.name, c.name)::text
				FROM leads l JOIN stages s ON s.id = l.stage_id JOIN contacts c ON c.id = l.contact_id`,
			"conversations": `SELECT row(ch.name, c.name, l.title, v.thread, v.subject, v.state, v.next_seq, v.last_inbound_seq, v.message_count, v.unread, v.preview, v.preview_kind, v.preview_name, v.ai_streak)::text
				FROM conversations v JOIN channels ch ON ch.id = v.channel_id JOIN contacts c ON c.id = v.contact_id JOIN leads l ON l.id = v.lead_id`,
			"messages": `SELECT row(m.seq, m.direction, m.sender_kind, m.sender_name, c.name, m.text, m.html, m.status, m.provider_id, v.thread)::text
				FROM messages m JOIN conversations v ON v.id = m.conversation_id JOIN contacts c ON c.id = m.sender_id`,
			"inbound": `SELECT row(b.external_id, b.body_hash, b.raw, b.state, b.reason, m.seq, c.name, l.title, v.thread)::text FROM inbound b
				JOIN messages m ON m.id = b.message_id JOIN contacts c ON c.id = b.contact_id JOIN leads l ON l.id = b.lead_id JOIN conversations v ON v.id = b.conversation_id`,
			"events": `SELECT row(e.noun, e.verb, e.actor_kind, e.actor_name, e.on_behalf_of, e.changes, e.description, e.category, e.severity, c.name, l.title, v.thread,
				(SELECT m.text FROM messages m WHERE m.id = e.record_id), o.topic, replace(o.subject, o.org_id::text, ''), o.record_id = e.record_id)::text
				FROM events e JOIN outbox o ON o.msg_id = e.id LEFT JOIN contacts c ON c.id = e.actor_id LEFT JOIN leads l ON l.id = e.lead_id LEFT JOIN conversations v ON v.id = e.conversation_id
				WHERE e.noun IN ('contact', 'lead', 'conversation', 'message')`,
		} {
			rows, err := tx.Query(ctx, q)
			if err != nil {
				return fmt.Errorf("%s: %w", table, err)
			}
			all, err := pgx.CollectRows(rows, pgx.RowTo[string])
			if err != nil {
				return fmt.Errorf("%s: %w", table, err)
			}
			for i := range all {
				all[i] = visitorName.ReplaceAllString(all[i], "Visitor")
			}
			slices.Sort(all)
			out[table] = all
		}
		return nil
	})
	if len(out["messages"]) == 0 || len(out["events"]) < len(out["messages"]) {
		w.Fatalf("there is nothing to compare: %d messages, %d events", len(out["messages"]), len(out["events"]))
	}
	return out
}
