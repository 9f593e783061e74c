package crm

import (
	"context"
	"encoding/json"
	"reflect"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/internal/record"
)

// Resource is a set of records with its type hidden: what the API needs to serve any of them. The functions are the
// set's own; those that a record does not offer are nil.
type Resource struct {
	record.Info
	Path    string                  // below the API's base, such as "/lead-sources"
	Page    reflect.Type            // of what List returns
	Parts   map[string]reflect.Type // how fields are written that are read in another form; nil: none
	List    func(ctx context.Context, tx pgx.Tx, q tandem.Query) (any, error)
	Get     func(ctx context.Context, tx pgx.Tx, id tandem.ID) (any, error)
	Create  func(ctx context.Context, tx pgx.Tx, raw json.RawMessage) (any, error)
	Patch   func(ctx context.Context, tx pgx.Tx, id tandem.ID, raw json.RawMessage, version *int64) (any, error)
	Archive func(ctx context.Context, tx pgx.Tx, id tandem.ID, version *int64) error
	Restore func(ctx context.Context, tx pgx.Tx, id tandem.ID) (any, error)
	// Some returns those of at most 1,000 records that there are, as List shows them.
	Some      func(ctx context.Context, tx pgx.Tx, ids []tandem.ID) (map[tandem.ID]any, error)
	Relations []Relation
}

// verbs is what every record.Set has; a set that does more of something shadows the verb.
type verbs[T any] interface {
	Info() record.Info
	List(ctx context.Context, tx pgx.Tx, q tandem.Query) (tandem.Page[T], error)
	Get(ctx context.Context, tx pgx.Tx, id tandem.ID) (T, error)
	New(raw json.RawMessage) (T, error)
	Create(ctx context.Context, tx pgx.Tx, v T) (T, error)
	Patch(ctx context.Context, tx pgx.Tx, id tandem.ID, raw json.RawMessage, version *int64) (T, error)
}

// removable is what an archivable set has besides.
type removable[T any] interface {
	Archive(ctx context.Context, tx pgx.Tx, id tandem.ID, version *int64) error
	Restore(ctx context.Context, tx pgx.Tx, id tandem.ID) (T, error)
}

// parted is what a set has some of whose fields are written in another form than they are read; their types, by name.
type parted interface {
	Parts() map[string]reflect.Type
}

// resource hides T.
func resource[T any](s verbs[T]) Resource {
	r := Resource{
		Info: s.Info(), Page: reflect.TypeFor[tandem.Page[T]](),
		List: func(ctx context.Context, tx pgx.Tx, q tandem.Query) (any, error) { return s.List(ctx, tx, q) },
		Get:  func(ctx context.Context, tx pgx.Tx, id tandem.ID) (any, error) { return s.Get(ctx, tx, id) },
		Patch: func(ctx context.Context, tx pgx.Tx, id tandem.ID, raw json.RawMessage, version *int64) (any, error) {
			return s.Patch(ctx, tx, id, raw, version)
		},
		Create: func(ctx context.Context, tx pgx.Tx, raw json.RawMessage) (any, error) {
			v, err := s.New(raw)
			if err != nil {
				return v, err
			}
			return s.Create(ctx, tx, v)
		},
	}
	r.Some = func(ctx context.Context, tx pgx.Tx, ids []tandem.ID) (map[tandem.ID]any, error) {
		return Some(ctx, tx, s.List, ids)
	}
	r.Relations = relations(r.Info)
	r.Path = "/" + strings.ReplaceAll(r.Table, "_", "-")
	if p, ok := s.(parted); ok {
		r.Parts = p.Parts()
	}
	if rm, ok := s.(removable[T]); ok && r.Archivable {
		r.Archive = func(ctx context.Context, tx pgx.Tx, id tandem.ID, version *int64) error {
			if err := ByPerson(ctx); err != nil {
				return err
			}
			return rm.Archive(ctx, tx, id, version)
		}
		r.Restore = func(ctx context.Context, tx pgx.Tx, id tandem.ID) (any, error) {
			if err := ByPerson(ctx); err != nil {
				return nil, err
			}
			return rm.Restore(ctx, tx, id)
		}
	}
	return r
}

// ByPerson refuses an AI member, inside Tandem or from outside: whatever its role, it neither removes records nor changes many
// of them at once, as no tool of one does.
func ByPerson(ctx context.Context) error {
	a, err := tandem.ActorFrom(ctx)
	if err == nil && byMachine(a) {
		err = tandem.Errorf(tandem.Forbidden, "Only a person may archive or restore records, or change many at once.")
	}
	return err
}

// uploaded is resource for records that come with a file: they are made by an upload, which is a route of its own.
func uploaded[T any](s verbs[T]) Resource {
	r := resource(s)
	r.Create = nil
	return r
}

// Shows reports whether the records have a field of this name.
func (r Resource) Shows(field string) bool {
	return slices.ContainsFunc(reflect.VisibleFields(r.Row), func(f reflect.StructField) bool {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		return name == field && name != "" && name != "-"
	})
}

// alsoWriting is s for the method of a record that sets more columns than its clients may: those of names.
func alsoWriting[T any](s record.Set[T], names ...string) record.Set[T] {
	s.Fields = slices.Clone(s.Fields)
	for i, f := range s.Fields {
		s.Fields[i].Write = f.Write || slices.Contains(names, f.Name)
	}
	return s
}
