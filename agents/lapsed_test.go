package agents_test

import (
	"context"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem/agents/agenttest"
)

// A worker is so slow that its lease is over when it answers, but nobody has come meanwhile. Its answer is refused, and
// the contact is answered by another run all the same instead of waiting for ever.
func TestLapsedLeaseIsNoSilence(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	script := agenttest.NewScripted()
	script.Otherwise(agenttest.Replies("the answer"))
	c := w.customer(script)
	r := w.runner()
	var once sync.Once
	r.Fault = func(point string) {
		if point != "turn.answered" {
			return
		}
		once.Do(func() {
			w.tx(func(ctx context.Context, tx pgx.Tx) error {
				_, err := tx.Exec(ctx, `UPDATE conversations SET lease_until = now() - interval '1 second' WHERE id = $1`, c.conv)
				return err
			})
		})
	}
	w.wake(r, c.says("Hello"))
	w.deliver(c)
	if got := w.journal.of(c.conv); len(got) != 1 || got[0].Text != "the answer" {
		t.Errorf("sent %+v, want one answer", got)
	}
	if s := states(w.runs(c)); s != "cancelled done" {
		t.Errorf("runs %s, want cancelled done", s)
	}
	if conv := w.conversation(c); conv.Unanswered() {
		t.Error("the contact still waits")
	}
}
