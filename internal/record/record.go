// Package record is list, get, create, patch and archive for one table, with the
// organization, the permission, the filters, the pages, the version and the event of a
// change in the caller's transaction. You call it; it never calls you, except for the
// pure Check.
package record

import (
	"cmp"
	"context"
	"fmt"
	"reflect"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem"
)

// Field declares what may be done with one column.
type Field struct {
	Name   string // the name in JSON and in the db tag of T
	Column string // the column of the set's own table to filter by, with its alias; empty: Name
	Type   Type   // how its values compare
	Is     string // SQL that asks for equality, or one of Texts, where an index wants other words for it, with ? for the value; empty: the usual words
	Filter bool   // a list may be filtered by it
	Sort   string // what a list is sorted by when it is sorted by it: SQL of the set's own table that is never NULL, with an index; empty: it is not
	Write  bool   // Create and Patch may set it
	Once   bool   // only Create may set it
	Needed bool   // New wants it
	Hidden bool   // a write names it in the event, but never its value: secrets and long bodies
}

// Set is the five verbs of one table. T is a struct whose db tags name every column of
// Select; it must have id and created_at, and has version when rows are versioned.
//
// The permission is Noun + ":read" or ":write"; the events are Noun.created, .updated and
// .archived. A row of another organization, an archived row and a malformed id are all NotFound.
type Set[T any] struct {
	Noun       string
	Table      string
	Alias      string // how Select names Table; empty: Table
	Select     string // SELECT ... FROM ... without WHERE; joins are welcome, GROUP BY is not. Empty: every db tag of T from Table
	Fields     []Field
	Search     []string // columns, with alias, of joined tables too, whose beginning Query.Search is compared with; empty: no search
	Archivable bool     // the table has archived_at, and archived rows are hidden
	Scope      string   // what more a row must be to be seen, such as " AND owner_id = @me" with the actor's member id; empty: nothing
	Label      string   // the db tag whose value names a record to a person, such as "name"
	Word       string   // how a sentence calls a record, such as "knowledge document"; empty: Noun
	Lead       string   // the db tag of the lead that a record's events belong to; empty: none
	Category   string   // of its events, such as "crm"
	Check      func(*T) error
}

// Info is what callers that know no T may read of a set.
type Info struct {
	Noun, Table, Word string
	Fields            []Field
	Archivable        bool
	Searchable        bool
	Row               reflect.Type // T
}

// Info describes the set.
func (s Set[T]) Info() Info {
	return Info{s.Noun, s.Table, s.word(), s.Fields, s.Archivable, len(s.Search) > 0, reflect.TypeFor[T]()}
}

// layout is where the db tags of a struct are; read once per type.
type layout struct {
	cols  []string
	index map[string][]int
}

var layouts sync.Map // reflect.Type -> *layout

func (s Set[T]) layout() *layout {
	t := reflect.TypeFor[T]()
	if l, ok := layouts.Load(t); ok {
		return l.(*layout)
	}
	l := &layout{index: map[string][]int{}}
	for _, f := range reflect.VisibleFields(t) {
		name, _, _ := strings.Cut(f.Tag.Get("db"), ",")
		if name == "" || name == "-" || !f.IsExported() {
			continue
		}
		l.cols = append(l.cols, name)
		l.index[name] = f.Index
	}
	layouts.Store(t, l)
	return l
}

// at returns the field of v with the db tag col, or an invalid Value.
func (s Set[T]) at(v *T, col string) reflect.Value {
	if i := s.layout().index[col]; i != nil {
		return reflect.ValueOf(v).Elem().FieldByIndex(i)
	}
	return reflect.Value{}
}

// key is what lists are ordered by.
func (s Set[T]) key(v *T) (at time.Time, id tandem.ID) {
	at, _ = s.at(v, "created_at").Interface().(time.Time)
	id, _ = s.at(v, "id").Interface().(tandem.ID)
	return at, id
}

func (s Set[T]) alias() string { return cmp.Or(s.Alias, s.Table) }

func (s Set[T]) word() string { return cmp.Or(s.Word, s.Noun) }

func (s Set[T]) field(name string) (Field, bool) {
	for _, f := range s.Fields {
		if f.Name == name {
			return f, true
		}
	}
	return Field{}, false
}

// own is the set's own table, as FROM names it.
func (s Set[T]) own() string { return s.Table + " " + s.alias() }

// head is the SELECT without its WHERE.
func (s Set[T]) head() string {
	return cmp.Or(s.Select, "SELECT "+strings.Join(s.layout().cols, ", ")+" FROM "+s.own())
}

// from is what head reads from.
func (s Set[T]) from() string {
	_, joined, _ := strings.Cut(s.Select, "FROM "+s.own())
	return s.own() + joined
}

// scope is the condition that every statement carries.
func (s Set[T]) scope() string {
	where := " WHERE " + s.alias() + ".org_id = @org"
	if s.Archivable {
		where += " AND " + s.alias() + ".archived_at IS NULL"
	}
	return where + s.Scope
}

// args are the arguments of scope.
func (s Set[T]) args(a tandem.Actor) pgx.StrictNamedArgs {
	args := pgx.StrictNamedArgs{"org": a.Org}
	if strings.Contains(s.Scope, "@me") {
		args["me"] = a.Member.Ptr()
	}
	return args
}

func (s Set[T]) notFound() error {
	return tandem.Errorf(tandem.NotFound, "There is no such %s.", s.word())
}

// May returns ctx's actor when it holds the permission Noun:verb, else Unauthenticated or Forbidden.
func (s Set[T]) May(ctx context.Context, verb string) (tandem.Actor, error) {
	a, err := tandem.ActorFrom(ctx)
	if err != nil {
		return a, err
	}
	return a, a.Require(s.Noun + ":" + verb)
}

// Get returns one record.
func (s Set[T]) Get(ctx context.Context, tx pgx.Tx, id tandem.ID) (v T, err error) {
	a, err := s.May(ctx, "read")
	if err != nil {
		return v, err
	}
	return s.load(ctx, tx, a, id, "")
}

// Load is Get without the question for permission, for methods that have asked their own.
// With lock the row stays locked until the transaction ends.
func (s Set[T]) Load(ctx context.Context, tx pgx.Tx, id tandem.ID, lock bool) (v T, err error) {
	a, err := tandem.ActorFrom(ctx)
	if err != nil {
		return v, err
	}
	return s.load(ctx, tx, a, id, map[bool]string{true: " FOR NO KEY UPDATE OF " + s.alias()}[lock])
}

func (s Set[T]) load(ctx context.Context, tx pgx.Tx, a tandem.Actor, id tandem.ID, tail string) (v T, err error) {
	if _, err := tandem.ParseID(string(id)); err != nil {
		return v, s.notFound()
	}
	sql := s.head() + s.scope() + " AND " + s.alias() + ".id = @id" + tail
	args := s.args(a)
	args["id"] = id
	// Who waited for the row holds it against the rows it was joined with before, and misses it when it names others now.
	for try := 0; try == 0 || try == 1 && tail != ""; try++ {
		rows, _ := tx.Query(ctx, sql, args) // CollectRows tells its error
		got, err := pgx.CollectRows(rows, pgx.RowToStructByName[T])
		if err != nil {
			return v, fmt.Errorf("get %s: %w", s.Noun, err)
		}
		if len(got) > 0 {
			return got[0], nil
		}
	}
	return v, s.notFound()
}
