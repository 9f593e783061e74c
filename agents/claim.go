package agents

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/agents/llm"
	"github.com/tandemhq/tandem/inbox"
	"github.com/tandemhq/tandem/internal/events"
	"github.com/tandemhq/tandem/internal/pg"
	"github.com/tandemhq/tandem/internal/seal"
	"github.com/tandemhq/tandem/team"
)

// errNothing rolls a claim back that turned out to have nothing to answer.
var errNothing = errors.New("nothing to answer")

var sqlWaiting = `
SELECT c.id, c.last_inbound_seq, c.answered_seq, c.handoff_id IS NULL AND c.state NOT IN ('resolved', 'spam') AND coalesce(c.owner_kind = 'ai', true) AS open,
       coalesce(c.owner_id, ch.ai_member_id)::text AS member
FROM conversations c JOIN channels ch ON ch.org_id = c.org_id AND ch.id = c.channel_id
WHERE c.org_id = @org AND c.id = (SELECT conversation_id FROM (` + sqlConversationOf + `) x LIMIT 1)`

const (
	sqlTurn = `
SELECT coalesce(l.board_id::text, '') AS board, m.id AS message,
       (SELECT count(*) FROM runs r WHERE r.org_id = @org AND r.conversation_id = @conversation AND r.trigger_seq = @trigger
           AND r.state = 'failed') AS crashes
FROM messages m
LEFT JOIN leads l ON l.org_id = m.org_id AND l.id = @lead
WHERE m.org_id = @org AND m.conversation_id = @conversation AND m.seq = @trigger`

	// The contact waits, so whatever ended a run of this trigger did not reach it: a takeover held the
	// answer back, or a person declined the handoff. The same trigger may be answered again.
	sqlReopen = `UPDATE runs SET state = 'cancelled', error = 'its answer was held back'
WHERE org_id = @org AND conversation_id = @conversation AND trigger_seq = @trigger AND state IN ('done', 'handed_off', 'budget')`
)

// claim takes the conversation of a record for a run if an AI member should answer; nil when none should. Inbound up to
// seen counts as answered by nobody else: it is the trigger of our own last turn.
func (r *Runner) claim(ctx context.Context, record tandem.ID, seen int64) (*work, error) {
	var w *work
	err := r.DB.Tx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		w = nil
		a, err := tandem.ActorFrom(ctx)
		if err != nil {
			return err
		}
		var conv tandem.ID
		var newest, answered int64
		var open bool
		var member *tandem.ID
		err = tx.QueryRow(ctx, sqlWaiting, pgx.StrictNamedArgs{"org": a.Org, "id": record}).Scan(&conv, &newest, &answered, &open, &member)
		if pg.NoRows(err) {
			return errNothing
		}
		if err != nil {
			return fmt.Errorf("find conversation of record: %w", err)
		}
		r.nudge(events.Fact{Record: conv, Topic: "conversation."})
		if !open || member == nil || !waits(newest, answered, seen) {
			return errNothing
		}
		actor, profile, key, err := team.ModelSettings(ctx, tx, r.Sealer, *member)
		if err != nil {
			return err
		}
		w = &work{r: r, actor: actor, profile: profile, key: key}
		return w.take(tandem.WithActor(ctx, actor), tx, conv, seen)
	})
	switch kind := tandem.KindOf(err); {
	case err == nil:
		r.open(ctx, w)
		return w, nil
	case errors.Is(err, errNothing), kind == tandem.Conflict, kind == tandem.Forbidden, kind == tandem.NotFound:
		return nil, nil // somebody else has it, or the member is disabled
	}
	return nil, fmt.Errorf("claim conversation of %s: %w", record, err)
}

// waits reports whether the contact wrote something that has no answer.
func waits(newest, answered, seen int64) bool {
	if seen > 0 {
		answered = min(answered, seen)
	}
	return newest > answered
}

// take claims for a new run and writes its row. ctx carries the AI member, and w who it is and its settings.
func (w *work) take(ctx context.Context, tx pgx.Tx, conv tandem.ID, seen int64) error {
	run := tandem.NewID()
	c, err := inbox.ClaimForRun(ctx, tx, conv, run, orTime(w.r.Lease, defaultLease))
	if err != nil {
		return err
	}
	if !waits(c.LastInboundSeq, c.AnsweredSeq, seen) {
		return errNothing // decided under the lock
	}
	t := &Turn{
		Org: w.actor.Org, Conversation: conv, Contact: c.Contact, Channel: c.Channel, Lead: c.Lead, Run: run, Fence: c.Fence, Trigger: c.LastInboundSeq,
		Member:   tandem.MemberRef{ID: w.actor.Member, Kind: w.actor.Kind, Name: w.actor.Name},
		Provider: w.profile.Provider, Model: cmp.Or(w.profile.Model, w.profile.Provider), Retrieved: map[tandem.ID]Hit{},
	}
	w.Turn = t
	w.persona, w.budget = w.profile.Persona, newBudget(w.profile.Budget)
	b := &pgx.Batch{}
	args := pgx.StrictNamedArgs{"org": t.Org, "conversation": conv, "trigger": t.Trigger}
	b.Queue(sqlTurn, pgx.StrictNamedArgs{"org": t.Org, "conversation": conv, "trigger": t.Trigger, "lead": t.Lead.Ptr()}).QueryRow(func(row pgx.Row) error {
		crashes := 0
		err := row.Scan(&t.Board, &t.Message, &crashes)
		w.crashed = crashes >= maxCrashes
		return err
	})
	b.Queue(sqlReopen, args)
	if err := t.start(ctx, b); err != nil {
		return err
	}
	if err := tx.SendBatch(ctx, b).Close(); err != nil {
		return fmt.Errorf("start run: %w", err)
	}
	return nil
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
		actor, profile, key, err := team.ModelSettings(ctx, tx, r.Sealer, old.actor.Member)
		if err != nil {
			return err
		}
		w = &work{r: r, actor: actor, profile: profile, key: key}
		return w.take(ctx, tx, old.Conversation, old.Trigger)
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
		var now standing
		if err := now.scan(tx.QueryRow(ctx, sqlLockTurn, pgx.StrictNamedArgs{"org": w.Org, "conversation": w.Conversation})); err != nil {
			return fmt.Errorf("read conversation at the end of a run: %w", err)
		}
		// Refused and still ours: the lease ran out before we were done, and nobody has come. Without another run the contact
		// would wait for ever, because nothing else happens here any more.
		lapsed := errors.Is(cause, inbox.ErrFenceMoved)
		again = ours && !now.handoff && (lapsed || now.newest > w.Trigger && (cause == nil || reason != ""))
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
	var asked []string
	var lead reading
	b := &pgx.Batch{}
	b.Queue(sqlAsked, pgx.StrictNamedArgs{"org": t.Org, "conversation": t.Conversation}).Query(func(rows pgx.Rows) (err error) {
		asked, err = pgx.CollectRows(rows, pgx.RowTo[string])
		return err
	})
	lead.queueLead(b, t)
	if err := tx.SendBatch(ctx, b).Close(); err != nil {
		return p, fmt.Errorf("read what was asked: %w", err)
	}
	for i := len(asked) - 1; i >= 0; i-- {
		p.Asked = append(p.Asked, clip(strings.Join(strings.Fields(asked[i]), " "), 300))
	}
	for field, q := range lead.known {
		p.Qualification[field] = inbox.Qualified{Value: q.Value, Confidence: q.Confidence}
	}
	return p, nil
}
