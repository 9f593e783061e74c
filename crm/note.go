package crm

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/internal/record"
)

// Note is what somebody of the team writes down about one lead, contact, account or deal.
type Note struct {
	ID        tandem.ID   `json:"id" db:"id"`
	LeadID    *tandem.ID  `json:"lead_id" db:"lead_id" doc:"What it is about: exactly one of lead_id, contact_id, account_id and deal_id."`
	ContactID *tandem.ID  `json:"contact_id" db:"contact_id"`
	AccountID *tandem.ID  `json:"account_id" db:"account_id"`
	DealID    *tandem.ID  `json:"deal_id" db:"deal_id"`
	AuthorID  *tandem.ID  `json:"author_id" db:"author_id" doc:"The member who wrote it; only this member may change its words."`
	Body      string      `json:"body" db:"body" example:"She **knows** engines." doc:"Markdown of at most 50,000 characters. It is kept as it was written: show it as Markdown without HTML."`
	Mentions  []tandem.ID `json:"mentions" db:"mentions" nullable:"false" maxItems:"50" doc:"Members who should know of it."`
	Pinned    bool        `json:"pinned" db:"pinned"`
	CreatedAt time.Time   `json:"created_at" db:"created_at"`
	UpdatedAt time.Time   `json:"updated_at" db:"updated_at"`
	Version   int64       `json:"version" db:"version"`
}

type notes struct{ record.Set[Note] }

// Notes is the set of notes. Who is mentioned stands in the changes of note.created and note.updated.
var Notes = notes{record.Set[Note]{
	Noun: "note", Table: "notes",
	Fields: []record.Field{
		{Name: "lead_id", Type: record.ID, Filter: true, Once: true},
		{Name: "contact_id", Type: record.ID, Filter: true, Once: true},
		{Name: "account_id", Type: record.ID, Filter: true, Once: true},
		{Name: "deal_id", Type: record.ID, Filter: true, Once: true},
		{Name: "author_id", Type: record.ID, Filter: true},
		{Name: "body", Write: true, Needed: true, Hidden: true},
		{Name: "mentions", Write: true},
		{Name: "pinned", Type: record.Bool, Filter: true, Write: true},
		{Name: "created_at", Type: record.Time, Filter: true},
		{Name: "updated_at", Type: record.Time, Filter: true},
	},
	Archivable: true, Lead: "lead_id", Category: "crm", Check: checkNote,
}}

const (
	maxNote     = 50_000 // characters
	maxMentions = 50
)

func checkNote(n *Note) error {
	wrong := oneRelated(nil, n.LeadID, n.ContactID, n.AccountID, n.DealID)
	if n.Body = strings.TrimSpace(n.Body); n.Body == "" || len([]rune(n.Body)) > maxNote {
		wrong = append(wrong, tandem.FieldError{Field: "body", Message: "A note needs words, at most 50,000 characters."})
	}
	if len(n.Mentions) > maxMentions {
		wrong = append(wrong, tandem.FieldError{Field: "mentions", Message: "There may be at most 50 mentions."})
	}
	if len(wrong) > 0 {
		return tandem.InvalidFields(wrong...)
	}
	if n.Mentions != nil {
		slices.Sort(n.Mentions)
		n.Mentions = slices.Compact(n.Mentions)
	}
	return nil
}

// oneRelated adds to wrong when a record that is about exactly one other names none or several.
func oneRelated(wrong []tandem.FieldError, ids ...*tandem.ID) []tandem.FieldError {
	if related(ids...) != 1 {
		return append(wrong, tandem.FieldError{Field: "lead_id", Message: "Name exactly one of lead_id, contact_id, account_id and deal_id."})
	}
	return wrong
}

func related(ids ...*tandem.ID) (n int) {
	for _, id := range ids {
		if id != nil {
			n++
		}
	}
	return n
}

// Create adds a note of the actor. A mention of somebody who is no member is Invalid.
func (s notes) Create(ctx context.Context, tx pgx.Tx, n Note) (Note, error) {
	a, err := s.May(ctx, "write")
	if err != nil {
		return n, err
	}
	if err := s.areMembers(ctx, tx, a.Org, n.Mentions); err != nil {
		return n, err
	}
	n.AuthorID = a.Member.Ptr()
	return alsoWriting(s.Set, "author_id").Create(ctx, tx, n)
}

// Patch changes a note as record.Set does. Its words and its mentions are the author's own: for others that is Forbidden.
func (s notes) Patch(ctx context.Context, tx pgx.Tx, id tandem.ID, raw json.RawMessage, version *int64) (Note, error) {
	a, err := s.May(ctx, "write")
	if err != nil {
		return Note{}, err
	}
	var asked struct {
		Body     json.RawMessage `json:"body"`
		Mentions json.RawMessage `json:"mentions"`
	}
	if json.Unmarshal(raw, &asked) != nil || asked.Body == nil && asked.Mentions == nil {
		return s.Set.Patch(ctx, tx, id, raw, version)
	}
	old, err := s.Load(ctx, tx, id, true)
	if err != nil {
		return old, err
	}
	if tandem.Deref(old.AuthorID) != a.Member {
		return old, tandem.Errorf(tandem.Forbidden, "Only its author may change the words of a note.")
	}
	var mentions []tandem.ID
	if asked.Mentions != nil && json.Unmarshal(asked.Mentions, &mentions) == nil { // what is no list, the set refuses
		if err := s.areMembers(ctx, tx, a.Org, mentions); err != nil {
			return old, err
		}
	}
	return s.Set.Patch(ctx, tx, id, raw, version)
}

func (s notes) areMembers(ctx context.Context, tx pgx.Tx, org tandem.ID, ids []tandem.ID) error {
	none := tandem.InvalidFields(tandem.FieldError{Field: "mentions", Message: "Only members can be mentioned, at most 50."})
	if len(ids) > maxMentions {
		return none
	}
	for _, id := range ids {
		if _, err := tandem.ParseID(string(id)); err != nil {
			return none
		}
	}
	if len(ids) == 0 {
		return nil
	}
	const sqlMembers = `SELECT NOT EXISTS (SELECT FROM unnest(@ids::uuid[]) i WHERE NOT EXISTS (SELECT FROM members WHERE org_id = @org AND id = i))`
	var all bool
	if err := tx.QueryRow(ctx, sqlMembers, pgx.StrictNamedArgs{"org": org, "ids": ids}).Scan(&all); err != nil {
		return fmt.Errorf("look for the mentioned members: %w", err)
	}
	if !all {
		return none
	}
	return nil
}
