package inbox

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/team"
)

func (w *world) external(name string) tandem.Actor {
	w.Helper()
	a := tandem.Actor{Org: w.org, Member: tandem.NewID(), Kind: tandem.External, Name: name, Role: "agent", Grants: team.Grants("agent"), Chain: tandem.NewID()}
	w.do(w.system(), func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `INSERT INTO members (org_id, id, kind, name, role) VALUES ($1, $2, 'external', $3, 'agent')`, w.org, a.Member, name)
		return err
	})
	return a
}

func (w *world) act(a tandem.Actor, fn func(ctx context.Context, tx pgx.Tx) (Conversation, error)) (c Conversation, err error) {
	err = w.db.Tx(w.as(a), func(ctx context.Context, tx pgx.Tx) (err error) {
		c, err = fn(ctx, tx)
		return err
	})
	return c, err
}

func (w *world) claim(a tandem.Actor, conv tandem.ID) (Conversation, error) {
	return w.act(a, func(ctx context.Context, tx pgx.Tx) (Conversation, error) { return Claim(ctx, tx, conv) })
}

// A conversation that waits for a person and is nobody's, because the AI member that asked
// died: the person who claims it ends the waiting, so nobody else can accept it away.
func TestClaimEndsTheWaiting(t *testing.T) {
	w := newWorld(t)
	conv := w.conversation()
	h := w.ask(conv, HandoffRequest{})
	w.do(w.system(), func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `UPDATE conversations SET lease_until = now() - interval '1 second' WHERE id = $1`, conv)
		return err
	})
	w.fire("lease", conv)
	xen := w.external("Xen")
	want(t, second(w.claim(xen, conv)), tandem.Conflict)
	kim := w.people(1, "agent")[0]
	c, err := w.claim(kim, conv)
	if err != nil || c.Owner == nil || c.Owner.ID != kim.Member || c.Handoff != nil {
		t.Fatalf("got %+v, %v", c, err)
	}
	want(t, second(w.accept(w.owner, h.ID)), tandem.Conflict)
	if n := count(w.topics(conv), "handoff.cancelled"); n != 1 {
		t.Errorf("%d cancellations recorded", n)
	}
}

// While people are asked, an external AI member is as silent as one of ours, and it cannot ask
// in somebody else's conversation.
func TestExternalMembersWaitToo(t *testing.T) {
	w := newWorld(t)
	xen := w.external("Xen")
	conv := w.conversation()
	if _, err := w.claim(xen, conv); err != nil {
		t.Fatal(err)
	}
	if _, err := w.handoff(xen, conv, HandoffRequest{Reason: "policy", Packet: packet()}); err != nil {
		t.Fatal(err)
	}
	want(t, second(w.reply(xen, conv, Draft{Text: "me again"})), tandem.Conflict)
	other := w.conversation()
	w.run(w.ava, other, time.Minute)
	err := second(w.handoff(xen, other, HandoffRequest{Reason: "policy", Packet: packet(), CustomerLine: "I talk over Ava."}))
	if te := want(t, err, tandem.Conflict); te.Owner == nil || te.Owner.ID != w.ava.Member {
		t.Errorf("told %+v", te.Owner)
	}
}

// However a handoff ends without an answer, the contact does not count as answered once the
// conversation is an AI member's or nobody's again. Otherwise nobody would ever answer.
func TestNobodyIsForgotten(t *testing.T) {
	w := newWorld(t)
	kim := w.people(1, "agent")[0]
	release := func(conv tandem.ID) error {
		_, err := w.act(kim, func(ctx context.Context, tx pgx.Tx) (Conversation, error) { return Release(ctx, tx, conv) })
		return err
	}
	toAI := func(conv tandem.ID) error {
		_, err := w.act(kim, func(ctx context.Context, tx pgx.Tx) (Conversation, error) {
			return HandToAI(ctx, tx, conv, w.ava.Member)
		})
		return err
	}
	takeover := func(conv tandem.ID) error {
		_, err := w.act(kim, func(ctx context.Context, tx pgx.Tx) (Conversation, error) { return Takeover(ctx, tx, conv, "") })
		return err
	}
	for name, steps := range map[string][]func(conv tandem.ID, h Handoff) error{
		"cancelled":                  {func(_ tandem.ID, h Handoff) error { return second(w.cancel(w.ava, h.ID)) }},
		"taken over, then released":  {func(c tandem.ID, _ Handoff) error { return takeover(c) }, func(c tandem.ID, _ Handoff) error { return release(c) }},
		"taken over, then to AI":     {func(c tandem.ID, _ Handoff) error { return takeover(c) }, func(c tandem.ID, _ Handoff) error { return toAI(c) }},
		"accepted, then released":    {func(_ tandem.ID, h Handoff) error { return second(w.accept(kim, h.ID)) }, func(c tandem.ID, _ Handoff) error { return release(c) }},
		"accepted, then to AI":       {func(_ tandem.ID, h Handoff) error { return second(w.accept(kim, h.ID)) }, func(c tandem.ID, _ Handoff) error { return toAI(c) }},
		"handed to AI while waiting": {func(c tandem.ID, _ Handoff) error { return toAI(c) }},
	} {
		conv := w.conversation()
		h := w.ask(conv, HandoffRequest{To: Target{Member: kim.Member}})
		if c := w.get(conv); c.Unanswered() {
			t.Fatalf("%s: a handoff that waits does not cover the contact", name)
		}
		for _, step := range steps {
			if err := step(conv, h); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
		}
		if c := w.get(conv); !c.Unanswered() || c.Handoff != nil {
			t.Errorf("%s: answered up to %d of %d, handoff %+v", name, c.AnsweredSeq, c.LastInboundSeq, c.Handoff)
		}
	}
}

// A handoff that its asker takes back is not announced, whoever wrote the line.
func TestCancelledHandoffIsNotAnnounced(t *testing.T) {
	w := newWorld(t)
	conv := w.conversation()
	h, err := w.handoff(w.owner, conv, HandoffRequest{Reason: "policy", CustomerLine: "A colleague will write to you."})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.cancel(w.owner, h.ID); err != nil {
		t.Fatal(err)
	}
	w.deliver(w.courier())
	if sent := w.channel.sent(); len(sent) != 0 {
		t.Errorf("the contact was told %+v", sent)
	}
}
