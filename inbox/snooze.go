package inbox

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/internal/timers"
)

const maxSnooze = 366 * 24 * time.Hour

const (
	snoozeSQL = `
	UPDATE conversations SET state = 'snoozed', snoozed_until = @until, updated_at = now() WHERE org_id = @org AND id = @id`

	snoozeLeftSQL = `SELECT extract(epoch FROM @until::timestamptz - now())::float8`

	snoozedSQL = `SELECT coalesce(snoozed_until <= now(), false) FROM conversations WHERE org_id = @org AND id = @id`
)

// Snooze puts the conversation aside until a time within a year, on the database's clock; then, or when the contact
// writes, it is open again. A person who owns it keeps it; an AI member gives it up, with what it has not sent. One
// that waits for a person cannot be put aside (Conflict). A colleague's conversation needs the role owner or admin. It
// needs conversation:claim.
func Snooze(ctx context.Context, tx pgx.Tx, conv tandem.ID, until time.Time) (Conversation, error) {
	a, err := allowed(ctx, "conversation:claim")
	if err != nil {
		return Conversation{}, err
	}
	h, err := hold(ctx, tx, a.Org, conv)
	if err != nil {
		return Conversation{}, err
	}
	var left float64
	if err := tx.QueryRow(ctx, snoozeLeftSQL, pgx.StrictNamedArgs{"until": until}).Scan(&left); err != nil {
		return Conversation{}, fmt.Errorf("snooze conversation: %w", err)
	}
	wait := time.Duration(left * float64(time.Second))
	switch {
	case h.colleagues(a):
		return Conversation{}, h.taken(ctx, tx)
	case wait <= 0 || wait > maxSnooze:
		return Conversation{}, tandem.InvalidFields(tandem.FieldError{Field: "until", Message: "Choose a time in the future, within a year."})
	case h.HandoffID != nil:
		return Conversation{}, tandem.Errorf(tandem.Conflict, "%s waits for a person. Accept or cancel the handoff first.", h.ContactName)
	case h.State == StateResolved || h.State == StateSpam:
		return Conversation{}, tandem.Errorf(tandem.Conflict, "The conversation is closed. Reopen it first.")
	}
	was, before := h.State, h.OwnerID
	if h.OwnerID != nil && !h.ownedByPerson() {
		if err := h.cancelMachine(ctx, tx, false); err != nil {
			return Conversation{}, err
		}
		if err := h.own(ctx, tx, nil); err != nil {
			return Conversation{}, err
		}
	}
	if _, err := tx.Exec(ctx, snoozeSQL, pgx.StrictNamedArgs{"org": a.Org, "id": conv, "until": until}); err != nil {
		return Conversation{}, fmt.Errorf("snooze conversation: %w", err)
	}
	if err := timers.Set(ctx, tx, "snooze", conv, wait); err != nil {
		return Conversation{}, err
	}
	changes := []tandem.Change{{Field: "state", Old: was, New: StateSnoozed}, {Field: "snoozed_until", New: until.UTC()}}
	if before != nil && h.OwnerID == nil {
		changes = append(changes, ownerChange(before, nil))
	}
	if err := h.emit(ctx, tx, "snoozed", a.Name+" put the conversation with "+h.ContactName+" aside.", changes...); err != nil {
		return Conversation{}, err
	}
	return getConversation(ctx, tx, a.Org, conv)
}

// snoozeOver opens a conversation whose time has come. One that was opened before, or put aside anew, stays as it is.
func snoozeOver(ctx context.Context, tx pgx.Tx, conv tandem.ID) error {
	a, err := tandem.ActorFrom(ctx)
	if err != nil {
		return err
	}
	h, err := hold(ctx, tx, a.Org, conv)
	if errors.Is(err, errMerged) {
		return nil
	}
	if err != nil {
		return err
	}
	var due bool
	if err := tx.QueryRow(ctx, snoozedSQL, pgx.StrictNamedArgs{"org": a.Org, "id": conv}).Scan(&due); err != nil {
		return fmt.Errorf("look at a snoozed conversation: %w", err)
	}
	if h.State != StateSnoozed || !due {
		return nil
	}
	return h.reopen(ctx, tx, "The conversation with "+h.ContactName+" is open again.")
}
