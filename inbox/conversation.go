package inbox

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/internal/mutant"
	"github.com/tandemhq/tandem/internal/pg"
)

// The work states of a conversation. They say nothing about who owns it.
const (
	StateOpen     = "open"
	StateWaiting  = "waiting"
	StateSnoozed  = "snoozed"
	StateResolved = "resolved"
	StateSpam     = "spam"
)

// Conversation is one thread with one contact on one channel, as lists and the thread's
// head show it.
type Conversation struct {
	ID             tandem.ID         `json:"id"`
	Channel        ChannelRef        `json:"channel"`
	Contact        ContactRef        `json:"contact"`
	Lead           *LeadRef          `json:"lead"`
	Subject        string            `json:"subject"`
	Priority       string            `json:"priority" enum:"low,normal,high,urgent"`
	Tags           []string          `json:"tags" nullable:"false"`
	State          string            `json:"state"`
	SnoozedUntil   *time.Time        `json:"snoozed_until,omitempty"`
	Owner          *tandem.MemberRef `json:"owner"`
	Fence          int64             `json:"fence"`
	Handoff        *HandoffRef       `json:"handoff"` // the handoff that waits for a person
	Preview        string            `json:"preview"`
	PreviewKind    string            `json:"preview_kind"` // who wrote the previewed message: contact, human, ai, external
	PreviewName    string            `json:"preview_name"`
	LastMessageAt  time.Time         `json:"last_message_at"`
	MessageCount   int               `json:"message_count"`
	Unread         int               `json:"unread"`                // inbound messages since a person last read it
	LastInboundSeq int64             `json:"last_inbound_seq"`      // 0: the contact has not written
	AnsweredSeq    int64             `json:"answered_seq"`          // inbound up to here is covered by an answer or a handoff
	MergedInto     *tandem.ID        `json:"merged_into,omitempty"` // where its messages are when it was merged into another
	CreatedAt      time.Time         `json:"created_at"`
	UpdatedAt      time.Time         `json:"updated_at"`
	Version        int64             `json:"version"` // of what people write on it: subject, priority and tags

	AIStreak   int        `json:"-"` // AI messages since the contact or a person last wrote
	LeaseRun   tandem.ID  `json:"-"` // the run of the AI owner that is under way, or empty
	LeaseUntil *time.Time `json:"-"`
	AIMember   tandem.ID  `json:"-"` // who answers first on this channel, or empty
	Thread     string     `json:"-"` // the channel's own thread key
}

// Unanswered reports whether the contact wrote something that neither an answer nor a
// handoff has covered.
func (c Conversation) Unanswered() bool { return c.LastInboundSeq > c.AnsweredSeq }

// ChannelRef is a channel's name as a conversation shows it.
type ChannelRef struct {
	ID   tandem.ID `json:"id"`
	Kind string    `json:"kind"`
	Name string    `json:"name"`
}

// ContactRef is what a conversation shows of its contact.
type ContactRef struct {
	ID      tandem.ID `json:"id"`
	Name    string    `json:"name"`
	Company string    `json:"company"`
	Email   string    `json:"email,omitempty"`
	Phone   string    `json:"phone,omitempty"`
}

// LeadRef is what a conversation shows of its lead.
type LeadRef struct {
	ID          tandem.ID   `json:"id"`
	Title       string      `json:"title"`
	Stage       StageRef    `json:"stage"`
	Value       *LeadAmount `json:"value,omitempty"`
	Temperature string      `json:"temperature"`
	Priority    string      `json:"priority"`
}

// StageRef is a stage's name.
type StageRef struct {
	ID   tandem.ID `json:"id"`
	Name string    `json:"name"`
}

// LeadAmount is a lead's value in the currency's minor unit.
type LeadAmount struct {
	Minor    int64  `json:"minor"`
	Currency string `json:"currency"`
}

// HandoffRef is what a conversation shows of its open handoff.
type HandoffRef struct {
	ID        tandem.ID `json:"id"`
	Reason    string    `json:"reason"`
	CreatedAt time.Time `json:"created_at"`
	Deadline  time.Time `json:"deadline"`
}

// conversationJoins follows "FROM ... c" where c is of @org: everything a row of the list shows, one row per
// conversation, each join by primary key. The organization is the parameter and not c's, or the server would compare it
// with the policies' for each row and each table anew.
const conversationJoins = `
	JOIN channels ch ON ch.org_id = @org AND ch.id = c.channel_id
	JOIN contacts ct ON ct.org_id = @org AND ct.id = c.contact_id
	LEFT JOIN leads l ON l.org_id = @org AND l.id = c.lead_id
	LEFT JOIN stages s ON s.org_id = @org AND s.id = l.stage_id
	LEFT JOIN members m ON m.org_id = @org AND m.id = c.owner_id
	LEFT JOIN handoffs h ON h.org_id = @org AND h.id = c.handoff_id`

const conversationColumns = `
	c.id, c.channel_id, ch.kind AS channel_kind, ch.name AS channel_name, ch.ai_member_id,
	c.contact_id, ct.name AS contact_name, ct.company, ct.email, ct.phone,
	c.lead_id, l.title AS lead_title, l.stage_id, s.name AS stage_name, l.value_minor, l.currency, l.temperature, l.priority,
	c.thread, c.subject, c.state, c.snoozed_until, c.owner_id, c.owner_kind, m.name AS owner_name, c.fence, c.lease_run, c.lease_until,
	c.handoff_id, h.reason AS handoff_reason, h.created_at AS handoff_created_at, h.deadline AS handoff_deadline,
	c.preview, c.preview_kind, c.preview_name, c.last_message_at, c.message_count, c.unread,
	c.last_inbound_seq, c.answered_seq, c.ai_streak, c.created_at, c.updated_at, c.priority AS urgency, c.tags, c.merged_into, c.version`

type conversationRow struct {
	ID               tandem.ID
	ChannelID        tandem.ID
	ChannelKind      string
	ChannelName      string
	AIMemberID       *tandem.ID `db:"ai_member_id"`
	ContactID        tandem.ID
	ContactName      string
	Company          string
	Email            *string
	Phone            *string
	LeadID           *tandem.ID
	LeadTitle        *string
	StageID          *tandem.ID
	StageName        *string
	ValueMinor       *int64
	Currency         *string
	Temperature      *string
	Priority         *string
	Thread           string
	Subject          string
	State            string
	SnoozedUntil     *time.Time
	OwnerID          *tandem.ID
	OwnerKind        *string
	OwnerName        *string
	Fence            int64
	LeaseRun         *tandem.ID
	LeaseUntil       *time.Time
	HandoffID        *tandem.ID
	HandoffReason    *string
	HandoffCreatedAt *time.Time
	HandoffDeadline  *time.Time
	Preview          string
	PreviewKind      string
	PreviewName      string
	LastMessageAt    time.Time
	MessageCount     int
	Unread           int
	LastInboundSeq   int64
	AnsweredSeq      int64
	AIStreak         int `db:"ai_streak"`
	CreatedAt        time.Time
	UpdatedAt        time.Time
	Urgency          string // the conversation's priority; Priority is the lead's
	Tags             []string
	MergedInto       *tandem.ID
	Version          int64
}

func (r conversationRow) conversation() Conversation {
	c := Conversation{
		ID:      r.ID,
		Channel: ChannelRef{r.ChannelID, r.ChannelKind, r.ChannelName},
		Contact: ContactRef{ID: r.ContactID, Name: r.ContactName, Company: r.Company, Email: deref(r.Email), Phone: deref(r.Phone)},
		Subject: r.Subject, State: r.State, SnoozedUntil: r.SnoozedUntil, Fence: r.Fence,
		Preview: r.Preview, PreviewKind: r.PreviewKind, PreviewName: r.PreviewName,
		LastMessageAt: r.LastMessageAt, MessageCount: r.MessageCount, Unread: r.Unread,
		LastInboundSeq: r.LastInboundSeq, AnsweredSeq: r.AnsweredSeq, CreatedAt: r.CreatedAt, UpdatedAt: r.UpdatedAt,
		Priority: r.Urgency, Tags: r.Tags, MergedInto: r.MergedInto, Version: r.Version,
		AIStreak: r.AIStreak, LeaseRun: tandem.Deref(r.LeaseRun), LeaseUntil: r.LeaseUntil, AIMember: tandem.Deref(r.AIMemberID), Thread: r.Thread,
	}
	if r.LeadID != nil {
		c.Lead = &LeadRef{
			ID: *r.LeadID, Title: deref(r.LeadTitle), Stage: StageRef{tandem.Deref(r.StageID), deref(r.StageName)},
			Temperature: deref(r.Temperature), Priority: deref(r.Priority),
		}
		if r.ValueMinor != nil {
			c.Lead.Value = &LeadAmount{*r.ValueMinor, deref(r.Currency)}
		}
	}
	if r.OwnerID != nil {
		c.Owner = &tandem.MemberRef{ID: *r.OwnerID, Kind: tandem.ActorKind(deref(r.OwnerKind)), Name: deref(r.OwnerName)}
	}
	if r.HandoffID != nil {
		c.Handoff = &HandoffRef{ID: *r.HandoffID, Reason: deref(r.HandoffReason), CreatedAt: deref(r.HandoffCreatedAt), Deadline: deref(r.HandoffDeadline)}
	}
	return c
}

const getConversationSQL = `SELECT` + conversationColumns + ` FROM conversations c` + conversationJoins + `
	WHERE c.org_id = @org AND c.id = @id`

// GetConversation returns one conversation; NotFound when the organization has none of
// that id. It needs conversation:read.
func GetConversation(ctx context.Context, tx pgx.Tx, conv tandem.ID) (Conversation, error) {
	a, err := allowed(ctx, "conversation:read")
	if err != nil {
		return Conversation{}, err
	}
	return getConversation(ctx, tx, a.Org, conv)
}

func getConversation(ctx context.Context, tx pgx.Tx, org, conv tandem.ID) (Conversation, error) {
	rows, err := tx.Query(ctx, getConversationSQL, pgx.StrictNamedArgs{"org": org, "id": conv})
	if err != nil {
		return Conversation{}, fmt.Errorf("get conversation: %w", err)
	}
	r, err := pgx.CollectExactlyOneRow(rows, pgx.RowToStructByName[conversationRow])
	if pg.NoRows(err) {
		return Conversation{}, noConversation()
	}
	if err != nil {
		return Conversation{}, fmt.Errorf("get conversation: %w", err)
	}
	return r.conversation(), nil
}

func noConversation() error { return tandem.Errorf(tandem.NotFound, "There is no such conversation.") }

// held is a conversation whose row this transaction has locked: what a decision about it
// needs. Names of other tables' rows are not read here, because a lock that had to wait
// re-reads the conversation only. The contact's name is asked for beside the row and not joined:
// the conversation of a contact that was merged in the meantime would have no row.
type held struct {
	ID             tandem.ID
	ChannelID      tandem.ID
	ChannelKind    string
	ChannelName    string
	AIMemberID     *tandem.ID `db:"ai_member_id"`
	ContactID      tandem.ID
	ContactName    string
	LeadID         *tandem.ID
	State          string
	OwnerID        *tandem.ID
	OwnerKind      *string
	Fence          int64
	LeaseRun       *tandem.ID
	LeaseOver      bool // there is a lease and it has run out
	NextSeq        int64
	LastInboundSeq int64
	AnsweredSeq    int64
	AIStreak       int `db:"ai_streak"`
	Unread         int
	HandoffID      *tandem.ID
	MergedInto     *tandem.ID

	org tandem.ID
}

const holdSQL = `
	SELECT c.id, c.channel_id, ch.kind AS channel_kind, ch.name AS channel_name, ch.ai_member_id, c.contact_id,
	       (SELECT ct.name FROM contacts ct WHERE ct.org_id = c.org_id AND ct.id = c.contact_id) AS contact_name, c.lead_id,
	       c.state, c.owner_id, c.owner_kind, c.fence, c.lease_run, coalesce(c.lease_until <= clock_timestamp(), false) AS lease_over,
	       c.next_seq, c.last_inbound_seq, c.answered_seq, c.ai_streak, c.unread, c.handoff_id, c.merged_into
	FROM conversations c
	JOIN channels ch ON ch.org_id = c.org_id AND ch.id = c.channel_id
	WHERE c.org_id = @org AND c.id = @id
	FOR NO KEY UPDATE OF c`

// hold locks the conversation until the transaction ends and returns it as it is then. One that was merged into another is
// a Conflict that is errMerged: nothing is done with it any more.
func hold(ctx context.Context, tx pgx.Tx, org, conv tandem.ID) (*held, error) {
	rows, err := tx.Query(ctx, holdSQL, pgx.StrictNamedArgs{"org": org, "id": conv})
	if err != nil {
		return nil, fmt.Errorf("lock conversation: %w", err)
	}
	return heldOf(rows, org)
}

// heldOf reads the row of holdSQL.
func heldOf(rows pgx.Rows, org tandem.ID) (*held, error) {
	h, err := rowOf(rows, org)
	if err == nil && h.MergedInto != nil {
		return nil, errMerged
	}
	return h, err
}

func rowOf(rows pgx.Rows, org tandem.ID) (*held, error) {
	h, err := pgx.CollectExactlyOneRow(rows, pgx.RowToAddrOfStructByName[held])
	if pg.NoRows(err) {
		return nil, noConversation()
	}
	if err != nil {
		return nil, fmt.Errorf("lock conversation: %w", err)
	}
	h.org = org
	if mutant.Is("lease-never-ends") {
		h.LeaseOver = false
	}
	return h, nil
}

// ownedBy reports whether that member owns the conversation.
func (h *held) ownedBy(member tandem.ID) bool { return h.OwnerID != nil && *h.OwnerID == member }

// ownedByPerson reports whether a person owns it.
func (h *held) ownedByPerson() bool {
	return h.OwnerKind != nil && *h.OwnerKind == string(tandem.Human)
}

// ownedByMachine reports whether an AI member owns it, one of ours or one from outside.
func (h *held) ownedByMachine() bool { return h.OwnerID != nil && !h.ownedByPerson() }

const memberRefSQL = `SELECT id, kind, name FROM members WHERE org_id = @org AND id = @id`

// owner returns the owner's name, nil when there is none.
func (h *held) owner(ctx context.Context, tx pgx.Tx) (*tandem.MemberRef, error) {
	if h.OwnerID == nil {
		return nil, nil
	}
	return memberRef(ctx, tx, h.org, *h.OwnerID)
}

func memberRef(ctx context.Context, tx pgx.Tx, org, member tandem.ID) (*tandem.MemberRef, error) {
	var m tandem.MemberRef
	err := tx.QueryRow(ctx, memberRefSQL, pgx.StrictNamedArgs{"org": org, "id": member}).Scan(&m.ID, &m.Kind, &m.Name)
	if pg.NoRows(err) {
		return nil, tandem.Errorf(tandem.NotFound, "There is no such member.")
	}
	if err != nil {
		return nil, fmt.Errorf("read member: %w", err)
	}
	return &m, nil
}

// taken is the Conflict that names who owns the conversation.
func (h *held) taken(ctx context.Context, tx pgx.Tx) error {
	o, err := h.owner(ctx, tx)
	if err != nil {
		return err
	}
	if o == nil {
		return tandem.Errorf(tandem.Conflict, "The conversation has changed; look at it again.")
	}
	return &tandem.Error{Kind: tandem.Conflict, Msg: o.Name + " has this conversation.", Owner: o}
}

// allowed returns the actor when it holds the permission.
func allowed(ctx context.Context, permission string) (tandem.Actor, error) {
	a, err := tandem.ActorFrom(ctx)
	if err != nil {
		return a, err
	}
	return a, a.Require(permission)
}

// leads reports whether the actor may overrule colleagues.
func leads(a tandem.Actor) bool {
	return a.Kind == tandem.System || a.Role == "owner" || a.Role == "admin"
}

const previewLength = 160 // characters

// previewOf is the first line of a message as a list shows it.
func previewOf(text string) string {
	text = strings.Join(strings.Fields(text), " ")
	for i := range text {
		if i >= previewLength {
			return strings.ToValidUTF8(text[:i], "") + "…"
		}
	}
	return text
}

func deref[T any](p *T) T {
	if p == nil {
		var zero T
		return zero
	}
	return *p
}
