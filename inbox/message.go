package inbox

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/channels"
	"github.com/tandemhq/tandem/internal/events"
	"github.com/tandemhq/tandem/internal/pg"
)

// The statuses of a message. Inbound is always received, a note always noted.
const (
	Received    = "received"
	Noted       = "noted"
	Drafted     = "draft"
	Queued      = "queued"
	Dispatching = "dispatching"
	RetryWait   = "retry_wait"
	Unknown     = "unknown" // the provider may have taken it; a person decides
	Sent        = "sent"
	Delivered   = "delivered"
	Read        = "read"
	Failed      = "failed"
	Cancelled   = "cancelled"
)

// Message is one line of a thread: a message of either side, a note of the team, or (kind
// "event") something that happened between two messages.
type Message struct {
	ID             tandem.ID         `json:"id"`
	ConversationID tandem.ID         `json:"conversation_id"`
	Seq            int64             `json:"seq"` // from 1; a number is never given twice in a conversation, and only what moved to another leaves a gap
	Direction      string            `json:"direction"`
	Kind           string            `json:"kind"`
	Sender         Sender            `json:"sender"`
	Text           string            `json:"text"`
	HTML           string            `json:"html"`
	Attachments    []json.RawMessage `json:"attachments"`
	Status         string            `json:"status"`
	Error          string            `json:"error,omitempty"` // why it failed or is unknown, for a person
	ClientKey      string            `json:"client_key,omitempty"`
	AI             *AIMeta           `json:"ai,omitempty"` // only on what an AI member wrote
	CreatedAt      time.Time         `json:"created_at"`

	ProviderID channels.ExternalID `json:"-"`
	Attempt    int                 `json:"-"`
	Unclear    bool                `json:"-"` // nobody knows what one of its tries came to
	HandoffID  tandem.ID           `json:"-"`
	Fence      int64               `json:"-"`
}

// Sender is who wrote a message.
type Sender struct {
	Kind tandem.ActorKind `json:"kind"` // contact, human, ai, external or system
	ID   tandem.ID        `json:"id,omitempty"`
	Name string           `json:"name"`
}

// AIMeta explains what an AI member wrote.
type AIMeta struct {
	RunID      tandem.ID `json:"run_id"`
	Model      string    `json:"model"`
	Confidence float64   `json:"confidence"` // 0 to 1
	Sources    []Source  `json:"sources"`
}

// Source is a document that an answer rests on.
type Source struct {
	DocumentID tandem.ID `json:"document_id"`
	Title      string    `json:"title"`
	URL        string    `json:"url,omitempty"`
	Score      float64   `json:"score"`
}

const messageColumns = `m.id, m.conversation_id, m.seq, m.direction, m.kind, m.sender_kind, m.sender_id, m.sender_name, m.text, m.html, m.attachments,
	m.status, m.error, m.client_key, m.provider_id, m.attempt, m.handoff_id, m.fence, m.ai, m.unclear, m.created_at`

type messageRow struct {
	ID             tandem.ID
	ConversationID tandem.ID
	Seq            int64
	Direction      string
	Kind           string
	SenderKind     string
	SenderID       *tandem.ID
	SenderName     string
	Text           string
	HTML           string `db:"html"`
	Attachments    []byte
	Status         string
	Error          string
	ClientKey      *string
	ProviderID     *string
	Attempt        int
	HandoffID      *tandem.ID
	Fence          int64
	AI             []byte `db:"ai"`
	Unclear        bool
	CreatedAt      time.Time
}

func (r messageRow) message() (Message, error) {
	m := Message{
		ID: r.ID, ConversationID: r.ConversationID, Seq: r.Seq, Direction: r.Direction, Kind: r.Kind,
		Sender: Sender{tandem.ActorKind(r.SenderKind), tandem.Deref(r.SenderID), r.SenderName},
		Text:   r.Text, HTML: r.HTML, Status: r.Status, Error: r.Error, ClientKey: deref(r.ClientKey), CreatedAt: r.CreatedAt,
		ProviderID: channels.ExternalID(deref(r.ProviderID)), Attempt: r.Attempt, HandoffID: tandem.Deref(r.HandoffID), Fence: r.Fence, Unclear: r.Unclear,
		Attachments: []json.RawMessage{},
	}
	if err := json.Unmarshal(r.Attachments, &m.Attachments); err != nil {
		return Message{}, fmt.Errorf("read attachments of message %s: %w", r.ID, err)
	}
	if r.AI != nil {
		m.AI = &AIMeta{}
		if err := json.Unmarshal(r.AI, m.AI); err != nil {
			return Message{}, fmt.Errorf("read ai of message %s: %w", r.ID, err)
		}
	}
	return m, nil
}

// collectMessage reads the one row of a query; pgx.ErrNoRows stays visible to pg.NoRows.
func collectMessage(rows pgx.Rows, err error) (Message, error) {
	if err != nil {
		return Message{}, err
	}
	r, err := pgx.CollectExactlyOneRow(rows, pgx.RowToStructByName[messageRow])
	if err != nil {
		return Message{}, err
	}
	return r.message()
}

// outgoing is a line about to be appended by a member.
type outgoing struct {
	kind      string // message or note
	text      string
	html      string
	clientKey string
	handoff   tandem.ID
	run       tandem.ID
	ai        *AIMeta
	answered  int64 // inbound up to this seq is covered; 0: none
}

const appendSQL = `
	WITH m AS (
	    INSERT INTO messages (org_id, id, conversation_id, seq, direction, kind, sender_kind, sender_id, sender_name, text, html, status,
	                          provider_id, client_key, fence, handoff_id, run_id, ai)
	    SELECT @org, @id, @conv, @seq, 'outbound', @kind, @sender_kind, @sender, @sender_name, @text, @html, @status,
	           @provider_id, @client_key, @fence, @handoff, @run, @ai
	    WHERE @kind = 'note' OR ` + canSendSQL + `
	    RETURNING *
	), c AS (
	    UPDATE conversations SET next_seq = @seq + 1, message_count = message_count + 1, updated_at = now(),
	           last_message_at = CASE WHEN @shown THEN now() ELSE last_message_at END,
	           preview = CASE WHEN @shown THEN @preview ELSE preview END,
	           preview_kind = CASE WHEN @shown THEN @sender_kind ELSE preview_kind END,
	           preview_name = CASE WHEN @shown THEN @sender_name ELSE preview_name END,
	           unread = CASE WHEN @person THEN 0 ELSE unread END,
	           answered_seq = greatest(answered_seq, @answered),
	           ai_streak = @streak
	    WHERE org_id = @org AND id = @conv AND EXISTS (SELECT FROM m)
	)
	SELECT ` + messageColumns + ` FROM m`

// append numbers and stores a member's line in the held conversation. A message also
// becomes a command to the courier and an event; a note becomes an event. A message to a
// contact who has opted out is ErrOptedOut.
func (h *held) append(ctx context.Context, tx pgx.Tx, a tandem.Actor, o outgoing) (Message, error) {
	id := tandem.NewID()
	status, verb, provider := Queued, "queued", ptr(string(id))
	if o.kind == "note" {
		status, verb, provider = Noted, "noted", nil
	}
	var ai []byte
	if o.ai != nil {
		if o.ai.Sources == nil {
			o.ai.Sources = []Source{}
		}
		if o.ai.RunID == "" {
			o.ai.RunID = o.run
		}
		var err error
		if ai, err = json.Marshal(o.ai); err != nil {
			return Message{}, fmt.Errorf("write ai of message: %w", err)
		}
	}
	shown, person := o.kind == "message", a.Kind == tandem.Human
	streak := h.AIStreak
	switch {
	case !shown:
	case person:
		streak = 0
	case a.Kind == tandem.AI || a.Kind == tandem.External:
		streak++
	}
	m, err := collectMessage(tx.Query(ctx, appendSQL, pgx.StrictNamedArgs{
		"org": h.org, "id": id, "conv": h.ID, "seq": h.NextSeq, "kind": o.kind, "sender_kind": string(a.Kind), "sender": a.Member.Ptr(), "sender_name": a.Name,
		"text": o.text, "html": o.html, "status": status, "provider_id": provider, "client_key": none(o.clientKey), "fence": h.Fence,
		"handoff": o.handoff.Ptr(), "run": o.run.Ptr(), "ai": ai, "shown": shown, "preview": previewOf(o.text), "person": person && shown,
		"answered": o.answered, "streak": streak, "contact": h.ContactID, "channel_kind": h.ChannelKind,
	}))
	if pg.NoRows(err) {
		return Message{}, h.optedOut()
	}
	if err != nil {
		return Message{}, fmt.Errorf("append to conversation: %w", err)
	}
	h.NextSeq, h.AIStreak, h.AnsweredSeq = m.Seq+1, streak, max(h.AnsweredSeq, o.answered)
	if shown {
		if err := events.Command(ctx, tx, h.outSubject(), m.ID); err != nil {
			return Message{}, fmt.Errorf("command the courier: %w", err)
		}
	}
	text := a.Name + " answered " + h.ContactName + "."
	if !shown {
		text = a.Name + " wrote a note."
	}
	return m, h.emitMessage(ctx, tx, m.ID, verb, text, "info")
}

// outSubject is where commands to send for this conversation go.
func (h *held) outSubject() string {
	return "out." + string(h.org) + "." + h.ChannelKind + "." + string(h.ChannelID)
}

// emitMessage records what became of a message of the held conversation.
func (h *held) emitMessage(ctx context.Context, tx pgx.Tx, id tandem.ID, verb, text, severity string, changes ...tandem.Change) error {
	_, err := events.Emit(ctx, tx, tandem.Event{
		Noun: "message", Verb: verb, Record: id, Conv: h.ID, Lead: tandem.Deref(h.LeadID),
		Description: text, Category: "conversation", Severity: severity, Changes: changes,
	})
	if err != nil {
		return fmt.Errorf("emit message.%s: %w", verb, err)
	}
	return nil
}

// emit records what happened to the held conversation itself.
func (h *held) emit(ctx context.Context, tx pgx.Tx, verb, text string, changes ...tandem.Change) error {
	if _, err := events.Emit(ctx, tx, h.event(verb, text, changes...)); err != nil {
		return fmt.Errorf("emit conversation.%s: %w", verb, err)
	}
	return nil
}

func (h *held) event(verb, text string, changes ...tandem.Change) tandem.Event {
	return tandem.Event{
		Noun: "conversation", Verb: verb, Record: h.ID, Conv: h.ID, Lead: tandem.Deref(h.LeadID),
		Description: text, Category: "conversation", Severity: "info", Changes: changes,
	}
}

// maxReply bounds what a member may write, in characters.
const maxReply = 50_000

// checkText returns the text without surrounding space, or an Invalid error.
func checkText(text, html string) (string, error) {
	text = strings.TrimSpace(text)
	switch {
	case text == "":
		return "", tandem.InvalidFields(tandem.FieldError{Field: "text", Message: "Write something first."})
	case utf8.RuneCountInString(text) > maxReply || utf8.RuneCountInString(html) > 4*maxReply:
		return "", tandem.InvalidFields(tandem.FieldError{Field: "text", Message: "This is too long; 50,000 characters are the most."})
	case !utf8.ValidString(text) || strings.ContainsRune(text, 0) || !utf8.ValidString(html) || strings.ContainsRune(html, 0):
		return "", tandem.InvalidFields(tandem.FieldError{Field: "text", Message: "This contains characters that are not text."})
	}
	return text, nil
}

// none turns the empty string into NULL.
func none(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

func ptr[T any](v T) *T { return &v }
