package record

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/internal/events"
	"github.com/tandemhq/tandem/internal/mutant"
	"github.com/tandemhq/tandem/internal/pg"
)

// Create inserts v and emits Noun.created. Its id is v's own, or a fresh one when that is
// empty; fields that are not declared Write or Once take the table's defaults. It returns
// the record as the database holds it. A value that must be unique and is taken is Conflict.
func (s Set[T]) Create(ctx context.Context, tx pgx.Tx, v T) (T, error) {
	a, err := s.May(ctx, "write")
	if err != nil {
		return v, err
	}
	if s.Check != nil {
		if err := s.Check(&v); err != nil {
			return v, err
		}
	}
	_, id := s.key(&v)
	id = cmp.Or(id, tandem.NewID())
	cols, marks := []string{"org_id", "id"}, []string{"@org_id", "@id"}
	args := pgx.StrictNamedArgs{"org_id": a.Org, "id": id}
	var changes []tandem.Change
	for _, f := range s.Fields {
		if !f.Write && !f.Once {
			continue
		}
		val := s.at(&v, f.Name)
		if !val.IsValid() {
			return v, fmt.Errorf("create %s: no db tag %q", s.Noun, f.Name)
		}
		if slices.Contains(nilable, val.Kind()) && val.IsNil() {
			continue // the column's default
		}
		cols, marks = append(cols, f.Name), append(marks, "@"+f.Name)
		args[f.Name] = param(val)
		changes = append(changes, became(f, reflect.Value{}, val)...)
	}
	sql := "INSERT INTO " + s.Table + " (" + strings.Join(cols, ", ") + ") VALUES (" + strings.Join(marks, ", ") + ")"
	if _, err := tx.Exec(ctx, sql, args); err != nil {
		return v, fmt.Errorf("create %s: %w", s.Noun, pg.Refusal(err, s.word()))
	}
	made, err := s.load(ctx, tx, a, id, "")
	if err != nil {
		return v, err
	}
	return made, s.emit(ctx, tx, a, "created", &made, changes, "added the "+s.word()+s.name(&made))
}

// Patch changes the fields that raw, a JSON object, names, and emits Noun.updated with what
// changed. Unknown and read-only fields are Invalid. With version not nil and not the row's
// version, it is Conflict: somebody else changed the record first. A patch that changes
// nothing writes nothing.
func (s Set[T]) Patch(ctx context.Context, tx pgx.Tx, id tandem.ID, raw json.RawMessage, version *int64) (v T, err error) {
	a, err := s.May(ctx, "write")
	if err != nil {
		return v, err
	}
	asked, err := s.asked(raw, func(f Field) bool { return f.Write })
	if err != nil {
		return v, err
	}
	if mutant.Is("foreign-404-after-write") {
		_, _ = tx.Exec(ctx, "UPDATE "+s.Table+" SET created_at = created_at - interval '1 hour' WHERE id = $1", id)
	}
	old, err := s.Load(ctx, tx, id, true)
	if err != nil {
		return v, err
	}
	if err := s.current(&old, version); err != nil {
		return v, err
	}
	v = old
	err = refused(s.decode(&v, asked))
	if err == nil && s.Check != nil {
		err = s.Check(&v)
	}
	if err != nil {
		return old, err
	}
	var sets, names []string
	var changes []tandem.Change
	args := pgx.StrictNamedArgs{"org_id": a.Org, "id": id}
	for _, f := range s.Fields {
		was, now := s.at(&old, f.Name), s.at(&v, f.Name)
		if _, ok := asked[f.Name]; !ok || same(was, now) {
			continue
		}
		sets = append(sets, f.Name+" = @"+f.Name)
		args[f.Name] = param(now)
		changes = append(changes, became(f, was, now)...)
	}
	for _, c := range changes {
		names = append(names, strings.ReplaceAll(c.Field[strings.LastIndex(c.Field, ".")+1:], "_", " "))
	}
	if len(sets) == 0 {
		return old, nil
	}
	sql := "UPDATE " + s.Table + " SET " + strings.Join(sets, ", ") + s.touch() + " WHERE org_id = @org_id AND id = @id"
	if _, err := tx.Exec(ctx, sql, args); err != nil {
		return old, fmt.Errorf("update %s: %w", s.Noun, pg.Refusal(err, s.word()))
	}
	if v, err = s.load(ctx, tx, a, id, ""); err != nil {
		return old, err
	}
	return v, s.emit(ctx, tx, a, "updated", &v, changes, "changed the "+strings.Join(names, ", ")+" of the "+s.word()+s.name(&v))
}

// Archive hides a record from lists and Get, and emits Noun.archived. The version is as for Patch.
func (s Set[T]) Archive(ctx context.Context, tx pgx.Tx, id tandem.ID, version *int64) error {
	a, err := s.May(ctx, "write")
	if err != nil {
		return err
	}
	if !s.Archivable {
		return tandem.Errorf(tandem.Conflict, "A %s cannot be archived.", s.word())
	}
	old, err := s.Load(ctx, tx, id, true)
	if err != nil {
		return err
	}
	if err := s.current(&old, version); err != nil {
		return err
	}
	sql := "UPDATE " + s.Table + " SET archived_at = now()" + s.touch() + " WHERE org_id = @org_id AND id = @id"
	if _, err := tx.Exec(ctx, sql, pgx.StrictNamedArgs{"org_id": a.Org, "id": id}); err != nil {
		return fmt.Errorf("archive %s: %w", s.Noun, pg.Refusal(err, s.word()))
	}
	return s.emit(ctx, tx, a, "archived", &old, nil, "archived the "+s.word()+s.name(&old))
}

// Restore brings an archived record back, and emits Noun.restored. One that is not archived is returned as it is.
func (s Set[T]) Restore(ctx context.Context, tx pgx.Tx, id tandem.ID) (v T, err error) {
	a, err := s.May(ctx, "write")
	if err != nil {
		return v, err
	}
	if !s.Archivable {
		return v, tandem.Errorf(tandem.Conflict, "A %s cannot be archived.", s.word())
	}
	if _, err := tandem.ParseID(string(id)); err != nil {
		return v, s.notFound()
	}
	sql := "UPDATE " + s.Table + " SET archived_at = NULL" + s.touch() + " WHERE org_id = @org AND id = @id AND archived_at IS NOT NULL" + s.Scope
	args := s.args(a)
	args["id"] = id
	tag, err := tx.Exec(ctx, sql, args)
	if err != nil {
		return v, fmt.Errorf("restore %s: %w", s.Noun, pg.Refusal(err, s.word()))
	}
	if v, err = s.load(ctx, tx, a, id, ""); err != nil || tag.RowsAffected() == 0 {
		return v, err
	}
	return v, s.emit(ctx, tx, a, "restored", &v, nil, "restored the "+s.word()+s.name(&v))
}

// New reads a record for Create from raw, a JSON object. Unknown and read-only fields, wrong types and needed fields that
// are missing are Invalid, all of them named.
func (s Set[T]) New(raw json.RawMessage) (v T, err error) {
	asked, err := s.asked(raw, func(f Field) bool { return f.Write || f.Once })
	if err != nil {
		return v, err
	}
	wrong := s.decode(&v, asked)
	for _, f := range s.Fields {
		if _, ok := asked[f.Name]; f.Needed && !ok {
			wrong = append(wrong, tandem.FieldError{Field: f.Name, Message: "This is needed."})
		}
	}
	return v, refused(wrong)
}

// refused is the error that names wrong fields, or nil.
func refused(wrong []tandem.FieldError) error {
	if len(wrong) == 0 {
		return nil
	}
	return tandem.InvalidFields(wrong...)
}

// decode sets the fields of v that asked names.
func (s Set[T]) decode(v *T, asked map[string]json.RawMessage) (wrong []tandem.FieldError) {
	for _, f := range s.Fields {
		part, ok := asked[f.Name]
		if !ok {
			continue
		}
		val := s.at(v, f.Name)
		fresh := reflect.New(val.Type()) // a fresh value: decoding into v would share its slices and maps
		if err := json.Unmarshal(part, fresh.Interface()); err != nil || string(part) == "null" && !slices.Contains(nilable, val.Kind()) {
			wrong = append(wrong, tandem.FieldError{Field: f.Name, Message: "This has the wrong type."})
			continue
		}
		val.Set(fresh.Elem())
	}
	return wrong
}

// touch is the SET of what every change of a row moves along.
func (s Set[T]) touch() string {
	var b string
	if s.layout().index["updated_at"] != nil {
		b += ", updated_at = now()"
	}
	if s.layout().index["version"] != nil {
		b += ", version = version + 1"
	}
	return b
}

// asked reads the object of a write and refuses what it may not name.
func (s Set[T]) asked(raw json.RawMessage, may func(Field) bool) (map[string]json.RawMessage, error) {
	var m map[string]json.RawMessage
	if err := json.Unmarshal(raw, &m); err != nil || m == nil {
		return nil, tandem.Errorf(tandem.Invalid, "The body must be a JSON object with the fields to change.")
	}
	var wrong []tandem.FieldError
	for name := range m {
		if f, ok := s.field(name); !ok || !may(f) {
			wrong = append(wrong, tandem.FieldError{Field: tandem.Clip(name, 40), Message: "This field does not exist, or cannot be set."})
		}
	}
	return m, refused(wrong)
}

// current compares the version the caller read with the row's.
func (s Set[T]) current(v *T, version *int64) error {
	if version == nil {
		return nil
	}
	have := s.at(v, "version")
	if !have.IsValid() {
		return tandem.Errorf(tandem.Conflict, "A %s has no version to compare with.", s.word())
	}
	if have.Int() != *version {
		return tandem.Errorf(tandem.Conflict, "Somebody else changed this %s in the meantime: it is at version %d. Load it again.", s.word(), have.Int())
	}
	return nil
}

func isBytes(v reflect.Value) bool {
	return v.Kind() == reflect.Slice && v.Type().Elem().Kind() == reflect.Uint8
}

var nilable = []reflect.Kind{reflect.Pointer, reflect.Slice, reflect.Map, reflect.Interface}

// param is a field as the driver wants it: a nil slice or map is an empty one, since
// such columns are NOT NULL; bytes and pointers may be NULL.
func param(v reflect.Value) any {
	switch {
	case v.Kind() == reflect.Slice && v.IsNil() && !isBytes(v):
		return reflect.MakeSlice(v.Type(), 0, 0).Interface()
	case v.Kind() == reflect.Map && v.IsNil():
		return reflect.MakeMap(v.Type()).Interface()
	}
	return v.Interface()
}

func same(a, b reflect.Value) bool {
	x, errX := json.Marshal(param(a))
	y, errY := json.Marshal(param(b))
	return errX == nil && errY == nil && bytes.Equal(x, y)
}

const maxChange = 500 // runes of a text that an event repeats

// became says what became of a field; of an object it says so member by member.
func became(f Field, was, now reflect.Value) (all []tandem.Change) {
	if f.Hidden {
		return []tandem.Change{{Field: f.Name}}
	}
	fresh, ok := show(now).(map[string]any)
	if !ok {
		return []tandem.Change{{Field: f.Name, Old: show(was), New: show(now)}}
	}
	old, _ := show(was).(map[string]any)
	both := map[string]any{}
	maps.Copy(both, old)
	maps.Copy(both, fresh)
	for _, k := range slices.Sorted(maps.Keys(both)) {
		if x, y := old[k], fresh[k]; !reflect.DeepEqual(x, y) {
			all = append(all, tandem.Change{Field: f.Name + "." + k, Old: show(reflect.ValueOf(x)), New: show(reflect.ValueOf(y))})
		}
	}
	return all
}

// show is a value as an event tells it.
func show(v reflect.Value) any {
	switch v = reflect.Indirect(v); {
	case !v.IsValid() || isBytes(v):
		return nil
	case v.Kind() == reflect.String:
		return tandem.Clip(v.String(), maxChange)
	}
	return v.Interface()
}

// name is a record's label with a space before it, or nothing.
func (s Set[T]) name(v *T) string {
	val := s.at(v, s.Label)
	if !val.IsValid() || val.Kind() != reflect.String || val.Len() == 0 {
		return ""
	}
	return " " + tandem.Clip(val.String(), 80)
}

func (s Set[T]) emit(ctx context.Context, tx pgx.Tx, a tandem.Actor, verb string, v *T, changes []tandem.Change, did string) error {
	_, id := s.key(v)
	e := tandem.Event{
		Noun: s.Noun, Verb: verb, Record: id, Changes: changes,
		Description: a.Name + " " + did, Category: s.Category, Severity: "info",
	}
	if id := reflect.Indirect(s.at(v, s.Lead)); id.IsValid() {
		e.Lead, _ = id.Interface().(tandem.ID)
	}
	if _, err := events.Emit(ctx, tx, e); err != nil {
		return fmt.Errorf("%s %s: %w", verb, s.Noun, err)
	}
	return nil
}
