package inbox

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem"
)

// Resolve closes the conversation: nobody owns it any more, an open handoff and whatever an
// AI member has not sent are cancelled. The contact's next message opens it again. A
// colleague's conversation needs the role owner or admin. It needs conversation:claim.
func Resolve(ctx context.Context, tx pgx.Tx, conv tandem.ID) (Conversation, error) {
	return closeAs(ctx, tx, conv, StateResolved, "resolved", "resolved the conversation with")
}

// Spam closes the conversation like Resolve, and for good: the contact's further messages are kept in it, and neither open
// it nor make an AI member answer. Reopen takes it back.
func Spam(ctx context.Context, tx pgx.Tx, conv tandem.ID) (Conversation, error) {
	return closeAs(ctx, tx, conv, StateSpam, "marked_spam", "marked as spam the conversation with")
}

func closeAs(ctx context.Context, tx pgx.Tx, conv tandem.ID, state, verb, did string) (Conversation, error) {
	a, err := allowed(ctx, "conversation:claim")
	if err != nil {
		return Conversation{}, err
	}
	h, err := hold(ctx, tx, a.Org, conv)
	if err != nil {
		return Conversation{}, err
	}
	switch {
	case h.State == state:
		return getConversation(ctx, tx, a.Org, conv)
	case h.colleagues(a):
		return Conversation{}, h.taken(ctx, tx)
	}
	before, was := h.OwnerID, h.State
	if err := h.closeHandoff(ctx, tx, HandoffCancelled, a, verb); err != nil {
		return Conversation{}, err
	}
	if err := h.cancelMachine(ctx, tx, false); err != nil {
		return Conversation{}, err
	}
	h.State = state
	if err := h.own(ctx, tx, nil); err != nil {
		return Conversation{}, err
	}
	text := a.Name + " " + did + " " + h.ContactName + "."
	if err := h.emit(ctx, tx, verb, text, tandem.Change{Field: "state", Old: was, New: state}, ownerChange(before, nil)); err != nil {
		return Conversation{}, err
	}
	return getConversation(ctx, tx, a.Org, conv)
}

// colleagues reports whether the conversation belongs to somebody from whom a may not take it without saying so.
func (h *held) colleagues(a tandem.Actor) bool {
	return h.OwnerID != nil && !h.ownedBy(a.Member) && !leads(a) && (a.Kind != tandem.Human || h.ownedByPerson())
}

// Reopen puts a waiting, snoozed, resolved or spam conversation back to work. It changes no
// owner. It needs conversation:claim.
func Reopen(ctx context.Context, tx pgx.Tx, conv tandem.ID) (Conversation, error) {
	a, err := allowed(ctx, "conversation:claim")
	if err != nil {
		return Conversation{}, err
	}
	h, err := hold(ctx, tx, a.Org, conv)
	if err != nil {
		return Conversation{}, err
	}
	if h.ownedByPerson() && !h.ownedBy(a.Member) && !leads(a) {
		return Conversation{}, h.taken(ctx, tx)
	}
	if err := h.reopen(ctx, tx, a.Name+" reopened the conversation with "+h.ContactName+"."); err != nil {
		return Conversation{}, err
	}
	return getConversation(ctx, tx, a.Org, conv)
}

const reopenSQL = `
	UPDATE conversations SET state = 'open', snoozed_until = NULL, updated_at = now() WHERE org_id = @org AND id = @id`

func (h *held) reopen(ctx context.Context, tx pgx.Tx, text string) error {
	if h.State == StateOpen {
		return nil
	}
	if _, err := tx.Exec(ctx, reopenSQL, pgx.StrictNamedArgs{"org": h.org, "id": h.ID}); err != nil {
		return fmt.Errorf("reopen conversation: %w", err)
	}
	was := h.State
	h.State = StateOpen
	return h.emit(ctx, tx, "reopened", text, tandem.Change{Field: "state", Old: was, New: StateOpen})
}

const markReadSQL = `
	UPDATE conversations SET unread = 0 WHERE org_id = @org AND id = @id AND unread > 0 RETURNING lead_id`

// MarkRead says that a person has seen what the contact wrote. It needs conversation:read.
func MarkRead(ctx context.Context, tx pgx.Tx, conv tandem.ID) error {
	a, err := allowed(ctx, "conversation:read")
	if err != nil {
		return err
	}
	rows, err := tx.Query(ctx, markReadSQL, pgx.StrictNamedArgs{"org": a.Org, "id": conv})
	if err != nil {
		return fmt.Errorf("mark conversation read: %w", err)
	}
	leads, err := pgx.CollectRows(rows, pgx.RowTo[*tandem.ID])
	if err != nil {
		return fmt.Errorf("mark conversation read: %w", err)
	}
	if len(leads) == 0 {
		_, err := getConversation(ctx, tx, a.Org, conv) // NotFound when there is none
		return err
	}
	h := &held{ID: conv, LeadID: leads[0], org: a.Org}
	return h.emit(ctx, tx, "read", a.Name+" has read the conversation.")
}
