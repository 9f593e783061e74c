package inbox

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/internal/events"
	"github.com/tandemhq/tandem/internal/mutant"
	"github.com/tandemhq/tandem/internal/pg"
	"github.com/tandemhq/tandem/internal/timers"
)

// Conflicts that an AI member's turn meets; test for them with errors.Is.
var (
	// ErrSuperseded: the contact has written again since the message that the turn answers.
	ErrSuperseded = tandem.Errorf(tandem.Conflict, "The contact has written again in the meantime.")
	// ErrFenceMoved: the conversation has changed hands since the turn claimed it.
	ErrFenceMoved = tandem.Errorf(tandem.Conflict, "The conversation has changed hands in the meantime.")
)

// fenceMoved is ErrFenceMoved that names who owns the conversation now.
func (h *held) fenceMoved(ctx context.Context, tx pgx.Tx) error {
	o, err := h.owner(ctx, tx)
	if err != nil {
		return err
	}
	return &tandem.Error{Kind: tandem.Conflict, Msg: ErrFenceMoved.Msg, Owner: o, Err: ErrFenceMoved}
}

// The member's row is locked FOR SHARE so that a claim and the member's deactivation
// cannot miss each other.
const claimSQL = `
	WITH me AS (
	    SELECT id, kind FROM members WHERE org_id = @org AND id = @member AND status = 'active' FOR SHARE
	)
	UPDATE conversations c SET owner_id = me.id, owner_kind = me.kind, fence = c.fence + 1, lease_until = NULL, lease_run = NULL, updated_at = now()
	FROM me
	WHERE c.org_id = @org AND c.id = @id AND c.state NOT IN ('resolved', 'spam')
	  AND c.handoff_id IS NULL
	  AND (c.owner_id IS NULL OR (c.owner_kind <> 'human' AND c.lease_until <= clock_timestamp()))
	RETURNING c.fence`

// Claim makes the actor, a person or an external AI member, the owner of a conversation
// that nobody owns. For its owner it is a success that changes nothing. A person's claim of
// an AI member's conversation is a takeover, and ends a handoff that waits; while one waits
// an external AI member cannot claim. Otherwise it is a Conflict that names the owner. It
// needs conversation:claim.
func Claim(ctx context.Context, tx pgx.Tx, conv tandem.ID) (Conversation, error) {
	a, err := allowed(ctx, "conversation:claim")
	if err != nil {
		return Conversation{}, err
	}
	if a.Kind != tandem.Human && a.Kind != tandem.External {
		return Conversation{}, tandem.Errorf(tandem.Forbidden, "Only a member can claim a conversation this way.")
	}
	var fence int64
	sql := claimSQL
	if mutant.Is("claim-ignores-owner") {
		sql = strings.Replace(sql, "c.owner_id IS NULL OR", "true OR", 1)
	}
	err = tx.QueryRow(ctx, sql, pgx.StrictNamedArgs{"org": a.Org, "id": conv, "member": a.Member}).Scan(&fence)
	if pg.NoRows(err) {
		return claimRefused(ctx, tx, a, conv)
	}
	if err != nil {
		return Conversation{}, fmt.Errorf("claim conversation: %w", err)
	}
	h, err := hold(ctx, tx, a.Org, conv)
	if err != nil {
		return Conversation{}, err
	}
	// Only a lease that had run out can have left rows of an AI member behind.
	if err := h.cancelMachine(ctx, tx, true); err != nil {
		return Conversation{}, err
	}
	if err := h.emit(ctx, tx, "claimed", a.Name+" claimed the conversation with "+h.ContactName+".", ownerChange(nil, &a.Member)); err != nil {
		return Conversation{}, err
	}
	return getConversation(ctx, tx, a.Org, conv)
}

// claimRefused answers the usual loser at once: a colleague has the conversation.
func claimRefused(ctx context.Context, tx pgx.Tx, a tandem.Actor, conv tandem.ID) (Conversation, error) {
	c, err := getConversation(ctx, tx, a.Org, conv)
	if err != nil {
		return Conversation{}, err
	}
	if c.Owner != nil && c.Owner.Kind == tandem.Human && c.Owner.ID != a.Member {
		return Conversation{}, &tandem.Error{Kind: tandem.Conflict, Msg: c.Owner.Name + " has this conversation.", Owner: c.Owner}
	}
	return claimHeld(ctx, tx, a, conv)
}

// claimHeld decides a claim that is not the plain case, with the conversation locked: what
// the statement saw may have changed since.
func claimHeld(ctx context.Context, tx pgx.Tx, a tandem.Actor, conv tandem.ID) (Conversation, error) {
	if err := shareMember(ctx, tx, a.Org, a.Member); err != nil {
		return Conversation{}, err
	}
	h, err := hold(ctx, tx, a.Org, conv)
	if err != nil {
		return Conversation{}, err
	}
	free := h.OwnerID == nil || (h.ownedByMachine() && h.LeaseOver)
	switch {
	case h.State == StateResolved || h.State == StateSpam:
		return Conversation{}, tandem.Errorf(tandem.Conflict, "This conversation is closed. Reopen it first.")
	case h.ownedBy(a.Member):
		return getConversation(ctx, tx, a.Org, conv)
	case h.HandoffID != nil && a.Kind != tandem.Human:
		return Conversation{}, waitsForPerson()
	case free, a.Kind == tandem.Human && h.ownedByMachine() && a.May("conversation:takeover"):
	default:
		return Conversation{}, h.taken(ctx, tx)
	}
	if err := h.takeover(ctx, tx, a, ""); err != nil {
		return Conversation{}, err
	}
	return getConversation(ctx, tx, a.Org, conv)
}

func waitsForPerson() error {
	return tandem.Errorf(tandem.Conflict, "The conversation waits for a person to take it.")
}

func inactive() error {
	return tandem.Errorf(tandem.Forbidden, "This member is not active, so it cannot own conversations.")
}

const claimForRunSQL = `
	UPDATE conversations SET owner_id = @member, owner_kind = 'ai', fence = @next, lease_run = @run,
	       lease_until = now() + make_interval(secs => @lease), updated_at = now()
	WHERE org_id = @org AND id = @id AND fence = @fence`

// RunClaim is what a run's claim found under the conversation's lock.
type RunClaim struct {
	Fence                       int64
	Contact, Channel            tandem.ID
	Lead                        tandem.ID // empty when the conversation has none
	LastInboundSeq, AnsweredSeq int64
}

// ClaimForRun makes the AI member in ctx the owner for one turn, the run, with a lease on
// the database's clock. A member that parked here keeps its fence; every other arrow raises
// it. A conversation that somebody else owns, that a run of the member is working on, that
// waits for a person's decision or is closed is a Conflict, with Owner where there is one.
func ClaimForRun(ctx context.Context, tx pgx.Tx, conv, run tandem.ID, lease time.Duration) (RunClaim, error) {
	a, err := allowed(ctx, "conversation:claim")
	if err != nil {
		return RunClaim{}, err
	}
	if a.Kind != tandem.AI {
		return RunClaim{}, tandem.Errorf(tandem.Forbidden, "Only an AI member works in runs.")
	}
	h, err := holdForRun(ctx, tx, a, conv, lease)
	if err != nil {
		return RunClaim{}, err
	}
	mine := h.ownedBy(a.Member)
	keeps := mine && (h.LeaseRun == nil || *h.LeaseRun == run)
	switch {
	case h.State == StateResolved || h.State == StateSpam:
		return RunClaim{}, tandem.Errorf(tandem.Conflict, "The conversation is closed.")
	case h.HandoffID != nil:
		return RunClaim{}, waitsForPerson()
	case h.OwnerID == nil, keeps:
	case h.ownedByMachine() && h.LeaseOver:
		// The run before this one died; what it left half done must not go out beside our answer.
		if err := h.cancelMachine(ctx, tx, true); err != nil {
			return RunClaim{}, err
		}
	default:
		return RunClaim{}, h.taken(ctx, tx)
	}
	next := h.Fence + 1
	if keeps {
		next = h.Fence
	}
	b := &pgx.Batch{}
	b.Queue(claimForRunSQL, pgx.StrictNamedArgs{
		"org": a.Org, "id": conv, "member": a.Member, "run": run, "lease": lease.Seconds(), "fence": h.Fence, "next": next,
	})
	if !keeps {
		text := a.Name + " claimed the conversation with " + h.ContactName + "."
		if err := events.Queue(ctx, b, h.event("claimed", text, ownerChange(h.OwnerID, &a.Member))); err != nil {
			return RunClaim{}, err
		}
	}
	if err := tx.SendBatch(ctx, b).Close(); err != nil {
		return RunClaim{}, fmt.Errorf("claim conversation for run: %w", err)
	}
	return RunClaim{
		Fence: next, Contact: h.ContactID, Channel: h.ChannelID, Lead: tandem.Deref(h.LeadID),
		LastInboundSeq: h.LastInboundSeq, AnsweredSeq: h.AnsweredSeq,
	}, nil
}

// holdForRun keeps the AI member's row as it is, locks the conversation and sets the lease's timer, in one round trip and
// in everybody's order: whoever ends a turn holds the conversation before it clears the timer.
func holdForRun(ctx context.Context, tx pgx.Tx, a tandem.Actor, conv tandem.ID, lease time.Duration) (h *held, err error) {
	b := &pgx.Batch{}
	b.Queue(shareMemberSQL, pgx.StrictNamedArgs{"org": a.Org, "id": a.Member}).QueryRow(shared)
	b.Queue(holdSQL, pgx.StrictNamedArgs{"org": a.Org, "id": conv}).Query(func(rows pgx.Rows) error {
		h, err = heldOf(rows, a.Org)
		return err
	})
	if err := timers.QueueGuard(ctx, b, "lease", conv, lease); err != nil {
		return nil, fmt.Errorf("set lease timer: %w", err)
	}
	if err := tx.SendBatch(ctx, b).Close(); err != nil {
		return nil, fmt.Errorf("hold conversation for run: %w", err)
	}
	return h, nil
}

const shareMemberSQL = `SELECT id FROM members WHERE org_id = @org AND id = @id AND status = 'active' FOR SHARE`

// shareMember keeps the member's row as it is until the transaction ends, and refuses
// when the member is not active.
func shareMember(ctx context.Context, tx pgx.Tx, org, member tandem.ID) error {
	return shared(tx.QueryRow(ctx, shareMemberSQL, pgx.StrictNamedArgs{"org": org, "id": member}))
}

func shared(row pgx.Row) error {
	var id tandem.ID
	err := row.Scan(&id)
	if pg.NoRows(err) {
		return inactive()
	}
	if err != nil {
		return fmt.Errorf("lock member: %w", err)
	}
	return nil
}

const heartbeatSQL = `
	UPDATE conversations SET lease_until = now() + make_interval(secs => @lease)
	WHERE org_id = @org AND id = @id AND fence = @fence AND owner_id = @member AND lease_run = @run`

// Heartbeat renews the lease of the run. ErrFenceMoved says that the conversation is no
// longer the run's: the run must stop, and the caller must roll back.
func Heartbeat(ctx context.Context, tx pgx.Tx, conv, run tandem.ID, fence int64, lease time.Duration) error {
	a, err := allowed(ctx, "conversation:claim")
	if err != nil {
		return err
	}
	tag, err := tx.Exec(ctx, heartbeatSQL, pgx.StrictNamedArgs{"org": a.Org, "id": conv, "member": a.Member, "run": run, "fence": fence, "lease": lease.Seconds()})
	if err != nil {
		return fmt.Errorf("renew lease: %w", err)
	}
	if tag.RowsAffected() == 0 {
		return ErrFenceMoved
	}
	if err := timers.Guard(ctx, tx, "lease", conv, lease); err != nil { // behind the conversation, as everybody does
		return fmt.Errorf("set lease timer: %w", err)
	}
	return nil
}

const parkSQL = `
	UPDATE conversations SET lease_until = NULL, lease_run = NULL
	WHERE org_id = @org AND id = @id AND fence = @fence AND owner_id = @member AND lease_run = @run`

// Park ends a turn: the AI member stays the owner at the same fence, without a lease.
// ErrFenceMoved says that the conversation is no longer the run's: nothing is
// left to park, and the caller must roll back.
func Park(ctx context.Context, tx pgx.Tx, conv, run tandem.ID, fence int64) error {
	a, err := allowed(ctx, "conversation:claim")
	if err != nil {
		return err
	}
	tag, err := tx.Exec(ctx, parkSQL, pgx.StrictNamedArgs{"org": a.Org, "id": conv, "member": a.Member, "run": run, "fence": fence})
	if err != nil {
		return fmt.Errorf("park conversation: %w", err)
	}
	if tag.RowsAffected() == 0 {
		return ErrFenceMoved
	}
	if err := timers.Clear(ctx, tx, "lease", conv); err != nil {
		return fmt.Errorf("clear lease timer: %w", err)
	}
	return nil
}

// leaseOver is the timer "lease": whoever worked here has not been heard of. The
// conversation belongs to nobody again, and the event wakes an AI member if the contact
// still waits.
func leaseOver(ctx context.Context, tx pgx.Tx, conv tandem.ID) error {
	a, err := tandem.ActorFrom(ctx)
	if err != nil {
		return err
	}
	h, err := hold(ctx, tx, a.Org, conv)
	if tandem.KindOf(err) == tandem.NotFound || errors.Is(err, errMerged) {
		return nil
	}
	if err != nil {
		return err
	}
	if !h.LeaseOver {
		gone, err := timers.Orphaned(ctx, tx, "lease", conv)
		if err != nil || !gone || h.LeaseRun == nil {
			return err // renewed, parked or taken over meanwhile
		}
	}
	return h.release(ctx, tx, "lease", "The AI member stopped working on the conversation with "+h.ContactName+"; it is open to all again.")
}

func ownerChange(before, after *tandem.ID) tandem.Change {
	c := tandem.Change{Field: "owner_id"}
	if before != nil {
		c.Old = *before
	}
	if after != nil {
		c.New = *after
	}
	return c
}
