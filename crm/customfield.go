package crm

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/internal/record"
)

// CustomField defines a member of the custom values that records of one type have.
type CustomField struct {
	ID           tandem.ID       `json:"id" db:"id"`
	RecordType   string          `json:"record_type" db:"record_type" enum:"contact,account,lead,deal"`
	Key          string          `json:"key" db:"key" example:"seats" doc:"Its name in custom: lower-case letters, digits and underscores, a letter first, at most 40. Set once, and each once per type of record."`
	Label        string          `json:"label" db:"label" example:"Seats" doc:"What people call it."`
	Description  string          `json:"description" db:"description"`
	Type         string          `json:"type" db:"type" enum:"text,long_text,number,money,date,datetime,select,multi_select,checkbox,url,email,phone,user,relation" doc:"Set once."`
	Required     bool            `json:"required" db:"required" doc:"A record added through the API needs a value, and keeps one."`
	IsUnique     bool            `json:"is_unique" db:"is_unique" doc:"No two records that are not archived have the same value, whatever its case. What comes in from outside is not compared."`
	DefaultValue json.RawMessage `json:"default_value,omitempty" db:"default_value" doc:"What a record added through the API gets that names no value; null for nothing, and left out then."`
	Options      []FieldOption   `json:"options" db:"options" nullable:"false" doc:"Of select and multi_select. One that a record has cannot be taken away."`
	Validation   FieldRules      `json:"validation" db:"validation"`
	Target       *string         `json:"target" db:"target" enum:"contact,account,lead,deal" doc:"The type of record that a relation names. Set once."`
	Position     int32           `json:"position" db:"position" doc:"Where it stands among others, the least first."`
	AIMayWrite   bool            `json:"ai_may_write" db:"ai_may_write" doc:"Whether AI members may set it. Never of user and relation."`
	CreatedAt    time.Time       `json:"created_at" db:"created_at"`
	UpdatedAt    time.Time       `json:"updated_at" db:"updated_at"`
	Version      int64           `json:"version" db:"version"`
}

// FieldOption is one value of a select.
type FieldOption struct {
	Value string  `json:"value" example:"pro" doc:"What records have; at most 60 characters, without a comma."`
	Label string  `json:"label,omitempty" example:"Professional" doc:"What people read; the value when left out."`
	Color *string `json:"color,omitempty" example:"#2f6fed"`
}

// FieldRules is what values must be besides being of their type.
type FieldRules struct {
	Min       *float64 `json:"min,omitempty" doc:"Of number; of money in minor units."`
	Max       *float64 `json:"max,omitempty"`
	MinLength *int     `json:"min_length,omitempty" doc:"Of text and long_text, in characters."`
	MaxLength *int     `json:"max_length,omitempty"`
	Pattern   string   `json:"pattern,omitempty" maxLength:"200" doc:"Of text and long_text: an RE2 expression that the whole value matches."`
}

// UnmarshalJSON refuses members that an option does not have.
func (o *FieldOption) UnmarshalJSON(b []byte) error {
	type plain FieldOption
	return strictly(b, (*plain)(o))
}

// UnmarshalJSON refuses rules that there are not.
func (r *FieldRules) UnmarshalJSON(b []byte) error {
	type plain FieldRules
	return strictly(b, (*plain)(r))
}

// strictly decodes an object and refuses members that would be lost without a word.
func strictly(b []byte, to any) error {
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	return d.Decode(to)
}

type customFields struct{ record.Set[CustomField] }

// CustomFields is the set of definitions. AI members may read them and write none.
var CustomFields = customFields{record.Set[CustomField]{
	Noun: "custom_field", Table: "custom_fields", Word: "custom field",
	Fields: []record.Field{
		{Name: "record_type", Filter: true, Once: true, Needed: true},
		{Name: "key", Filter: true, Once: true, Needed: true},
		{Name: "label", Filter: true, Write: true, Needed: true},
		{Name: "description", Write: true},
		{Name: "type", Filter: true, Once: true, Needed: true},
		{Name: "required", Type: record.Bool, Filter: true, Write: true},
		{Name: "is_unique", Type: record.Bool, Filter: true, Write: true},
		{Name: "default_value", Write: true},
		{Name: "options", Write: true},
		{Name: "validation", Write: true},
		{Name: "target", Filter: true, Once: true},
		{Name: "position", Type: record.Int, Filter: true, Write: true, Sort: "custom_fields.position"},
		{Name: "ai_may_write", Type: record.Bool, Filter: true, Write: true},
		{Name: "created_at", Type: record.Time, Filter: true},
		{Name: "updated_at", Type: record.Time, Filter: true},
	},
	Search:     []string{"custom_fields.label"},
	Archivable: true, Label: "label", Category: "crm", Check: checkCustomField,
}}

var definable = []string{"contact", "account", "lead", "deal"} // the types of record that have custom fields

const (
	maxFields  = 100 // live ones of one type of record
	maxOptions = 200
	maxPattern = 200 // bytes
)

var keyForm = regexp.MustCompile(`^[a-z][a-z0-9_]{0,39}$`)

func checkCustomField(f *CustomField) error {
	var wrong []tandem.FieldError
	refuse := func(field, message string) {
		wrong = append(wrong, tandem.FieldError{Field: field, Message: message})
	}
	if !slices.Contains(definable, f.RecordType) {
		refuse("record_type", "Choose contact, account, lead or deal.")
	}
	if !keyForm.MatchString(f.Key) {
		refuse("key", "Write at most 40 lower-case letters, digits and underscores, a letter first.")
	}
	if f.Label = clean(f.Label, 120); f.Label == "" {
		refuse("label", "A custom field needs a label.")
	}
	f.Description = clean(f.Description, 1000)
	t, ok := customTypes[f.Type]
	if !ok {
		refuse("type", "There is no such type of field.")
		return tandem.InvalidFields(wrong...)
	}
	if f.IsUnique && !t.unique {
		refuse("is_unique", "Values of this type are never unique.")
	}
	if (f.Target != nil) != (f.Type == "relation") || f.Target != nil && !slices.Contains(definable, *f.Target) {
		refuse("target", "A relation, and nothing else, has a target: contact, account, lead or deal.")
	}
	if f.AIMayWrite && (f.Type == "user" || f.Type == "relation") {
		refuse("ai_may_write", "AI members never choose records or members.")
	}
	wrong = f.checkOptions(wrong)
	wrong = f.Validation.check(t, wrong)
	if len(wrong) == 0 {
		wrong = f.checkDefault(wrong)
	}
	if len(wrong) > 0 {
		return tandem.InvalidFields(wrong...)
	}
	return nil
}

func (f *CustomField) checkOptions(wrong []tandem.FieldError) []tandem.FieldError {
	refuse := func(message string) []tandem.FieldError {
		return append(wrong, tandem.FieldError{Field: "options", Message: message})
	}
	chooses := f.Type == "select" || f.Type == "multi_select"
	if chooses != (len(f.Options) > 0) || len(f.Options) > maxOptions {
		return refuse("A select or multi_select, and nothing else, has options, at most 200.")
	}
	seen := map[string]bool{}
	for i := range f.Options {
		o := &f.Options[i]
		value := clean(o.Value, 61)
		if o.Label = clean(o.Label, 120); o.Label == "" {
			o.Label = value
		}
		if value == "" || len([]rune(value)) > 60 || value != o.Value || strings.Contains(value, ",") || seen[value] {
			return refuse("An option needs a value of its own of at most 60 characters, without a comma.")
		}
		seen[value] = true
		if o.Color != nil && !colorForm.MatchString(*o.Color) {
			return refuse("Write a color such as #2f6fed, or null for none.")
		}
	}
	return wrong
}

// checkDefault brings the default into the one spelling of its type.
func (f *CustomField) checkDefault(wrong []tandem.FieldError) []tandem.FieldError {
	refuse := func(message string) []tandem.FieldError {
		return append(wrong, tandem.FieldError{Field: "default_value", Message: message})
	}
	v, msg := f.read(f.preset())
	switch {
	case msg != "":
		return refuse(msg)
	case v == nil:
		f.DefaultValue = nil
		return wrong
	case f.IsUnique || f.Type == "relation" || f.Type == "user":
		return refuse("A field that is unique, or names a record or a member, has no default.")
	}
	b, err := json.Marshal(v)
	if err != nil {
		return refuse("This cannot be stored.")
	}
	f.DefaultValue = b
	return wrong
}

// preset is the default as a decoded value, or nil.
func (f *CustomField) preset() (v any) {
	if json.Unmarshal(f.DefaultValue, &v) != nil {
		return nil
	}
	return v
}

func (f *CustomField) offers(value string) bool {
	return slices.ContainsFunc(f.Options, func(o FieldOption) bool { return o.Value == value })
}

// choices names the options' values, as far as a sentence can.
func (f *CustomField) choices() string {
	var all []string
	for _, o := range f.Options {
		all = append(all, o.Value)
	}
	return tandem.Clip(strings.Join(all, ", "), 300)
}

// Create adds a definition. Of a unique one the values that records already have must differ: Conflict. So is one more than
// a hundred for a type of record.
func (s customFields) Create(ctx context.Context, tx pgx.Tx, f CustomField) (CustomField, error) {
	if err := s.change(ctx, tx); err != nil {
		return f, err
	}
	f, err := s.Set.Create(ctx, tx, f)
	if err != nil {
		return f, err
	}
	return f, s.begin(ctx, tx, &f)
}

// Patch changes a definition as record.Set does. It is Conflict to take away an option that a record has, and to make a
// field unique of which two records have the same value. What records already have is not looked at otherwise.
func (s customFields) Patch(ctx context.Context, tx pgx.Tx, id tandem.ID, raw json.RawMessage, version *int64) (CustomField, error) {
	if err := s.change(ctx, tx); err != nil {
		return CustomField{}, err
	}
	old, err := s.Load(ctx, tx, id, true)
	if err != nil {
		return old, err
	}
	f, err := s.Set.Patch(ctx, tx, id, raw, version)
	if err != nil {
		return f, err
	}
	for _, o := range old.Options {
		if !f.offers(o.Value) {
			if err := s.unused(ctx, tx, &f, o); err != nil {
				return f, err
			}
		}
	}
	switch {
	case f.IsUnique && !old.IsUnique:
		err = s.begin(ctx, tx, &f)
	case old.IsUnique && !f.IsUnique:
		err = s.forget(ctx, tx, &f)
	}
	return f, err
}

// Archive ends a definition. Values of records stay as they are and may be removed.
func (s customFields) Archive(ctx context.Context, tx pgx.Tx, id tandem.ID, version *int64) error {
	if err := s.change(ctx, tx); err != nil {
		return err
	}
	if err := s.Set.Archive(ctx, tx, id, version); err != nil {
		return err
	}
	return s.forget(ctx, tx, &CustomField{ID: id})
}

// Restore brings a definition back, under the conditions of a new one.
func (s customFields) Restore(ctx context.Context, tx pgx.Tx, id tandem.ID) (CustomField, error) {
	if err := s.change(ctx, tx); err != nil {
		return CustomField{}, err
	}
	f, err := s.Set.Restore(ctx, tx, id)
	if err != nil {
		return f, err
	}
	if err := s.forget(ctx, tx, &f); err != nil {
		return f, err
	}
	return f, s.begin(ctx, tx, &f)
}

// Whoever changes definitions waits for those who write custom values and keeps others out until the transaction ends, and
// so nobody writes by a definition that is no more.
const (
	sqlChangeFields = `SELECT pg_advisory_xact_lock(hashtextextended('custom fields ' || @org::text, 0))`
	sqlFollowFields = `SELECT pg_advisory_xact_lock_shared(hashtextextended('custom fields ' || @org::text, 0))`
)

// change asks whether the actor may write definitions, and lets nobody else near them.
func (s customFields) change(ctx context.Context, tx pgx.Tx) error {
	a, err := s.May(ctx, "write")
	if err != nil {
		return err
	}
	if byMachine(a) {
		return tandem.Errorf(tandem.Forbidden, "Only a person may define custom fields.")
	}
	if _, err := tx.Exec(ctx, sqlChangeFields, pgx.StrictNamedArgs{"org": a.Org}); err != nil {
		return fmt.Errorf("wait for those who write custom values: %w", err)
	}
	return nil
}

const sqlCountFields = `SELECT count(*) FROM custom_fields WHERE org_id = @org AND record_type = @type AND archived_at IS NULL`

// begin is for a definition that now holds: it may not be one too many, and when it is unique its values must be.
func (s customFields) begin(ctx context.Context, tx pgx.Tx, f *CustomField) error {
	a, err := tandem.ActorFrom(ctx)
	if err != nil {
		return err
	}
	var n int
	if err := tx.QueryRow(ctx, sqlCountFields, pgx.StrictNamedArgs{"org": a.Org, "type": f.RecordType}).Scan(&n); err != nil {
		return fmt.Errorf("count custom fields: %w", err)
	}
	if n > maxFields {
		return tandem.Errorf(tandem.Conflict, "A %s has at most %d custom fields.", f.RecordType, maxFields)
	}
	table := tableOf(f.RecordType)
	if !f.IsUnique || table == "" {
		return nil
	}
	label, err := claim(ctx, tx, table, "", pgx.StrictNamedArgs{"org": a.Org, "fields": []tandem.ID{f.ID}})
	if err == nil && label != "" {
		err = tandem.Errorf(tandem.Conflict, "Some records have the same %s, so it cannot be unique.", label)
	}
	return err
}

const sqlForgetField = `DELETE FROM custom_uniques WHERE org_id = @org AND field_id = @id`

// forget is for a field that is no longer unique.
func (s customFields) forget(ctx context.Context, tx pgx.Tx, f *CustomField) error {
	a, err := tandem.ActorFrom(ctx)
	if err != nil {
		return err
	}
	if _, err := tx.Exec(ctx, sqlForgetField, pgx.StrictNamedArgs{"org": a.Org, "id": f.ID}); err != nil {
		return fmt.Errorf("forget unique values: %w", err)
	}
	return nil
}

// sqlUsed has %s for a table of crm.All. Archived records count too: they may be restored.
const sqlUsed = `
SELECT EXISTS (SELECT FROM %s r WHERE r.org_id = @org AND r.custom <> '{}'
	AND (r.custom @> jsonb_build_object(@key::text, @value::text) OR r.custom @> jsonb_build_object(@key::text, jsonb_build_array(@value::text))))`

// unused refuses to take away an option that a record has.
func (s customFields) unused(ctx context.Context, tx pgx.Tx, f *CustomField, o FieldOption) error {
	a, err := tandem.ActorFrom(ctx)
	table := tableOf(f.RecordType)
	if err != nil || table == "" {
		return err
	}
	var used bool
	sql := fmt.Sprintf(sqlUsed, table)
	if err := tx.QueryRow(ctx, sql, pgx.StrictNamedArgs{"org": a.Org, "key": f.Key, "value": o.Value}).Scan(&used); err != nil {
		return fmt.Errorf("look for an option: %w", err)
	}
	if used {
		return tandem.Errorf(tandem.Conflict, "The option %s cannot be taken away: there are records that have it. It can get another label.", o.Value)
	}
	return nil
}

// tableOf is the table of a type of record that has custom fields, or empty where crm lists none.
func tableOf(recordType string) string {
	for _, r := range All {
		if r.Noun == recordType && r.Shows("custom") {
			return r.Table
		}
	}
	return ""
}
