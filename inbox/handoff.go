package inbox

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/internal/events"
	"github.com/tandemhq/tandem/internal/pg"
	"github.com/tandemhq/tandem/internal/timers"
)

// The states of a handoff. All but HandoffRequested are final.
const (
	HandoffRequested = "requested"
	HandoffAccepted  = "accepted"
	HandoffRejected  = "rejected"
	HandoffCancelled = "cancelled"
	HandoffExpired   = "expired"
)

// Reasons are all reasons for which a member may ask to hand over.
var Reasons = []string{
	"customer_asked", "missing_knowledge", "unsupported_request", "policy", "tool_failure", "pending_clarification",
	"budget", "qualified_lead", "sentiment", "high_value", "out_of_hours",
}

// DefaultHandoffTTL is how long a handoff waits before it goes to the fallback team.
const DefaultHandoffTTL = 15 * time.Minute

const (
	minHandoffTTL = time.Second
	maxHandoffTTL = 24 * time.Hour
)

// Handoff asks a person to take a conversation over, with all that the person must know.
type Handoff struct {
	ID             tandem.ID         `json:"id"`
	ConversationID tandem.ID         `json:"conversation_id"`
	LeadID         *tandem.ID        `json:"lead_id"`
	State          string            `json:"state"`
	Reason         string            `json:"reason"`
	Packet         Packet            `json:"packet"`
	From           tandem.MemberRef  `json:"from"`
	To             Target            `json:"to"`
	Deadline       time.Time         `json:"deadline"`
	DecidedBy      *tandem.MemberRef `json:"decided_by,omitempty"`
	Decision       string            `json:"decision,omitempty"` // the reason given with a rejection or cancellation
	DecidedAt      *time.Time        `json:"decided_at,omitempty"`
	CreatedAt      time.Time         `json:"created_at"`
	Conversation   HandoffConv       `json:"conversation"`
}

// HandoffConv names the conversation of a handoff.
type HandoffConv struct {
	ID      tandem.ID      `json:"id"`
	Contact HandoffContact `json:"contact"`
}

// HandoffContact names the contact of a handoff.
type HandoffContact struct {
	ID   tandem.ID `json:"id"`
	Name string    `json:"name"`
}

// Target is who is asked: exactly one of member, team and skill.
type Target struct {
	Member tandem.ID `json:"member_id,omitempty"`
	Team   tandem.ID `json:"team_id,omitempty"`
	Skill  string    `json:"skill,omitempty"`
	Name   string    `json:"name,omitempty"` // what people call it; filled in answers
}

// Packet is what the next owner must know without reading the whole thread.
type Packet struct {
	Summary       string               `json:"summary"`
	Asked         []string             `json:"asked"`
	Tried         []string             `json:"tried"`
	Promised      []string             `json:"promised"`
	Qualification map[string]Qualified `json:"qualification"`
	NextStep      string               `json:"next_step"`
}

// Qualified is one qualification field as it stood when the handoff was asked for.
type Qualified struct {
	Value      string  `json:"value"`
	Confidence float64 `json:"confidence"`
}

// HandoffRequest is what a member asks for.
type HandoffRequest struct {
	Reason       string // one of Reasons
	Packet       Packet // an AI member must give a summary
	To           Target // empty: the fallback team
	CustomerLine string // what the contact is told, exactly once; empty: nothing
	Fence        int64  // AI: the fence at which it owns the conversation
	Run          tandem.ID
	TTL          time.Duration // 0: DefaultHandoffTTL
}

func (in *HandoffRequest) check(a tandem.Actor) error {
	var wrong []tandem.FieldError
	bad := func(field, message string) { wrong = append(wrong, tandem.FieldError{Field: field, Message: message}) }
	text := func(field, s string, most int) {
		if utf8.RuneCountInString(s) > most {
			bad(field, "This is too long; "+strconv.Itoa(most)+" characters are the most.")
		}
		if !utf8.ValidString(s) || strings.ContainsRune(s, 0) {
			bad(field, "This contains characters that are not text.")
		}
	}
	list := func(field string, ss []string) []string {
		if len(ss) > 20 {
			bad(field, "Twenty entries are the most.")
		}
		for _, s := range ss {
			text(field, s, 1000)
		}
		if ss == nil {
			return []string{}
		}
		return ss
	}
	if !slices.Contains(Reasons, in.Reason) {
		bad("reason", "This is not one of "+strings.Join(Reasons, ", ")+".")
	}
	p := &in.Packet
	p.Summary = strings.TrimSpace(p.Summary)
	if p.Summary == "" && a.Kind != tandem.Human {
		bad("packet.summary", "Say what the conversation is about.")
	}
	text("packet.summary", p.Summary, 4000)
	text("packet.next_step", p.NextStep, 1000)
	p.Asked, p.Tried, p.Promised = list("packet.asked", p.Asked), list("packet.tried", p.Tried), list("packet.promised", p.Promised)
	if p.Qualification == nil {
		p.Qualification = map[string]Qualified{}
	}
	for field, q := range p.Qualification {
		switch field {
		case "budget", "authority", "need", "timeline":
		default:
			bad("packet.qualification", "There is no field "+strconv.Quote(field)+".")
		}
		text("packet.qualification."+field, q.Value, 1000)
		if !(q.Confidence >= 0 && q.Confidence <= 1) {
			bad("packet.qualification."+field, "The confidence is between 0 and 1.")
		}
	}
	given := 0
	for _, s := range []string{string(in.To.Member), string(in.To.Team), in.To.Skill} {
		if s != "" {
			given++
		}
	}
	if given > 1 {
		bad("to", "Name one of member_id, team_id and skill.")
	}
	text("to.skill", in.To.Skill, 120)
	switch {
	case in.TTL == 0:
		in.TTL = DefaultHandoffTTL
	case in.TTL < minHandoffTTL || in.TTL > maxHandoffTTL:
		bad("ttl", "This is between one second and one day.")
	}
	if in.CustomerLine != "" {
		line, err := checkText(in.CustomerLine, "")
		if err != nil {
			bad("customer_line", tandem.Message(err))
		}
		in.CustomerLine = line
	}
	if len(wrong) > 0 {
		return tandem.InvalidFields(wrong...)
	}
	return nil
}

const insertHandoffSQL = `
	INSERT INTO handoffs (org_id, id, conversation_id, lead_id, reason, packet, from_id, to_member_id, to_team_id, to_skill, deadline)
	VALUES (@org, @id, @conv, @lead, @reason, @packet, @from, @member, @team, @skill, now() + make_interval(secs => @ttl))`

const waitHandoffSQL = `
	UPDATE conversations SET handoff_id = @handoff, answered_seq = greatest(answered_seq, last_inbound_seq), updated_at = now()
	WHERE org_id = @org AND id = @conv`

const leadConversationSQL = `
	SELECT (SELECT c.id FROM conversations c WHERE c.org_id = l.org_id AND c.lead_id = l.id AND c.merged_into IS NULL ORDER BY c.last_message_at DESC, c.id DESC LIMIT 1)
	FROM leads l WHERE l.org_id = @org AND l.id = @lead AND l.archived_at IS NULL`

// RequestLeadHandoff is RequestHandoff of the lead's latest conversation. A lead without one is Conflict.
func RequestLeadHandoff(ctx context.Context, tx pgx.Tx, lead tandem.ID, in HandoffRequest) (Handoff, error) {
	a, err := allowed(ctx, "handoff:request")
	if err != nil {
		return Handoff{}, err
	}
	var conv *tandem.ID
	err = tx.QueryRow(ctx, leadConversationSQL, pgx.StrictNamedArgs{"org": a.Org, "lead": lead}).Scan(&conv)
	switch {
	case pg.NoRows(err):
		return Handoff{}, tandem.Errorf(tandem.NotFound, "There is no such lead.")
	case err != nil:
		return Handoff{}, fmt.Errorf("find lead's conversation: %w", err)
	case conv == nil:
		return Handoff{}, tandem.Errorf(tandem.Conflict, "The lead has no conversation to hand over.")
	}
	return RequestHandoff(ctx, tx, *conv, in)
}

// RequestHandoff asks a person to take the conversation over and tells the contact so in
// at most one line. The owner stays until the decision, but an AI member sends nothing
// more; who has opted out of the channel is told nothing. An AI member must own the conversation at in.Fence in in.Run (ErrFenceMoved), an
// external one must own it unless nobody does. A second handoff of one conversation is a
// Conflict. It needs handoff:request.
func RequestHandoff(ctx context.Context, tx pgx.Tx, conv tandem.ID, in HandoffRequest) (Handoff, error) {
	a, err := allowed(ctx, "handoff:request")
	if err != nil {
		return Handoff{}, err
	}
	if a.Member == "" {
		return Handoff{}, tandem.Errorf(tandem.Forbidden, "Only a member can ask for a handoff.")
	}
	if err := in.check(a); err != nil {
		return Handoff{}, err
	}
	h, err := hold(ctx, tx, a.Org, conv)
	if err != nil {
		return Handoff{}, err
	}
	switch {
	case h.HandoffID != nil:
		return Handoff{}, tandem.Errorf(tandem.Conflict, "The conversation already waits for a person to take it.")
	case h.State == StateResolved || h.State == StateSpam:
		return Handoff{}, tandem.Errorf(tandem.Conflict, "This conversation is closed. Reopen it first.")
	case a.Kind == tandem.AI:
		if err := h.mayAnswer(ctx, tx, a, in.Fence, in.Run); err != nil {
			return Handoff{}, err
		}
	case h.OwnerID != nil && !h.ownedBy(a.Member) && !leads(a) && (h.ownedByPerson() || a.Kind == tandem.External):
		return Handoff{}, h.taken(ctx, tx)
	}
	to, err := target(ctx, tx, a.Org, in.To)
	if err != nil {
		return Handoff{}, err
	}
	id, err := h.ask(ctx, tx, a.Member, a.Name, in.Reason, in.Packet, to, in.TTL)
	if err != nil {
		return Handoff{}, err
	}
	if in.CustomerLine != "" {
		o := outgoing{kind: "message", text: in.CustomerLine, handoff: id, run: in.Run, answered: h.LastInboundSeq}
		if a.Kind == tandem.AI {
			o.ai = &AIMeta{RunID: in.Run}
		}
		// Somebody who has opted out is told nothing, and is handed over all the same.
		if _, err := h.append(ctx, tx, a, o); err != nil && !errors.Is(err, ErrOptedOut) {
			return Handoff{}, err
		}
	}
	return getHandoff(ctx, tx, a.Org, id)
}

// ask stores a request for the held conversation, sets its timer and says so.
func (h *held) ask(ctx context.Context, tx pgx.Tx, from tandem.ID, fromName, reason string, p Packet, to Target, ttl time.Duration) (tandem.ID, error) {
	packet, err := json.Marshal(p)
	if err != nil {
		return "", fmt.Errorf("write packet: %w", err)
	}
	id := tandem.NewID()
	_, err = tx.Exec(ctx, insertHandoffSQL, pgx.StrictNamedArgs{
		"org": h.org, "id": id, "conv": h.ID, "lead": h.LeadID, "reason": reason, "packet": packet, "from": from,
		"member": to.Member.Ptr(), "team": to.Team.Ptr(), "skill": none(to.Skill), "ttl": ttl.Seconds(),
	})
	if pg.IsUnique(err, "handoffs_open") {
		return "", tandem.Errorf(tandem.Conflict, "The conversation already waits for a person to take it.")
	}
	if err != nil {
		return "", fmt.Errorf("request handoff: %w", err)
	}
	if _, err := tx.Exec(ctx, waitHandoffSQL, pgx.StrictNamedArgs{"org": h.org, "conv": h.ID, "handoff": id}); err != nil {
		return "", fmt.Errorf("request handoff: %w", err)
	}
	h.HandoffID, h.AnsweredSeq = &id, max(h.AnsweredSeq, h.LastInboundSeq)
	if err := timers.Set(ctx, tx, "handoff", id, ttl); err != nil {
		return "", fmt.Errorf("set handoff timer: %w", err)
	}
	text := fromName + " asks " + to.Name + " to take the conversation with " + h.ContactName + ": " + strings.ReplaceAll(reason, "_", " ") + "."
	return id, h.emitHandoff(ctx, tx, id, "requested", text, "notice", tandem.Change{Field: "state", New: HandoffRequested}, tandem.Change{Field: "reason", New: reason})
}

func (h *held) emitHandoff(ctx context.Context, tx pgx.Tx, id tandem.ID, verb, text, severity string, changes ...tandem.Change) error {
	_, err := events.Emit(ctx, tx, tandem.Event{
		Noun: "handoff", Verb: verb, Record: id, Conv: h.ID, Lead: tandem.Deref(h.LeadID),
		Description: text, Category: "conversation", Severity: severity, Changes: changes,
	})
	if err != nil {
		return fmt.Errorf("emit handoff.%s: %w", verb, err)
	}
	return nil
}

const fallbackSQL = `
	SELECT kind, id, name FROM (
	    SELECT 'team' AS kind, id, name, 0 AS rank, created_at FROM teams WHERE org_id = @org AND fallback
	    UNION ALL
	    SELECT 'member', id, name, 1, created_at FROM members WHERE org_id = @org AND kind = 'human' AND status = 'active' AND role IN ('owner', 'admin')
	) t ORDER BY rank, created_at, id LIMIT 1`

// target checks that the wanted target exists and names it. An empty one becomes the
// fallback team, or, in an organization without one, its longest-serving owner or admin.
func target(ctx context.Context, tx pgx.Tx, org tandem.ID, to Target) (Target, error) {
	args := pgx.StrictNamedArgs{"org": org}
	unknown := tandem.InvalidFields(tandem.FieldError{Field: "to", Message: "There is nobody like that to hand over to."})
	for _, id := range []tandem.ID{to.Member, to.Team} {
		if _, err := tandem.ParseID(string(id)); id != "" && err != nil {
			return to, unknown
		}
	}
	var err error
	switch {
	case to.Skill != "":
		to.Name = to.Skill
		return to, nil
	case to.Member != "":
		args["id"] = to.Member
		err = tx.QueryRow(ctx, `SELECT name FROM members WHERE org_id = @org AND id = @id AND kind <> 'ai' AND status = 'active'`, args).Scan(&to.Name)
	case to.Team != "":
		args["id"] = to.Team
		err = tx.QueryRow(ctx, `SELECT name FROM teams WHERE org_id = @org AND id = @id`, args).Scan(&to.Name)
	default:
		var kind string
		var id tandem.ID
		if err = tx.QueryRow(ctx, fallbackSQL, args).Scan(&kind, &id, &to.Name); err == nil {
			if kind == "team" {
				to.Team = id
			} else {
				to.Member = id
			}
		}
	}
	if pg.NoRows(err) {
		return to, unknown
	}
	if err != nil {
		return to, fmt.Errorf("find handoff target: %w", err)
	}
	return to, nil
}
