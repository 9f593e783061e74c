package inbox

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/internal/mutant"
	"github.com/tandemhq/tandem/internal/pg"
)

// Draft is what a member wants to say.
type Draft struct {
	Text      string
	HTML      string // sanitized by the caller; empty for plain text
	ClientKey string // the sender's idempotency key; the same key again is the same message

	// Fence is the fence at which the author owns the conversation. An AI member must name
	// it. A person may leave it 0: the reply then takes over what nobody or an AI member owns.
	Fence int64
	Run   tandem.ID // AI: the run that writes, which must hold the lease

	// Trigger is the seq of the inbound message that an AI member answers. The reply is
	// refused with ErrSuperseded when the contact has written again since.
	Trigger int64
	// Late lets the reply stand although the contact has written since: the author has
	// started over often enough. What came since stays unanswered, for the next turn.
	Late bool
	AI   *AIMeta // AI: what explains the answer
}

const byClientKeySQL = `SELECT ` + messageColumns + ` FROM messages m
	WHERE m.org_id = @org AND m.id = (
	    SELECT k.id FROM messages k WHERE k.org_id = @org AND k.conversation_id = @conv AND k.client_key = @key
	    UNION ALL
	    SELECT v.message_id FROM message_moves v WHERE v.org_id = @org AND v.conversation_id = @conv AND v.client_key = @key
	    LIMIT 1)`

// repeated returns the message that was stored under the draft's client key, if any.
// Another text under the same key is an Invalid error on "Idempotency-Key".
func (h *held) repeated(ctx context.Context, tx pgx.Tx, d Draft, kind string) (Message, bool, error) {
	if d.ClientKey == "" || mutant.Is("idempotency-key-ignored") {
		return Message{}, false, nil
	}
	m, err := collectMessage(tx.Query(ctx, byClientKeySQL, pgx.StrictNamedArgs{"org": h.org, "conv": h.ID, "key": d.ClientKey}))
	if pg.NoRows(err) {
		return Message{}, false, nil
	}
	if err != nil {
		return Message{}, false, fmt.Errorf("find message by key: %w", err)
	}
	if m.Text != d.Text || m.HTML != d.HTML || m.Kind != kind {
		return Message{}, false, otherBody()
	}
	return m, true, nil
}

func otherBody() error {
	return tandem.InvalidFields(tandem.FieldError{Field: "Idempotency-Key", Message: "This key was used before for something else. Use a new key."})
}

// Reply queues a message to the contact. Its number, its id at the provider and the fence
// of its author are fixed here and never change.
//
// An AI member must own the conversation at d.Fence with the lease of d.Run
// (ErrFenceMoved), the contact must not have written since d.Trigger (ErrSuperseded, unless d.Late), and
// no handoff may wait (Conflict; so for an external one). A person's reply takes over what nobody or an AI member
// owns; what another person owns is a Conflict with Owner. A resolved conversation is
// reopened by a person's reply. A contact who has opted out of this sort of channel is ErrOptedOut,
// whoever writes. It needs conversation:reply.
func Reply(ctx context.Context, tx pgx.Tx, conv tandem.ID, d Draft) (Message, error) {
	a, err := allowed(ctx, "conversation:reply")
	if err != nil {
		return Message{}, err
	}
	if d.Text, err = checkText(d.Text, d.HTML); err != nil {
		return Message{}, err
	}
	fault(ctx, "reply.before")
	if a.Kind == tandem.Human || a.Kind == tandem.External {
		if err := shareMember(ctx, tx, a.Org, a.Member); err != nil {
			return Message{}, err
		}
	}
	h, err := hold(ctx, tx, a.Org, conv)
	if err != nil {
		return Message{}, err
	}
	fault(ctx, "reply.locked")
	if m, found, err := h.repeated(ctx, tx, d, "message"); found || err != nil {
		return m, err
	}
	o := outgoing{kind: "message", text: d.Text, html: d.HTML, clientKey: d.ClientKey, run: d.Run, answered: h.LastInboundSeq}
	switch a.Kind {
	case tandem.AI:
		if err := h.mayAnswer(ctx, tx, a, d.Fence, d.Run); err != nil {
			return Message{}, err
		}
		if h.LastInboundSeq > d.Trigger && !d.Late && !mutant.Is("superseded-answer-sent") {
			return Message{}, ErrSuperseded
		}
		o.ai, o.answered = d.AI, d.Trigger
		if o.ai == nil {
			o.ai = &AIMeta{}
		}
	case tandem.Human, tandem.External:
		if err := h.takeForReply(ctx, tx, a, d.Fence); err != nil {
			return Message{}, err
		}
	default:
		return Message{}, tandem.Errorf(tandem.Forbidden, "Only a member can answer.")
	}
	m, err := h.append(ctx, tx, a, o)
	if err != nil {
		return Message{}, err
	}
	fault(ctx, "reply.enqueued")
	return m, nil
}

// mayAnswer checks that the AI member owns the held conversation at that fence, in that
// run, and that nobody is being asked to take over.
func (h *held) mayAnswer(ctx context.Context, tx pgx.Tx, a tandem.Actor, fence int64, run tandem.ID) error {
	switch {
	case mutant.Is("no-fence-check-in-reply"):
	case !h.ownedBy(a.Member) || h.Fence != fence || h.LeaseRun == nil || *h.LeaseRun != run || h.LeaseOver:
		return h.fenceMoved(ctx, tx)
	case h.HandoffID != nil:
		return waitsForPerson()
	}
	return nil
}

// takeForReply makes the answering member the owner where that is allowed.
func (h *held) takeForReply(ctx context.Context, tx pgx.Tx, a tandem.Actor, fence int64) error {
	switch {
	case fence != 0 && fence != h.Fence:
		return h.fenceMoved(ctx, tx)
	case h.HandoffID != nil && a.Kind != tandem.Human:
		return waitsForPerson()
	case h.ownedBy(a.Member):
		return nil
	case h.ownedByPerson() || (h.OwnerID != nil && a.Kind != tandem.Human):
		return h.taken(ctx, tx)
	case h.OwnerID == nil && !a.May("conversation:claim"):
		return a.Require("conversation:claim")
	case h.ownedByMachine() && !a.May("conversation:takeover"):
		return a.Require("conversation:takeover")
	}
	if err := h.reopen(ctx, tx, a.Name+" reopened the conversation with "+h.ContactName+"."); err != nil {
		return err
	}
	return h.takeover(ctx, tx, a, "")
}

// Note writes something for the team only. It changes no owner and is never sent. An AI
// member names its Fence and Run, as for a reply. It needs conversation:reply.
func Note(ctx context.Context, tx pgx.Tx, conv tandem.ID, d Draft) (Message, error) {
	a, err := allowed(ctx, "conversation:reply")
	if err != nil {
		return Message{}, err
	}
	if d.Text, err = checkText(d.Text, d.HTML); err != nil {
		return Message{}, err
	}
	h, err := hold(ctx, tx, a.Org, conv)
	if err != nil {
		return Message{}, err
	}
	if m, found, err := h.repeated(ctx, tx, d, "note"); found || err != nil {
		return m, err
	}
	if a.Kind == tandem.AI && (!h.ownedBy(a.Member) || h.Fence != d.Fence) {
		return Message{}, h.fenceMoved(ctx, tx)
	}
	return h.append(ctx, tx, a, outgoing{kind: "note", text: d.Text, html: d.HTML, clientKey: d.ClientKey, run: d.Run, ai: d.AI})
}
