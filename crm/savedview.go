package crm

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/internal/record"
)

// SavedView is a list of records as a member likes to see it. One that is not shared is seen by its owner alone.
type SavedView struct {
	ID         tandem.ID `json:"id" db:"id"`
	OwnerID    tandem.ID `json:"owner_id" db:"owner_id" doc:"The member who saved it."`
	Name       string    `json:"name" db:"name" example:"Hot leads"`
	RecordType string    `json:"record_type" db:"record_type" example:"lead" doc:"The kind of record it lists, as in the events: lead, contact, account and so on."`
	Query      ViewQuery `json:"query" db:"query"`
	Shared     bool      `json:"shared" db:"shared" doc:"Whether everybody sees it, or its owner alone."`
	Position   int32     `json:"position" db:"position" doc:"Where it stands among others, the least first."`
	CreatedAt  time.Time `json:"created_at" db:"created_at"`
	UpdatedAt  time.Time `json:"updated_at" db:"updated_at"`
	Version    int64     `json:"version" db:"version"`
}

// ViewQuery is what a saved view asks the list of its records for.
type ViewQuery struct {
	Filter map[string]string `json:"filter,omitempty" doc:"Fields and the values they must have."`
	Where  *tandem.Where     `json:"where,omitempty"`
	Sort   string            `json:"sort,omitempty" maxLength:"100"`
	Fields []string          `json:"fields,omitempty" maxItems:"100" doc:"The fields to show, custom ones as custom.key; all when empty."`
}

// UnmarshalJSON refuses members that a query does not have, which would be lost without a word.
func (q *ViewQuery) UnmarshalJSON(b []byte) error {
	type plain ViewQuery
	return strictly(b, (*plain)(q))
}

type savedViews struct{ record.Set[SavedView] }

// SavedViews is the set of saved views. Their facts say nothing of what a view is, since some are for one member only.
var SavedViews = savedViews{record.Set[SavedView]{
	Noun: "saved_view", Table: "saved_views", Word: "saved view",
	Fields: []record.Field{
		{Name: "owner_id", Type: record.ID, Filter: true},
		{Name: "name", Filter: true, Write: true, Needed: true, Hidden: true},
		{Name: "record_type", Filter: true, Once: true, Needed: true},
		{Name: "query", Write: true, Hidden: true},
		{Name: "shared", Type: record.Bool, Filter: true, Write: true},
		{Name: "position", Type: record.Int, Filter: true, Write: true, Sort: "saved_views.position"},
		{Name: "created_at", Type: record.Time, Filter: true},
		{Name: "updated_at", Type: record.Time, Filter: true},
	},
	Scope:      " AND (saved_views.shared OR saved_views.owner_id = @me)",
	Archivable: true, Category: "crm", Check: checkSavedView,
}}

func checkSavedView(v *SavedView) error {
	if v.Name = clean(v.Name, 120); v.Name == "" {
		return tandem.InvalidFields(tandem.FieldError{Field: "name", Message: "A saved view needs a name."})
	}
	return nil
}

// Create saves a view of the actor's own. A query that its list would not answer is Invalid, and so is a kind of record
// that has no list; one that the actor may not read is Forbidden.
func (s savedViews) Create(ctx context.Context, tx pgx.Tx, v SavedView) (SavedView, error) {
	a, err := s.May(ctx, "write")
	if err != nil {
		return v, err
	}
	if a.Member == "" {
		return v, tandem.Errorf(tandem.Forbidden, "Only a member can save a view.")
	}
	if err := v.try(ctx, tx); err != nil {
		return v, err
	}
	v.OwnerID = a.Member
	return alsoWriting(s.Set, "owner_id").Create(ctx, tx, v)
}

// Patch changes a view as record.Set does. Only its owner may say who sees it: for others that is Forbidden.
func (s savedViews) Patch(ctx context.Context, tx pgx.Tx, id tandem.ID, raw json.RawMessage, version *int64) (SavedView, error) {
	a, err := s.May(ctx, "write")
	if err != nil {
		return SavedView{}, err
	}
	old, err := s.Load(ctx, tx, id, true)
	if err != nil {
		return old, err
	}
	var asked struct {
		Query  json.RawMessage `json:"query"`
		Shared *bool           `json:"shared"`
	}
	_ = json.Unmarshal(raw, &asked) // what cannot be read, the set refuses
	if asked.Shared != nil && *asked.Shared != old.Shared && old.OwnerID != a.Member {
		return old, tandem.Errorf(tandem.Forbidden, "Only its owner may say who sees a saved view.")
	}
	asks := SavedView{RecordType: old.RecordType}
	if asked.Query != nil && json.Unmarshal(asked.Query, &asks.Query) == nil {
		if err := asks.try(ctx, tx); err != nil {
			return old, err
		}
	}
	return s.Set.Patch(ctx, tx, id, raw, version)
}

// try asks for the list as the view would.
func (v *SavedView) try(ctx context.Context, tx pgx.Tx) error {
	i := slices.IndexFunc(All, func(r Resource) bool { return r.Noun == v.RecordType })
	if i < 0 {
		return tandem.InvalidFields(tandem.FieldError{Field: "record_type", Message: "There is no list of such records."})
	}
	a, err := tandem.ActorFrom(ctx)
	if err != nil {
		return err
	}
	var custom []CustomField
	if slices.ContainsFunc(v.Query.Fields, func(f string) bool { return strings.HasPrefix(f, customPrefix) }) {
		if custom, err = fieldsOf(ctx, tx, a.Org, v.RecordType, false); err != nil {
			return err
		}
	}
	for _, f := range v.Query.Fields {
		key, isCustom := strings.CutPrefix(f, customPrefix)
		if isCustom && fieldOf(custom, key) == nil || !isCustom && !All[i].Shows(f) {
			return tandem.InvalidFields(tandem.FieldError{Field: "query.fields", Message: "A record of this kind has no field " + tandem.Clip(f, 40) + "."})
		}
	}
	_, err = All[i].List(ctx, tx, tandem.Query{Filter: v.Query.Filter, Where: v.Query.Where, Sort: v.Query.Sort, Limit: 1})
	return err
}
