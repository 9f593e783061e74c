package inbox

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/channels"
	"github.com/tandemhq/tandem/internal/proof"
	"github.com/tandemhq/tandem/internal/timers"
)

// A process dies in the middle of everything. What it held does not wait for the lease or the send timeout to run out: the
// conversation is open to all, a send to a receiver that knows our ids goes out again, and another one is shown as
// unknown. What a process that lives holds stays where it is.
func TestDeadProcessHoldsNothing(t *testing.T) {
	w := newWorld(t)
	here := timers.NewPresence(w.db, quiet)
	alive := timers.NewPresence(w.db, quiet)
	run := func(p *timers.Presence) (kill func()) {
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan struct{})
		go func() { defer close(done); _ = p.Run(ctx) }()
		kill = func() { cancel(); <-done }
		w.Cleanup(kill)
		return kill
	}
	kill := run(here)
	run(alive)
	const sessions = `SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 2 AND granted AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`
	w.until("both processes are there", func() bool {
		n := 0
		w.do(w.system(), func(ctx context.Context, tx pgx.Tx) error { return tx.QueryRow(ctx, sessions).Scan(&n) })
		return n >= 2
	})

	claim := func(p *timers.Presence) tandem.ID {
		conv := w.conversation()
		w.do(p.In(w.as(w.ava)), func(ctx context.Context, tx pgx.Tx) error {
			_, err := ClaimForRun(ctx, tx, conv, tandem.NewID(), time.Hour)
			return err
		})
		return conv
	}
	cut, working := claim(here), claim(alive)

	sends := map[bool]Message{} // by whether the receiver removes duplicates
	wire := &fakeChannel{dedupes: true}
	for _, dedupes := range []bool{true, false} {
		ch := &fakeChannel{dedupes: dedupes}
		if dedupes {
			ch = wire
		}
		c := w.courier()
		c.SendTimeout = time.Hour
		c.Channels = func(context.Context, tandem.ID, tandem.ID) (channels.Channel, error) { return ch, nil }
		c.Fault = func(at string) {
			if at == "courier.sent" {
				panic("killed")
			}
		}
		m, err := w.reply(w.owner, w.conversation(), Draft{Text: "on the wire"})
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range w.commands() {
			func() {
				defer func() { _ = recover() }()
				_ = c.Deliver(here.In(w.system()), f)
			}()
		}
		if m = w.message(m.ConversationID, m.ID); m.Status != Dispatching {
			t.Fatalf("the send is %s", m.Status)
		}
		sends[dedupes] = m
	}

	w.runTimers()
	killed := time.Now()
	kill()
	w.until("the conversation is open again", func() bool { return w.get(cut).Owner == nil })
	w.until("the unclear send is unknown", func() bool {
		return w.message(sends[false].ConversationID, sends[false].ID).Status == Unknown
	})
	w.until("the other one is queued", func() bool { return w.message(sends[true].ConversationID, sends[true].ID).Status == Queued })
	took := time.Since(killed)
	c := w.courier()
	c.Channels = func(context.Context, tandem.ID, tandem.ID) (channels.Channel, error) { return wire, nil }
	w.deliver(c)
	if sent := wire.sent(); len(sent) != 2 || sent[0].ProviderID != sent[1].ProviderID {
		t.Errorf("the repeat: %+v", sent)
	}
	if c := w.get(working); c.Owner == nil || c.LeaseRun == "" {
		t.Error("a process that lives has lost its conversation")
	}
	if took > 5*time.Second {
		proof.Missed(t, "REL-7", "a dead process's sends were settled after %.1f s", took.Seconds())
	}
	proof.Figure(t, "REL-7", "a process dies with a turn and two sends under way, lease and timeout 1 h: all free or shown as unknown after %.1f s", took.Seconds())
}
