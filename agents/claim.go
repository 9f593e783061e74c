package agents

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/agents/llm"
	"github.com/tandemhq/tandem/inbox"
	"github.com/tandemhq/tandem/internal/seal"
	"github.com/tandemhq/tandem/team"
)

// errNothing rolls a claim back that turned out to have nothing to answer.
var errNothing = errors.New("nothing to answer")

const (
	sqlTurn = `
SELECT c.contact_id, c.channel_id, coalesce(c.lead_id::text, '') AS lead, coalesce(l.board_id::text, '') AS board, m.id AS message,
       (SELECT count(*) FROM runs r WHERE r.org_id = @org AND r.conversation_id = @conversation AND r.trigger_seq = c.last_inbound_seq
           AND r.state = 'failed') AS crashes
FROM conversations c
JOIN messages m ON m.org_id = c.org_id AND m.conversation_id = c.id AND m.seq = c.last_inbound_seq
LEFT JOIN leads l ON l.org_id = c.org_id AND l.id = c.lead_id
WHERE c.org_id = @org AND c.id = @conversation`

	// The contact waits, so whatever ended a run of this trigger did not reach it: a takeover held the
	// answer back, or a person declined the handoff. The same trigger may be answered again.
	sqlReopen = `UPDATE runs SET state = 'cancelled', error = 'its answer was held back'
WHERE org_id = @org AND conversation_id = @conversation AND trigger_seq = @trigger AND state IN ('done', 'handed_off', 'budget')`
)

// claim takes the conversation for a run if an AI member should answer; nil when none should. Inbound
// up to seen counts as answered by nobody else: it is the trigger of our own last turn.
func (r *Runner) claim(ctx context.Context, conv tandem.ID, seen int64) (*work, error) {
	var w *work
	err := r.DB.Tx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		w = nil
		c, err := inbox.GetConversation(ctx, tx, conv)
		if err != nil {
			return err
		}
		member := c.AIMember
		if c.Owner != nil {
			member = c.Owner.ID
		}
		if member == "" || c.Owner != nil && c.Owner.Kind != tandem.AI || !waits(c, seen) {
			return errNothing
		}
		actor, err := team.MemberActor(ctx, tx, member)
		if err != nil {
			return err
		}
		if actor.Kind != tandem.AI {
			return errNothing
		}
		w, err = r.take(tandem.WithActor(ctx, actor), tx, actor, conv, seen)
		return err
	})
	switch kind := tandem.KindOf(err); {
	case err == nil:
		r.open(ctx, w)
		return w, nil
	case errors.Is(err, errNothing), kind == tandem.Conflict, kind == tandem.Forbidden, kind == tandem.NotFound:
		return nil, nil // somebody else has it, or the member is disabled
	}
	return nil, fmt.Errorf("claim conversation %s: %w", conv, err)
}

// waits reports whether the contact wrote something that has no answer.
func waits(c inbox.Conversation, seen int64) bool {
	answered := c.AnsweredSeq
	if seen > 0 {
		answered = min(answered, seen)
	}
	return c.LastInboundSeq > answered && c.Handoff == nil && c.State != inbox.StateResolved && c.State != inbox.StateSpam
}

// take claims for a new run and writes its row. ctx carries the AI member.
func (r *Runner) take(ctx context.Context, tx pgx.Tx, actor tandem.Actor, conv tandem.ID, seen int64) (*work, error) {
	run := tandem.NewID()
	c, err := inbox.ClaimForRun(ctx, tx, conv, run, orTime(r.Lease, defaultLease))
	if err != nil {
		return nil, err
	}
	if !waits(c, seen) {
		return nil, errNothing // decided under the lock
	}
	t := &Turn{
		Org: actor.Org, Conversation: conv, Run: run, Fence: c.Fence, Trigger: c.LastInboundSeq,
		Member: tandem.MemberRef{ID: actor.Member, Kind: actor.Kind, Name: actor.Name}, Retrieved: map[tandem.ID]Hit{},
	}
	w := &work{Turn: t, r: r, actor: actor}
	crashes := 0
	err = tx.QueryRow(ctx, sqlTurn, pgx.StrictNamedArgs{"org": t.Org, "conversation": conv}).
		Scan(&t.Contact, &t.Channel, &t.Lead, &t.Board, &t.Message, &crashes)
	if err != nil {
		return nil, fmt.Errorf("read turn: %w", err)
	}
	w.crashed = crashes >= maxCrashes
	if w.profile, w.key, err = team.ModelSettings(ctx, tx, r.Sealer, actor.Member); err != nil {
		return nil, err
	}
	w.persona, w.budget = w.profile.Persona, newBudget(w.profile.Budget)
	t.Provider, t.Model = w.profile.Provider, w.profile.Model
	if t.Model == "" {
		t.Model = t.Provider
	}
	if _, err := tx.Exec(ctx, sqlReopen, pgx.StrictNamedArgs{"org": t.Org, "conversation": conv, "trigger": t.Trigger}); err != nil {
		return nil, fmt.Errorf("reopen trigger: %w", err)
	}
	started, err := t.start(ctx, tx)
	if err != nil {
		return nil, err
	}
	if !started {
		return nil, errNothing
	}
	return w, nil
}

// open makes the model ready; a member whose settings cannot work hands over.
func (r *Runner) open(ctx context.Context, w *work) {
	w.model, w.openErr = r.Models(ctx, w.profile, w.key)
	if w.openErr == nil && w.model == nil {
		w.openErr = &llm.Error{Code: llm.CodeSettings, Err: errors.New("no model is configured")}
	}
	w.key = seal.Secret("")
}

// restart ends a superseded run and claims the same conversation, at the same fence, for the newest
// message. Nil when the conversation is no longer ours.
func (r *Runner) restart(ctx context.Context, old *work, last bool) (*work, error) {
	var w *work
	err := old.tx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		w = nil
		if err := inbox.Park(ctx, tx, old.Conversation, old.Run, old.Fence); err != nil {
			return err
		}
		if err := old.end(ctx, tx, Superseded, nil); err != nil {
			return err
		}
		var err error
		w, err = r.take(ctx, tx, old.actor, old.Conversation, old.Trigger)
		return err
	})
	switch kind := tandem.KindOf(err); {
	case err == nil:
		w.Last, w.budget = last, old.budget
		r.open(ctx, w)
		return w, nil
	case errors.Is(err, errNothing), kind == tandem.Conflict, kind == tandem.Forbidden, kind == tandem.NotFound:
		return nil, old.tx(ctx, func(ctx context.Context, tx pgx.Tx) error { return old.end(ctx, tx, Cancelled, err) })
	}
	return nil, fmt.Errorf("restart run %s: %w", old.Run, err)
}

// finish closes a run and parks the conversation, after asking for a person when the model or its
// budget failed. again says that the contact has written more than the run has seen.
func (r *Runner) finish(ctx context.Context, w *work, end Ending, cause error) (again bool, err error) {
	var b *breach
	var f *fault
	state, reason := Done, ""
	switch {
	case cause == nil && end == HandedOff:
		state = HandedOver
	case cause == nil:
	case errors.As(cause, &b):
		state, reason = OverBudget, "budget"
	case errors.As(cause, &f):
		state, reason = FailedRun, "tool_failure"
	case errors.Is(cause, inbox.ErrFenceMoved):
		state = Cancelled
	default: // shutdown, or the database is away: give the conversation back as it is, the fact comes again
		state = Cancelled
	}
	err = w.tx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		again = false
		ours := true
		if reason != "" {
			if err := w.giveUp(ctx, tx, reason, cause); err != nil {
				return err
			}
		}
		if err := inbox.Park(ctx, tx, w.Conversation, w.Run, w.Fence); errors.Is(err, inbox.ErrFenceMoved) {
			ours = false
		} else if err != nil {
			return err
		}
		var newest int64
		var handoff bool
		var fence int64
		var owner, lease *tandem.ID
		err := tx.QueryRow(ctx, sqlLockTurn, pgx.StrictNamedArgs{"org": w.Org, "conversation": w.Conversation}).Scan(&fence, &owner, &lease, &newest, &handoff)
		if err != nil {
			return fmt.Errorf("read conversation at the end of a run: %w", err)
		}
		// Refused and still ours: the lease ran out before we were done, and nobody has come. Without another run the contact
		// would wait for ever, because nothing else happens here any more.
		lapsed := errors.Is(cause, inbox.ErrFenceMoved)
		again = ours && !handoff && (lapsed || newest > w.Trigger && (cause == nil || reason != ""))
		return w.end(ctx, tx, state, cause)
	})
	switch {
	case errors.Is(err, inbox.ErrFenceMoved):
		return false, w.tx(ctx, func(ctx context.Context, tx pgx.Tx) error { return w.end(ctx, tx, Cancelled, cause) })
	case err != nil:
		return false, errors.Join(cause, fmt.Errorf("finish run %s: %w", w.Run, err))
	case state == Cancelled && !errors.Is(cause, inbox.ErrFenceMoved):
		return false, fmt.Errorf("run %s: %w", w.Run, cause)
	}
	if reason != "" {
		r.log().WarnContext(ctx, "AI member asked for a person", "run", w.Run, "reason", reason, "err", cause)
	}
	return again, nil
}

// handoverLine is what the contact reads when the AI member could not answer.
const handoverLine = "Thank you for your message. A colleague will take over and answer you here."

// giveUp asks for a person in the AI member's place.
func (w *work) giveUp(ctx context.Context, tx pgx.Tx, reason string, cause error) error {
	if err := w.hold(ctx, tx); err != nil && !errors.Is(err, inbox.ErrSuperseded) {
		return err
	}
	p, err := PacketOf(ctx, tx, w.Turn)
	if err != nil {
		return err
	}
	p.Summary = w.Member.Name + " could not finish its answer and asks a colleague to take over."
	if reason == "budget" {
		p.Summary = w.Member.Name + " has reached the limit of what it may do here (" + strings.TrimPrefix(cause.Error(), "budget: ") + ")."
	}
	p.NextStep = "Read the last messages and answer the contact."
	_, err = inbox.RequestHandoff(ctx, tx, w.Conversation, inbox.HandoffRequest{
		Reason: reason, Packet: p, CustomerLine: handoverLine, Fence: w.Fence, Run: w.Run,
	})
	return err
}

const sqlAsked = `SELECT text FROM messages WHERE org_id = @org AND conversation_id = @conversation AND direction = 'inbound' AND text <> ''
ORDER BY seq DESC LIMIT 3`

// PacketOf fills what the database knows of a handoff's packet: the qualification, and what the
// contact wrote last as what was asked.
func PacketOf(ctx context.Context, tx pgx.Tx, t *Turn) (inbox.Packet, error) {
	p := inbox.Packet{Qualification: map[string]inbox.Qualified{}}
	rows, err := tx.Query(ctx, sqlAsked, pgx.StrictNamedArgs{"org": t.Org, "conversation": t.Conversation})
	if err != nil {
		return p, fmt.Errorf("read what was asked: %w", err)
	}
	asked, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return p, fmt.Errorf("read what was asked: %w", err)
	}
	for i := len(asked) - 1; i >= 0; i-- {
		p.Asked = append(p.Asked, clip(strings.Join(strings.Fields(asked[i]), " "), 300))
	}
	_, known, err := t.leadFacts(ctx, tx)
	if err != nil {
		return p, err
	}
	for field, q := range known {
		p.Qualification[field] = inbox.Qualified{Value: q.Value, Confidence: q.Confidence}
	}
	return p, nil
}
