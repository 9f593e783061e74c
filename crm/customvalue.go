package crm

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/internal/record"
)

// customized is a set of records that have custom values: what is written through it is checked by the organization's
// definitions, and its lists can be filtered and sorted by them. What comes in from outside (Resolve, OpenOrFind) is not
// written through it: nothing is lost or refused because of a definition, and a value that does not fit is kept as it came.
type customized[T any] struct {
	record.Set[T]
	parts func(*T) (*tandem.ID, *map[string]any) // a record's id and its custom values
}

const sqlFields = `
SELECT id, record_type, key, label, description, type, required, is_unique, default_value, options, validation, target, position, ai_may_write,
	created_at, updated_at, version
FROM custom_fields WHERE org_id = @org AND record_type = @type AND archived_at IS NULL ORDER BY position, id LIMIT 200`

// fieldsOf are the live definitions for a type of record. With hold they stay what they are until the transaction ends.
func fieldsOf(ctx context.Context, tx pgx.Tx, org tandem.ID, recordType string, hold bool) (all []CustomField, err error) {
	b := &pgx.Batch{}
	if hold {
		b.Queue(sqlFollowFields, pgx.StrictNamedArgs{"org": org})
	}
	b.Queue(sqlFields, pgx.StrictNamedArgs{"org": org, "type": recordType}).Query(func(rows pgx.Rows) error {
		all, err = pgx.CollectRows(rows, pgx.RowToStructByName[CustomField])
		return err
	})
	if err := tx.SendBatch(ctx, b).Close(); err != nil {
		return nil, fmt.Errorf("read custom fields: %w", err)
	}
	return all, nil
}

func fieldOf(fields []CustomField, key string) *CustomField {
	if i := slices.IndexFunc(fields, func(f CustomField) bool { return f.Key == key }); i >= 0 {
		return &fields[i]
	}
	return nil
}

// Create adds a record whose custom values are checked; what it does not name gets its default.
func (s customized[T]) Create(ctx context.Context, tx pgx.Tx, v T) (T, error) {
	fields, err := s.ready(ctx, tx, &v, s.Check)
	if err != nil {
		return v, err
	}
	made, err := s.Set.Create(ctx, tx, v)
	if err != nil {
		return made, err
	}
	return made, s.settle(ctx, tx, fields, &made)
}

// ready brings the custom values of a record that is to be added into their form. What else check finds wrong is told in
// the same answer.
func (s customized[T]) ready(ctx context.Context, tx pgx.Tx, v *T, check func(*T) error) ([]CustomField, error) {
	a, err := s.May(ctx, "write")
	if err != nil {
		return nil, err
	}
	fields, err := fieldsOf(ctx, tx, a.Org, s.Noun, true)
	if err != nil {
		return nil, err
	}
	var wrong []tandem.FieldError
	if check != nil {
		err := check(v)
		if wrong = tandem.FieldErrors(err); err != nil && len(wrong) == 0 {
			return nil, err
		}
	}
	_, custom := s.parts(v)
	asked, c := *custom, change{fields: fields, actor: a}
	if *custom, err = c.apply(ctx, tx, nil, asked); err != nil {
		return nil, err
	}
	for i := range fields {
		c.complete(&fields[i], asked, *custom)
	}
	if wrong = append(wrong, c.wrong...); len(wrong) > 0 {
		return nil, tandem.InvalidFields(wrong...)
	}
	return fields, nil
}

// settle takes possession of the unique values of a record that is as it shall be: those of keys, or all.
func (s customized[T]) settle(ctx context.Context, tx pgx.Tx, fields []CustomField, v *T, keys ...string) error {
	var ids []tandem.ID
	for _, f := range fields {
		if f.IsUnique && (len(keys) == 0 || slices.Contains(keys, f.Key)) {
			ids = append(ids, f.ID)
		}
	}
	if len(ids) == 0 {
		return nil
	}
	a, err := tandem.ActorFrom(ctx)
	if err != nil {
		return err
	}
	id, _ := s.parts(v)
	args := pgx.StrictNamedArgs{"org": a.Org, "record": *id, "fields": ids}
	if _, err := tx.Exec(ctx, sqlRelease+" AND field_id = ANY(@fields)", args); err != nil {
		return fmt.Errorf("release unique values: %w", err)
	}
	label, err := claim(ctx, tx, s.Table, " AND r.id = @record", args)
	if err == nil && label != "" {
		err = tandem.Errorf(tandem.Conflict, "Another %s has this %s.", s.Noun, label)
	}
	return err
}

const (
	sqlRelease = `DELETE FROM custom_uniques WHERE org_id = @org AND record_id = @record`
	// The first %s is a table of a set, the second a condition. In the order of the key, so that two of them wait for each
	// other instead of locking up.
	sqlClaim = `
WITH wanted AS (
	SELECT f.id AS field, f.label, r.id AS record, tandem_unique(r.custom->f.key) AS value
	FROM custom_fields f JOIN %s r ON r.org_id = f.org_id
	WHERE f.org_id = @org AND f.id = ANY(@fields) AND r.archived_at IS NULL AND tandem_unique(r.custom->f.key) IS NOT NULL%s),
taken AS (
	INSERT INTO custom_uniques (org_id, field_id, value, record_id)
	SELECT @org, field, value, record FROM wanted ORDER BY field, value
	ON CONFLICT DO NOTHING RETURNING field_id, record_id)
SELECT label FROM wanted w WHERE NOT EXISTS (SELECT FROM taken t WHERE t.field_id = w.field AND t.record_id = w.record) LIMIT 1`
)

// claim enters the unique values of records and returns the label of a field whose value another record has, or nothing.
func claim(ctx context.Context, tx pgx.Tx, table, which string, args pgx.StrictNamedArgs) (string, error) {
	rows, _ := tx.Query(ctx, fmt.Sprintf(sqlClaim, table, which), args) // CollectRows tells its error
	labels, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return "", fmt.Errorf("claim unique values: %w", err)
	}
	return strings.Join(labels, ""), nil
}

// Patch changes a record as record.Set does, and of its custom values those that raw names: null removes one.
func (s customized[T]) Patch(ctx context.Context, tx pgx.Tx, id tandem.ID, raw json.RawMessage, version *int64) (v T, err error) {
	rest, own, err := apart(raw, "custom")
	if err != nil || own["custom"] == nil {
		return s.Set.Patch(ctx, tx, id, raw, version)
	}
	a, err := s.May(ctx, "write")
	if err != nil {
		return v, err
	}
	var asked map[string]any
	if json.Unmarshal(own["custom"], &asked) != nil || asked == nil {
		return v, tandem.InvalidFields(tandem.FieldError{Field: "custom", Message: "Give an object with the custom fields to change."})
	}
	fields, err := fieldsOf(ctx, tx, a.Org, s.Noun, true)
	if err != nil {
		return v, err
	}
	if v, err = s.Load(ctx, tx, id, true); err != nil {
		return v, err
	}
	c := change{fields: fields, actor: a}
	_, custom := s.parts(&v)
	merged, err := c.apply(ctx, tx, *custom, asked)
	if err == nil && len(c.wrong) > 0 {
		err = tandem.InvalidFields(c.wrong...)
	}
	if err != nil {
		return v, err
	}
	if raw, err = with(rest, "custom", merged); err != nil {
		return v, err
	}
	if v, err = s.Set.Patch(ctx, tx, id, raw, version); err != nil || len(asked) == 0 {
		return v, err
	}
	return v, s.settle(ctx, tx, fields, &v, slices.Collect(maps.Keys(asked))...)
}

// with adds a member to an object.
func with(object json.RawMessage, name string, v any) (json.RawMessage, error) {
	var all map[string]json.RawMessage
	if err := json.Unmarshal(object, &all); err != nil {
		return nil, err
	}
	part, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	all[name] = part
	return json.Marshal(all)
}

// Archive hides a record; its unique values are free.
func (s customized[T]) Archive(ctx context.Context, tx pgx.Tx, id tandem.ID, version *int64) error {
	a, err := s.May(ctx, "write")
	if err != nil {
		return err
	}
	if _, err := fieldsOf(ctx, tx, a.Org, s.Noun, true); err != nil {
		return err
	}
	if err := s.Set.Archive(ctx, tx, id, version); err != nil {
		return err
	}
	if _, err := tx.Exec(ctx, sqlRelease, pgx.StrictNamedArgs{"org": a.Org, "record": id}); err != nil {
		return fmt.Errorf("release unique values: %w", err)
	}
	return nil
}

// Restore brings an archived record back. It is Conflict while another record has one of its unique values.
func (s customized[T]) Restore(ctx context.Context, tx pgx.Tx, id tandem.ID) (v T, err error) {
	a, err := s.May(ctx, "write")
	if err != nil {
		return v, err
	}
	fields, err := fieldsOf(ctx, tx, a.Org, s.Noun, true)
	if err != nil {
		return v, err
	}
	if v, err = s.Set.Restore(ctx, tx, id); err != nil {
		return v, err
	}
	return v, s.settle(ctx, tx, fields, &v)
}

// List returns one page as record.Set does; the query may name custom fields as custom.key.
func (s customized[T]) List(ctx context.Context, tx pgx.Tx, q tandem.Query) (tandem.Page[T], error) {
	a, err := s.May(ctx, "read")
	if err != nil || !asksCustom(q) {
		return s.Set.List(ctx, tx, q)
	}
	fields, err := fieldsOf(ctx, tx, a.Org, s.Noun, false)
	if err != nil {
		return tandem.Page[T]{}, err
	}
	set := s.Set
	set.Fields = slices.Clone(set.Fields)
	for i := range fields {
		set.Fields = append(set.Fields, fields[i].field(s.alias()))
	}
	return set.List(ctx, tx, q)
}

func (s customized[T]) alias() string {
	if s.Alias != "" {
		return s.Alias
	}
	return s.Table
}

const customPrefix = "custom."

// asksCustom reports whether a query names a custom field.
func asksCustom(q tandem.Query) bool {
	named := strings.HasPrefix(strings.TrimPrefix(q.Sort, "-"), customPrefix) || q.Where != nil && whereCustom(*q.Where)
	for name := range q.Filter {
		named = named || strings.HasPrefix(name, customPrefix)
	}
	return named
}

func whereCustom(w tandem.Where) bool {
	return strings.HasPrefix(w.Field, customPrefix) || slices.ContainsFunc(w.And, whereCustom) || slices.ContainsFunc(w.Or, whereCustom)
}

// SetCustom sets one custom value of a record from what a model writes; an empty text removes it. An AI member may set what
// its definition leaves to AI members, also of a record that it may only read: the definition is the permission, for whoever
// may write leads.
func (s customized[T]) SetCustom(ctx context.Context, tx pgx.Tx, id tandem.ID, key, text string) (v T, err error) {
	a, err := tandem.ActorFrom(ctx)
	if err != nil {
		return v, err
	}
	if byMachine(a) {
		if err := a.Require("lead:write"); err != nil {
			return v, err
		}
		a.Grants = maps.Clone(a.Grants)
		a.Grants[s.Noun+":write"] = true
		ctx = tandem.WithActor(ctx, a)
	}
	fields, err := fieldsOf(ctx, tx, a.Org, s.Noun, true)
	if err != nil {
		return v, err
	}
	var value any = text
	if f := fieldOf(fields, key); f != nil {
		value = f.ofText(text)
	}
	raw, err := with(json.RawMessage("{}"), "custom", map[string]any{key: value})
	if err != nil {
		return v, err
	}
	return s.Patch(ctx, tx, id, raw, nil)
}
