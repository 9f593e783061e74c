package inbox

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem"
)

func (w *world) snooze(a tandem.Actor, conv tandem.ID, until time.Time) (Conversation, error) {
	return w.act(a, func(ctx context.Context, tx pgx.Tx) (Conversation, error) { return Snooze(ctx, tx, conv, until) })
}

// A conversation that was put aside comes back at its time, once, and not before.
func TestSnooze(t *testing.T) {
	w := newWorld(t)
	conv := w.conversation()
	later := time.Now().Add(time.Hour)
	for _, at := range []time.Time{{}, time.Now().Add(-time.Minute), time.Now().AddDate(2, 0, 0)} {
		_, err := w.snooze(w.owner, conv, at)
		want(t, err, tandem.Invalid)
	}
	if _, err := w.claim(w.owner, conv); err != nil {
		t.Fatal(err)
	}
	c, err := w.snooze(w.owner, conv, later)
	if err != nil || c.State != StateSnoozed || c.SnoozedUntil == nil || !c.SnoozedUntil.Equal(later.Truncate(time.Microsecond)) || c.Owner == nil {
		t.Fatalf("got %+v, %v", c, err)
	}
	w.do(w.system(), func(ctx context.Context, tx pgx.Tx) error { return snoozeOver(ctx, tx, conv) }) // a timer that came too early
	if c := w.get(conv); c.State != StateSnoozed {
		t.Fatalf("it came back before its time: %s", c.State)
	}
	w.do(w.system(), func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, "UPDATE conversations SET snoozed_until = now() WHERE id = $1", conv)
		return err
	})
	w.fire("snooze", conv)
	if c := w.get(conv); c.State != StateOpen || c.SnoozedUntil != nil || c.Owner == nil {
		t.Errorf("after its time: %+v", c)
	}
	w.do(w.system(), func(ctx context.Context, tx pgx.Tx) error { return snoozeOver(ctx, tx, conv) })
	topics := w.topics(conv)
	back := slices.DeleteFunc(slices.Clone(topics), func(s string) bool { return s != "conversation.reopened" })
	if !slices.Contains(topics, "conversation.snoozed") || len(back) != 1 {
		t.Errorf("facts %v", topics)
	}
}

// The contact's next message brings a conversation back; an AI member's is given up with what it has not sent; one that
// waits for a person stays.
func TestSnoozeGivesWay(t *testing.T) {
	w := newWorld(t)
	later := time.Now().Add(time.Hour)
	in := w.inbound(w.name("v"), "Hello")
	conv := w.ingest(in).Conversation
	m := w.answer(w.ava, conv, "Hi")
	c, err := w.snooze(w.owner, conv, later)
	if err != nil || c.Owner != nil || c.State != StateSnoozed {
		t.Fatalf("got %+v, %v", c, err)
	}
	if m = w.message(conv, m.ID); m.Status != Cancelled {
		t.Errorf("the AI member's message is %s", m.Status)
	}
	next := w.inbound(string(in.From), "Are you there?")
	w.ingest(next)
	if c := w.get(conv); c.State != StateOpen || c.SnoozedUntil != nil {
		t.Errorf("after the contact wrote: %+v", c)
	}
	other := w.conversation()
	w.ask(other, HandoffRequest{})
	_, err = w.snooze(w.owner, other, later)
	want(t, err, tandem.Conflict)
	if _, err := w.act(w.owner, func(ctx context.Context, tx pgx.Tx) (Conversation, error) { return Resolve(ctx, tx, other) }); err != nil {
		t.Fatal(err)
	}
	_, err = w.snooze(w.owner, other, later)
	want(t, err, tandem.Conflict)
}

// Nothing of a contact who sends spam opens the conversation again, but a person does.
func TestSpam(t *testing.T) {
	w := newWorld(t)
	in := w.inbound(w.name("v"), "Buy now")
	conv := w.ingest(in).Conversation
	w.answer(w.ava, conv, "Hi")
	spam := func(a tandem.Actor) (Conversation, error) {
		return w.act(a, func(ctx context.Context, tx pgx.Tx) (Conversation, error) { return Spam(ctx, tx, conv) })
	}
	c, err := spam(w.owner)
	if err != nil || c.State != StateSpam || c.Owner != nil {
		t.Fatalf("got %+v, %v", c, err)
	}
	if _, err := spam(w.owner); err != nil {
		t.Errorf("twice: %v", err)
	}
	w.ingest(w.inbound(string(in.From), "Buy more"))
	if c := w.get(conv); c.State != StateSpam {
		t.Errorf("a further message made it %s", c.State)
	}
	_, err = w.claim(w.owner, conv)
	want(t, err, tandem.Conflict)
	if _, err := w.snooze(w.owner, conv, time.Now().Add(time.Hour)); tandem.KindOf(err) != tandem.Conflict {
		t.Errorf("put aside: %v", err)
	}
	c, err = w.act(w.owner, func(ctx context.Context, tx pgx.Tx) (Conversation, error) { return Reopen(ctx, tx, conv) })
	if err != nil || c.State != StateOpen {
		t.Errorf("got %+v, %v", c, err)
	}
	if n := len(slices.DeleteFunc(w.topics(conv), func(s string) bool { return s != "conversation.marked_spam" })); n != 1 {
		t.Errorf("%d facts say that it is spam", n)
	}
}
