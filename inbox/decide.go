package inbox

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/internal/mutant"
	"github.com/tandemhq/tandem/internal/pg"
)

const handoffColumns = `
	h.id, h.conversation_id, h.lead_id, h.state, h.reason, h.packet, h.from_id, f.kind AS from_kind, f.name AS from_name,
	h.to_member_id, tm.name AS to_member_name, h.to_team_id, tt.name AS to_team_name, h.to_skill,
	h.deadline, h.decided_by, d.kind AS decided_by_kind, d.name AS decided_by_name, h.decision, h.decided_at, h.created_at,
	c.contact_id, ct.name AS contact_name`

const handoffJoins = `
	JOIN members f ON f.org_id = h.org_id AND f.id = h.from_id
	JOIN conversations c ON c.org_id = h.org_id AND c.id = h.conversation_id
	JOIN contacts ct ON ct.org_id = c.org_id AND ct.id = c.contact_id
	LEFT JOIN members tm ON tm.org_id = h.org_id AND tm.id = h.to_member_id
	LEFT JOIN teams tt ON tt.org_id = h.org_id AND tt.id = h.to_team_id
	LEFT JOIN members d ON d.org_id = h.org_id AND d.id = h.decided_by`

type handoffRow struct {
	ID             tandem.ID
	ConversationID tandem.ID
	LeadID         *tandem.ID
	State          string
	Reason         string
	Packet         []byte
	FromID         tandem.ID
	FromKind       string
	FromName       string
	ToMemberID     *tandem.ID
	ToMemberName   *string
	ToTeamID       *tandem.ID
	ToTeamName     *string
	ToSkill        *string
	Deadline       time.Time
	DecidedBy      *tandem.ID
	DecidedByKind  *string
	DecidedByName  *string
	Decision       string
	DecidedAt      *time.Time
	CreatedAt      time.Time
	ContactID      tandem.ID
	ContactName    string
}

func (r handoffRow) handoff() (Handoff, error) {
	h := Handoff{
		ID: r.ID, ConversationID: r.ConversationID, LeadID: r.LeadID, State: r.State, Reason: r.Reason,
		From:     tandem.MemberRef{ID: r.FromID, Kind: tandem.ActorKind(r.FromKind), Name: r.FromName},
		To:       Target{Member: tandem.Deref(r.ToMemberID), Team: tandem.Deref(r.ToTeamID), Skill: deref(r.ToSkill)},
		Deadline: r.Deadline, Decision: r.Decision, DecidedAt: r.DecidedAt, CreatedAt: r.CreatedAt,
		Conversation: HandoffConv{r.ConversationID, HandoffContact{r.ContactID, r.ContactName}},
	}
	h.To.Name = deref(r.ToMemberName) + deref(r.ToTeamName) + deref(r.ToSkill) // exactly one is set
	if r.DecidedBy != nil {
		h.DecidedBy = &tandem.MemberRef{ID: *r.DecidedBy, Kind: tandem.ActorKind(deref(r.DecidedByKind)), Name: deref(r.DecidedByName)}
	}
	if err := json.Unmarshal(r.Packet, &h.Packet); err != nil {
		return Handoff{}, fmt.Errorf("read packet of handoff %s: %w", r.ID, err)
	}
	return h, nil
}

const getHandoffSQL = `SELECT` + handoffColumns + ` FROM handoffs h` + handoffJoins + ` WHERE h.org_id = @org AND h.id = @id`

// GetHandoff returns one handoff. It needs conversation:read.
func GetHandoff(ctx context.Context, tx pgx.Tx, handoff tandem.ID) (Handoff, error) {
	a, err := allowed(ctx, "conversation:read")
	if err != nil {
		return Handoff{}, err
	}
	return getHandoff(ctx, tx, a.Org, handoff)
}

func getHandoff(ctx context.Context, tx pgx.Tx, org, handoff tandem.ID) (Handoff, error) {
	rows, err := tx.Query(ctx, getHandoffSQL, pgx.StrictNamedArgs{"org": org, "id": handoff})
	if err != nil {
		return Handoff{}, fmt.Errorf("get handoff: %w", err)
	}
	r, err := pgx.CollectExactlyOneRow(rows, pgx.RowToStructByName[handoffRow])
	if pg.NoRows(err) {
		return Handoff{}, noHandoff()
	}
	if err != nil {
		return Handoff{}, fmt.Errorf("get handoff: %w", err)
	}
	return r.handoff()
}

func noHandoff() error { return tandem.Errorf(tandem.NotFound, "There is no such handoff.") }

// decision is a handoff about to be decided: its conversation is held, and so it cannot be
// decided by anybody else.
type decision struct {
	*held
	handoff Handoff
	actor   tandem.Actor
}

// deciding locks the handoff's conversation and returns both as they are then. A handoff
// that is no longer requested is a Conflict that names the conversation's owner.
func deciding(ctx context.Context, tx pgx.Tx, handoff tandem.ID, permission string) (decision, error) {
	a, err := allowed(ctx, permission)
	if err != nil {
		return decision{}, err
	}
	if a.Kind != tandem.System {
		if err := shareMember(ctx, tx, a.Org, a.Member); err != nil {
			return decision{}, err
		}
	}
	var conv tandem.ID
	err = tx.QueryRow(ctx, `SELECT conversation_id FROM handoffs WHERE org_id = @org AND id = @id`, pgx.StrictNamedArgs{"org": a.Org, "id": handoff}).Scan(&conv)
	if pg.NoRows(err) {
		return decision{}, noHandoff()
	}
	if err != nil {
		return decision{}, fmt.Errorf("find handoff: %w", err)
	}
	h, err := hold(ctx, tx, a.Org, conv)
	if err != nil {
		return decision{}, err
	}
	ho, err := getHandoff(ctx, tx, a.Org, handoff)
	if err != nil {
		return decision{}, err
	}
	if ho.State != HandoffRequested && !mutant.Is("handoff-accepted-twice") {
		o, err := h.owner(ctx, tx)
		if err != nil {
			return decision{}, err
		}
		msg := "This handoff was already " + ho.State + "."
		if ho.State == HandoffAccepted && ho.DecidedBy != nil {
			msg = "This handoff was already accepted by " + ho.DecidedBy.Name + "."
		}
		return decision{}, &tandem.Error{Kind: tandem.Conflict, Msg: msg, Owner: o}
	}
	return decision{h, ho, a}, nil
}

const invitedSQL = `
	SELECT EXISTS (SELECT FROM team_members WHERE org_id = @org AND team_id = @team AND member_id = @member)
	    OR EXISTS (SELECT FROM members WHERE org_id = @org AND id = @member AND @skill = ANY (skills))`

// invited checks that the actor is among those who were asked. Owners and admins always are.
func (d decision) invited(ctx context.Context, tx pgx.Tx) error {
	to := d.handoff.To
	if leads(d.actor) || (to.Member != "" && to.Member == d.actor.Member) {
		return nil
	}
	ok := false
	if to.Member == "" {
		err := tx.QueryRow(ctx, invitedSQL, pgx.StrictNamedArgs{"org": d.org, "team": to.Team.Ptr(), "member": d.actor.Member, "skill": none(to.Skill)}).Scan(&ok)
		if err != nil {
			return fmt.Errorf("read who was asked: %w", err)
		}
	}
	if !ok {
		return tandem.Errorf(tandem.Forbidden, "This handoff was sent to %s.", to.Name)
	}
	return nil
}

const decideSQL = `
	UPDATE handoffs SET state = @state, decided_by = @by, decision = @decision, decided_at = now()
	WHERE org_id = @org AND id = @id AND state = 'requested'`

// settle writes the final state of a handoff. The WHERE clause repeats what the lock on the
// conversation already guarantees.
func (h *held) settle(ctx context.Context, tx pgx.Tx, handoff tandem.ID, state string, a tandem.Actor, why string) error {
	tag, err := tx.Exec(ctx, decideSQL, pgx.StrictNamedArgs{"org": h.org, "id": handoff, "state": state, "by": a.Member.Ptr(), "decision": why})
	if err != nil {
		return fmt.Errorf("decide handoff: %w", err)
	}
	if tag.RowsAffected() != 1 && !mutant.Is("handoff-accepted-twice") {
		return tandem.Errorf(tandem.Conflict, "This handoff was already decided.")
	}
	return nil
}

// closeHandoff ends the held conversation's open handoff, if there is one. The caller
// stores h.HandoffID.
func (h *held) closeHandoff(ctx context.Context, tx pgx.Tx, state string, a tandem.Actor, why string) error {
	if h.HandoffID == nil {
		return nil
	}
	id := *h.HandoffID
	if err := h.settle(ctx, tx, id, state, a, why); err != nil {
		return err
	}
	h.HandoffID = nil
	return h.emitHandoff(ctx, tx, id, state, "The handoff of the conversation with "+h.ContactName+" was "+state+": "+why+".", "info",
		tandem.Change{Field: "state", Old: HandoffRequested, New: state})
}

const dropHandoffSQL = `
	UPDATE conversations SET handoff_id = NULL, updated_at = now() WHERE org_id = @org AND id = @id`

func (h *held) dropHandoff(ctx context.Context, tx pgx.Tx) error {
	if _, err := tx.Exec(ctx, dropHandoffSQL, pgx.StrictNamedArgs{"org": h.org, "id": h.ID}); err != nil {
		return fmt.Errorf("close handoff: %w", err)
	}
	return nil
}

// AcceptHandoff makes the actor the owner of the conversation. The actor must have been
// asked, as the member, in the team or by the skill, or be an owner or admin. What an AI
// member has not sent is cancelled, except for the line that tells the contact of this
// handoff. A decided handoff is a Conflict with Owner. It needs handoff:decide.
func AcceptHandoff(ctx context.Context, tx pgx.Tx, handoff tandem.ID) (Handoff, error) {
	d, err := deciding(ctx, tx, handoff, "handoff:decide")
	if err != nil {
		return Handoff{}, err
	}
	if d.actor.Kind != tandem.Human && d.actor.Kind != tandem.External {
		return Handoff{}, tandem.Errorf(tandem.Forbidden, "Only a member who was asked can accept a handoff.")
	}
	if err := d.invited(ctx, tx); err != nil {
		return Handoff{}, err
	}
	if err := d.settle(ctx, tx, handoff, HandoffAccepted, d.actor, ""); err != nil {
		return Handoff{}, err
	}
	before := d.OwnerID
	// The cancellation comes first, while the handoff still counts as an answer.
	if err := d.cancelMachine(ctx, tx, true); err != nil {
		return Handoff{}, err
	}
	d.HandoffID = nil
	if err := d.own(ctx, tx, &tandem.MemberRef{ID: d.actor.Member, Kind: d.actor.Kind, Name: d.actor.Name}); err != nil {
		return Handoff{}, err
	}
	text := d.actor.Name + " accepted the conversation with " + d.ContactName + " from " + d.handoff.From.Name + "."
	if err := d.emitHandoff(ctx, tx, handoff, HandoffAccepted, text, "info",
		tandem.Change{Field: "state", Old: HandoffRequested, New: HandoffAccepted}, ownerChange(before, &d.actor.Member)); err != nil {
		return Handoff{}, err
	}
	return getHandoff(ctx, tx, d.org, handoff)
}

// RejectHandoff sends the conversation back to its owner with a reason. The contact then
// counts as unanswered again, so an AI owner goes on. The actor must have been asked, as
// for AcceptHandoff. It needs handoff:decide.
func RejectHandoff(ctx context.Context, tx pgx.Tx, handoff tandem.ID, reason string) (Handoff, error) {
	if reason = strings.TrimSpace(reason); reason == "" || len(reason) > 4000 {
		return Handoff{}, tandem.InvalidFields(tandem.FieldError{Field: "reason", Message: "Say in a sentence or two why you cannot take it."})
	}
	d, err := deciding(ctx, tx, handoff, "handoff:decide")
	if err != nil {
		return Handoff{}, err
	}
	if err := d.invited(ctx, tx); err != nil {
		return Handoff{}, err
	}
	if err := d.settle(ctx, tx, handoff, HandoffRejected, d.actor, reason); err != nil {
		return Handoff{}, err
	}
	if err := d.dropHandoff(ctx, tx); err != nil {
		return Handoff{}, err
	}
	if err := d.unanswered(ctx, tx); err != nil {
		return Handoff{}, err
	}
	text := d.actor.Name + " rejected the conversation with " + d.ContactName + ": " + reason
	if err := d.emitHandoff(ctx, tx, handoff, HandoffRejected, text, "notice",
		tandem.Change{Field: "state", Old: HandoffRequested, New: HandoffRejected}, tandem.Change{Field: "decision", New: reason}); err != nil {
		return Handoff{}, err
	}
	return getHandoff(ctx, tx, d.org, handoff)
}

// CancelHandoff takes a request back. Who asked may do so, and whoever may accept it. The
// line to the contact is held back if it has not begun to go out, and the contact counts as
// unanswered again. It needs handoff:decide, or handoff:request for one's own.
func CancelHandoff(ctx context.Context, tx pgx.Tx, handoff tandem.ID, reason string) (Handoff, error) {
	if reason = strings.TrimSpace(reason); len(reason) > 4000 {
		return Handoff{}, tandem.InvalidFields(tandem.FieldError{Field: "reason", Message: "This is too long."})
	}
	a, err := tandem.ActorFrom(ctx)
	if err != nil {
		return Handoff{}, err
	}
	permission := "handoff:decide"
	if !a.May(permission) {
		permission = "handoff:request"
	}
	d, err := deciding(ctx, tx, handoff, permission)
	if err != nil {
		return Handoff{}, err
	}
	if d.handoff.From.ID != a.Member {
		if err := a.Require("handoff:decide"); err != nil {
			return Handoff{}, err
		}
		if err := d.invited(ctx, tx); err != nil {
			return Handoff{}, err
		}
	}
	if err := d.settle(ctx, tx, handoff, HandoffCancelled, d.actor, reason); err != nil {
		return Handoff{}, err
	}
	if err := d.dropHandoff(ctx, tx); err != nil {
		return Handoff{}, err
	}
	d.HandoffID = nil
	if err := d.cancelQueued(ctx, tx, false, handoff); err != nil {
		return Handoff{}, err
	}
	if err := d.unanswered(ctx, tx); err != nil {
		return Handoff{}, err
	}
	text := d.actor.Name + " cancelled the handoff of the conversation with " + d.ContactName + "."
	if err := d.emitHandoff(ctx, tx, handoff, HandoffCancelled, text, "info",
		tandem.Change{Field: "state", Old: HandoffRequested, New: HandoffCancelled}); err != nil {
		return Handoff{}, err
	}
	return getHandoff(ctx, tx, d.org, handoff)
}

// handoffOver is the timer "handoff": nobody has decided in time. The request goes to the
// fallback team with the same packet; there it is repeated after ever longer waits, a day
// at most, until somebody decides.
func handoffOver(ctx context.Context, tx pgx.Tx, handoff tandem.ID) error {
	d, err := deciding(ctx, tx, handoff, "handoff:decide")
	switch tandem.KindOf(err) {
	case tandem.Conflict, tandem.NotFound:
		return nil // decided meanwhile
	}
	if err != nil {
		return err
	}
	waited := d.handoff.Deadline.Sub(d.handoff.CreatedAt)
	if err := d.settle(ctx, tx, handoff, HandoffExpired, d.actor, ""); err != nil {
		return err
	}
	text := "Nobody took the conversation with " + d.ContactName + " in time."
	if err := d.emitHandoff(ctx, tx, handoff, HandoffExpired, text, "warning",
		tandem.Change{Field: "state", Old: HandoffRequested, New: HandoffExpired}); err != nil {
		return err
	}
	to, err := target(ctx, tx, d.org, Target{})
	if err != nil {
		return err
	}
	if to.Team == d.handoff.To.Team && to.Member == d.handoff.To.Member {
		waited = min(2*waited, maxHandoffTTL)
	}
	_, err = d.ask(ctx, tx, d.handoff.From.ID, d.handoff.From.Name, d.handoff.Reason, d.handoff.Packet, to, waited)
	return err
}
