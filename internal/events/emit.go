// Package events writes facts and carries them to whoever reacts to them.
//
// Emit puts a fact and its outbox row into the transaction of the change it describes. The
// Drain publishes outbox rows in order, seals events into each organization's hash chain, and
// publishes again whatever the bus has lost. Consume applies facts exactly once, by a row of
// the table processed in the transaction of the effect. PostgreSQL holds everything; the bus
// only wakes.
package events

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/internal/mutant"
)

// Fact is what travels on the bus about one event or command: ids only, so that a reader
// always looks at the database as it is now.
type Fact struct {
	ID     tandem.ID `json:"id"` // the event's id, or the command's
	Org    tandem.ID `json:"org"`
	Topic  string    `json:"topic"` // noun.verb of an event; "out" for a command to send
	Record tandem.ID `json:"record_id"`
}

// TopicOut is the topic of commands that hand a message to a channel.
const TopicOut = "out"

const emitSQL = `
	WITH e AS (
		INSERT INTO events (org_id, id, noun, verb, record_id, actor_id, actor_kind, actor_name, on_behalf_of,
		                    changes, description, category, severity, conversation_id, lead_id, chain_id, at)
		VALUES (@org, @id, @noun, @verb, @record, @actor, @actor_kind, @actor_name, @on_behalf,
		        @changes, @description, @category, @severity, @conversation, @lead, @chain, coalesce(@at, now()))
		RETURNING org_id, id, record_id)
	INSERT INTO outbox (org_id, msg_id, topic, subject, record_id)
	SELECT org_id, id, @topic, @subject, record_id FROM e`

// Emit records that something happened, in tx, and queues it for the bus. It takes the
// organization, actor and causal chain from ctx, and fills ID, Actor, Chain, At (the
// transaction's time) and Severity ("info") where e leaves them empty. It returns the event's
// id. Without an actor it is Unauthenticated; an event without noun, verb, record, description
// or category is Internal, because only our own code can make one.
func Emit(ctx context.Context, tx pgx.Tx, e tandem.Event) (tandem.ID, error) {
	id, args, err := emitArgs(ctx, e)
	if err != nil {
		return "", err
	}
	if _, err := tx.Exec(ctx, emitSQL, args); err != nil {
		return "", fmt.Errorf("emit %s: %w", e.Topic(), err)
	}
	return id, nil
}

// Queue is Emit as one more statement of b, for a transaction that has others to send with it.
func Queue(ctx context.Context, b *pgx.Batch, e tandem.Event) error {
	_, args, err := emitArgs(ctx, e)
	if err != nil {
		return err
	}
	b.Queue(emitSQL, args)
	return nil
}

// The same for any number of events, given as a JSON array; the outbox numbers them in its order.
const emitManySQL = `
	WITH given AS (
		SELECT e.* FROM jsonb_to_recordset(@events) AS e(
			ord int, id uuid, noun text, verb text, record uuid, actor uuid, actor_kind text, actor_name text, on_behalf uuid, changes jsonb,
			description text, category text, severity text, conversation uuid, lead uuid, chain uuid, at timestamptz, topic text, subject text)
	), e AS (
		INSERT INTO events (org_id, id, noun, verb, record_id, actor_id, actor_kind, actor_name, on_behalf_of,
		                    changes, description, category, severity, conversation_id, lead_id, chain_id, at)
		SELECT @org, id, noun, verb, record, actor, actor_kind, actor_name, on_behalf,
		       changes, description, category, severity, conversation, lead, chain, coalesce(at, now()) FROM given ORDER BY ord)
	INSERT INTO outbox (org_id, msg_id, topic, subject, record_id)
	SELECT @org, id, topic, subject, record FROM given ORDER BY ord`

// Many collects events of one organization, to be emitted by one statement.
type Many struct {
	org  tandem.ID
	rows []pgx.StrictNamedArgs
}

// Add is Emit, but for the database, which Flush asks.
func (m *Many) Add(ctx context.Context, e tandem.Event) error {
	a, err := tandem.ActorFrom(ctx)
	if err != nil {
		return err
	}
	if m.org != "" && m.org != a.Org {
		return fmt.Errorf("emit %s: the event belongs to another organization than those before it", e.Topic())
	}
	_, args, err := emitArgs(ctx, e)
	if err != nil {
		return err
	}
	m.org = a.Org
	args["ord"], args["changes"] = len(m.rows), json.RawMessage(args["changes"].(string))
	m.rows = append(m.rows, args)
	return nil
}

// Flush emits what was added, in its order.
func (m *Many) Flush(ctx context.Context, tx pgx.Tx) error {
	if len(m.rows) == 0 {
		return nil
	}
	all, err := json.Marshal(m.rows)
	if err != nil {
		return fmt.Errorf("encode %d events: %w", len(m.rows), err)
	}
	if _, err := tx.Exec(ctx, emitManySQL, pgx.StrictNamedArgs{"org": m.org, "events": string(all)}); err != nil {
		return fmt.Errorf("emit %d events: %w", len(m.rows), err)
	}
	m.rows = m.rows[:0]
	return nil
}

func emitArgs(ctx context.Context, e tandem.Event) (tandem.ID, pgx.StrictNamedArgs, error) {
	a, err := tandem.ActorFrom(ctx)
	if err != nil {
		return "", nil, err
	}
	if e.Org != "" && e.Org != a.Org {
		return "", nil, fmt.Errorf("emit %s: the event belongs to another organization than the actor", e.Topic())
	}
	e.Org = a.Org
	if !word(e.Noun) || !word(e.Verb) || e.Record == "" || e.Description == "" || e.Category == "" {
		return "", nil, fmt.Errorf("emit %q: an event needs a noun, a verb, a record, a description and a category", e.Topic())
	}
	if e.ID == "" {
		e.ID = tandem.NewID()
	}
	if e.Actor.Kind == "" {
		e.Actor = tandem.ActorStamp{ID: a.Member, Kind: a.Kind, Name: a.Name, OnBehalf: a.OnBehalf}
	}
	if e.Chain == "" {
		e.Chain = tandem.ChainFrom(ctx)
	}
	if e.Severity == "" {
		e.Severity = "info"
	}
	if e.Changes == nil {
		e.Changes = []tandem.Change{}
	}
	changes, err := json.Marshal(e.Changes)
	if err != nil {
		return "", nil, fmt.Errorf("emit %s: encode the changes: %w", e.Topic(), err)
	}
	args := pgx.StrictNamedArgs{
		"org": e.Org, "id": e.ID, "noun": e.Noun, "verb": e.Verb, "record": e.Record,
		"actor": e.Actor.ID.Ptr(), "actor_kind": string(e.Actor.Kind), "actor_name": e.Actor.Name, "on_behalf": e.Actor.OnBehalf.Ptr(),
		"changes": string(changes), "description": e.Description, "category": e.Category, "severity": e.Severity,
		"conversation": e.Conv.Ptr(), "lead": e.Lead.Ptr(), "chain": e.Chain, "at": nil,
		"topic": e.Topic(), "subject": e.Subject(),
	}
	if !e.At.IsZero() {
		args["at"] = e.At
	}
	return e.ID, args, nil
}

// Command queues, in tx, a wake-up that is not a fact: hand the message record to its channel.
// The subject is out.<org>.<kind>.<channel>.
func Command(ctx context.Context, tx pgx.Tx, subject string, record tandem.ID) error {
	a, err := tandem.ActorFrom(ctx)
	if err != nil {
		return err
	}
	if !strings.HasPrefix(subject, "out."+string(a.Org)+".") || record == "" {
		return fmt.Errorf("command %q: it needs a record and a subject of the actor's organization", subject)
	}
	const q = `INSERT INTO outbox (org_id, msg_id, topic, subject, record_id) VALUES (@org, @id, @topic, @subject, @record)`
	if mutant.Is("publish-before-commit") {
		conn, err := pgx.ConnectConfig(ctx, tx.Conn().Config())
		if err != nil {
			return err
		}
		defer conn.Close(ctx)
		_, err = conn.Exec(ctx, q, pgx.StrictNamedArgs{"org": a.Org, "id": tandem.NewID(), "topic": TopicOut, "subject": subject, "record": record})
		return err
	}
	_, err = tx.Exec(ctx, q, pgx.StrictNamedArgs{"org": a.Org, "id": tandem.NewID(), "topic": TopicOut, "subject": subject, "record": record})
	if err != nil {
		return fmt.Errorf("command %s: %w", subject, err)
	}
	return nil
}

// word accepts what may stand between the dots of a subject: lower-case letters, digits and "_".
func word(s string) bool {
	for _, c := range s {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '_' {
			return false
		}
	}
	return s != "" && len(s) <= 60
}
