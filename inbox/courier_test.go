package inbox

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/channels"
	"github.com/tandemhq/tandem/internal/events"
	"github.com/tandemhq/tandem/internal/proof"
)

func TestCourierSendsInOrder(t *testing.T) {
	w := newWorld(t)
	in := w.inbound("the-visitor", "hi")
	conv := w.ingest(in).Conversation
	for i := range 3 {
		if _, err := w.reply(w.owner, conv, Draft{Text: fmt.Sprint(i)}); err != nil {
			t.Fatal(err)
		}
	}
	list := w.commands()
	c := w.courier()
	for i := len(list) - 1; i >= 0; i-- { // the bus may deliver in any order
		if err := c.Deliver(w.system(), list[i]); err != nil {
			t.Fatal(err)
		}
	}
	w.deliver(c)
	sent := w.channel.sent()
	if len(sent) != 3 {
		t.Fatalf("%d sent", len(sent))
	}
	for i, m := range sent {
		if m.Text != fmt.Sprint(i) || m.To != "the-visitor" || m.Attempt != 1 || string(m.ProviderID) != string(m.Message) {
			t.Errorf("%d: %+v", i, m)
		}
	}
	for _, m := range w.messages(conv)[1:] {
		if m.Status != Sent {
			t.Errorf("message %d is %s", m.Seq, m.Status)
		}
	}
}

// The same command many times at once, as a bus does it after a crash, is one send.
func TestCourierRedeliveryStorm(t *testing.T) {
	w := newWorld(t)
	conv := w.conversation()
	for i := range 5 {
		if _, err := w.reply(w.owner, conv, Draft{Text: fmt.Sprint(i)}); err != nil {
			t.Fatal(err)
		}
	}
	c := w.courier()
	var wg sync.WaitGroup
	for _, f := range w.commands() {
		for range 5 {
			wg.Go(func() {
				if err := c.Deliver(w.system(), f); err != nil {
					t.Errorf("courier: %v", err)
				}
			})
		}
	}
	wg.Wait()
	w.deliver(c)
	sent := w.channel.sent()
	for i, m := range sent {
		if m.Text != fmt.Sprint(i) {
			t.Errorf("place %d: %q", i, m.Text)
		}
	}
	if len(sent) != 5 {
		t.Errorf("%d sends of 5 messages", len(sent))
	}
	t.Logf("figure: 5 commands delivered 5 times each, all at once: %d sends, in order", len(sent))
}

func TestCourierOutcomes(t *testing.T) {
	w := newWorld(t)
	notSent := &channels.SendError{Outcome: channels.NotSent, Err: errors.New("dial failed")}
	ambiguous := &channels.SendError{Outcome: channels.Ambiguous, Err: context.DeadlineExceeded}
	refused := &channels.SendError{Outcome: channels.Refused, Err: tandem.Errorf(tandem.Invalid, "The address does not exist.")}
	tests := []struct {
		name     string
		err      error
		dedupes  bool
		status   string
		detail   string
		attempts int // until the final status, with every retry fired
		final    string
	}{
		{"not sent", notSent, false, RetryWait, "The channel could not be reached.", 6, Failed},
		{"refused", refused, false, Failed, "The address does not exist.", 1, Failed},
		{"ambiguous", ambiguous, false, Unknown, "It is not known whether the message arrived: The channel did not answer in time.", 1, Unknown},
		{"ambiguous, receiver dedupes", ambiguous, true, RetryWait, "The channel did not answer in time.", 6, Unknown},
		{"unclassified error", errors.New("whatever"), false, Unknown, "It is not known whether the message arrived: The channel could not be reached.", 1, Unknown},
	}
	for _, tt := range tests {
		ch := &fakeChannel{answer: func(channels.Outbound) error { return tt.err }, dedupes: tt.dedupes}
		c := w.courier()
		c.Channels = func(context.Context, tandem.ID, tandem.ID) (channels.Channel, error) { return ch, nil }
		conv := w.conversation()
		m, err := w.reply(w.owner, conv, Draft{Text: "hello"})
		if err != nil {
			t.Fatal(err)
		}
		behind, err := w.reply(w.owner, conv, Draft{Text: "behind it"})
		if err != nil {
			t.Fatal(err)
		}
		w.commands()
		command := func(m Message) events.Fact {
			return events.Fact{ID: tandem.NewID(), Org: w.org, Topic: events.TopicOut, Record: m.ID}
		}
		if err := c.Deliver(w.system(), command(m)); err != nil {
			t.Fatal(err)
		}
		got := w.message(conv, m.ID)
		if got.Status != tt.status || got.Error != tt.detail {
			t.Errorf("%s: %s %q, want %s %q", tt.name, got.Status, got.Error, tt.status, tt.detail)
		}
		if err := c.Deliver(w.system(), command(behind)); err != nil {
			t.Fatal(err)
		}
		held := w.message(conv, behind.ID).Attempt == 0
		if held != (tt.status == RetryWait) {
			t.Errorf("%s: the message behind was held back: %v", tt.name, held)
		}
		for n := 1; n < tt.attempts; n++ {
			w.fire("retry", m.ID)
			w.deliver(c)
		}
		got = w.message(conv, m.ID)
		if got.Status != tt.final || got.Attempt != tt.attempts {
			t.Errorf("%s: ends %s after %d attempts, want %s after %d", tt.name, got.Status, got.Attempt, tt.final, tt.attempts)
		}
		ids := map[channels.ExternalID]bool{}
		for _, o := range ch.sent() {
			if o.Message == m.ID {
				ids[o.ProviderID] = true
			}
		}
		if len(ids) != 1 {
			t.Errorf("%s: sent under %d ids", tt.name, len(ids))
		}
		t.Logf("figure: courier, %s: %s after %d attempts under one id", tt.name, got.Status, got.Attempt)
	}
}

// The process dies at each point around the send; afterwards the message is sent, unknown or
// waiting, never silently lost and never sent twice without the receiver's help.
func TestCourierDiesAnywhere(t *testing.T) {
	w := newWorld(t)
	for _, dedupes := range []bool{false, true} {
		for _, point := range []string{"courier.before", "courier.dispatching", "courier.sent"} {
			ch := &fakeChannel{dedupes: dedupes}
			c := w.courier()
			c.Channels = func(context.Context, tandem.ID, tandem.ID) (channels.Channel, error) { return ch, nil }
			conv := w.conversation()
			m, err := w.reply(w.owner, conv, Draft{Text: "hello"})
			if err != nil {
				t.Fatal(err)
			}
			f := w.commands()[0]
			c.Fault = func(at string) {
				if at == point {
					panic("killed")
				}
			}
			func() {
				defer func() { _ = recover() }()
				_ = c.Deliver(w.system(), f)
			}()
			c.Fault = nil
			if err := c.Deliver(w.system(), f); err != nil { // the bus delivers again
				t.Fatal(err)
			}
			final, sends := Sent, 1
			if point != "courier.before" {
				if dedupes {
					w.fire("redispatch", m.ID)
					w.deliver(c)
					if point == "courier.sent" {
						sends = 2 // under the same id: the receiver keeps one
					}
				} else {
					w.fire("dispatch", m.ID)
					final = Unknown
					if point == "courier.dispatching" {
						sends = 0
					}
				}
			}
			got := w.message(conv, m.ID)
			if got.Status != final || len(ch.sent()) != sends {
				t.Errorf("dedupes %v, killed at %s: %s with %d sends, want %s with %d", dedupes, point, got.Status, len(ch.sent()), final, sends)
			}
			t.Logf("figure: courier killed at %s, receiver dedupes %v: %s, %d sends", point, dedupes, got.Status, len(ch.sent()))
			if final == Unknown { // evidence arrives
				w.do(w.system(), func(ctx context.Context, tx pgx.Tx) error {
					return Status(ctx, tx, w.chat, m.ProviderID, Delivered, "")
				})
				if got = w.message(conv, m.ID); got.Status != Delivered || got.Error != "" {
					t.Errorf("after a receipt: %s %q", got.Status, got.Error)
				}
			}
		}
	}
}

func TestCourierSurvivesPanicsAndClosedChannels(t *testing.T) {
	w := newWorld(t)
	conv := w.conversation()
	m, err := w.reply(w.owner, conv, Draft{Text: "hello"})
	if err != nil {
		t.Fatal(err)
	}
	c := w.courier()
	c.Channels = func(context.Context, tandem.ID, tandem.ID) (channels.Channel, error) {
		return nil, tandem.Errorf(tandem.Unavailable, "This channel is paused.")
	}
	w.deliver(c)
	if got := w.message(conv, m.ID); got.Status != RetryWait || got.Error != "This channel is paused." {
		t.Errorf("paused channel: %s %q", got.Status, got.Error)
	}
	w.channel.answer = func(channels.Outbound) error { panic("adapter bug") }
	w.fire("retry", m.ID)
	w.deliver(w.courier())
	if got := w.message(conv, m.ID); got.Status != Unknown {
		t.Errorf("after a panic: %s", got.Status)
	}
}

func TestReceiptBeforeTheRecord(t *testing.T) {
	w := newWorld(t)
	conv := w.conversation()
	m, err := w.reply(w.owner, conv, Draft{Text: "hello"})
	if err != nil {
		t.Fatal(err)
	}
	w.channel.answer = func(o channels.Outbound) error {
		return w.db.Tx(w.system(), func(ctx context.Context, tx pgx.Tx) error { return Status(ctx, tx, w.chat, o.ProviderID, Read, "") })
	}
	w.deliver(w.courier())
	if got := w.message(conv, m.ID); got.Status != Read {
		t.Errorf("got %s", got.Status)
	}
}

// REL-16: whatever the order and however often receipts come, the end is the same, and it
// is the highest of what was said.
func TestStatusIsMonotone(t *testing.T) {
	t.Parallel()
	words := []string{Sent, Delivered, Read, Failed}
	seen := map[[4]bool]string{}
	n := 0
	var walk func(status string, said [4]bool, depth int)
	walk = func(status string, said [4]bool, depth int) {
		if end, known := seen[said]; known && end != status {
			t.Fatalf("after %v the status is %s or %s", said, end, status)
		}
		seen[said] = status
		n++
		if depth == 6 {
			return
		}
		for i, word := range words {
			next, then := status, said
			if raises(status, word) {
				next = word
			}
			if rank[next] < rank[status] {
				t.Fatalf("%s fell to %s", status, next)
			}
			then[i] = true
			walk(next, then, depth+1)
		}
	}
	walk(Dispatching, [4]bool{}, 0)
	if !raises(Sent, Failed) || raises(Delivered, Failed) || raises(Read, Failed) || !raises(Unknown, Sent) || !raises(Unknown, Failed) || raises(Cancelled, Sent) {
		t.Error("the table of ranks has changed")
	}
	proof.Figure(t, "REL-16", "%d sequences of up to 6 receipts, which are all: one end per set of receipts, 0 falls", n)
}

func TestStatusInTheDatabase(t *testing.T) {
	w := newWorld(t)
	conv := w.conversation()
	words := []string{Sent, Delivered, Read, Failed}
	ends := map[string]string{
		"sent": Sent, "delivered": Delivered, "read": Read, "failed": Failed, "sent+failed": Failed, "delivered+failed": Delivered, "failed+read": Read,
	}
	for pair, end := range ends {
		m, err := w.reply(w.owner, conv, Draft{Text: pair})
		if err != nil {
			t.Fatal(err)
		}
		w.deliver(w.courier())
		for round := range 2 {
			for i, word := range words {
				if round == 1 {
					word = words[len(words)-1-i]
				}
				if !slices.Contains(strings.Split(pair, "+"), word) {
					continue
				}
				w.do(w.system(), func(ctx context.Context, tx pgx.Tx) error { return Status(ctx, tx, w.chat, m.ProviderID, word, "why") })
			}
		}
		if got := w.message(conv, m.ID); got.Status != end || (end == Failed) != (got.Error == "why") {
			t.Errorf("%s: %s %q, want %s", pair, got.Status, got.Error, end)
		}
	}
	status := func(id channels.ExternalID, word string) error {
		return w.db.Tx(w.system(), func(ctx context.Context, tx pgx.Tx) error { return Status(ctx, tx, w.chat, id, word, "") })
	}
	want(t, status(channels.ExternalID(tandem.NewID()), Read), tandem.NotFound)
	want(t, status("nonsense", Read), tandem.NotFound)
	want(t, status(channels.ExternalID(tandem.NewID()), "eaten"), tandem.Invalid)
	m, err := w.reply(w.owner, conv, Draft{Text: "not sent yet"})
	if err != nil {
		t.Fatal(err)
	}
	if err := status(m.ProviderID, Read); err != nil {
		t.Fatal(err)
	}
	if got := w.message(conv, m.ID); got.Status != Queued {
		t.Errorf("a message that was never handed over is %s", got.Status)
	}
}

func TestBackoffGrowsAndEnds(t *testing.T) {
	t.Parallel()
	last := time.Duration(0)
	for n := 1; n <= 20; n++ {
		b := backoff(n, 0)
		if b < last || b > maxBackoff {
			t.Fatalf("attempt %d waits %v after %v", n, b, last)
		}
		last = b
	}
	if backoff(1, time.Hour) != time.Hour || backoff(1, 1000*time.Hour) != 6*time.Hour {
		t.Error("the provider's wish is not kept within bounds")
	}
}
