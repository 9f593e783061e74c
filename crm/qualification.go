package crm

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem"
)

// Qualification is one thing believed about a lead, with the evidence for it.
type Qualification struct {
	Field      string            `json:"-" db:"field"` // budget, authority, need or timeline
	Value      string            `json:"value" db:"value"`
	Confidence float64           `json:"confidence" db:"confidence"` // 0 to 1
	Quote      string            `json:"quote" db:"quote"`           // the words it was taken from
	MessageID  *tandem.ID        `json:"message_id,omitempty" db:"message_id"`
	Author     *tandem.MemberRef `json:"author,omitempty" db:"author"` // set from the actor; none when Tandem itself
	Locked     bool              `json:"locked" db:"locked"`           // set by a person: AI members may not change it
	UpdatedAt  time.Time         `json:"updated_at" db:"updated_at"`
	Lock       *bool             `json:"-" db:"-"` // for SetQualification: what Locked becomes; nil: true when a person notes it
}

// Fields that a lead is qualified by, in the order in which they are asked.
var QualificationFields = []string{"budget", "authority", "need", "timeline"}

const (
	sqlQualifications = `
SELECT q.lead_id, q.field, q.value, q.confidence::float8 AS confidence, q.quote, q.message_id, q.locked, q.updated_at,
       CASE WHEN m.id IS NOT NULL THEN jsonb_build_object('id', m.id, 'kind', m.kind, 'name', m.name) END AS author
FROM qualifications q LEFT JOIN members m ON m.org_id = q.org_id AND m.id = q.author_id
WHERE q.org_id = @org AND q.lead_id = ANY(@leads::uuid[])`
	// The lock decides inside the statement: whatever happened since the caller looked, an AI
	// member's value never replaces a person's.
	sqlQualify = `
INSERT INTO qualifications (org_id, lead_id, field, value, confidence, quote, message_id, author_id, author_kind, locked)
VALUES (@org, @lead, @field, @value, @confidence, @quote, @message, @author, @kind, @locked)
ON CONFLICT (org_id, lead_id, field) DO UPDATE SET value = excluded.value, confidence = excluded.confidence, quote = excluded.quote,
	message_id = excluded.message_id, author_id = excluded.author_id, author_kind = excluded.author_kind, locked = excluded.locked, updated_at = now()
WHERE NOT qualifications.locked OR @human`
	// Evidence must come from the lead's own contact.
	sqlEvidence = `
SELECT EXISTS (
	SELECT FROM messages m JOIN conversations c ON c.org_id = m.org_id AND c.id = m.conversation_id
	WHERE m.org_id = @org AND m.id = @message AND c.contact_id = @contact)`
)

// withQualification fills in what is known of each lead, with one query for all.
func withQualification(ctx context.Context, tx pgx.Tx, list []Lead) error {
	a, err := tandem.ActorFrom(ctx)
	if err != nil {
		return err
	}
	ids, at := make([]tandem.ID, len(list)), map[tandem.ID]int{}
	for i := range list {
		ids[i], at[list[i].ID], list[i].Qualification = list[i].ID, i, map[string]Qualification{}
	}
	rows, err := tx.Query(ctx, sqlQualifications, pgx.StrictNamedArgs{"org": a.Org, "leads": ids})
	if err != nil {
		return fmt.Errorf("get qualification: %w", err)
	}
	type row struct {
		Qualification
		Lead tandem.ID `db:"lead_id"`
	}
	found, err := pgx.CollectRows(rows, pgx.RowToStructByName[row])
	if err != nil {
		return fmt.Errorf("get qualification: %w", err)
	}
	for _, r := range found {
		list[at[r.Lead]].Qualification[r.Field] = r.Qualification
	}
	return nil
}

// Qualification returns what is known of a lead, by field.
func (s leads) Qualification(ctx context.Context, tx pgx.Tx, lead tandem.ID) (map[string]Qualification, error) {
	if _, err := s.May(ctx, "read"); err != nil {
		return nil, err
	}
	l, err := s.whole(ctx, tx, lead)
	return l.Qualification, err
}

// SetQualification notes one thing about a lead, with its evidence, and emits
// lead.qualified. What a person notes is locked unless q.Lock says otherwise: an AI member
// that wants to change it gets Conflict. Only a person may lock (Forbidden). Author and time
// come from the actor and the clock, not from q. A message that is not one of the lead's
// contact is Invalid. Noting the same again does nothing.
func (s leads) SetQualification(ctx context.Context, tx pgx.Tx, lead tandem.ID, q Qualification) (Qualification, error) {
	a, err := s.May(ctx, "write")
	if err != nil {
		return q, err
	}
	if err := q.check(); err != nil {
		return q, err
	}
	l, err := s.Load(ctx, tx, lead, true)
	if err != nil {
		return q, err
	}
	if q.MessageID != nil {
		var ours bool
		if _, err := tandem.ParseID(string(*q.MessageID)); err == nil {
			if err := tx.QueryRow(ctx, sqlEvidence, pgx.StrictNamedArgs{"org": a.Org, "message": *q.MessageID, "contact": l.Contact.ID}).Scan(&ours); err != nil {
				return q, fmt.Errorf("look for evidence: %w", err)
			}
		}
		if !ours {
			return q, tandem.InvalidFields(tandem.FieldError{Field: "message_id", Message: "This is not a message of the lead's contact."})
		}
	}
	one := []Lead{l}
	if err := withQualification(ctx, tx, one); err != nil {
		return q, err
	}
	old, had := one[0].Qualification[q.Field]
	human := a.Kind == tandem.Human
	locked := human
	if q.Lock != nil {
		locked = *q.Lock
	}
	if locked && !human {
		return q, tandem.Errorf(tandem.Forbidden, "Only a person may lock what is known of a lead.")
	}
	if had && old.Locked == locked && old.says(q, a.Member) {
		return old, nil
	}
	tag, err := tx.Exec(ctx, sqlQualify, pgx.StrictNamedArgs{
		"org": a.Org, "lead": lead, "field": q.Field, "value": q.Value, "confidence": q.Confidence, "quote": q.Quote,
		"message": q.MessageID, "author": a.Member.Ptr(), "kind": string(a.Kind), "human": human, "locked": locked,
	})
	if err != nil {
		return q, fmt.Errorf("set qualification: %w", err)
	}
	if tag.RowsAffected() == 0 {
		return old, &tandem.Error{Kind: tandem.Conflict, Msg: "A person has noted the " + q.Field + ": " + old.Value + ". Only a person may change it.", Owner: old.Author}
	}
	var was any
	if had {
		was = old.Value
	}
	if err := emitLead(ctx, tx, lead, "qualified", a.Name+" noted the "+q.Field+": "+tandem.Clip(q.Value, 200), tandem.Change{Field: q.Field, Old: was, New: q.Value}); err != nil {
		return q, err
	}
	known, err := s.whole(ctx, tx, lead)
	return known.Qualification[q.Field], err
}

func (q *Qualification) check() error {
	var wrong []tandem.FieldError
	ok := false
	for _, f := range QualificationFields {
		ok = ok || f == q.Field
	}
	if !ok {
		wrong = append(wrong, tandem.FieldError{Field: "field", Message: "Choose budget, authority, need or timeline."})
	}
	if q.Value = clean(q.Value, 1000); q.Value == "" {
		wrong = append(wrong, tandem.FieldError{Field: "value", Message: "This is needed."})
	}
	if !(q.Confidence >= 0 && q.Confidence <= 1) { // also refuses NaN
		wrong = append(wrong, tandem.FieldError{Field: "confidence", Message: "This must be between 0 and 1."})
	}
	q.Quote = clean(q.Quote, 2000)
	if q.MessageID != nil && *q.MessageID == "" {
		q.MessageID = nil
	}
	if len(wrong) > 0 {
		return tandem.InvalidFields(wrong...)
	}
	return nil
}

// says reports whether q, noted by author, would change nothing. Confidence is stored
// with single precision.
func (q Qualification) says(other Qualification, author tandem.ID) bool {
	var by tandem.ID
	if q.Author != nil {
		by = q.Author.ID
	}
	return q.Value == other.Value && float32(q.Confidence) == float32(other.Confidence) && q.Quote == other.Quote &&
		tandem.Deref(q.MessageID) == tandem.Deref(other.MessageID) && by == author
}
