package inbox

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/internal/events"
	"github.com/tandemhq/tandem/internal/mutant"
	"github.com/tandemhq/tandem/internal/pg"
)

const ownSQL = `
	UPDATE conversations SET owner_id = @owner, owner_kind = @kind, fence = fence + 1, lease_until = NULL, lease_run = NULL,
	       state = @state, snoozed_until = CASE WHEN @state = 'snoozed' THEN snoozed_until END, handoff_id = @handoff, updated_at = now()
	WHERE org_id = @org AND id = @id AND fence = @fence
	RETURNING fence`

// own gives the held conversation to a member, or to nobody when owner is nil, and raises
// the fence. It also stores h.State and h.HandoffID as they are. A lease timer that is left
// behind finds no lease and does nothing.
func (h *held) own(ctx context.Context, tx pgx.Tx, owner *tandem.MemberRef) error {
	var id, kind *string
	if owner != nil {
		id, kind = ptr(string(owner.ID)), ptr(string(owner.Kind))
	}
	err := tx.QueryRow(ctx, ownSQL, pgx.StrictNamedArgs{
		"org": h.org, "id": h.ID, "owner": id, "kind": kind, "state": h.State, "handoff": h.HandoffID, "fence": h.Fence,
	}).Scan(&h.Fence)
	if err != nil {
		return fmt.Errorf("change owner of conversation: %w", err)
	}
	h.LeaseRun, h.LeaseOver, h.OwnerID, h.OwnerKind = nil, false, nil, kind
	if owner != nil {
		h.OwnerID = &owner.ID
	}
	return nil
}

const cancelMachineSQL = `
	UPDATE messages SET status = CASE WHEN unclear THEN 'unknown' ELSE 'cancelled' END
	WHERE org_id = @org AND conversation_id = @id AND status IN ('draft', 'queued', 'retry_wait') AND direction = 'outbound'
	  AND (sender_kind IN ('ai', 'external') AND (NOT @keep OR handoff_id IS NULL) OR handoff_id = @line)
	RETURNING id, unclear`

// What was cancelled answered nobody: inbound counts as answered up to the last outbound
// message that still stands.
const unansweredSQL = `
	UPDATE conversations SET answered_seq = least(answered_seq, coalesce((
	    SELECT max(seq) FROM messages m
	    WHERE m.org_id = @org AND m.conversation_id = @id AND m.direction = 'outbound' AND m.kind = 'message'
	      AND m.status NOT IN ('draft', 'cancelled', 'failed') AND m.handoff_id IS NULL), 0))
	WHERE org_id = @org AND id = @id
	RETURNING answered_seq`

// cancelMachine cancels what AI members wrote and what has not begun to go out; what may have arrived at an earlier try
// becomes unknown instead, because nothing can hold it back any more. With
// keepHandoff the line that tells the contact of a handoff stays.
func (h *held) cancelMachine(ctx context.Context, tx pgx.Tx, keepHandoff bool) error {
	return h.cancelQueued(ctx, tx, keepHandoff, "")
}

// cancelQueued is cancelMachine that also cancels the line of a handoff, whoever wrote it.
func (h *held) cancelQueued(ctx context.Context, tx pgx.Tx, keepHandoff bool, line tandem.ID) error {
	if mutant.Is("takeover-does-not-cancel") {
		return nil
	}
	rows, err := tx.Query(ctx, cancelMachineSQL, pgx.StrictNamedArgs{"org": h.org, "id": h.ID, "keep": keepHandoff, "line": line.Ptr()})
	if err != nil {
		return fmt.Errorf("cancel AI messages: %w", err)
	}
	held, err := pgx.CollectRows(rows, pgx.RowToStructByName[struct {
		ID      tandem.ID
		Unclear bool
	}])
	if err != nil {
		return fmt.Errorf("cancel AI messages: %w", err)
	}
	if len(held) == 0 {
		return nil
	}
	for _, m := range held {
		status, text, severity := Cancelled, "A message was held back.", "info"
		if m.Unclear {
			status, text, severity = Unknown, "A message was held back that may have arrived at an earlier try.", "warning"
		}
		if err := h.emitMessage(ctx, tx, m.ID, status, text, severity, tandem.Change{Field: "status", New: status}); err != nil {
			return err
		}
	}
	if h.HandoffID == nil {
		if err := h.unanswered(ctx, tx); err != nil {
			return err
		}
	}
	return h.commandNext(ctx, tx)
}

// unanswered takes back that the contact was answered, as far as nothing that stands answers.
func (h *held) unanswered(ctx context.Context, tx pgx.Tx) error {
	err := tx.QueryRow(ctx, unansweredSQL, pgx.StrictNamedArgs{"org": h.org, "id": h.ID}).Scan(&h.AnsweredSeq)
	if err != nil {
		return fmt.Errorf("take back the answer: %w", err)
	}
	return nil
}

const nextQueuedSQL = `
	SELECT id FROM messages WHERE org_id = @org AND conversation_id = @id AND status = 'queued' ORDER BY seq LIMIT 1`

// commandNext wakes the courier for the lowest queued message, whose turn may have come.
func (h *held) commandNext(ctx context.Context, tx pgx.Tx) error {
	var next tandem.ID
	err := tx.QueryRow(ctx, nextQueuedSQL, pgx.StrictNamedArgs{"org": h.org, "id": h.ID}).Scan(&next)
	if pg.NoRows(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("find next message: %w", err)
	}
	if err := events.Command(ctx, tx, h.outSubject(), next); err != nil {
		return fmt.Errorf("command the courier: %w", err)
	}
	return nil
}

// release makes the held conversation nobody's. What has no answer counts as unanswered
// again, whatever had covered it: a handoff that nobody acted on, a message held back later.
func (h *held) release(ctx context.Context, tx pgx.Tx, reason, text string) error {
	before := h.OwnerID
	if h.ownedByMachine() {
		if err := h.cancelMachine(ctx, tx, true); err != nil {
			return err
		}
	}
	if h.HandoffID == nil {
		if err := h.unanswered(ctx, tx); err != nil {
			return err
		}
	}
	if err := h.own(ctx, tx, nil); err != nil {
		return err
	}
	return h.emit(ctx, tx, "released", text, ownerChange(before, nil), tandem.Change{Field: "reason", New: reason})
}

// Release gives the actor's conversation back to all. An owner or admin may release a
// colleague's. Nobody's conversation is returned unchanged; somebody else's is a Conflict
// with Owner. It needs conversation:claim.
func Release(ctx context.Context, tx pgx.Tx, conv tandem.ID) (Conversation, error) {
	a, err := allowed(ctx, "conversation:claim")
	if err != nil {
		return Conversation{}, err
	}
	h, err := hold(ctx, tx, a.Org, conv)
	if err != nil {
		return Conversation{}, err
	}
	if h.OwnerID != nil {
		if !h.ownedBy(a.Member) && !leads(a) {
			return Conversation{}, h.taken(ctx, tx)
		}
		if err := h.release(ctx, tx, "released", a.Name+" released the conversation with "+h.ContactName+"."); err != nil {
			return Conversation{}, err
		}
	}
	return getConversation(ctx, tx, a.Org, conv)
}

// ReleaseAllOf makes every conversation of the member nobody's and returns how many there
// were. The caller deactivates the member first, in the same transaction, so that no new
// claim can slip in. It needs member:write.
func ReleaseAllOf(ctx context.Context, tx pgx.Tx, member tandem.ID) (int, error) {
	a, err := allowed(ctx, "member:write")
	if err != nil {
		return 0, err
	}
	rows, err := tx.Query(ctx, `SELECT id FROM conversations WHERE org_id = @org AND owner_id = @member ORDER BY id`, pgx.StrictNamedArgs{"org": a.Org, "member": member})
	if err != nil {
		return 0, fmt.Errorf("find conversations of member: %w", err)
	}
	ids, err := pgx.CollectRows(rows, pgx.RowTo[tandem.ID])
	if err != nil {
		return 0, fmt.Errorf("find conversations of member: %w", err)
	}
	n := 0
	for _, id := range ids {
		h, err := hold(ctx, tx, a.Org, id)
		if err != nil {
			return n, err
		}
		if !h.ownedBy(member) || mutant.Is("disabled-member-keeps-claims") {
			continue
		}
		if err := h.release(ctx, tx, "deactivated", "The conversation with "+h.ContactName+" is open to all again."); err != nil {
			return n, err
		}
		n++
	}
	return n, nil
}

// Takeover makes the person in ctx the owner: of nobody's and of an AI member's
// conversation always, of another person's only for an owner or admin who gives a reason.
// When it has committed, nothing that an AI member wrote here and that was not already on
// its way will go out. It needs conversation:takeover.
func Takeover(ctx context.Context, tx pgx.Tx, conv tandem.ID, reason string) (Conversation, error) {
	a, err := allowed(ctx, "conversation:takeover")
	if err != nil {
		return Conversation{}, err
	}
	if a.Kind != tandem.Human {
		return Conversation{}, tandem.Errorf(tandem.Forbidden, "Only a person can take a conversation over.")
	}
	if err := shareMember(ctx, tx, a.Org, a.Member); err != nil {
		return Conversation{}, err
	}
	h, err := hold(ctx, tx, a.Org, conv)
	if err != nil {
		return Conversation{}, err
	}
	if h.ownedBy(a.Member) {
		return getConversation(ctx, tx, a.Org, conv)
	}
	if h.State == StateResolved || h.State == StateSpam {
		return Conversation{}, tandem.Errorf(tandem.Conflict, "This conversation is closed. Reopen it first.")
	}
	reason = strings.TrimSpace(reason)
	if h.ownedByPerson() {
		if !leads(a) {
			return Conversation{}, h.taken(ctx, tx)
		}
		if reason == "" {
			return Conversation{}, tandem.InvalidFields(tandem.FieldError{Field: "reason", Message: "Say why you take a colleague's conversation."})
		}
	}
	if err := h.takeover(ctx, tx, a, reason); err != nil {
		return Conversation{}, err
	}
	return getConversation(ctx, tx, a.Org, conv)
}

// takeover gives the held conversation to the person: the whole of rule 16 in one
// transaction. The person's row is locked by the caller.
func (h *held) takeover(ctx context.Context, tx pgx.Tx, a tandem.Actor, reason string) error {
	before := h.OwnerID
	if err := h.closeHandoff(ctx, tx, HandoffCancelled, a, "taken over"); err != nil {
		return err
	}
	if err := h.own(ctx, tx, &tandem.MemberRef{ID: a.Member, Kind: a.Kind, Name: a.Name}); err != nil {
		return err
	}
	if err := h.cancelMachine(ctx, tx, false); err != nil {
		return err
	}
	if before == nil {
		return h.emit(ctx, tx, "claimed", a.Name+" claimed the conversation with "+h.ContactName+".", ownerChange(nil, &a.Member))
	}
	changes := []tandem.Change{ownerChange(before, &a.Member)}
	if reason != "" {
		changes = append(changes, tandem.Change{Field: "reason", New: reason})
	}
	return h.emit(ctx, tx, "taken_over", a.Name+" took over the conversation with "+h.ContactName+".", changes...)
}

const aiMemberSQL = `
	SELECT id, kind, name FROM members
	WHERE org_id = @org AND kind = 'ai' AND status = 'active' AND (id = @wanted OR @wanted IS NULL)
	ORDER BY id = @preferred DESC NULLS LAST, created_at, id LIMIT 1 FOR SHARE`

// HandToAI gives the conversation to an AI member: the named one, or the channel's, or the
// first of the organization. The member answers if the contact still waits. The actor must
// own the conversation, unless nobody or an AI member does, or the actor is an owner or
// admin. It needs conversation:claim.
func HandToAI(ctx context.Context, tx pgx.Tx, conv, member tandem.ID) (Conversation, error) {
	a, err := allowed(ctx, "conversation:claim")
	if err != nil {
		return Conversation{}, err
	}
	c, err := getConversation(ctx, tx, a.Org, conv)
	if err != nil {
		return Conversation{}, err
	}
	unknown := tandem.InvalidFields(tandem.FieldError{Field: "member_id", Message: "There is no active AI member like that."})
	if _, err := tandem.ParseID(string(member)); member != "" && err != nil {
		return Conversation{}, unknown
	}
	var ai tandem.MemberRef
	err = tx.QueryRow(ctx, aiMemberSQL, pgx.StrictNamedArgs{"org": a.Org, "wanted": member.Ptr(), "preferred": c.AIMember.Ptr()}).Scan(&ai.ID, &ai.Kind, &ai.Name)
	if pg.NoRows(err) {
		return Conversation{}, unknown
	}
	if err != nil {
		return Conversation{}, fmt.Errorf("find AI member: %w", err)
	}
	h, err := hold(ctx, tx, a.Org, conv)
	if err != nil {
		return Conversation{}, err
	}
	switch {
	case h.State == StateResolved || h.State == StateSpam:
		return Conversation{}, tandem.Errorf(tandem.Conflict, "This conversation is closed. Reopen it first.")
	case h.ownedByPerson() && !h.ownedBy(a.Member) && !leads(a):
		return Conversation{}, h.taken(ctx, tx)
	}
	before := h.OwnerID
	if err := h.closeHandoff(ctx, tx, HandoffCancelled, a, "handed to "+ai.Name); err != nil {
		return Conversation{}, err
	}
	if err := h.cancelMachine(ctx, tx, false); err != nil {
		return Conversation{}, err
	}
	if err := h.unanswered(ctx, tx); err != nil { // a handoff before this may have covered the contact's words
		return Conversation{}, err
	}
	if err := h.own(ctx, tx, &ai); err != nil {
		return Conversation{}, err
	}
	text := a.Name + " handed the conversation with " + h.ContactName + " to " + ai.Name + "."
	if err := h.emit(ctx, tx, "handed_to_ai", text, ownerChange(before, &ai.ID)); err != nil {
		return Conversation{}, err
	}
	return getConversation(ctx, tx, a.Org, conv)
}
