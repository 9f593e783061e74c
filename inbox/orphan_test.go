package inbox

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/channels"
)

// An AI member's process dies while its answer is going out. When its lease is over and nobody has
// taken its place, the answer still arrives; when somebody has, it is held back: where it may have
// left it is shown as unknown, and where it cannot have, the contact does not count as answered by it.
func TestAnswerOfADeadWorker(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		thread   bool // the contact reads the thread: what is not recorded as sent has not left
		between  func(w *world, conv tandem.ID)
		status   string
		sends    int
		answered int64
	}{
		"nobody took over":          {false, func(*world, tandem.ID) {}, Sent, 1, 1},
		"a person took over":        {false, func(w *world, conv tandem.ID) { w.take(conv) }, Unknown, 0, 1},
		"a person came and went":    {false, func(w *world, conv tandem.ID) { w.take(conv); w.letGo(conv) }, Unknown, 0, 1},
		"chat, nobody took over":    {true, func(*world, tandem.ID) {}, Sent, 1, 1},
		"chat, a person took over":  {true, func(w *world, conv tandem.ID) { w.take(conv) }, Cancelled, 0, 1},
		"chat, a person came, went": {true, func(w *world, conv tandem.ID) { w.take(conv); w.letGo(conv) }, Cancelled, 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			ch := &fakeChannel{dedupes: true}
			timer := "redispatch"
			c := w.courier()
			c.Channels = func(context.Context, tandem.ID, tandem.ID) (channels.Channel, error) {
				if tt.thread {
					return readAtOurs{ch}, nil
				}
				return ch, nil
			}
			if tt.thread {
				timer = "reshow"
			}
			conv := w.conversation()
			m := w.answer(w.ava, conv, "the answer")
			f := w.commands()[0]
			c.Fault = func(at string) {
				if at == "courier.dispatching" {
					panic("killed")
				}
			}
			func() {
				defer func() { _ = recover() }()
				_ = c.Deliver(w.system(), f)
			}()
			c.Fault = nil
			w.do(w.system(), func(ctx context.Context, tx pgx.Tx) error {
				_, err := tx.Exec(ctx, `UPDATE conversations SET lease_until = now() - interval '1 second' WHERE org_id = $1 AND id = $2`, w.org, conv)
				return err
			})
			w.fire("lease", conv)
			tt.between(w, conv)
			if err := c.Deliver(w.system(), f); err != nil { // the bus delivers again
				t.Fatal(err)
			}
			w.fire(timer, m.ID)
			w.deliver(c)
			got, now := w.message(conv, m.ID), w.get(conv)
			if got.Status != tt.status || len(ch.sent()) != tt.sends || now.AnsweredSeq != tt.answered {
				t.Errorf("%s with %d sends, answered up to %d; want %s with %d, up to %d", got.Status, len(ch.sent()), now.AnsweredSeq, tt.status, tt.sends, tt.answered)
			}
		})
	}
}

// readAtOurs is a channel whose contacts read the thread at our own door.
type readAtOurs struct{ *fakeChannel }

func (readAtOurs) ReadsThread() bool { return true }

// A command that comes again while the message is on its way does not move the time at which
// the send is given up.
func TestARepeatedCommandLeavesTheTimer(t *testing.T) {
	w := newWorld(t)
	c := w.courier()
	ch := &fakeChannel{dedupes: true}
	c.Channels = func(context.Context, tandem.ID, tandem.ID) (channels.Channel, error) { return ch, nil }
	conv := w.conversation()
	m, err := w.reply(w.owner, conv, Draft{Text: "hello"})
	if err != nil {
		t.Fatal(err)
	}
	f := w.commands()[0]
	c.Fault = func(at string) {
		if at == "courier.dispatching" {
			panic("killed")
		}
	}
	func() {
		defer func() { _ = recover() }()
		_ = c.Deliver(w.system(), f)
	}()
	c.Fault = nil
	due := func() (at time.Time) {
		w.do(w.system(), func(ctx context.Context, tx pgx.Tx) error {
			return tx.QueryRow(ctx, `SELECT due_at FROM timers WHERE org_id = $1 AND record_id = $2 AND kind = 'redispatch'`, w.org, m.ID).Scan(&at)
		})
		return at
	}
	before := due()
	if err := c.Deliver(w.system(), f); err != nil {
		t.Fatal(err)
	}
	if after := due(); !after.Equal(before) {
		t.Errorf("the timer moved from %s to %s", before, after)
	}
}

// take lets the owner of the organization take the conversation over.
func (w *world) take(conv tandem.ID) {
	w.Helper()
	w.do(w.as(w.owner), func(ctx context.Context, tx pgx.Tx) error {
		_, err := Takeover(ctx, tx, conv, "")
		return err
	})
}

func (w *world) letGo(conv tandem.ID) {
	w.Helper()
	w.do(w.as(w.owner), func(ctx context.Context, tx pgx.Tx) error {
		_, err := Release(ctx, tx, conv)
		return err
	})
}
