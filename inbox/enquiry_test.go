package inbox

import (
	"context"
	"fmt"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem/channels"
	"github.com/tandemhq/tandem/crm"
)

// enquiry is a lead as a web form sends it.
func (w *world) enquiry(email, text string) channels.Inbound {
	in := w.inbound(email, text)
	in.FromKind = channels.IdentityEmail
	in.Contact = channels.ContactFacts{Name: "Ida Berg", Email: email}
	in.Lead = &channels.LeadFacts{Title: "An enquiry"}
	return in
}

// quickly reports whether the statement for messages with nothing new takes this one, alone and
// with a message of somebody else beside it. It stores nothing.
func (w *world) quickly(in channels.Inbound) bool {
	w.Helper()
	i, err := newIncoming(w.system(), in)
	if err != nil {
		w.Fatal(err)
	}
	other, err := newIncoming(w.system(), w.inbound("nobody", "x"))
	if err != nil {
		w.Fatal(err)
	}
	var took [2]bool
	for n := range took {
		if !i.quick {
			break
		}
		tx, err := w.db.Pool().Begin(w.Context())
		if err != nil {
			w.Fatal(err)
		}
		_, rest, err := intake(w.Context(), tx, append([]incoming{other}[:n], i), false)
		_ = tx.Rollback(w.Context())
		if err != nil {
			w.Fatal(err)
		}
		took[n] = rest[n] == stored
	}
	if took[0] != took[1] {
		w.Errorf("taken alone: %v, beside another: %v", took[0], took[1])
	}
	return took[0]
}

// A message that says nothing new takes the fast path, and what it becomes is what the slow
// path makes of it; whatever says something new, or asks for another lead, does not.
func TestEnquiryThatSaysNothingNewIsQuick(t *testing.T) {
	w := newWorld(t)
	value := int64(5000)
	full := func() channels.Inbound {
		in := w.enquiry("ida@example.com", "hello")
		in.Contact.Phone, in.Contact.Company = "+49 30 901820", "Berg Ltd"
		in.Lead.Source, in.Lead.Tags, in.Lead.Value, in.Lead.Currency = "website", []string{"Blue", "red"}, &value, "EUR"
		in.Lead.Custom = map[string]any{"seats": 5, "plan": "pro"}
		return in
	}
	if w.quickly(full()) {
		t.Error("a contact that does not exist yet was found")
	}
	first := w.ingest(full())
	for _, tt := range []struct {
		what  string
		quick bool
		edit  func(in *channels.Inbound)
	}{
		{"the same again", true, func(*channels.Inbound) {}},
		{"the address in capitals", true, func(in *channels.Inbound) { in.From, in.Contact.Email = "IDA@example.com", "IDA@Example.com" }},
		{"another name", true, func(in *channels.Inbound) { in.Contact.Name = "I. Berg" }},
		{"nothing but the address", true, func(in *channels.Inbound) { in.Contact = channels.ContactFacts{} }},
		{"another value and source", true, func(in *channels.Inbound) { v := int64(7); in.Lead.Value, in.Lead.Source = &v, "fair" }},
		{"fewer tags and fields", true, func(in *channels.Inbound) {
			in.Lead.Tags, in.Lead.Custom = []string{"red"}, map[string]any{"plan": "basic"}
		}},
		{"no lead", true, func(in *channels.Inbound) { in.Lead = nil }},
		{"by phone", true, func(in *channels.Inbound) { in.From, in.FromKind = "+4930901820", channels.IdentityPhone }},
		{"the default board by name", true, func(in *channels.Inbound) { in.Lead.Board = "SALES" }},
		{"another phone", false, func(in *channels.Inbound) { in.Contact.Phone = "+49 30 901821" }},
		{"a phone that is to be read as the region says", false, func(in *channels.Inbound) { in.Contact.Phone = "030 901820" }},
		{"another tag", false, func(in *channels.Inbound) { in.Lead.Tags = []string{"green"} }},
		{"another field", false, func(in *channels.Inbound) { in.Lead.Custom["color"] = "blue" }},
		{"a board that does not exist", false, func(in *channels.Inbound) { in.Lead.Board = "No such board" }},
		{"a wrong priority", false, func(in *channels.Inbound) { in.Lead.Priority = "soon" }},
		{"another thread", false, func(in *channels.Inbound) { in.Thread = "other" }},
	} {
		in := full()
		tt.edit(&in)
		if got := w.quickly(in); got != tt.quick {
			t.Errorf("%s: quick is %v, want %v", tt.what, got, tt.quick)
		}
	}
	got := w.ingest(full())
	if got.Contact != first.Contact || got.Lead != first.Lead || got.Conversation != first.Conversation || got.Seq != 2 {
		t.Errorf("the second enquiry became %+v, the first was %+v", got, first)
	}
	if topics := w.topics(first.Conversation); count(topics, "message.received") != 2 || count(topics, "conversation.opened") != 1 {
		t.Errorf("events %v", topics)
	}
	for _, tt := range []struct{ what, change, undo string }{
		{"the lead is won", `UPDATE leads SET closed = true WHERE id = $1`, `UPDATE leads SET closed = false WHERE id = $1`},
		{"the lead is archived", `UPDATE leads SET archived_at = now() WHERE id = $1`, `UPDATE leads SET archived_at = NULL WHERE id = $1`},
		{"the lead has lost its source", `UPDATE leads SET source = '' WHERE id = $1`, `UPDATE leads SET source = 'website' WHERE id = $1`},
		{"the contact is archived", `UPDATE contacts SET archived_at = now() WHERE id = (SELECT contact_id FROM leads WHERE id = $1)`, `UPDATE contacts SET archived_at = NULL`},
		{"the contact has no name", `UPDATE contacts SET first_name = '', last_name = '' WHERE id = (SELECT contact_id FROM leads WHERE id = $1)`, ""},
	} {
		w.do(w.system(), func(ctx context.Context, tx pgx.Tx) error { return second(tx.Exec(ctx, tt.change, first.Lead)) })
		if w.quickly(full()) {
			t.Errorf("%s: it was quick all the same", tt.what)
		}
		if tt.undo == "" {
			continue
		}
		w.do(w.system(), func(ctx context.Context, tx pgx.Tx) error {
			if tt.what == "the contact is archived" {
				return second(tx.Exec(ctx, tt.undo))
			}
			return second(tx.Exec(ctx, tt.undo, first.Lead))
		})
	}
}

// A message that has something to tell keeps its place before those of the same sender in
// the same batch that have not.
func TestBatchOfEnquiriesKeepsOrder(t *testing.T) {
	w := newWorld(t)
	first := w.ingest(w.enquiry("ida@example.com", "0"))
	b := NewBatcher(w.db, BatchOptions{Logger: quiet})
	var batch []*delivery
	for i := range 6 {
		in := w.enquiry("ida@example.com", fmt.Sprint(i+1))
		if i == 2 {
			in.Contact.Company = "Berg Ltd"
		}
		batch = append(batch, &delivery{ctx: t.Context(), in: in, done: make(chan struct{})})
	}
	w.flush(b, batch)
	all := w.messages(first.Conversation)
	for i, m := range all {
		if m.Text != fmt.Sprint(i) {
			t.Errorf("place %d holds %q", i, m.Text)
		}
	}
	var c crm.Contact
	w.do(w.system(), func(ctx context.Context, tx pgx.Tx) (err error) {
		c, err = crm.Contacts.Load(ctx, tx, first.Contact, false)
		return err
	})
	if len(all) != 7 || c.Company != "Berg Ltd" {
		t.Errorf("%d messages, company %q", len(all), c.Company)
	}
}

// Leads of people who are known and of people nobody has seen, from many at once: each is stored once, none is refused.
func TestManyEnquiriesAtOnce(t *testing.T) {
	w := newWorld(t)
	b := w.batcher(BatchOptions{})
	const known, callers, each = 200, 64, 8
	for n := range known {
		w.ingest(w.enquiry(fmt.Sprintf("known-%d@example.com", n), "hello"))
	}
	var wg sync.WaitGroup
	for c := range callers {
		wg.Go(func() {
			for n := range each {
				for _, who := range []string{fmt.Sprintf("known-%d@example.com", (c+n*callers)%known), fmt.Sprintf("new-%d@example.com", c*each+n)} {
					if _, err := b.Deliver(t.Context(), w.enquiry(who, "A question of some length about prices and seats.")); err != nil {
						t.Errorf("%s: %v", who, err)
						return
					}
				}
			}
		})
	}
	wg.Wait()
	w.stored(known + 2*callers*each)
}
