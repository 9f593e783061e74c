package inbox

import (
	"context"

	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem"
)

// Timers are the handlers of what must happen here later, by the kind of timer:
//
//	lease       record = conversation: an AI member's worker has not been heard of
//	handoff     record = handoff: nobody has decided in time
//	snooze      record = conversation: the time until which it was put aside has come
//	retry       record = message: the wait after a failed send is over
//	dispatch    record = message: the process died while sending; nobody knows whether the
//	            provider took it, so it becomes unknown
//	redispatch  the same on a channel whose receiver removes duplicates by our id, so that
//	            the message is simply sent again
//	reshow      the same on a channel whose contacts read the thread: nothing had left
//
// Each looks under the conversation's lock whether it still matters, so a timer that
// nobody cleared does no harm.
func Timers() map[string]func(ctx context.Context, tx pgx.Tx, record tandem.ID) error {
	return map[string]func(ctx context.Context, tx pgx.Tx, record tandem.ID) error{
		"lease":      leaseOver,
		"handoff":    handoffOver,
		"snooze":     snoozeOver,
		"retry":      retryNow,
		"dispatch":   dispatchLost,
		"redispatch": redispatch,
		"reshow":     reshow,
	}
}
