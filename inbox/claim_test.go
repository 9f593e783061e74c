package inbox

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/internal/proof"
	"github.com/tandemhq/tandem/internal/timers"
	"github.com/tandemhq/tandem/team"
)

// CLM-1: of 64 members at once one wins; the others are told who.
func TestOneWinnerOf64(t *testing.T) {
	w := newWorld(t)
	const rivals = 64
	conversations := proof.Size(100, 1000)
	people := w.people(rivals, "agent")
	var mu sync.Mutex
	var took []time.Duration
	for range conversations {
		conv := w.conversation()
		start := make(chan struct{})
		errs := make([]error, rivals)
		var wg sync.WaitGroup
		for i, p := range people {
			wg.Go(func() {
				<-start
				began := time.Now()
				errs[i] = w.db.Tx(w.as(p), func(ctx context.Context, tx pgx.Tx) error {
					_, err := Claim(ctx, tx, conv)
					return err
				})
				mu.Lock()
				took = append(took, time.Since(began))
				mu.Unlock()
			})
		}
		close(start)
		wg.Wait()
		c := w.get(conv)
		winners := 0
		for i, err := range errs {
			if err == nil {
				winners++
				if c.Owner == nil || c.Owner.ID != people[i].Member {
					t.Fatalf("%s was told to own a conversation of %+v", people[i].Name, c.Owner)
				}
				continue
			}
			if te := want(t, err, tandem.Conflict); te.Owner == nil || te.Owner.ID != c.Owner.ID {
				t.Fatalf("a loser was told %+v, the owner is %+v", te.Owner, c.Owner)
			}
		}
		if winners != 1 || c.Fence != 1 || count(w.topics(conv), "conversation.claimed") != 1 {
			t.Fatalf("%d winners, fence %d, events %v", winners, c.Fence, w.topics(conv))
		}
	}
	const most = 50 * time.Millisecond
	slow := p99(took)
	say := proof.Figure
	if proof.Full() && slow > most {
		say = proof.Missed
	}
	say(t, "CLM-1", "%d members claim each of %d conversations at once: 1 winner each, %d losers told the owner; p99 %v, at most %v promised (64 callers share %d connections)",
		rivals, conversations, conversations*(rivals-1), slow.Round(time.Millisecond), most, w.db.Pool().Config().MaxConns)
}

func TestRunLeasesAndFences(t *testing.T) {
	w := newWorld(t)
	conv := w.conversation()
	run, c := w.run(w.ava, conv, time.Minute)
	if c.Fence != 1 || c.Owner.ID != w.ava.Member || c.LeaseRun != run {
		t.Fatalf("got %+v", c)
	}
	claim := func(a tandem.Actor, run tandem.ID) error {
		return w.db.Tx(w.as(a), func(ctx context.Context, tx pgx.Tx) error {
			_, err := ClaimForRun(ctx, tx, conv, run, time.Minute)
			return err
		})
	}
	if te := want(t, claim(w.bob, tandem.NewID()), tandem.Conflict); te.Owner == nil || te.Owner.Name != "Ava" {
		t.Errorf("another AI member was told %+v", te)
	}
	want(t, claim(w.ava, tandem.NewID()), tandem.Conflict) // a second run of the same member
	beat := func(run tandem.ID, fence int64) error {
		return w.db.Tx(w.as(w.ava), func(ctx context.Context, tx pgx.Tx) error { return Heartbeat(ctx, tx, conv, run, fence, time.Minute) })
	}
	park := func(run tandem.ID, fence int64) error {
		return w.db.Tx(w.as(w.ava), func(ctx context.Context, tx pgx.Tx) error { return Park(ctx, tx, conv, run, fence) })
	}
	if err := beat(run, 1); err != nil {
		t.Error(err)
	}
	if err := beat(tandem.NewID(), 1); !errors.Is(err, ErrFenceMoved) {
		t.Errorf("heartbeat of another run: %v", err)
	}
	if err := park(run, 1); err != nil {
		t.Error(err)
	}
	second, c := w.run(w.ava, conv, time.Minute)
	if c.Fence != 1 || c.LeaseRun != second {
		t.Errorf("a parked member's next run has fence %d", c.Fence)
	}
	if n := count(w.topics(conv), "conversation.claimed"); n != 1 {
		t.Errorf("%d claims recorded, the owner never changed", n)
	}
	if err := beat(run, 1); !errors.Is(err, ErrFenceMoved) {
		t.Errorf("heartbeat of a run that is over: %v", err)
	}
	// The worker dies: the lease runs out, and any claim, of any member, has a higher fence.
	w.do(w.system(), func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `UPDATE conversations SET lease_until = now() - interval '1 second' WHERE id = $1`, conv)
		return err
	})
	_, c = w.run(w.bob, conv, time.Minute)
	if c.Fence != 2 || c.Owner.Name != "Bob" {
		t.Errorf("after the lease: %+v", c)
	}
	if err := beat(second, 1); !errors.Is(err, ErrFenceMoved) {
		t.Errorf("heartbeat of the dead run: %v", err)
	}
}

// A frozen worker loses the conversation, what it had queued is held back, and the contact
// counts as unanswered.
func TestLeaseOverReleases(t *testing.T) {
	w := newWorld(t)
	conv := w.conversation()
	run, c := w.run(w.ava, conv, 300*time.Millisecond)
	m, err := w.reply(w.ava, conv, Draft{Text: "Half done", Fence: c.Fence, Run: run, Trigger: 1})
	if err != nil {
		t.Fatal(err)
	}
	if c = w.get(conv); c.Unanswered() {
		t.Error("a queued answer does not count as one")
	}
	w.runTimers()
	w.until("the lease runs out", func() bool { return w.get(conv).Owner == nil })
	if c = w.get(conv); c.Fence != 2 || !c.Unanswered() || c.LeaseUntil != nil {
		t.Errorf("got %+v", c)
	}
	if m = w.message(conv, m.ID); m.Status != Cancelled {
		t.Errorf("the dead worker's message is %s", m.Status)
	}
	w.deliver(w.courier())
	if sent := w.channel.sent(); len(sent) != 0 {
		t.Errorf("%d messages went out", len(sent))
	}
	if topics := w.topics(conv); count(topics, "conversation.released") != 1 || count(topics, "message.cancelled") != 1 {
		t.Errorf("events: %v", topics)
	}
	_, err = w.reply(w.ava, conv, Draft{Text: "Late", Fence: 1, Run: run, Trigger: 1})
	if !errors.Is(err, ErrFenceMoved) {
		t.Errorf("the frozen worker wakes up: %v", err)
	}
}

func TestTakeoverRules(t *testing.T) {
	w := newWorld(t)
	conv := w.conversation()
	people := w.people(2, "agent")
	take := func(a tandem.Actor, reason string) error {
		return w.db.Tx(w.as(a), func(ctx context.Context, tx pgx.Tx) error {
			_, err := Takeover(ctx, tx, conv, reason)
			return err
		})
	}
	want(t, take(w.ava, ""), tandem.Forbidden)
	w.run(w.ava, conv, time.Minute)
	if err := take(people[0], ""); err != nil {
		t.Fatalf("from an AI member: %v", err)
	}
	if te := want(t, take(people[1], "I want it"), tandem.Conflict); te.Owner == nil || te.Owner.ID != people[0].Member {
		t.Errorf("told %+v", te.Owner)
	}
	if te := want(t, take(w.owner, " "), tandem.Invalid); te.Fields[0].Field != "reason" {
		t.Errorf("fields %v", te.Fields)
	}
	if err := take(w.owner, "Kim is ill"); err != nil {
		t.Fatal(err)
	}
	if c := w.get(conv); c.Owner.ID != w.owner.Member || c.Fence != 3 {
		t.Errorf("got owner %+v fence %d", c.Owner, c.Fence)
	}
	viewer := w.people(1, "viewer")[0]
	want(t, take(viewer, "x"), tandem.Forbidden)
	// Nobody's AI member takes a person's conversation.
	err := w.db.Tx(w.as(w.ava), func(ctx context.Context, tx pgx.Tx) error {
		_, err := ClaimForRun(ctx, tx, conv, tandem.NewID(), time.Minute)
		return err
	})
	if te := want(t, err, tandem.Conflict); te.Owner == nil || te.Owner.Kind != tandem.Human {
		t.Errorf("told %+v", te.Owner)
	}
}

func TestHandToAIAndResolve(t *testing.T) {
	w := newWorld(t)
	conv := w.conversation()
	call := func(fn func(context.Context, pgx.Tx) (Conversation, error)) (c Conversation, err error) {
		err = w.db.Tx(w.as(w.owner), func(ctx context.Context, tx pgx.Tx) error {
			c, err = fn(ctx, tx)
			return err
		})
		return c, err
	}
	c, err := call(func(ctx context.Context, tx pgx.Tx) (Conversation, error) { return HandToAI(ctx, tx, conv, "") })
	if err != nil || c.Owner == nil || c.Owner.Name != "Ava" || c.Fence != 1 || !c.Unanswered() {
		t.Fatalf("got %+v, %v", c, err)
	}
	c, err = call(func(ctx context.Context, tx pgx.Tx) (Conversation, error) {
		return HandToAI(ctx, tx, conv, w.bob.Member)
	})
	if err != nil || c.Owner.Name != "Bob" {
		t.Fatalf("got %+v, %v", c, err)
	}
	_, err = call(func(ctx context.Context, tx pgx.Tx) (Conversation, error) {
		return HandToAI(ctx, tx, conv, w.owner.Member)
	})
	want(t, err, tandem.Invalid)
	m := w.answer(w.bob, conv, "Hi")
	c, err = call(func(ctx context.Context, tx pgx.Tx) (Conversation, error) { return Resolve(ctx, tx, conv) })
	if err != nil || c.State != StateResolved || c.Owner != nil {
		t.Fatalf("got %+v, %v", c, err)
	}
	if m = w.message(conv, m.ID); m.Status != Cancelled {
		t.Errorf("after resolving the AI member's message is %s", m.Status)
	}
	_, err = call(func(ctx context.Context, tx pgx.Tx) (Conversation, error) { return Claim(ctx, tx, conv) })
	want(t, err, tandem.Conflict)
	c, err = call(func(ctx context.Context, tx pgx.Tx) (Conversation, error) { return Reopen(ctx, tx, conv) })
	if err != nil || c.State != StateOpen {
		t.Fatalf("got %+v, %v", c, err)
	}
	if c, err = call(func(ctx context.Context, tx pgx.Tx) (Conversation, error) { return Claim(ctx, tx, conv) }); err != nil || c.Owner == nil {
		t.Fatalf("got %+v, %v", c, err)
	}
	if err := w.db.Tx(w.as(w.owner), func(ctx context.Context, tx pgx.Tx) error { return MarkRead(ctx, tx, conv) }); err != nil {
		t.Fatal(err)
	}
	if c = w.get(conv); c.Unread != 0 {
		t.Errorf("%d unread", c.Unread)
	}
	if c, err = call(func(ctx context.Context, tx pgx.Tx) (Conversation, error) { return Release(ctx, tx, conv) }); err != nil || c.Owner != nil {
		t.Fatalf("got %+v, %v", c, err)
	}
}

// CLM-8: a member who is deactivated while claiming owns nothing afterwards.
func TestDeactivatedMembersOwnNothing(t *testing.T) {
	w := newWorld(t)
	trials := proof.Size(20, 200)
	for _, p := range w.people(trials, "agent") {
		convs := []tandem.ID{w.conversation(), w.conversation(), w.conversation()}
		var wg sync.WaitGroup
		for _, conv := range convs {
			wg.Go(func() {
				err := w.db.Tx(w.as(p), func(ctx context.Context, tx pgx.Tx) error {
					_, err := Claim(ctx, tx, conv)
					return err
				})
				if err != nil && tandem.KindOf(err) != tandem.Forbidden {
					t.Errorf("claim: %v", err)
				}
			})
		}
		wg.Go(func() {
			err := w.db.Tx(w.as(w.owner), func(ctx context.Context, tx pgx.Tx) error {
				if err := team.Disable(ctx, tx, p.Member); err != nil {
					return err
				}
				_, err := ReleaseAllOf(ctx, tx, p.Member)
				return err
			})
			if err != nil {
				t.Errorf("disable: %v", err)
			}
		})
		wg.Wait()
		for _, conv := range convs {
			if c := w.get(conv); c.Owner != nil {
				t.Fatalf("%s is disabled and owns %s", c.Owner.Name, conv)
			}
		}
	}
	proof.Figure(t, "CLM-8", "%d members disabled while they claim 3 conversations each: 0 conversations left with them", trials)
}

// A turn ends and its conversation is claimed for another at the same moment: each waits for the conversation before it
// touches the lease's timer, so neither has to be tried again.
func TestClaimAndEndTakeTurns(t *testing.T) {
	w := newWorld(t)
	conv := w.conversation()
	w.run(w.ava, conv, time.Minute) // its timer is there
	waiting := func() bool {
		n := 0
		w.do(w.system(), func(ctx context.Context, tx pgx.Tx) error {
			return tx.QueryRow(ctx, "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'").Scan(&n)
		})
		return n > 0
	}
	claimed := make(chan error, 1)
	claims, ends := 0, 0
	err := w.db.Tx(w.as(w.ava), func(ctx context.Context, tx pgx.Tx) error {
		ends++
		if _, err := hold(ctx, tx, w.org, conv); err != nil {
			return err
		}
		if ends == 1 {
			go func() {
				claimed <- w.db.Tx(w.as(w.ava), func(ctx context.Context, tx pgx.Tx) error {
					claims++
					_, err := ClaimForRun(ctx, tx, conv, tandem.NewID(), time.Minute)
					return err
				})
			}()
			w.until("the claim waits", waiting)
		}
		return timers.Clear(ctx, tx, "lease", conv)
	})
	if err != nil {
		t.Fatal(err)
	}
	want(t, <-claimed, tandem.Conflict) // the first run is still at work
	if claims != 1 || ends != 1 {
		t.Errorf("the claim ran %d times and the end %d times, want once each", claims, ends)
	}
}
