package inbox

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/channels"
	"github.com/tandemhq/tandem/crm"
	"github.com/tandemhq/tandem/internal/events"
	"github.com/tandemhq/tandem/internal/mutant"
)

// incoming is one inbound message on its way into the database, with the ids it will have.
type incoming struct {
	channels.Inbound
	inbound tandem.ID
	message tandem.ID
	from    crm.Identity
	said    string // of the contact and a lead, as crm.Claims puts it
	hash    []byte
	chain   tandem.ID
	quick   bool // possibly nothing but the message itself is new, or all of it: tandem_intake may try
}

// newIncoming puts the message on ctx's causal chain.
func newIncoming(ctx context.Context, in channels.Inbound) (incoming, error) {
	if err := in.Check(); err != nil {
		return incoming{}, err
	}
	if in.Raw == nil {
		in.Raw = []byte(in.Text)
	}
	sum := sha256.Sum256(in.Raw)
	i := incoming{Inbound: in, inbound: tandem.NewID(), message: tandem.NewID(), hash: sum[:], chain: tandem.ChainFrom(ctx)}
	i.from = crm.Identity{Kind: in.FromKind, Value: strings.TrimSpace(string(in.From)), Evidence: "wrote to us"}
	if in.FromKind == channels.IdentityVisitor || in.FromKind == channels.IdentityExternal {
		i.from.Scope = string(in.Channel)
	}
	var lead *crm.NewLead
	if in.Lead != nil {
		n := i.newLead(crm.Contact{}, nil)
		lead = &n
	}
	i.from, i.said, i.quick = crm.Claims(i.from, i.facts(), lead)
	return i, nil
}

func (i incoming) facts() crm.ContactFacts {
	f := i.Contact
	return crm.ContactFacts{Name: f.Name, FirstName: f.FirstName, LastName: f.LastName, Email: f.Email, Phone: f.Phone, Company: f.Company}
}

// applied is what an inbound message became.
type applied struct {
	ConversationID tandem.ID
	ContactID      tandem.ID
	LeadID         *tandem.ID
	Seq            int64
	Was            string // the conversation's state before
	Name           string // the contact's
	ChannelName    string
}

func (p applied) accepted(i incoming) channels.Accepted {
	return channels.Accepted{Contact: p.ContactID, Lead: tandem.Deref(p.LeadID), Conversation: p.ConversationID, Message: i.message, Seq: p.Seq}
}

// applySQL is the slow path's end, when the conversation is known: it locks it, numbers the
// message and stores it.
const applySQL = `
	WITH held AS (
	    SELECT c.id, c.state FROM conversations c
	    WHERE c.org_id = @org AND c.id = @conv FOR NO KEY UPDATE
	), moved AS (
	    UPDATE conversations c SET next_seq = c.next_seq + 1, last_inbound_seq = c.next_seq, message_count = c.message_count + 1,
	           unread = c.unread + 1, ai_streak = 0,
	           state = CASE WHEN c.state = 'spam' THEN 'spam' ELSE 'open' END, snoozed_until = NULL,
	           subject = CASE WHEN c.subject = '' THEN @subject ELSE c.subject END,
	           last_message_at = now(), preview = @preview, preview_kind = 'contact',
	           preview_name = (SELECT ct.name FROM contacts ct WHERE ct.org_id = @org AND ct.id = c.contact_id), updated_at = now()
	    WHERE c.org_id = @org AND c.id = (SELECT id FROM held)
	    RETURNING c.id AS conversation_id, c.contact_id, c.lead_id, c.next_seq - 1 AS seq, (SELECT state FROM held) AS was,
	              c.preview_name AS name, (SELECT ch.name FROM channels ch WHERE ch.org_id = @org AND ch.id = c.channel_id) AS channel_name
	), stored AS (
	    INSERT INTO messages (org_id, id, conversation_id, seq, direction, sender_kind, sender_id, sender_name, text, html, status, provider_id)
	    SELECT @org, @message, conversation_id, seq, 'inbound', 'contact', contact_id, name, @text, @html, 'received', @provider FROM moved
	)
	SELECT * FROM moved`

// inboundPrefix keeps the ids that providers give apart from our own, so that nobody can
// name a message of ours by sending its id back.
const inboundPrefix = "in:"

func (i incoming) numberArgs() pgx.StrictNamedArgs {
	return pgx.StrictNamedArgs{
		"org": i.Org, "message": i.message, "subject": i.Subject, "preview": previewOf(i.Text), "text": i.Text, "html": i.HTML,
		"provider": inboundPrefix + string(i.ID),
	}
}

// Ingest stores one inbound message: exactly once, however often and by however many
// callers it is delivered, because UNIQUE (org_id, channel_id, external_id) decides. It
// finds or makes the contact, the lead and the conversation, and reopens the conversation.
// A repeat returns the first answer with Duplicate set; with StrictBody a repeat with
// another body is Invalid on "Idempotency-Key". Input that breaks the contract's bounds is
// Invalid, a channel of another organization NotFound. When it returns an error the caller
// must roll back.
func Ingest(ctx context.Context, tx pgx.Tx, in channels.Inbound) (channels.Accepted, error) {
	i, err := newIncoming(ctx, in)
	if err != nil {
		return channels.Accepted{}, err
	}
	if a, err := tandem.ActorFrom(ctx); err == nil && a.Org != in.Org {
		return channels.Accepted{}, tandem.Errorf(tandem.NotFound, "There is no such channel.")
	}
	ctx = tandem.AsSystem(ctx, in.Org)
	if i.quick {
		got, rest, err := intake(ctx, tx, []incoming{i}, true)
		if err != nil {
			return channels.Accepted{}, err
		}
		if rest[0] == stored {
			fault(ctx, "ingest.applied")
			return got[0], nil
		}
	}
	return i.slow(ctx, tx)
}

// announce emits what happened, in one round trip.
func (i incoming) announce(ctx context.Context, tx pgx.Tx, p applied, opened bool) error {
	var m events.Many
	if err := i.addEvents(ctx, &m, p, opened); err != nil {
		return err
	}
	return m.Flush(ctx, tx)
}

func (i incoming) addEvents(ctx context.Context, m *events.Many, p applied, opened bool) error {
	e := tandem.Event{
		Noun: "conversation", Record: p.ConversationID, Conv: p.ConversationID, Lead: tandem.Deref(p.LeadID),
		Actor: tandem.ActorStamp{ID: p.ContactID, Kind: tandem.Customer, Name: p.Name}, Category: "conversation", Severity: "info",
	}
	switch {
	case opened:
		e.Verb, e.Description = "opened", p.Name+" opened a conversation on "+p.ChannelName+"."
		if err := m.Add(ctx, e); err != nil {
			return fmt.Errorf("emit conversation.opened: %w", err)
		}
	case p.Was != StateOpen && p.Was != StateSpam:
		e.Verb, e.Description = "reopened", p.Name+" wrote again, so the conversation is open."
		e.Changes = []tandem.Change{{Field: "state", Old: p.Was, New: StateOpen}}
		if err := m.Add(ctx, e); err != nil {
			return fmt.Errorf("emit conversation.reopened: %w", err)
		}
	}
	e.Noun, e.Verb, e.Record, e.Changes = "message", "received", i.message, nil
	e.Description = p.Name + " wrote on " + p.ChannelName + "."
	if err := m.Add(ctx, e); err != nil {
		return fmt.Errorf("emit message.received: %w", err)
	}
	return nil
}

const takeSQL = `
	INSERT INTO inbound (org_id, id, channel_id, external_id, body_hash, raw, state, reason)
	VALUES (@org, @id, @channel, @external, @hash, @raw, 'quarantined', @reason)
	ON CONFLICT (org_id, channel_id, external_id) DO NOTHING`

func takes() string {
	switch {
	case mutant.Is("no-unique-inbound-index"):
		return strings.Replace(takeSQL, "ON CONFLICT (org_id, channel_id, external_id)", "ON CONFLICT", 1)
	case mutant.Is("repeats-by-id-only"):
		return strings.Replace(takeSQL, "ON CONFLICT (org_id, channel_id, external_id)", "ON CONFLICT (org_id, external_id)", 1)
	}
	return takeSQL
}

const earlierSQL = `
	SELECT b.id, b.state, b.body_hash, b.contact_id, b.lead_id, coalesce(m.conversation_id, b.conversation_id) AS conversation_id, b.message_id, m.seq
	FROM inbound b LEFT JOIN messages m ON m.org_id = b.org_id AND m.id = b.message_id
	WHERE b.org_id = @org AND b.channel_id = @channel AND b.external_id = @external
	FOR NO KEY UPDATE OF b`

type earlier struct {
	ID             tandem.ID
	State          string
	BodyHash       []byte
	ContactID      *tandem.ID
	LeadID         *tandem.ID
	ConversationID *tandem.ID
	MessageID      *tandem.ID
	Seq            *int64
}

const appliedSQL = `
	UPDATE inbound SET state = 'applied', reason = '', body_hash = @hash, raw = @raw,
	       contact_id = @contact, lead_id = @lead, conversation_id = @conv, message_id = @message
	WHERE org_id = @org AND id = @id`

// take makes the inbound row, which decides whether this is a repeat. The row counts as
// quarantined until its message exists; both happen in this transaction. A row that was
// left in quarantine earlier is taken up: this time the message could be understood.
func (i *incoming) take(ctx context.Context, tx pgx.Tx) (repeat *channels.Accepted, err error) {
	tag, err := tx.Exec(ctx, takes(), pgx.StrictNamedArgs{
		"org": i.Org, "id": i.inbound, "channel": i.Channel, "external": string(i.ID), "hash": i.hash, "raw": i.Raw, "reason": "being applied",
	})
	if err != nil {
		return nil, noChannel(err)
	}
	if tag.RowsAffected() == 1 {
		return nil, nil
	}
	rows, err := tx.Query(ctx, earlierSQL, pgx.StrictNamedArgs{"org": i.Org, "channel": i.Channel, "external": string(i.ID)})
	if err != nil {
		return nil, fmt.Errorf("find earlier delivery: %w", err)
	}
	e, err := pgx.CollectExactlyOneRow(rows, pgx.RowToStructByName[earlier])
	if err != nil {
		return nil, fmt.Errorf("find earlier delivery: %w", err)
	}
	if e.State != "applied" {
		i.inbound = e.ID
		return nil, nil
	}
	if i.StrictBody && !bytes.Equal(e.BodyHash, i.hash) {
		return nil, otherBody()
	}
	return &channels.Accepted{
		Contact: tandem.Deref(e.ContactID), Lead: tandem.Deref(e.LeadID), Conversation: tandem.Deref(e.ConversationID),
		Message: tandem.Deref(e.MessageID), Seq: deref(e.Seq), Duplicate: true,
	}, nil
}

// Whoever merges or splits conversations of the contact holds its row, so that what channelSQL reads after this stays true.
const shareContactSQL = `SELECT FROM contacts WHERE org_id = @org AND id = @contact FOR SHARE`

// Each address goes on in its own threads: see thread_prefix in migrations. The thread may have been merged: it goes on
// elsewhere then.
const channelSQL = `
	SELECT ch.board_id, c.lead_id, coalesce(i.thread_prefix, ''), k.merged_into
	FROM channels ch
	LEFT JOIN contact_identities i ON i.org_id = ch.org_id AND i.kind = @kind AND i.scope = @scope AND i.value = @value
	LEFT JOIN conversations k ON k.org_id = ch.org_id AND k.channel_id = ch.id AND k.contact_id = @contact
	      AND k.thread = coalesce(i.thread_prefix, '') || @thread
	LEFT JOIN conversations c ON c.org_id = ch.org_id AND c.id = coalesce(k.merged_into, k.id)
	WHERE ch.org_id = @org AND ch.id = @channel`

const linkSQL = `
	UPDATE conversations SET lead_id = coalesce(@lead, lead_id) WHERE org_id = @org AND id = @id RETURNING id, lead_id`

const openSQL = `
	INSERT INTO conversations (org_id, id, channel_id, contact_id, lead_id, thread, thread_prefix, subject)
	VALUES (@org, @id, @channel, @contact, @lead, @prefix || @thread, @prefix, @subject)
	ON CONFLICT (org_id, channel_id, contact_id, thread)
	DO UPDATE SET lead_id = coalesce(excluded.lead_id, conversations.lead_id)
	RETURNING id, lead_id`

// slow does all of it, step by step, in the order in which locks are taken.
func (i incoming) slow(ctx context.Context, tx pgx.Tx) (channels.Accepted, error) {
	repeat, err := i.take(ctx, tx)
	if err != nil {
		return channels.Accepted{}, err
	}
	if repeat != nil {
		return *repeat, nil
	}
	if !i.quick { // a number may have to be read as the organization's region says
		if i.from, err = crm.Normalize(ctx, tx, i.from); err != nil {
			return channels.Accepted{}, err
		}
	}
	contact, _, err := crm.Resolve(ctx, tx, i.from, i.facts())
	if err != nil {
		return channels.Accepted{}, err
	}
	var board, lead, merged *tandem.ID
	var prefix string
	b := &pgx.Batch{}
	b.Queue(shareContactSQL, pgx.StrictNamedArgs{"org": i.Org, "contact": contact.ID})
	b.Queue(channelSQL, pgx.StrictNamedArgs{
		"org": i.Org, "channel": i.Channel, "contact": contact.ID, "thread": i.Thread, "kind": i.from.Kind, "scope": i.from.Scope, "value": i.from.Value,
	}).QueryRow(func(row pgx.Row) error {
		return row.Scan(&board, &lead, &prefix, &merged)
	})
	if err := tx.SendBatch(ctx, b).Close(); err != nil {
		return channels.Accepted{}, fmt.Errorf("find channel: %w", err)
	}
	if i.Lead != nil || lead == nil {
		made, _, err := crm.Leads.OpenOrFind(ctx, tx, i.newLead(contact, board))
		if err != nil {
			return channels.Accepted{}, err
		}
		lead = &made.ID
	}
	fresh := tandem.NewID()
	var conv tandem.ID
	if merged != nil {
		err = tx.QueryRow(ctx, linkSQL, pgx.StrictNamedArgs{"org": i.Org, "id": *merged, "lead": lead}).Scan(&conv, &lead)
	} else {
		err = tx.QueryRow(ctx, openSQL, pgx.StrictNamedArgs{
			"org": i.Org, "id": fresh, "channel": i.Channel, "contact": contact.ID, "lead": lead, "thread": i.Thread, "prefix": prefix, "subject": i.Subject,
		}).Scan(&conv, &lead)
	}
	if err != nil {
		return channels.Accepted{}, fmt.Errorf("open conversation: %w", err)
	}
	args := i.numberArgs()
	args["conv"] = conv
	rows, err := tx.Query(ctx, applySQL, args)
	if err != nil {
		return channels.Accepted{}, fmt.Errorf("ingest: %w", err)
	}
	p, err := pgx.CollectExactlyOneRow(rows, pgx.RowToStructByName[applied])
	if err != nil {
		return channels.Accepted{}, fmt.Errorf("ingest: %w", err)
	}
	_, err = tx.Exec(ctx, appliedSQL, pgx.StrictNamedArgs{
		"org": i.Org, "id": i.inbound, "hash": i.hash, "raw": i.Raw, "contact": contact.ID, "lead": lead, "conv": conv, "message": i.message,
	})
	if err != nil {
		return channels.Accepted{}, fmt.Errorf("ingest: %w", err)
	}
	if err := i.announce(ctx, tx, p, conv == fresh); err != nil {
		return channels.Accepted{}, err
	}
	fault(ctx, "ingest.applied")
	return p.accepted(i), nil
}

// newLead is the lead that the message opens: what it says about one, else a chat with the contact.
func (i incoming) newLead(c crm.Contact, board *tandem.ID) crm.NewLead {
	n := crm.NewLead{Contact: c.ID, Board: tandem.Deref(board), Title: i.Subject, Source: "chat"}
	if f := i.Lead; f != nil {
		n.Title, n.Source, n.Priority, n.Tags, n.Custom = f.Title, f.Source, f.Priority, f.Tags, f.Custom
		if id, err := tandem.ParseID(f.Board); err == nil {
			n.Board = id
		} else if f.Board != "" {
			n.Board, n.BoardName = "", f.Board
		}
		if f.Value != nil {
			n.Value = &crm.Money{Minor: *f.Value, Currency: f.Currency}
		}
	}
	if strings.TrimSpace(n.Title) == "" {
		n.Title = "Chat with " + c.Name
	}
	n.Title = clip(strings.TrimSpace(n.Title), 300)
	return n
}

// Quarantine keeps what came in but could not be understood. The same id again is a
// success that changes nothing. reason is one sentence for the team.
func Quarantine(ctx context.Context, tx pgx.Tx, channel tandem.ID, id channels.ExternalID, raw []byte, reason string) error {
	a, err := tandem.ActorFrom(ctx)
	if err != nil {
		return err
	}
	if id == "" || len(id) > channels.MaxID || len(raw) > channels.MaxRaw {
		return tandem.InvalidFields(tandem.FieldError{Field: "id", Message: "A quarantined message needs an id of 1 to 500 bytes and at most 32 MiB."})
	}
	if mutant.Is("quarantine-dropped") {
		return nil
	}
	if raw == nil {
		raw = []byte{}
	}
	sum := sha256.Sum256(raw)
	row := tandem.NewID()
	tag, err := tx.Exec(ctx, takes(), pgx.StrictNamedArgs{
		"org": a.Org, "id": row, "channel": channel, "external": clean(string(id)), "hash": sum[:], "raw": raw, "reason": clip(clean(reason), 500),
	})
	if err != nil {
		return noChannel(err)
	}
	if tag.RowsAffected() == 0 {
		return nil
	}
	_, err = events.Emit(ctx, tx, tandem.Event{
		Noun: "inbound", Verb: "quarantined", Record: row, Description: "A message could not be understood and was kept aside: " + clip(clean(reason), 500),
		Category: "conversation", Severity: "warning",
	})
	if err != nil {
		return fmt.Errorf("emit inbound.quarantined: %w", err)
	}
	return nil
}

// clean makes foreign text storable.
func clean(s string) string {
	return strings.ToValidUTF8(strings.ReplaceAll(s, "\x00", ""), "\uFFFD")
}
