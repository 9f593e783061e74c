package inbox

import (
	"context"
	"errors"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/channels"
	"github.com/tandemhq/tandem/internal/proof"
)

// An attempt that seems not to have left waits to be repeated, a person takes over, and the message
// is held back. It had arrived all the same: the receipt says so and the thread shows it.
func TestHeldBackButArrived(t *testing.T) {
	w := newWorld(t)
	ch := &fakeChannel{dedupes: true, answer: func(channels.Outbound) error {
		return &channels.SendError{Outcome: channels.NotSent, Err: errors.New("dial failed")}
	}}
	c := w.courier()
	c.Channels = func(context.Context, tandem.ID, tandem.ID) (channels.Channel, error) { return ch, nil }
	conv := w.conversation()
	m := w.answer(w.ava, conv, "Twelve euros")
	w.deliver(c)
	w.take(conv)
	if got := w.message(conv, m.ID); got.Status != Cancelled {
		t.Fatalf("after the takeover the message is %s", got.Status)
	}
	receipt := func(word string) {
		w.do(w.system(), func(ctx context.Context, tx pgx.Tx) error { return Status(ctx, tx, w.chat, m.ProviderID, word, "") })
	}
	receipt(Failed)
	if got := w.message(conv, m.ID); got.Status != Cancelled {
		t.Errorf("after a failure the message is %s", got.Status)
	}
	receipt(Delivered)
	if got := w.message(conv, m.ID); got.Status != Delivered {
		t.Errorf("after the receipt the message is %s", got.Status)
	}
}

// REL-16 in the database: every sequence of up to 4 receipts on a message whose send has not been
// recorded yet, then the record of the send; the end is the highest of what was said.
func TestReceiptsInEveryOrder(t *testing.T) {
	w := newWorld(t)
	conv := w.conversation()
	words := []string{Sent, Delivered, Read, Failed}
	n := 0
	depth := proof.Size(2, 4)
	var walk func(said []string)
	walk = func(said []string) {
		n++
		end := Sent
		for _, s := range said {
			if rank[s] > rank[end] {
				end = s
			}
		}
		w.do(w.system(), func(ctx context.Context, tx pgx.Tx) error {
			id := tandem.NewID()
			_, err := tx.Exec(ctx, `INSERT INTO messages (org_id, id, conversation_id, seq, direction, sender_kind, text, status, provider_id, attempt)
				VALUES ($1, $2, $3, (SELECT next_seq FROM conversations WHERE org_id = $1 AND id = $3), 'outbound', 'human', 'x', 'dispatching', $2::uuid::text, 1)`, w.org, id, conv)
			if err != nil {
				return err
			}
			for _, s := range said {
				if err := Status(ctx, tx, w.chat, channels.ExternalID(id), s, "why"); err != nil {
					return err
				}
			}
			if err := outcome(ctx, tx, id, 1, nil, false); err != nil {
				return err
			}
			var got string
			if err := tx.QueryRow(ctx, `SELECT status FROM messages WHERE org_id = $1 AND id = $2`, w.org, id).Scan(&got); err != nil {
				return err
			}
			if got != end {
				t.Errorf("receipts %v before the record: %s, want %s", said, got, end)
			}
			_, err = tx.Exec(ctx, `DELETE FROM messages WHERE org_id = $1 AND id = $2`, w.org, id)
			return err
		})
		if len(said) < depth {
			for _, s := range words {
				walk(append(said[:len(said):len(said)], s))
			}
		}
	}
	walk(nil)
	proof.Figure(t, "REL-16", "%d sequences of up to %d receipts in the database, all before the send's own record: each kept and applied, 0 lost, 0 falls", n, depth)
}
