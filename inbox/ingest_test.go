package inbox

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/channels"
	"github.com/tandemhq/tandem/internal/pg/pgtest"
)

func TestIngestOpensContactLeadAndConversation(t *testing.T) {
	w := newWorld(t)
	got := w.ingest(w.inbound("visitor-a", "Hello"))
	if got.Contact == "" || got.Lead == "" || got.Conversation == "" || got.Message == "" || got.Seq != 1 || got.Duplicate {
		t.Fatalf("got %+v", got)
	}
	c := w.get(got.Conversation)
	if c.Lead == nil || c.Lead.Title != "Chat with "+c.Contact.Name || c.State != StateOpen || c.Unread != 1 || c.LastInboundSeq != 1 || c.Preview != "Hello" || c.Owner != nil {
		t.Errorf("got %+v lead %+v", c, c.Lead)
	}
	topics := w.topics(got.Conversation)
	if count(topics, "conversation.opened") != 1 || count(topics, "message.received") != 1 {
		t.Errorf("events: %v", topics)
	}
	again := w.ingest(w.inbound("visitor-a", "Are you there?"))
	if again.Conversation != got.Conversation || again.Lead != got.Lead || again.Contact != got.Contact || again.Seq != 2 {
		t.Errorf("second message: %+v after %+v", again, got)
	}
}

func TestIngestReopensAndForgetsNothing(t *testing.T) {
	w := newWorld(t)
	conv := w.ingest(w.inbound("v", "one")).Conversation
	w.do(w.as(w.owner), func(ctx context.Context, tx pgx.Tx) error {
		_, err := Resolve(ctx, tx, conv)
		return err
	})
	w.ingest(w.inbound("v", "two"))
	if c := w.get(conv); c.State != StateOpen || c.Owner != nil || c.LastInboundSeq != 2 {
		t.Errorf("got %+v", c)
	}
	if topics := w.topics(conv); count(topics, "conversation.reopened") != 1 {
		t.Errorf("events: %v", topics)
	}
}

func TestIngestStrictBody(t *testing.T) {
	w := newWorld(t)
	in := w.inbound("v", "one")
	in.StrictBody = true
	first := w.ingest(in)
	second := w.ingest(in)
	if !second.Duplicate || second.Message != first.Message || second.Seq != first.Seq || second.Lead != first.Lead {
		t.Errorf("repeat: %+v after %+v", second, first)
	}
	in.Raw = []byte("other")
	err := w.db.Tx(w.system(), func(ctx context.Context, tx pgx.Tx) error {
		_, err := Ingest(ctx, tx, in)
		return err
	})
	if te := want(t, err, tandem.Invalid); te.Fields[0].Field != "Idempotency-Key" {
		t.Errorf("fields %v", te.Fields)
	}
	in.StrictBody = false
	if got := w.ingest(in); !got.Duplicate || got.Message != first.Message {
		t.Errorf("lenient repeat: %+v", got)
	}
}

func TestIngestLeadFromForm(t *testing.T) {
	w := newWorld(t)
	value := int64(120_000)
	in := channels.Inbound{
		Org: w.org, Channel: w.form, ID: "f1", From: "Sarah@Example.com", FromKind: channels.IdentityEmail, Text: "We need 40 seats",
		Contact: channels.ContactFacts{Name: "Sarah Chen", Email: "sarah@example.com", Company: "Northwind"},
		Lead:    &channels.LeadFacts{Title: "40 seats", Source: "website", Value: &value, Currency: "EUR", Priority: "high", Tags: []string{"web"}}, Raw: []byte(`{}`),
	}
	a := w.ingest(in)
	c := w.get(a.Conversation)
	if c.Contact.Name != "Sarah Chen" || c.Contact.Email != "sarah@example.com" || c.Lead.Title != "40 seats" || c.Lead.Value.Minor != value || c.Lead.Priority != "high" {
		t.Errorf("got %+v, lead %+v", c.Contact, c.Lead)
	}
	in.ID, in.Text = "f2", "One more thing"
	b := w.ingest(in)
	if b.Lead != a.Lead || b.Conversation != a.Conversation || b.Seq != 2 {
		t.Errorf("second enquiry %+v after %+v", b, a)
	}
}

func TestQuarantineIsKeptAndTakenUp(t *testing.T) {
	w := newWorld(t)
	in := w.inbound("v", "understood now")
	for range 2 {
		w.do(w.system(), func(ctx context.Context, tx pgx.Tx) error {
			return Quarantine(ctx, tx, w.chat, in.ID, []byte{0xff, 0}, "cannot be read")
		})
	}
	var n int
	w.do(w.system(), func(ctx context.Context, tx pgx.Tx) error {
		return tx.QueryRow(ctx, `SELECT count(*) FROM inbound WHERE state = 'quarantined' AND reason = 'cannot be read'`).Scan(&n)
	})
	if n != 1 {
		t.Fatalf("%d quarantined rows", n)
	}
	if got := w.ingest(in); got.Duplicate || got.Message == "" {
		t.Errorf("got %+v", got)
	}
	w.do(w.system(), func(ctx context.Context, tx pgx.Tx) error {
		return tx.QueryRow(ctx, `SELECT count(*) FROM inbound WHERE state = 'quarantined'`).Scan(&n)
	})
	if n != 0 {
		t.Errorf("%d rows still in quarantine", n)
	}
}

// The same message fifty times at once is one row and fifty equal answers: on the slow path,
// where contact, lead and conversation are new as well, and on the fast path.
func TestIngestDuplicateStorm(t *testing.T) {
	w := newWorld(t)
	for _, path := range []string{"new contact", "known contact"} {
		from := w.name("storm")
		if path == "known contact" {
			w.ingest(w.inbound(from, "first"))
		}
		in := w.inbound(from, "again and again")
		got := make([]channels.Accepted, 50)
		errs := make([]error, len(got))
		start := make(chan struct{})
		var wg sync.WaitGroup
		for i := range got {
			wg.Go(func() {
				<-start
				errs[i] = w.db.Tx(w.system(), func(ctx context.Context, tx pgx.Tx) (err error) {
					got[i], err = Ingest(ctx, tx, in)
					return err
				})
			})
		}
		began := time.Now()
		close(start)
		wg.Wait()
		fresh := 0
		for i := range got {
			if errs[i] != nil {
				t.Fatalf("%s: %v", path, errs[i])
			}
			if !got[i].Duplicate {
				fresh++
			}
			got[i].Duplicate = got[0].Duplicate
			if got[i] != got[0] {
				t.Fatalf("%s: answers differ: %+v and %+v", path, got[i], got[0])
			}
		}
		rows := 0
		for _, m := range w.messages(got[0].Conversation) {
			if m.Text == in.Text {
				rows++
			}
		}
		if fresh != 1 || rows != 1 {
			t.Errorf("%s: %d of 50 answers were new, %d rows", path, fresh, rows)
		}
		t.Logf("figure: the same message 50 times at once, %s: %d row, 50 equal answers, in %v", path, rows, time.Since(began).Round(time.Millisecond))
	}
}

func TestIngestRefusesWhatIsNotText(t *testing.T) {
	w := newWorld(t)
	in := w.inbound("v", "a\x00b")
	err := w.db.Tx(w.system(), func(ctx context.Context, tx pgx.Tx) error {
		_, err := Ingest(ctx, tx, in)
		return err
	})
	want(t, err, tandem.Invalid)
}

// Nobody reaches another organization's rows, not even by naming them.
func TestForeignOrganizationSeesNothing(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	w, other := newWorldIn(t, db, "Acme"), newWorldIn(t, db, "Rival")
	conv := w.conversation()
	w.answer(w.ava, conv, "Hello")
	msg := w.messages(conv)[1].ID
	h, err := w.handoff(w.owner, conv, HandoffRequest{Reason: "policy"})
	if err != nil {
		t.Fatal(err)
	}
	tries := map[string]func(ctx context.Context, tx pgx.Tx) error{
		"get":     func(ctx context.Context, tx pgx.Tx) error { _, err := GetConversation(ctx, tx, conv); return err },
		"thread":  func(ctx context.Context, tx pgx.Tx) error { _, err := Thread(ctx, tx, conv, ThreadQuery{}); return err },
		"claim":   func(ctx context.Context, tx pgx.Tx) error { _, err := Claim(ctx, tx, conv); return err },
		"take":    func(ctx context.Context, tx pgx.Tx) error { _, err := Takeover(ctx, tx, conv, "x"); return err },
		"release": func(ctx context.Context, tx pgx.Tx) error { _, err := Release(ctx, tx, conv); return err },
		"to AI":   func(ctx context.Context, tx pgx.Tx) error { _, err := HandToAI(ctx, tx, conv, ""); return err },
		"resolve": func(ctx context.Context, tx pgx.Tx) error { _, err := Resolve(ctx, tx, conv); return err },
		"reopen":  func(ctx context.Context, tx pgx.Tx) error { _, err := Reopen(ctx, tx, conv); return err },
		"read":    func(ctx context.Context, tx pgx.Tx) error { return MarkRead(ctx, tx, conv) },
		"reply": func(ctx context.Context, tx pgx.Tx) error {
			_, err := Reply(ctx, tx, conv, Draft{Text: "x"})
			return err
		},
		"note": func(ctx context.Context, tx pgx.Tx) error {
			_, err := Note(ctx, tx, conv, Draft{Text: "x"})
			return err
		},
		"request": func(ctx context.Context, tx pgx.Tx) error {
			_, err := RequestHandoff(ctx, tx, conv, HandoffRequest{Reason: "policy"})
			return err
		},
		"handoff": func(ctx context.Context, tx pgx.Tx) error { _, err := GetHandoff(ctx, tx, h.ID); return err },
		"accept":  func(ctx context.Context, tx pgx.Tx) error { _, err := AcceptHandoff(ctx, tx, h.ID); return err },
		"reject":  func(ctx context.Context, tx pgx.Tx) error { _, err := RejectHandoff(ctx, tx, h.ID, "x"); return err },
		"cancel":  func(ctx context.Context, tx pgx.Tx) error { _, err := CancelHandoff(ctx, tx, h.ID, "x"); return err },
		"status": func(ctx context.Context, tx pgx.Tx) error {
			return Status(ctx, tx, w.chat, channels.ExternalID(msg), Delivered, "")
		},
		"inbound": func(ctx context.Context, tx pgx.Tx) error {
			in := w.inbound("v", "x")
			in.Org = other.org // a foreign channel
			_, err := Ingest(ctx, tx, in)
			return err
		},
	}
	for name, try := range tries {
		err := db.Tx(other.as(other.owner), try)
		if tandem.KindOf(err) != tandem.NotFound {
			t.Errorf("%s: got %v, want not_found", name, err)
		}
	}
	var page tandem.Page[Conversation]
	other.do(other.as(other.owner), func(ctx context.Context, tx pgx.Tx) (err error) {
		page, err = ListConversations(ctx, tx, ConversationQuery{Contact: w.get(conv).Contact.ID})
		return err
	})
	if len(page.Items) != 0 {
		t.Errorf("the other organization lists %d conversations", len(page.Items))
	}
	if c := w.get(conv); c.Owner == nil || c.Owner.ID != w.ava.Member || c.State != StateOpen {
		t.Errorf("something was changed: %+v", c)
	}
	t.Logf("figure: %d ways into another organization's conversation, all not_found", len(tries))
}

func TestEveryInputKeepsItsSeqWithoutGaps(t *testing.T) {
	w := newWorld(t)
	conv := w.conversation()
	var wg sync.WaitGroup
	for i := range 30 {
		wg.Go(func() {
			switch i % 3 {
			case 0:
				_, _ = w.reply(w.owner, conv, Draft{Text: fmt.Sprint("answer ", i)})
			case 1:
				_ = w.db.Tx(w.as(w.owner), func(ctx context.Context, tx pgx.Tx) error {
					_, err := Note(ctx, tx, conv, Draft{Text: fmt.Sprint("note ", i)})
					return err
				})
			case 2:
				in := w.inbound("visitor-1", fmt.Sprint("question ", i))
				_ = w.db.Tx(w.system(), func(ctx context.Context, tx pgx.Tx) error {
					_, err := Ingest(ctx, tx, in)
					return err
				})
			}
		})
	}
	wg.Wait()
	all := w.messages(conv)
	if len(all) != 31 {
		t.Errorf("%d lines, want 31", len(all))
	}
	for i, m := range all {
		if m.Seq != int64(i+1) {
			t.Fatalf("line %d has seq %d", i+1, m.Seq)
		}
	}
}
