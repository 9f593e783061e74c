package inbox

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/channels"
	"github.com/tandemhq/tandem/crm"
	"github.com/tandemhq/tandem/internal/events"
	"github.com/tandemhq/tandem/internal/proof"
)

func (w *world) consent(a tandem.Actor, contact tandem.ID, kind, state string) error {
	return w.db.Tx(w.as(a), func(ctx context.Context, tx pgx.Tx) error {
		_, err := SetConsent(ctx, tx, contact, crm.Consent{Kind: kind, State: state, Source: "test"})
		return err
	})
}

// What a denial stops, and what takes it back.
func TestDeniedMeansNothingGoesOut(t *testing.T) {
	w := newWorld(t)
	got := w.ingest(w.inbound("v", "Stop writing to me"))
	conv := got.Conversation
	queued, err := w.reply(w.owner, conv, Draft{Text: "queued"})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.consent(w.owner, got.Contact, "fake", crm.ConsentDenied); err != nil {
		t.Fatal(err)
	}
	if m := w.message(conv, queued.ID); m.Status != Cancelled || m.Error != "The contact has opted out." {
		t.Errorf("what was queued is %s: %s", m.Status, m.Error)
	}
	if n := count(w.topics(conv), "message.cancelled"); n != 1 {
		t.Errorf("%d message.cancelled events", n)
	}
	_, err = w.reply(w.owner, conv, Draft{Text: "again"})
	if want(t, err, tandem.Conflict); !errors.Is(err, ErrOptedOut) {
		t.Errorf("a reply: %v", err)
	}
	w.do(w.as(w.owner), func(ctx context.Context, tx pgx.Tx) error {
		_, err := Note(ctx, tx, conv, Draft{Text: "She wants no more letters"})
		return err
	})
	w.do(w.as(w.owner), func(ctx context.Context, tx pgx.Tx) error {
		if err := CanSend(ctx, tx, conv); !errors.Is(err, ErrOptedOut) {
			t.Errorf("CanSend: %v", err)
		}
		return nil
	})
	w.letGo(conv)
	// An AI member may not answer either, and hands over without a word to the contact.
	run, c := w.run(w.ava, conv, time.Minute)
	_, err = w.reply(w.ava, conv, Draft{Text: "hi", Fence: c.Fence, Run: run, Trigger: c.LastInboundSeq})
	if !errors.Is(err, ErrOptedOut) {
		t.Errorf("an AI member's reply: %v", err)
	}
	if _, err := w.handoff(w.ava, conv, HandoffRequest{Reason: "policy", Packet: Packet{Summary: "s"}, Fence: c.Fence, Run: run, CustomerLine: "Somebody will write to you."}); err != nil {
		t.Fatal(err)
	}
	w.deliver(w.courier())
	if n := len(w.channel.sent()); n > 0 {
		t.Errorf("%d messages went out", n)
	}
	want(t, w.consent(w.owner, got.Contact, "fake", crm.ConsentGranted), tandem.Conflict)
	want(t, w.consent(w.owner, got.Contact, "fake", crm.ConsentUnknown), tandem.Conflict)
	w.ingest(w.inbound("v", "Hello again"))
	want(t, w.consent(tandem.Actor{Org: w.org, Kind: tandem.System, Name: "Tandem"}, got.Contact, "fake", crm.ConsentGranted), tandem.Forbidden)
	if err := w.consent(w.owner, got.Contact, "fake", crm.ConsentGranted); err != nil {
		t.Fatal(err)
	}
	if _, err := w.reply(w.owner, conv, Draft{Text: "Welcome back"}); err != nil {
		t.Fatal(err)
	}
	w.deliver(w.courier())
	if n := len(w.channel.sent()); n != 1 {
		t.Errorf("%d messages went out after the consent, want 1", n)
	}
}

// A denial of either contact counts for both from the merge on, also for what is queued then.
func TestDenialsAreMerged(t *testing.T) {
	w := newWorld(t)
	ada, twin := w.ingest(w.mail("ada@example.com", "one")), w.ingest(w.mail("twin@example.com", "two"))
	m, err := w.reply(w.owner, ada.Conversation, Draft{Text: "queued"})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.consent(w.owner, twin.Contact, "fake", crm.ConsentDenied); err != nil {
		t.Fatal(err)
	}
	ms, err := w.mergeContacts(ada.Contact, twin.Contact)
	if err != nil {
		t.Fatal(err)
	}
	if got := w.message(ada.Conversation, m.ID); got.Status != Cancelled {
		t.Errorf("what was queued is %s", got.Status)
	}
	if err := w.splitContacts(ada.Contact, ms[0].ID); err != nil {
		t.Fatal(err)
	}
	if _, err := w.reply(w.owner, ada.Conversation, Draft{Text: "again"}); err != nil {
		t.Errorf("after the split: %v", err)
	}
	if _, err := w.reply(w.owner, twin.Conversation, Draft{Text: "again"}); !errors.Is(err, ErrOptedOut) {
		t.Errorf("to the other after the split: %v", err)
	}
}

// SEC-19, consent: replies, opt-outs, grants and couriers in a random order and at the same time; no send begins behind an
// opt-out that is committed, and nothing is left waiting to be sent.
func TestNothingIsSentBehindAnOptOut(t *testing.T) {
	w := newWorld(t)
	r := proof.Rand(t)
	rounds := proof.Size(150, 3000)
	got := w.ingest(w.inbound("v", "hello"))
	conv := got.Conversation
	var denied atomic.Bool // true only while an opt-out is certainly committed
	var sends, behind atomic.Int64
	commands := make(chan events.Fact)
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			for f := range commands {
				began := denied.Load()
				ch := &fakeChannel{answer: func(channels.Outbound) error {
					if sends.Add(1); began && denied.Load() {
						behind.Add(1)
					}
					return nil
				}}
				c := w.courier()
				c.Channels = func(context.Context, tandem.ID, tandem.ID) (channels.Channel, error) { return ch, nil }
				if err := c.Deliver(w.system(), f); err != nil {
					t.Errorf("courier: %v", err)
				}
			}
		})
	}
	optOuts, refused := 0, 0
	var held []events.Fact
	release := func() {
		r.Shuffle(len(held), func(i, j int) { held[i], held[j] = held[j], held[i] })
		n := r.IntN(len(held) + 1)
		for _, f := range held[:n] {
			commands <- f
		}
		held = slices.Clone(held[n:])
	}
	for i := range rounds {
		switch r.IntN(9) {
		case 0, 1, 2, 3, 4:
			if _, err := w.reply(w.owner, conv, Draft{Text: fmt.Sprint(i)}); errors.Is(err, ErrOptedOut) {
				refused++
			} else if err != nil {
				t.Fatal(err)
			}
		case 5:
			if err := w.consent(w.owner, got.Contact, "fake", crm.ConsentDenied); err != nil {
				t.Fatal(err)
			}
			denied.Store(true)
			optOuts++
		case 6, 7:
			w.ingest(w.inbound("v", "and again"))
			denied.Store(false)
			if err := w.consent(w.owner, got.Contact, "fake", crm.ConsentGranted); err != nil {
				t.Fatal(err)
			}
		}
		held = append(held, w.commands()...)
		release()
	}
	if err := w.consent(w.owner, got.Contact, "fake", crm.ConsentDenied); err != nil {
		t.Fatal(err)
	}
	denied.Store(true)
	for _, f := range held {
		commands <- f
	}
	close(commands)
	wg.Wait()
	w.deliver(w.courier())
	for _, m := range w.messages(conv) {
		if m.Direction == "outbound" && m.Status != Sent && m.Status != Cancelled {
			t.Errorf("message %d is %s", m.Seq, m.Status)
		}
	}
	if behind.Load() > 0 || len(w.channel.sent()) > 0 {
		t.Errorf("%d sends began behind an opt-out", behind.Load()+int64(len(w.channel.sent())))
	}
	if sends.Load() == 0 || refused == 0 || optOuts == 0 {
		t.Errorf("%d sends, %d opt-outs, %d replies refused: this test asks for too little", sends.Load(), optOuts, refused)
	}
	t.Logf("figure: SEC-19: consent: %d sends, %d opt-outs, %d replies refused in a random order: 0 sends whose dispatch began after an opt-out's commit", sends.Load(), optOuts, refused)
}

func TestStopWords(t *testing.T) {
	w := newWorld(t)
	for text, stops := range map[string]bool{
		"STOP": true, " stop. ": true, "Stopp!": true, "arrêt": true, "ARRET": true, "unsubscribe": true, "stop  all": true, `"STOP"`: true,
		"": false, "please stop": false, "STOP the press": false, "nonstop": false, "Bus stop": false,
	} {
		if StopWord(text) != stops {
			t.Errorf("StopWord(%q) is %v", text, !stops)
		}
	}
	in := w.inbox(nil)
	in.o.Deliver = func(ctx context.Context, in channels.Inbound) (channels.Accepted, error) { return w.ingest(in), nil }
	for kind, denies := range map[string]bool{"whatsapp": true, "fake": false} {
		h := &Host{in: in, org: w.org, channel: w.chat, kind: kind}
		m := w.inbound("v-"+kind, "stop")
		for range 2 { // the provider may send it again
			got, err := h.Deliver(t.Context(), m)
			if err != nil {
				t.Fatal(err)
			}
			w.do(w.system(), func(ctx context.Context, tx pgx.Tx) error {
				all, err := crm.Contacts.Consents(ctx, tx, got.Contact)
				if (len(all) == 1 && all[0].State == crm.ConsentDenied && all[0].Evidence == "stop") != denies {
					t.Errorf("%s: %+v", kind, all)
				}
				return err
			})
		}
	}
}
