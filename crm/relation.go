package crm

import (
	"context"
	"reflect"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/internal/record"
)

// Relation is how a record names another: by a field such as owner_id.
type Relation struct {
	Name string // of the field without its _id, such as owner
	Noun string // of the record that is named, such as member

	at []int // of the struct: an id, or a part of the record that has its id
}

// roles are the names under which records name members. What else a relation is called is the noun of what it names, but for
// what is of the same noun as the record itself.
var roles = []string{"assignee", "author", "member", "owner"}

var ownKind = []string{"follows", "parent"}

// relations finds them in the fields that hold ids: such a field, or the part of the record that shows what it names.
func relations(i record.Info) (all []Relation) {
	for _, f := range i.Fields {
		name, ok := strings.CutSuffix(f.Name, "_id")
		if !ok || f.Type != record.ID {
			continue
		}
		r := Relation{Name: name, Noun: name}
		switch {
		case slices.Contains(roles, name):
			r.Noun = "member"
		case slices.Contains(ownKind, name):
			r.Noun = i.Noun
		}
		for _, field := range reflect.VisibleFields(i.Row) {
			column, _, _ := strings.Cut(field.Tag.Get("db"), ",")
			if column == f.Name || column == name {
				r.at = field.Index
				all = append(all, r)
				break
			}
		}
	}
	return all
}

// ID is the id that the record v names, or nothing.
func (r Relation) ID(v reflect.Value) tandem.ID {
	f := reflect.Indirect(v.FieldByIndex(r.at))
	if f.IsValid() && f.Kind() == reflect.Struct {
		f = f.FieldByName("ID")
	}
	if !f.IsValid() {
		return ""
	}
	id, _ := f.Interface().(tandem.ID)
	return id
}

const (
	maxSome = 1000
	perIn   = 200 // values that one condition takes
)

// Some returns those of at most 1,000 records that there are, by their ids, as a list shows them.
func Some[T any](ctx context.Context, tx pgx.Tx, list func(context.Context, pgx.Tx, tandem.Query) (tandem.Page[T], error), ids []tandem.ID) (map[tandem.ID]any, error) {
	if len(ids) == 0 {
		return map[tandem.ID]any{}, nil
	}
	if len(ids) > maxSome {
		return nil, tandem.Errorf(tandem.Invalid, "At most 1,000 records can be asked for at once.")
	}
	where := tandem.Where{}
	for part := range slices.Chunk(ids, perIn) {
		texts := make([]string, len(part))
		for i, id := range part {
			texts[i] = string(id)
		}
		where.Or = append(where.Or, tandem.Where{Field: "id", Op: "in", Value: strings.Join(texts, ",")})
	}
	p, err := list(ctx, tx, tandem.Query{Where: &where, Limit: maxSome})
	if err != nil {
		return nil, err
	}
	all := make(map[tandem.ID]any, len(p.Items))
	for i := range p.Items {
		v := reflect.ValueOf(&p.Items[i]).Elem()
		if id, ok := v.FieldByName("ID").Interface().(tandem.ID); ok {
			all[id] = v.Interface()
		}
	}
	return all, nil
}
