package inbox

import (
	"context"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/internal/pg"
)

// Split says which messages leave a conversation: those from a seq on, chosen ones, or those that a merge brought. Exactly
// one is given.
type Split struct {
	From     int64       // the first seq that leaves
	Messages []tandem.ID // at most 200
	Merge    tandem.ID
}

const maxSplit = 200

// check refuses what is no choice, and writes ids as the database does.
func (s *Split) check() (err error) {
	given := 0
	for _, is := range []bool{s.From != 0, len(s.Messages) > 0, s.Merge != ""} {
		if is {
			given++
		}
	}
	bad := func(field, message string) error {
		return tandem.InvalidFields(tandem.FieldError{Field: field, Message: message})
	}
	switch {
	case given != 1:
		return bad("from_seq", "Name exactly one of from_seq, message_ids and merge_id.")
	case s.From < 0:
		return bad("from_seq", "A message's seq is 1 or more.")
	case len(s.Messages) > maxSplit:
		return bad("message_ids", "There may be at most 200 messages. For more, name the first seq that leaves.")
	}
	s.Messages = slices.Clone(s.Messages)
	for i, id := range s.Messages {
		if s.Messages[i], err = tandem.ParseID(string(id)); err != nil {
			return bad("message_ids", "This is not an id.")
		}
	}
	if s.Merge != "" {
		if s.Merge, err = tandem.ParseID(string(s.Merge)); err != nil {
			return bad("merge_id", "This is not an id.")
		}
	}
	return nil
}

const (
	splitOffSQL = `
	INSERT INTO conversations (org_id, id, channel_id, contact_id, lead_id, thread, thread_prefix, reply_thread, subject, state)
	SELECT org_id, @id::uuid, channel_id, contact_id, lead_id, 'split:' || @id::uuid, thread_prefix, coalesce(reply_thread, substr(thread, length(thread_prefix) + 1)), subject, 'open'
	FROM conversations WHERE org_id = @org AND id = @from`

	// Who is known to the channel as its visitor reads the one thread there.
	visitorSQL = `
	SELECT EXISTS (SELECT FROM contact_identities WHERE org_id = @org AND contact_id = @contact AND kind = 'visitor' AND scope = @channel::text)`
)

// Divide moves messages into a conversation of their own, with the same contact on the same channel, which nobody owns; or
// it undoes a merge, and what came with it goes back to where it was. What the contact writes in the channel's thread still
// comes into the conversation that was there; replies of both leave by that thread. It returns the conversation that the
// messages are in now.
//
// It refuses as Merge does. A conversation whose contact reads it, as a visitor of a web chat does, has one thread and
// cannot be split (Conflict). Messages that are not in the conversation, or all of them, are Invalid. Only people split; it
// needs conversation:claim.
func Divide(ctx context.Context, tx pgx.Tx, conv tandem.ID, s Split) (Conversation, error) {
	a, err := mayMove(ctx)
	if err != nil {
		return Conversation{}, err
	}
	if err := s.check(); err != nil {
		return Conversation{}, err
	}
	if s.Merge != "" {
		return unmerge(ctx, tx, a, conv, s.Merge)
	}
	if err := lockContact(ctx, tx, a.Org, conv); err != nil {
		return Conversation{}, err
	}
	h, err := hold(ctx, tx, a.Org, conv)
	if err != nil {
		return Conversation{}, err
	}
	if err := h.mayPart(ctx, tx, a); err != nil {
		return Conversation{}, err
	}
	var visitor bool
	if err := tx.QueryRow(ctx, visitorSQL, pgx.StrictNamedArgs{"org": a.Org, "contact": h.ContactID, "channel": h.ChannelID}).Scan(&visitor); err != nil {
		return Conversation{}, fmt.Errorf("look who reads the conversation: %w", err)
	}
	if visitor {
		return Conversation{}, tandem.Errorf(tandem.Conflict, "%s reads this conversation on %s, where there is one thread. It cannot be split.", h.ContactName, h.ChannelName)
	}
	which, field := which{sql: "m.seq >= @from_seq", args: pgx.StrictNamedArgs{"from_seq": s.From}}, "from_seq"
	if len(s.Messages) > 0 {
		which, field = chosen(s.Messages), "message_ids"
	}
	p, err := h.parts(ctx, tx, which)
	switch {
	case err != nil:
		return Conversation{}, err
	case p.Leave == 0, len(s.Messages) > 0 && p.Leave != unique(s.Messages):
		return Conversation{}, tandem.InvalidFields(tandem.FieldError{Field: field, Message: "These are not messages of this conversation."})
	case p.Stay == 0:
		return Conversation{}, tandem.InvalidFields(tandem.FieldError{Field: field, Message: "Leave at least one message where it is."})
	}
	id := tandem.NewID()
	if _, err := tx.Exec(ctx, splitOffSQL, pgx.StrictNamedArgs{"org": a.Org, "id": id, "from": conv}); err != nil {
		return Conversation{}, fmt.Errorf("split conversation: %w", err)
	}
	n, err := hold(ctx, tx, a.Org, id)
	if err != nil {
		return Conversation{}, err
	}
	moved, err := h.move(ctx, tx, n, nil, which)
	if err != nil {
		return Conversation{}, err
	}
	if err := n.recount(ctx, tx, moved.upTo(h.AnsweredSeq), p.Unread); err != nil {
		return Conversation{}, err
	}
	if err := h.recount(ctx, tx, h.AnsweredSeq, h.Unread-p.Unread); err != nil {
		return Conversation{}, err
	}
	text := a.Name + " split a part of the conversation with " + h.ContactName + " off."
	if err := h.emit(ctx, tx, "split", text, tandem.Change{Field: "split_id", New: id}); err != nil {
		return Conversation{}, err
	}
	text = a.Name + " made this conversation with " + h.ContactName + " of a part of another."
	if err := n.emit(ctx, tx, "split", text, tandem.Change{Field: "from_id", New: conv}); err != nil {
		return Conversation{}, err
	}
	return getConversation(ctx, tx, a.Org, id)
}

const (
	mergeSQL = `SELECT from_id, from_state, from_unread FROM conversation_merges WHERE org_id = @org AND id = @id AND into_id = @into AND undone_at IS NULL FOR NO KEY UPDATE`

	undoMergeSQL = `UPDATE conversation_merges SET undone_at = now(), undone_by = @by WHERE org_id = @org AND id = @id`

	// What had been merged into it before goes with it.
	standSQL = `
	UPDATE conversations c SET merged_into = CASE WHEN c.id = @id THEN NULL ELSE @id::uuid END, updated_at = now(),
	       state = CASE WHEN c.id = @id THEN @state ELSE c.state END
	WHERE c.org_id = @org AND (c.id = @id OR c.id IN (
	    WITH RECURSIVE below AS (
	        SELECT from_id FROM conversation_merges WHERE org_id = @org AND into_id = @id AND undone_at IS NULL
	        UNION
	        SELECT g.from_id FROM conversation_merges g JOIN below b ON b.from_id = g.into_id WHERE g.org_id = @org AND g.undone_at IS NULL)
	    SELECT from_id FROM below))`

	// Each message goes back to its old place, unless it has moved on since.
	returnSQL = `
	WITH gone AS (
	    DELETE FROM message_moves v WHERE v.org_id = @org AND v.merge_id = @merge RETURNING v.message_id, v.seq, v.client_key
	), old AS (
	    SELECT m.id, m.seq FROM messages m JOIN gone g ON g.message_id = m.id WHERE m.org_id = @org AND m.conversation_id = @from
	)
	UPDATE messages m SET conversation_id = @to, seq = g.seq, client_key = g.client_key
	FROM gone g JOIN old o ON o.id = g.message_id
	WHERE m.org_id = @org AND m.id = g.message_id AND m.conversation_id = @from
	RETURNING o.seq AS old, m.seq AS new`
)

// unmerge takes back one merge into the conversation.
func unmerge(ctx context.Context, tx pgx.Tx, a tandem.Actor, conv, merge tandem.ID) (Conversation, error) {
	var from tandem.ID
	var state string
	var unread int
	none := tandem.InvalidFields(tandem.FieldError{Field: "merge_id", Message: "This is no merge into this conversation that can be undone."})
	if err := lockContact(ctx, tx, a.Org, conv); err != nil {
		return Conversation{}, err
	}
	err := tx.QueryRow(ctx, mergeSQL, pgx.StrictNamedArgs{"org": a.Org, "id": merge, "into": conv}).Scan(&from, &state, &unread)
	if pg.NoRows(err) {
		return Conversation{}, none
	}
	if err != nil {
		return Conversation{}, fmt.Errorf("find merge: %w", err)
	}
	h, of, err := holdBoth(ctx, tx, a.Org, conv, from)
	if err != nil {
		return Conversation{}, err
	}
	if h.MergedInto != nil {
		return Conversation{}, errMerged // the later merge is undone first
	}
	if err := h.mayPart(ctx, tx, a); err != nil {
		return Conversation{}, err
	}
	which := which{sql: "m.id IN (SELECT v.message_id FROM message_moves v WHERE v.org_id = @org AND v.merge_id = @merge)", args: pgx.StrictNamedArgs{"merge": merge}}
	p, err := h.parts(ctx, tx, which)
	if err != nil {
		return Conversation{}, err
	}
	// What somebody has read here since is read there as well.
	unread = max(min(unread, h.Unread, p.CameLeave), h.Unread-p.CameStay)
	rows, err := tx.Query(ctx, returnSQL, pgx.StrictNamedArgs{"org": a.Org, "merge": merge, "from": conv, "to": from})
	if err != nil {
		return Conversation{}, fmt.Errorf("undo merge: %w", err)
	}
	back, err := pgx.CollectRows(rows, pgx.RowToStructByName[step])
	if err != nil {
		return Conversation{}, fmt.Errorf("undo merge: %w", err)
	}
	if state == StateSnoozed {
		state = StateOpen // its time may be over
	}
	if _, err := tx.Exec(ctx, standSQL, pgx.StrictNamedArgs{"org": a.Org, "id": from, "state": state}); err != nil {
		return Conversation{}, fmt.Errorf("undo merge: %w", err)
	}
	if _, err := tx.Exec(ctx, undoMergeSQL, pgx.StrictNamedArgs{"org": a.Org, "id": merge, "by": a.Member}); err != nil {
		return Conversation{}, fmt.Errorf("undo merge: %w", err)
	}
	if err := of.recount(ctx, tx, max(of.AnsweredSeq, moves(back).upTo(h.AnsweredSeq)), unread); err != nil {
		return Conversation{}, err
	}
	if err := h.recount(ctx, tx, h.AnsweredSeq, h.Unread-unread); err != nil {
		return Conversation{}, err
	}
	text := a.Name + " took a conversation with " + h.ContactName + " out of this one again."
	if err := h.emit(ctx, tx, "split", text, tandem.Change{Field: "split_id", New: from}, tandem.Change{Field: "merge_id", Old: merge}); err != nil {
		return Conversation{}, err
	}
	text = a.Name + " took this conversation with " + h.ContactName + " out of another again."
	if err := of.emit(ctx, tx, "split", text, tandem.Change{Field: "from_id", New: conv}, tandem.Change{Field: "merged_into", Old: conv}); err != nil {
		return Conversation{}, err
	}
	return getConversation(ctx, tx, a.Org, from)
}
