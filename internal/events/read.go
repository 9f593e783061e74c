package events

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem"
)

// Row is an event as the log keeps it.
type Row struct {
	tandem.Event
	Seq int64 `json:"seq"` // place in the log; later events have higher ones, with gaps
}

// record mirrors the columns of events.
type record struct {
	OrgID          tandem.ID
	ID             tandem.ID
	Seq            int64
	Noun           string
	Verb           string
	RecordID       tandem.ID
	ActorID        *tandem.ID
	ActorKind      tandem.ActorKind
	ActorName      string
	OnBehalfOf     *tandem.ID
	Changes        string
	Description    string
	Category       string
	Severity       string
	ConversationID *tandem.ID
	LeadID         *tandem.ID
	ChainID        tandem.ID
	At             time.Time
}

const columns = `e.org_id::text, e.id::text, e.seq, e.noun, e.verb, e.record_id::text, e.actor_id::text, e.actor_kind, e.actor_name,
	e.on_behalf_of::text, e.changes::text AS changes, e.description, e.category, e.severity, e.conversation_id::text,
	e.lead_id::text, e.chain_id::text, e.at`

func (r record) row() (Row, error) {
	e := tandem.Event{
		ID: r.ID, Org: r.OrgID, Noun: r.Noun, Verb: r.Verb, Record: r.RecordID,
		Actor:       tandem.ActorStamp{ID: tandem.Deref(r.ActorID), Kind: r.ActorKind, Name: r.ActorName, OnBehalf: tandem.Deref(r.OnBehalfOf)},
		Description: r.Description, Category: r.Category, Severity: r.Severity,
		Conv: tandem.Deref(r.ConversationID), Lead: tandem.Deref(r.LeadID), Chain: r.ChainID, At: r.At,
	}
	if err := json.Unmarshal([]byte(r.Changes), &e.Changes); err != nil {
		return Row{}, fmt.Errorf("read the changes of event %s: %w", r.ID, err)
	}
	return Row{Event: e, Seq: r.Seq}, nil
}

func collect(rows pgx.Rows, err error) ([]Row, error) {
	if err != nil {
		return nil, fmt.Errorf("read events: %w", err)
	}
	recs, err := pgx.CollectRows(rows, pgx.RowToStructByName[record])
	if err != nil {
		return nil, fmt.Errorf("read events: %w", err)
	}
	out := make([]Row, len(recs))
	for i, r := range recs {
		if out[i], err = r.row(); err != nil {
			return nil, err
		}
	}
	return out, nil
}

const maxRows = 1000

func capped(limit int) int {
	if limit <= 0 || limit > maxRows {
		return maxRows
	}
	return limit
}

const sinceSQL = `SELECT ` + columns + ` FROM events e WHERE e.org_id = @org AND e.seq > @seq ORDER BY e.seq LIMIT @limit`

// Since returns up to limit (at most 1,000) events of the actor's organization after seq,
// oldest first. An event whose transaction commits late may appear below one already read.
func Since(ctx context.Context, tx pgx.Tx, seq int64, limit int) ([]Row, error) {
	a, err := tandem.ActorFrom(ctx)
	if err != nil {
		return nil, err
	}
	return collect(tx.Query(ctx, sinceSQL, pgx.StrictNamedArgs{"org": a.Org, "seq": seq, "limit": capped(limit)}))
}

const conversationSQL = `
	SELECT ` + columns + ` FROM (
		SELECT * FROM events
		WHERE org_id = @org AND (conversation_id = @conv::uuid OR lead_id = @lead::uuid)
		  AND at >= coalesce(@from::timestamptz, '-infinity') AND at <= coalesce(@to::timestamptz, 'infinity')
		ORDER BY seq DESC LIMIT @limit) e
	ORDER BY e.seq`

// ForConversation returns the newest events, up to limit (at most 1,000) and oldest first, that
// belong to the conversation or to the lead and happened between from and to, both included.
// An empty id or a zero time leaves that condition out; with neither id there are none.
func ForConversation(ctx context.Context, tx pgx.Tx, conv, lead tandem.ID, from, to time.Time, limit int) ([]Row, error) {
	a, err := tandem.ActorFrom(ctx)
	if err != nil {
		return nil, err
	}
	return collect(tx.Query(ctx, conversationSQL, pgx.StrictNamedArgs{
		"org": a.Org, "conv": conv.Ptr(), "lead": lead.Ptr(), "from": orNil(from), "to": orNil(to), "limit": capped(limit),
	}))
}

func orNil(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}
