package inbox

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"
)

// Every way in which a conversation changes hands cancels what an AI member had queued. The
// courier does not rely on it: a queued message of an older fence stays here all the same.
func TestCourierHoldsBackAnOlderFence(t *testing.T) {
	w := newWorld(t)
	conv := w.conversation()
	m := w.answer(w.ava, conv, "The old answer.")
	w.do(w.system(), func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `UPDATE conversations SET fence = fence + 1, owner_id = $1, owner_kind = 'human', lease_until = NULL, lease_run = NULL WHERE id = $2`, w.owner.Member, conv)
		return err
	})
	w.deliver(w.courier())
	if sent := w.channel.sent(); len(sent) != 0 {
		t.Errorf("sent: %+v", sent)
	}
	if got := w.message(conv, m.ID); got.Status != Cancelled || got.Attempt != 0 {
		t.Errorf("the message is %s after %d attempts", got.Status, got.Attempt)
	}
}
