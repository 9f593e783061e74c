package inbox

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/channels"
	"github.com/tandemhq/tandem/crm"
	"github.com/tandemhq/tandem/internal/pg"
)

// Host is what one channel may ask of Tandem. It is bound to the channel: whatever id an
// adapter names, it speaks for its own channel in its own organization.
type Host struct {
	in      *Inbox
	org     tandem.ID
	channel tandem.ID
	kind    string // the channel's sort
}

var _ channels.Host = (*Host)(nil)

// hostTimeout bounds each call of an adapter.
const hostTimeout = 30 * time.Second

func (h *Host) enter(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithTimeout(ctx, hostTimeout)
	return tandem.AsSystem(ctx, h.org), cancel
}

// own refuses to act for another channel.
func (h *Host) own(channel tandem.ID) error {
	if channel != h.channel {
		return tandem.Errorf(tandem.NotFound, "There is no such channel.")
	}
	return nil
}

// Deliver takes one inbound message; see [channels.Host].
func (h *Host) Deliver(ctx context.Context, in channels.Inbound) (channels.Accepted, error) {
	in.Org, in.Channel = h.org, h.channel
	ctx, cancel := context.WithTimeout(ctx, hostTimeout)
	defer cancel()
	got, err := h.in.o.Deliver(ctx, in)
	if err == nil && stopsOn[h.kind] && StopWord(in.Text) {
		err = h.optOut(ctx, got.Conversation, in.Text)
	}
	return got, err
}

// optOut takes a stop word at its word. The provider is told that the message is taken only afterwards: when this fails it
// sends the message again, which is a repeat then, and this is done anew.
func (h *Host) optOut(ctx context.Context, conv tandem.ID, said string) error {
	err := h.in.o.DB.Tx(tandem.AsSystem(ctx, h.org), func(ctx context.Context, tx pgx.Tx) error {
		c, err := GetConversation(ctx, tx, conv)
		if err != nil {
			return err
		}
		_, err = SetConsent(ctx, tx, c.Contact.ID, crm.Consent{Kind: h.kind, State: crm.ConsentDenied, Source: "a message on " + c.Channel.Name, Evidence: said})
		return err
	})
	if tandem.KindOf(err) == tandem.NotFound { // the contact was merged between the two looks
		return tandem.Wrap(tandem.Unavailable, err, "The contact changes too fast at this moment. Try again.")
	}
	return err
}

// Quarantine keeps what could not be understood; see [channels.Host].
func (h *Host) Quarantine(ctx context.Context, channel tandem.ID, id channels.ExternalID, raw []byte, reason string) error {
	if err := h.own(channel); err != nil {
		return err
	}
	ctx, cancel := h.enter(ctx)
	defer cancel()
	return h.in.o.DB.Tx(ctx, func(ctx context.Context, tx pgx.Tx) error { return Quarantine(ctx, tx, channel, id, raw, reason) })
}

// Status applies a receipt; see [channels.Host].
func (h *Host) Status(ctx context.Context, channel tandem.ID, id channels.ExternalID, status, detail string) error {
	if err := h.own(channel); err != nil {
		return err
	}
	ctx, cancel := h.enter(ctx)
	defer cancel()
	return h.in.o.DB.Tx(ctx, func(ctx context.Context, tx pgx.Tx) error { return Status(ctx, tx, channel, id, status, clean(detail)) })
}

// threadHeadSQL says who answers. An identity that nobody has yet still gets the channel's answer.
const threadHeadSQL = `
	SELECT c.id AS conversation_id, o.kind AS owner_kind, o.name AS owner_name, ai.name AS ai_name,
	       coalesce(t.name, org.name) AS team_name
	FROM channels ch
	JOIN organizations org ON org.id = ch.org_id
	LEFT JOIN teams t ON t.org_id = ch.org_id AND t.fallback
	LEFT JOIN members ai ON ai.org_id = ch.org_id AND ai.id = ch.ai_member_id AND ai.status = 'active'
	LEFT JOIN contact_identities i ON i.org_id = ch.org_id AND i.kind IN ('visitor', 'external') AND i.scope = ch.id::text AND i.value = @from
	LEFT JOIN conversations k ON k.org_id = ch.org_id AND k.channel_id = ch.id AND k.contact_id = i.contact_id AND k.thread = i.thread_prefix
	LEFT JOIN conversations c ON c.org_id = ch.org_id AND c.id = coalesce(k.merged_into, k.id)
	LEFT JOIN members o ON o.org_id = c.org_id AND o.id = c.owner_id
	WHERE ch.org_id = @org AND ch.id = @channel
	LIMIT 1`

type threadHead struct {
	ConversationID *tandem.ID
	OwnerKind      *string
	OwnerName      *string
	AIName         *string `db:"ai_name"`
	TeamName       string
}

// Only what the contact wrote and what has certainly gone out; what is still on its way
// holds back everything behind it.
const linesSQL = `
	SELECT m.seq, m.id, m.sender_kind, m.sender_name, m.text, m.provider_id, m.ai, m.created_at
	FROM messages m
	WHERE m.org_id = @org AND m.conversation_id = @conv AND m.seq > @after AND m.kind = 'message'
	  AND m.status IN ('received', 'sent', 'delivered', 'read')
	  AND m.seq < coalesce((SELECT min(p.seq) FROM messages p
	                        WHERE p.org_id = @org AND p.conversation_id = @conv AND p.status IN ('queued', 'retry_wait', 'dispatching')), 9223372036854775807)
	ORDER BY m.seq LIMIT @limit`

type lineRow struct {
	Seq        int64
	ID         tandem.ID
	SenderKind string
	SenderName string
	Text       string
	ProviderID *string
	AI         []byte `db:"ai"`
	CreatedAt  time.Time
}

func (r lineRow) line() (channels.Line, error) {
	l := channels.Line{Seq: r.Seq, ID: r.ID, Name: r.SenderName, Text: r.Text, At: r.CreatedAt, From: voice(&r.SenderKind)}
	if l.From == channels.Visitor {
		if id := deref(r.ProviderID); len(id) > len(inboundPrefix) {
			l.ClientID = channels.ExternalID(id[len(inboundPrefix):])
		}
	}
	if r.AI != nil {
		var meta AIMeta
		if err := json.Unmarshal(r.AI, &meta); err != nil {
			return l, fmt.Errorf("read ai of message %s: %w", r.ID, err)
		}
		for _, s := range meta.Sources {
			l.Sources = append(l.Sources, channels.Source{Title: s.Title, URL: s.URL})
		}
	}
	return l, nil
}

// voice is how the contact hears a kind of actor; nobody at all is the team.
func voice(kind *string) string {
	if kind == nil {
		return channels.Team
	}
	switch tandem.ActorKind(*kind) {
	case tandem.Customer:
		return channels.Visitor
	case tandem.AI, tandem.External:
		return channels.AI
	case tandem.Human:
		return channels.Human
	}
	return channels.System
}

const (
	defaultLines = 200
	maxLines     = 1000
)

// Thread returns what the person behind from may see; see [channels.Host].
func (h *Host) Thread(ctx context.Context, channel tandem.ID, from channels.Address, after int64, limit int) (channels.Thread, error) {
	if err := h.own(channel); err != nil {
		return channels.Thread{}, err
	}
	if limit <= 0 {
		limit = defaultLines
	}
	ctx, cancel := h.enter(ctx)
	defer cancel()
	var t channels.Thread
	err := h.in.o.DB.Read(ctx, func(ctx context.Context, tx pgx.Tx) error {
		t = channels.Thread{}
		head, err := h.head(ctx, tx, from)
		if err != nil {
			return err
		}
		switch {
		case head.OwnerKind != nil:
			t.Answering, t.Name = voice(head.OwnerKind), deref(head.OwnerName)
		case head.AIName != nil:
			t.Answering, t.Name = channels.AI, *head.AIName
		default:
			t.Answering, t.Name = channels.Team, head.TeamName
		}
		if head.ConversationID == nil {
			return nil
		}
		t.Conversation = *head.ConversationID
		rows, err := tx.Query(ctx, linesSQL, pgx.StrictNamedArgs{"org": h.org, "conv": t.Conversation, "after": after, "limit": min(limit, maxLines)})
		if err != nil {
			return fmt.Errorf("read thread: %w", err)
		}
		found, err := pgx.CollectRows(rows, pgx.RowToStructByName[lineRow])
		if err != nil {
			return fmt.Errorf("read thread: %w", err)
		}
		for _, r := range found {
			l, err := r.line()
			if err != nil {
				return err
			}
			t.Lines = append(t.Lines, l)
		}
		return nil
	})
	return t, err
}

func (h *Host) head(ctx context.Context, tx pgx.Tx, from channels.Address) (threadHead, error) {
	rows, err := tx.Query(ctx, threadHeadSQL, pgx.StrictNamedArgs{"org": h.org, "channel": h.channel, "from": string(from)})
	if err != nil {
		return threadHead{}, fmt.Errorf("find thread: %w", err)
	}
	head, err := pgx.CollectExactlyOneRow(rows, pgx.RowToStructByName[threadHead])
	if pg.NoRows(err) {
		return head, tandem.Errorf(tandem.NotFound, "There is no such channel.")
	}
	if err != nil {
		return head, fmt.Errorf("find thread: %w", err)
	}
	return head, nil
}

// conversation is the thread of from, or empty before the first message.
func (h *Host) conversation(ctx context.Context, from channels.Address) (tandem.ID, error) {
	ctx, cancel := h.enter(ctx)
	defer cancel()
	var id tandem.ID
	err := h.in.o.DB.Read(ctx, func(ctx context.Context, tx pgx.Tx) error {
		head, err := h.head(ctx, tx, from)
		id = tandem.Deref(head.ConversationID)
		return err
	})
	return id, err
}
