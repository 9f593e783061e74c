package inbox

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/internal/mutant"
	"github.com/tandemhq/tandem/internal/pg"
	"github.com/tandemhq/tandem/internal/timers"
)

// errMerged is what becomes of anything that is asked of a conversation that was merged into another.
var errMerged = tandem.Errorf(tandem.Conflict, "This conversation was merged into another one. Go on there, or undo the merge.")

// Merged is one conversation that became a part of another.
type Merged struct {
	ID        tandem.ID        `json:"id" doc:"The merge; name it to undo it."`
	IntoID    tandem.ID        `json:"into_id"`
	FromID    tandem.ID        `json:"from_id"`
	By        tandem.MemberRef `json:"by"`
	Messages  int              `json:"messages" doc:"How many messages came with it."`
	CreatedAt time.Time        `json:"created_at"`
}

const (
	insertMergeSQL = `
	INSERT INTO conversation_merges (org_id, id, into_id, from_id, from_state, from_unread, by_id) VALUES (@org, @id, @into, @from, @state, @unread, @by)`

	// Whatever was merged into from goes on where from goes on: an arrow leads to a conversation that stands by itself.
	pointSQL = `
	UPDATE conversations SET merged_into = @into, updated_at = now() WHERE org_id = @org AND (id = @from OR merged_into = @from)`
)

// Merge makes one conversation a part of another of the same contact on the same channel. Its messages follow the other's
// last one, in their order; what the contact writes in either thread from now on is in the surviving one, which keeps its
// owner, its lead and its channel. The other one is closed and in no list until the merge is undone.
//
// While a message of either is on its way, an AI member is answering, or a handoff waits, it is a Conflict: what has begun
// ends where it began. So it is when one is a colleague's, as for Resolve, or spam. Another contact's or channel's
// conversation is Invalid. Only people merge; it needs conversation:claim.
func Merge(ctx context.Context, tx pgx.Tx, into, from tandem.ID) (Merged, error) {
	a, err := mayMove(ctx)
	if err != nil {
		return Merged{}, err
	}
	to, of, err := holdBoth(ctx, tx, a.Org, into, from)
	if err != nil {
		return Merged{}, err
	}
	switch {
	case into == from:
		return Merged{}, tandem.InvalidFields(tandem.FieldError{Field: "from_id", Message: "A conversation cannot be merged with itself."})
	case to.MergedInto != nil || of.MergedInto != nil:
		return Merged{}, errMerged
	case to.ContactID != of.ContactID:
		return Merged{}, tandem.InvalidFields(tandem.FieldError{Field: "from_id", Message: "Only conversations with the same contact can be merged."})
	case to.ChannelID != of.ChannelID:
		return Merged{}, tandem.InvalidFields(tandem.FieldError{Field: "from_id", Message: "Only conversations on the same channel can be merged: replies leave by one."})
	}
	for _, h := range []*held{to, of} {
		if err := h.mayPart(ctx, tx, a); err != nil {
			return Merged{}, err
		}
	}
	id := tandem.NewID()
	_, err = tx.Exec(ctx, insertMergeSQL, pgx.StrictNamedArgs{"org": a.Org, "id": id, "into": into, "from": from, "state": of.State, "unread": of.Unread, "by": a.Member})
	if err != nil {
		return Merged{}, fmt.Errorf("merge conversations: %w", err)
	}
	unread := to.Unread + of.Unread
	moved, err := of.move(ctx, tx, to, &id, all)
	if err != nil {
		return Merged{}, err
	}
	wasState, owner := of.State, of.OwnerID
	for _, timer := range []string{"snooze", "lease"} {
		if err := timers.Clear(ctx, tx, timer, from); err != nil {
			return Merged{}, fmt.Errorf("clear timer: %w", err)
		}
	}
	of.State = StateResolved
	if err := of.own(ctx, tx, nil); err != nil {
		return Merged{}, err
	}
	if _, err := tx.Exec(ctx, pointSQL, pgx.StrictNamedArgs{"org": a.Org, "into": into, "from": from}); err != nil {
		return Merged{}, fmt.Errorf("merge conversations: %w", err)
	}
	if err := of.recount(ctx, tx, of.AnsweredSeq, 0); err != nil {
		return Merged{}, err
	}
	// One that waits for an answer stays so: an answer in one thread was none in the other.
	answered := to.AnsweredSeq
	if to.LastInboundSeq <= to.AnsweredSeq {
		answered = max(answered, moved.upTo(of.AnsweredSeq))
	}
	if err := to.recount(ctx, tx, answered, unread); err != nil {
		return Merged{}, err
	}
	if to.LeadID == nil && of.LeadID != nil {
		if _, err := tx.Exec(ctx, `UPDATE conversations SET lead_id = @lead WHERE org_id = @org AND id = @id`, pgx.StrictNamedArgs{"org": a.Org, "id": into, "lead": of.LeadID}); err != nil {
			return Merged{}, fmt.Errorf("merge conversations: %w", err)
		}
		to.LeadID = of.LeadID
	}
	if wasState == StateOpen {
		if err := to.reopen(ctx, tx, "The conversation with "+to.ContactName+" is open: an open one became a part of it."); err != nil {
			return Merged{}, err
		}
	}
	text := a.Name + " merged another conversation with " + to.ContactName + " into this one."
	if err := to.emit(ctx, tx, "merged", text, tandem.Change{Field: "from_id", New: from}, tandem.Change{Field: "merge_id", New: id}); err != nil {
		return Merged{}, err
	}
	text = a.Name + " merged this conversation with " + of.ContactName + " into another one."
	changes := []tandem.Change{{Field: "merged_into", New: into}, {Field: "merge_id", New: id}}
	if owner != nil {
		changes = append(changes, ownerChange(owner, nil))
	}
	if err := of.emit(ctx, tx, "merged", text, changes...); err != nil {
		return Merged{}, err
	}
	return getMerge(ctx, tx, a.Org, id)
}

// mayMove returns the person who may move messages from one conversation to another.
func mayMove(ctx context.Context) (tandem.Actor, error) {
	a, err := allowed(ctx, "conversation:claim")
	if err != nil {
		return a, err
	}
	if a.Kind != tandem.Human {
		return a, tandem.Errorf(tandem.Forbidden, "Only a person can merge or split conversations.")
	}
	return a, nil
}

const lockContactSQL = `
	SELECT id FROM contacts WHERE org_id = @org AND id = (SELECT contact_id FROM conversations WHERE org_id = @org AND id = @id) FOR NO KEY UPDATE`

// lockContact makes everybody wait who merges or splits conversations of that contact, and the intake of what it writes into
// threads that are not known.
func lockContact(ctx context.Context, tx pgx.Tx, org, conv tandem.ID) error {
	var contact tandem.ID
	err := tx.QueryRow(ctx, lockContactSQL, pgx.StrictNamedArgs{"org": org, "id": conv}).Scan(&contact)
	if pg.NoRows(err) {
		return noConversation()
	}
	if err != nil {
		return fmt.Errorf("lock contact: %w", err)
	}
	return nil
}

// holdBoth locks two conversations behind the first one's contact, in the order of their ids, as the intake does. Either
// may be merged.
func holdBoth(ctx context.Context, tx pgx.Tx, org, one, other tandem.ID) (*held, *held, error) {
	if err := lockContact(ctx, tx, org, one); err != nil {
		return nil, nil, err
	}
	both := map[tandem.ID]*held{}
	for _, id := range []tandem.ID{min(one, other), max(one, other)} {
		rows, err := tx.Query(ctx, holdSQL, pgx.StrictNamedArgs{"org": org, "id": id})
		if err != nil {
			return nil, nil, fmt.Errorf("lock conversation: %w", err)
		}
		if both[id], err = rowOf(rows, org); err != nil {
			return nil, nil, err
		}
	}
	return both[one], both[other], nil
}

const undoneSQL = `
	SELECT EXISTS (SELECT FROM messages WHERE org_id = @org AND conversation_id = @id AND status IN ('draft', 'queued', 'retry_wait', 'dispatching'))`

// mayPart refuses while something in the held conversation is under way or it is not the actor's to change. A message whose
// fate is unknown may move: whatever is learned of it goes by its own id.
func (h *held) mayPart(ctx context.Context, tx pgx.Tx, a tandem.Actor) error {
	switch {
	case h.State == StateSpam:
		return tandem.Errorf(tandem.Conflict, "A conversation that is spam stays by itself. Reopen it first.")
	case h.colleagues(a):
		return h.taken(ctx, tx)
	case h.HandoffID != nil:
		return tandem.Errorf(tandem.Conflict, "%s waits for a person. Accept or cancel the handoff first.", h.ContactName)
	case h.LeaseRun != nil && !mutant.Is("merged-under-a-turn"):
		o, err := h.owner(ctx, tx)
		if err != nil || o == nil {
			return err
		}
		return &tandem.Error{Kind: tandem.Conflict, Msg: o.Name + " is answering at this moment. Take the conversation over, or wait until the answer is there.", Owner: o}
	}
	var undone bool
	if err := tx.QueryRow(ctx, undoneSQL, pgx.StrictNamedArgs{"org": h.org, "id": h.ID}).Scan(&undone); err != nil {
		return fmt.Errorf("look for messages under way: %w", err)
	}
	if undone {
		return tandem.Errorf(tandem.Conflict, "A message is still on its way. Try again when it has been sent.")
	}
	return nil
}

const mergesSQL = `
	SELECT g.id, g.into_id, g.from_id, g.by_id, m.kind AS by_kind, m.name AS by_name, g.created_at,
	       (SELECT count(*) FROM message_moves v WHERE v.org_id = @org AND v.merge_id = g.id) AS messages
	FROM conversation_merges g JOIN members m ON m.org_id = @org AND m.id = g.by_id
	WHERE g.org_id = @org AND g.undone_at IS NULL`

func mergesOf(ctx context.Context, tx pgx.Tx, sql string, args pgx.StrictNamedArgs) ([]Merged, error) {
	rows, err := tx.Query(ctx, sql, args)
	if err != nil {
		return nil, fmt.Errorf("read merges: %w", err)
	}
	all, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (m Merged, err error) {
		err = row.Scan(&m.ID, &m.IntoID, &m.FromID, &m.By.ID, &m.By.Kind, &m.By.Name, &m.CreatedAt, &m.Messages)
		return m, err
	})
	if err != nil {
		return nil, fmt.Errorf("read merges: %w", err)
	}
	return all, nil
}

func getMerge(ctx context.Context, tx pgx.Tx, org, id tandem.ID) (Merged, error) {
	all, err := mergesOf(ctx, tx, mergesSQL+" AND g.id = @id", pgx.StrictNamedArgs{"org": org, "id": id})
	if err == nil && len(all) == 0 {
		err = tandem.Errorf(tandem.NotFound, "There is no such merge.")
	}
	if err != nil {
		return Merged{}, err
	}
	return all[0], nil
}

// Merges returns what is merged into the conversation, and where it is merged itself, at most 100, the oldest first. It
// needs conversation:read.
func Merges(ctx context.Context, tx pgx.Tx, conv tandem.ID) ([]Merged, error) {
	c, err := GetConversation(ctx, tx, conv)
	if err != nil {
		return nil, err
	}
	a, err := tandem.ActorFrom(ctx)
	if err != nil {
		return nil, err
	}
	return mergesOf(ctx, tx, mergesSQL+" AND (g.into_id = @id OR g.from_id = @id) ORDER BY g.created_at, g.id LIMIT 100", pgx.StrictNamedArgs{"org": a.Org, "id": c.ID})
}
