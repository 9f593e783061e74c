package inbox

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/internal/pg/pgtest"
	"github.com/tandemhq/tandem/internal/proof"
	"github.com/tandemhq/tandem/team"
)

func packet() Packet {
	return Packet{Summary: "Wants 40 seats", Asked: []string{"the price"}, Qualification: map[string]Qualified{"budget": {"20k", 0.9}}, NextStep: "Call her"}
}

// ask has Ava answer for the conversation and then ask for a person.
func (w *world) ask(conv tandem.ID, in HandoffRequest) Handoff {
	w.Helper()
	run, c := w.run(w.ava, conv, time.Minute)
	if in.Reason == "" {
		in.Reason = "customer_asked"
	}
	in.Fence, in.Run, in.Packet = c.Fence, run, packet()
	h, err := w.handoff(w.ava, conv, in)
	if err != nil {
		w.Fatal(err)
	}
	return h
}

func (w *world) decide(a tandem.Actor, fn func(ctx context.Context, tx pgx.Tx) (Handoff, error)) (h Handoff, err error) {
	err = w.db.Tx(w.as(a), func(ctx context.Context, tx pgx.Tx) (err error) {
		h, err = fn(ctx, tx)
		return err
	})
	return h, err
}

func (w *world) accept(a tandem.Actor, id tandem.ID) (Handoff, error) {
	return w.decide(a, func(ctx context.Context, tx pgx.Tx) (Handoff, error) { return AcceptHandoff(ctx, tx, id) })
}

func (w *world) reject(a tandem.Actor, id tandem.ID) (Handoff, error) {
	return w.decide(a, func(ctx context.Context, tx pgx.Tx) (Handoff, error) { return RejectHandoff(ctx, tx, id, "not mine") })
}

func (w *world) cancel(a tandem.Actor, id tandem.ID) (Handoff, error) {
	return w.decide(a, func(ctx context.Context, tx pgx.Tx) (Handoff, error) { return CancelHandoff(ctx, tx, id, "") })
}

func TestHandoffAccepted(t *testing.T) {
	w := newWorld(t)
	conv := w.conversation()
	run, c := w.run(w.ava, conv, time.Minute)
	first, err := w.reply(w.ava, conv, Draft{Text: "One moment", Fence: c.Fence, Run: run, Trigger: 1})
	if err != nil {
		t.Fatal(err)
	}
	in := HandoffRequest{Reason: "customer_asked", Packet: packet(), CustomerLine: "A colleague takes over.", Fence: c.Fence, Run: run}
	h, err := w.handoff(w.ava, conv, in)
	if err != nil {
		t.Fatal(err)
	}
	if h.State != HandoffRequested || h.To.Team == "" || h.From.Name != "Ava" || h.Packet.Tried == nil || time.Until(h.Deadline) < 14*time.Minute {
		t.Errorf("got %+v", h)
	}
	if c = w.get(conv); c.Handoff == nil || c.Handoff.ID != h.ID || c.Owner.Name != "Ava" {
		t.Errorf("the conversation shows %+v, owner %+v", c.Handoff, c.Owner)
	}
	want(t, second(w.handoff(w.ava, conv, in)), tandem.Conflict)
	want(t, second(w.reply(w.ava, conv, Draft{Text: "still me", Fence: c.Fence, Run: run, Trigger: 1})), tandem.Conflict)
	outsider := w.people(1, "agent")[0]
	want(t, second(w.accept(outsider, h.ID)), tandem.Forbidden)

	got, err := w.accept(w.owner, h.ID)
	if err != nil || got.State != HandoffAccepted || got.DecidedBy == nil || got.DecidedBy.ID != w.owner.Member {
		t.Fatalf("got %+v, %v", got, err)
	}
	if c = w.get(conv); c.Handoff != nil || c.Owner.ID != w.owner.Member || c.Fence != 2 {
		t.Errorf("after accepting: %+v", c)
	}
	if te := want(t, second(w.accept(w.owner, h.ID)), tandem.Conflict); te.Owner == nil || te.Owner.ID != w.owner.Member {
		t.Errorf("told %+v", te.Owner)
	}
	// What the AI member had queued is held back, but the contact hears of the handoff, once.
	w.deliver(w.courier())
	if sent := w.channel.sent(); len(sent) != 1 || sent[0].Text != "A colleague takes over." {
		t.Errorf("sent %+v", sent)
	}
	if m := w.message(conv, first.ID); m.Status != Cancelled {
		t.Errorf("the earlier answer is %s", m.Status)
	}
	topics := w.topics(conv)
	if count(topics, "handoff.requested") != 1 || count(topics, "handoff.accepted") != 1 {
		t.Errorf("events %v", topics)
	}
}

func TestHandoffTargets(t *testing.T) {
	w := newWorld(t)
	people := w.people(3, "agent")
	w.do(w.system(), func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `UPDATE members SET skills = '{german}' WHERE id = $1`, people[1].Member)
		return err
	})
	var crew tandem.ID
	w.do(w.system(), func(ctx context.Context, tx pgx.Tx) (err error) {
		crew, err = team.AddTeam(ctx, tx, "Crew", false, []tandem.ID{people[2].Member})
		return err
	})
	for i, to := range []Target{{Member: people[0].Member}, {Skill: "german"}, {Team: crew}} {
		h := w.ask(w.conversation(), HandoffRequest{To: to})
		for k, p := range people {
			if k == i {
				continue
			}
			want(t, second(w.accept(p, h.ID)), tandem.Forbidden)
			want(t, second(w.reject(p, h.ID)), tandem.Forbidden)
		}
		if got, err := w.accept(people[i], h.ID); err != nil || got.To.Name == "" {
			t.Errorf("%+v: %+v, %v", to, got, err)
		}
	}
	conv := w.conversation()
	for _, in := range []HandoffRequest{
		{Reason: "because"},
		{Reason: "policy", To: Target{Team: crew, Skill: "german"}},
		{Reason: "policy", To: Target{Team: tandem.NewID()}},
		{Reason: "policy", TTL: time.Millisecond},
		{Reason: "policy", Packet: Packet{Qualification: map[string]Qualified{"size": {}}}},
	} {
		want(t, second(w.handoff(w.owner, conv, in)), tandem.Invalid)
	}
}

func TestHandoffRejectedGoesBack(t *testing.T) {
	w := newWorld(t)
	conv := w.conversation()
	h := w.ask(conv, HandoffRequest{CustomerLine: "One moment, please."})
	want(t, second(w.decide(w.owner, func(ctx context.Context, tx pgx.Tx) (Handoff, error) { return RejectHandoff(ctx, tx, h.ID, " ") })), tandem.Invalid)
	got, err := w.reject(w.owner, h.ID)
	if err != nil || got.State != HandoffRejected || got.Decision != "not mine" {
		t.Fatalf("got %+v, %v", got, err)
	}
	if c := w.get(conv); c.Owner == nil || c.Owner.Name != "Ava" || c.Handoff != nil || !c.Unanswered() || c.Fence != 1 {
		t.Errorf("after rejecting: %+v", c)
	}
}

func TestHandoffCancelledAndTakenOver(t *testing.T) {
	w := newWorld(t)
	conv := w.conversation()
	h := w.ask(conv, HandoffRequest{CustomerLine: "A colleague will answer."})
	if _, err := w.cancel(w.ava, h.ID); err != nil { // who asked may take it back
		t.Fatal(err)
	}
	w.deliver(w.courier())
	if sent := w.channel.sent(); len(sent) != 0 {
		t.Errorf("the contact was told %+v", sent)
	}
	conv = w.conversation()
	h = w.ask(conv, HandoffRequest{})
	w.do(w.as(w.people(1, "agent")[0]), func(ctx context.Context, tx pgx.Tx) error {
		_, err := Takeover(ctx, tx, conv, "")
		return err
	})
	var got Handoff
	w.do(w.system(), func(ctx context.Context, tx pgx.Tx) (err error) {
		got, err = GetHandoff(ctx, tx, h.ID)
		return err
	})
	if got.State != HandoffCancelled {
		t.Errorf("after a takeover the handoff is %s", got.State)
	}
	want(t, second(w.accept(w.owner, h.ID)), tandem.Conflict)
}

// A handoff that nobody takes goes to the fallback team and keeps asking, ever less often.
func TestHandoffExpiresLoudly(t *testing.T) {
	w := newWorld(t)
	conv := w.conversation()
	h := w.ask(conv, HandoffRequest{To: Target{Team: w.sales}, TTL: 10 * time.Minute, CustomerLine: "Somebody will be with you."})
	id := h.ID
	for i, ttl := range []time.Duration{10 * time.Minute, 20 * time.Minute, 40 * time.Minute} {
		w.fire("handoff", id)
		var page tandem.Page[Handoff]
		w.do(w.system(), func(ctx context.Context, tx pgx.Tx) (err error) {
			page, err = ListHandoffs(ctx, tx, "", tandem.Query{})
			return err
		})
		if len(page.Items) != 1 {
			t.Fatalf("round %d: %d open handoffs", i, len(page.Items))
		}
		n := page.Items[0]
		if n.ID == id || n.To.Team == w.sales || n.Packet.Summary != "Wants 40 seats" || n.Deadline.Sub(n.CreatedAt) != ttl {
			t.Errorf("round %d: %+v lasts %v", i, n, n.Deadline.Sub(n.CreatedAt))
		}
		if c := w.get(conv); c.Handoff == nil || c.Handoff.ID != n.ID {
			t.Errorf("round %d: the conversation shows %+v", i, c.Handoff)
		}
		id = n.ID
	}
	if topics := w.topics(conv); count(topics, "handoff.expired") != 3 || count(topics, "handoff.requested") != 4 {
		t.Errorf("events %v", topics)
	}
	w.deliver(w.courier())
	if sent := w.channel.sent(); len(sent) != 1 {
		t.Errorf("the contact was told %d times", len(sent))
	}
}

// CLM-7 in small: two decisions at once end in one state, with one owner and one event.
func TestHandoffRaces(t *testing.T) {
	w := newWorld(t)
	trials := proof.Size(30, 1000)
	began := time.Now()
	// As the timer runner does it: the timer's row first, then its handler, in one transaction.
	expire := func(id tandem.ID) error {
		return w.db.Tx(w.system(), func(ctx context.Context, tx pgx.Tx) error {
			tag, err := tx.Exec(ctx, `DELETE FROM timers WHERE kind = 'handoff' AND record_id = $1`, id)
			if err != nil || tag.RowsAffected() == 0 {
				return err
			}
			return Timers()["handoff"](ctx, tx, id)
		})
	}
	other, super := w.people(1, "admin")[0], pgtest.Connect(t, w.db, pgtest.Super)
	accept := func(a tandem.Actor) func(tandem.ID) error {
		return func(id tandem.ID) error { return second(w.accept(a, id)) }
	}
	races := []struct {
		name string
		a, b func(tandem.ID) error
	}{
		{"accept and accept", accept(w.owner), accept(other)},
		{"accept and cancel", accept(w.owner), func(id tandem.ID) error { return second(w.cancel(other, id)) }},
		{"accept and expire", accept(w.owner), expire},
		{"reject and expire", func(id tandem.ID) error { return second(w.reject(w.owner, id)) }, expire},
	}
	for _, race := range races {
		ends := map[string]int{}
		for n := range trials {
			if n%100 == 50 { // what autovacuum does elsewhere: else every plan is one for empty tables
				if _, err := super.Exec(t.Context(), "ANALYZE"); err != nil {
					t.Fatal(err)
				}
			}
			conv := w.conversation()
			h := w.ask(conv, HandoffRequest{})
			start := make(chan struct{})
			errs := make([]error, 2)
			var wg sync.WaitGroup
			for i, fn := range []func(tandem.ID) error{race.a, race.b} {
				wg.Go(func() {
					<-start
					errs[i] = fn(h.ID)
				})
			}
			close(start)
			wg.Wait()
			for _, err := range errs {
				if err != nil && tandem.KindOf(err) != tandem.Conflict {
					t.Fatalf("%s: %v", race.name, err)
				}
			}
			var got Handoff
			w.until("the handoff is decided", func() bool {
				w.do(w.system(), func(ctx context.Context, tx pgx.Tx) (err error) {
					got, err = GetHandoff(ctx, tx, h.ID)
					return err
				})
				return got.State != HandoffRequested
			})
			ends[got.State]++
			w.settled(race.name, conv, got)
		}
		proof.Figure(t, "CLM-7", "%s, %d times: one final state each %v, one owner, one event; %v", race.name, trials, ends, time.Since(began).Round(time.Second))
	}
	t.Run("request and request", func(t *testing.T) {
		for range trials {
			conv := w.conversation()
			errs := make([]error, 2)
			var wg sync.WaitGroup
			for i, a := range []tandem.Actor{w.owner, other} {
				wg.Go(func() { errs[i] = second(w.handoff(a, conv, HandoffRequest{Reason: "policy"})) })
			}
			wg.Wait()
			if (errs[0] == nil) == (errs[1] == nil) {
				t.Fatalf("got %v and %v", errs[0], errs[1])
			}
			if err := errors.Join(errs...); tandem.KindOf(err) != tandem.Conflict || count(w.topics(conv), "handoff.requested") != 1 {
				t.Fatalf("got %v, events %v", err, w.topics(conv))
			}
		}
		proof.Figure(t, "CLM-7", "request and request, %d times: one handoff each", trials)
	})
}

// settled checks that a decided handoff, its conversation and its events agree.
func (w *world) settled(race string, conv tandem.ID, h Handoff) {
	w.Helper()
	c, topics := w.get(conv), w.topics(conv)
	final := 0
	for _, s := range []string{HandoffAccepted, HandoffRejected, HandoffCancelled, HandoffExpired} {
		final += count(topics, "handoff."+s)
	}
	ok := final == 1 && slices.Contains(topics, "handoff."+h.State)
	switch h.State {
	case HandoffAccepted:
		ok = ok && c.Owner != nil && h.DecidedBy != nil && c.Owner.ID == h.DecidedBy.ID && c.Handoff == nil && c.Fence == 2
	case HandoffExpired:
		ok = ok && c.Owner != nil && c.Owner.Name == "Ava" && c.Handoff != nil && c.Handoff.ID != h.ID && c.Fence == 1
	default:
		ok = ok && c.Owner != nil && c.Owner.Name == "Ava" && c.Handoff == nil && c.Fence == 1
	}
	if !ok {
		w.Fatalf("%s: handoff %s, owner %+v, fence %d, open %+v, events %v", race, h.State, c.Owner, c.Fence, c.Handoff, topics)
	}
}
