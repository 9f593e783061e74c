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
	"github.com/tandemhq/tandem/internal/events"
	"github.com/tandemhq/tandem/internal/record"
	"github.com/tandemhq/tandem/internal/richtext"
)

// Note is what somebody of the team writes down about one lead, contact, account or deal.
type Note struct {
	ID        tandem.ID   `json:"id" db:"id"`
	LeadID    *tandem.ID  `json:"lead_id" db:"lead_id" doc:"What it is about: exactly one of lead_id, contact_id, account_id and deal_id."`
	ContactID *tandem.ID  `json:"contact_id" db:"contact_id"`
	AccountID *tandem.ID  `json:"account_id" db:"account_id"`
	DealID    *tandem.ID  `json:"deal_id" db:"deal_id"`
	AuthorID  *tandem.ID  `json:"author_id" db:"author_id" doc:"The member who wrote it; only this member may change its words."`
	Body      string      `json:"body" db:"body" example:"She **knows** engines." doc:"Markdown of at most 50,000 characters. It is kept as it was written; html is for showing."`
	HTML      string      `json:"html" db:"html" doc:"The body as HTML without anything that could act or load."`
	Mentions  []tandem.ID `json:"mentions" db:"mentions" nullable:"false" maxItems:"50" doc:"Members who should know of it."`
	Pinned    bool        `json:"pinned" db:"pinned"`
	CreatedAt time.Time   `json:"created_at" db:"created_at"`
	UpdatedAt time.Time   `json:"updated_at" db:"updated_at"`
	Version   int64       `json:"version" db:"version"`
}

type notes struct{ record.Set[Note] }

// Notes is the set of notes. Each member who is newly mentioned is a fact of its own, note.mentioned.
var Notes = notes{record.Set[Note]{
	Noun: "note", Table: "notes",
	Select: `SELECT id, lead_id, contact_id, account_id, deal_id, author_id, body, coalesce(html, '') AS html, mentions, pinned, created_at, updated_at, version FROM notes notes`,
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
	made, err := alsoWriting(s.Set, "author_id").Create(ctx, tx, n)
	if err != nil {
		return made, err
	}
	if err := s.render(ctx, tx, a.Org, &made); err != nil {
		return made, err
	}
	return made, s.mentioned(ctx, tx, a, nil, &made)
}

// List returns one page of notes.
func (s notes) List(ctx context.Context, tx pgx.Tx, q tandem.Query) (tandem.Page[Note], error) {
	p, err := s.Set.List(ctx, tx, q)
	for i := range p.Items {
		p.Items[i].shown()
	}
	return p, err
}

// Get returns one note.
func (s notes) Get(ctx context.Context, tx pgx.Tx, id tandem.ID) (Note, error) {
	n, err := s.Set.Get(ctx, tx, id)
	n.shown()
	return n, err
}

// Restore brings an archived note back.
func (s notes) Restore(ctx context.Context, tx pgx.Tx, id tandem.ID) (Note, error) {
	n, err := s.Set.Restore(ctx, tx, id)
	n.shown()
	return n, err
}

// shown makes the HTML of a note that is older than its column.
func (n *Note) shown() {
	if n.HTML == "" && n.Body != "" {
		n.HTML = richtext.HTML(n.Body)
	}
}

// render keeps the body as HTML: it is read far more often than it is written.
func (s notes) render(ctx context.Context, tx pgx.Tx, org tandem.ID, n *Note) error {
	const sqlRender = `UPDATE notes SET html = @html WHERE org_id = @org AND id = @id`
	n.HTML = richtext.HTML(n.Body)
	if _, err := tx.Exec(ctx, sqlRender, pgx.StrictNamedArgs{"org": org, "id": n.ID, "html": n.HTML}); err != nil {
		return fmt.Errorf("render a note: %w", err)
	}
	return nil
}

// mentioned tells of each member whom the note mentions and did not mention before.
func (s notes) mentioned(ctx context.Context, tx pgx.Tx, a tandem.Actor, before []tandem.ID, n *Note) error {
	var facts events.Many
	for _, id := range n.Mentions {
		if slices.Contains(before, id) {
			continue
		}
		if err := facts.Add(ctx, tandem.Event{
			Noun: s.Noun, Verb: "mentioned", Record: n.ID, Lead: tandem.Deref(n.LeadID), Category: s.Category, Severity: "info",
			Description: a.Name + " mentioned a member in a note", Changes: []tandem.Change{{Field: "member_id", New: id}},
		}); err != nil {
			return fmt.Errorf("note mentioned: %w", err)
		}
	}
	if err := facts.Flush(ctx, tx); err != nil {
		return fmt.Errorf("note mentioned: %w", err)
	}
	return nil
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
		n, err := s.Set.Patch(ctx, tx, id, raw, version)
		n.shown()
		return n, err
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
	n, err := s.Set.Patch(ctx, tx, id, raw, version)
	if err != nil {
		return n, err
	}
	if n.Body == old.Body {
		n.shown()
	} else if err := s.render(ctx, tx, a.Org, &n); err != nil {
		return n, err
	}
	return n, s.mentioned(ctx, tx, a, old.Mentions, &n)
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
