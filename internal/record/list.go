package record

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem"
)

const (
	maxSearch  = 200
	serverTime = "2006-01-02 15:04:05.999999-07" // as the server writes one
)

// List returns one page, newest first or as the query sorts it. A filter or sort that is not declared is Invalid and
// names the field; an empty filter value is no filter.
func (s Set[T]) List(ctx context.Context, tx pgx.Tx, q tandem.Query) (p tandem.Page[T], err error) {
	a, err := s.May(ctx, "read")
	if err != nil {
		return p, err
	}
	where, args, err := s.where(a, q)
	if err != nil {
		return p, err
	}
	o, err := s.order(q.Sort)
	if err != nil {
		return p, err
	}
	rows, err := s.rows(ctx, tx, q, o, where, args)
	if err != nil {
		return p, err
	}
	p = tandem.PageOf(rows, q.Size(), func(T) []string { return nil })
	if p.Next != "" {
		if p.Next, err = s.next(ctx, tx, a.Org, o, &p.Items[len(p.Items)-1]); err != nil {
			return p, err
		}
	}
	if q.Total {
		p.Total, err = s.total(ctx, tx, where, args)
	}
	return p, err
}

func (s Set[T]) rows(ctx context.Context, tx pgx.Tx, q tandem.Query, o order, where string, args pgx.StrictNamedArgs) ([]T, error) {
	after := ""
	if q.Cursor != "" {
		key, id, err := o.decode(q.Cursor)
		if err != nil {
			return nil, err
		}
		after = " AND (" + o.sql + ", " + s.alias() + ".id) " + o.after + " (@key::" + kinds[o.typ].sql + ", @after)"
		args["key"], args["after"] = key, id
		defer func() { delete(args, "key"); delete(args, "after") }()
	}
	// The limit is no argument: with a number the server knows that few rows are wanted and keeps one plan instead of
	// planning each page anew.
	tail := " ORDER BY " + o.sql + o.dir + ", " + s.alias() + ".id" + o.dir + " LIMIT " + strconv.Itoa(q.Size()+1)
	sql := s.head() + where + after + tail
	if own := "FROM " + s.own(); s.Select != "" && q.Search == "" { // cut before it is joined: behind joins the server may read and sort the whole list
		sql = strings.Replace(s.Select, own, "FROM (SELECT * "+own+where+after+tail+") "+s.alias(), 1) + tail
	}
	rows, _ := tx.Query(ctx, sql, args) // CollectRows tells its error
	items, err := pgx.CollectRows(rows, pgx.RowToStructByName[T])
	if err != nil {
		return nil, fmt.Errorf("list %s: %w", s.Noun, err)
	}
	return items, nil
}

// where is the condition of one list.
func (s Set[T]) where(a tandem.Actor, q tandem.Query) (string, pgx.StrictNamedArgs, error) {
	c := &conditions{field: s.field, alias: s.alias(), args: s.args(a)}
	sql := s.scope()
	for _, name := range slices.Sorted(maps.Keys(q.Filter)) { // sorted: one list has one text, and the server prepares it once
		f, ok := s.field(name)
		if text := q.Filter[name]; text != "" || !ok || !f.Filter {
			sql += " AND " + c.one(tandem.Where{Field: name, Value: text})
		}
	}
	if q.Where != nil {
		sql += " AND " + c.write(*q.Where, 0)
	}
	if q.Search != "" {
		switch msg := badText(q.Search); {
		case len(s.Search) == 0:
			c.refuse("search", "This list cannot be searched.")
		case msg != "" || len(q.Search) > maxSearch:
			c.refuse("search", "Search for at most 200 bytes of plain text.")
		default:
			sql += " AND (" + strings.Join(s.Search, " ILIKE @search OR ") + " ILIKE @search)"
			c.args["search"] = escape(strings.TrimSpace(q.Search)) + "%"
		}
	}
	return sql, c.args, refused(c.wrong)
}

// total counts what matches, and stops at MaxTotal.
func (s Set[T]) total(ctx context.Context, tx pgx.Tx, where string, args pgx.StrictNamedArgs) (*int, error) {
	var n int
	sql := "SELECT count(*) FROM (SELECT 1 FROM " + s.from() + where + " LIMIT " + strconv.Itoa(tandem.MaxTotal) + ") matching"
	if err := tx.QueryRow(ctx, sql, args).Scan(&n); err != nil {
		return nil, fmt.Errorf("count %s: %w", s.Noun, err)
	}
	return &n, nil
}

// order is what a list is sorted by, and by id where that is the same.
type order struct {
	name       string // as the query says it
	sql        string
	typ        Type
	dir, after string // as SQL: the direction, and how what comes later compares
}

func (s Set[T]) order(sort string) (order, error) {
	name, desc := strings.CutPrefix(cmp.Or(sort, "-created_at"), "-")
	f, ok := s.field(name)
	if name == "created_at" {
		f, ok = Field{Type: Time, Sort: s.alias() + ".created_at"}, true
	}
	if !ok || f.Sort == "" {
		return order{}, tandem.InvalidFields(tandem.FieldError{Field: "sort", Message: "A list of this kind cannot be sorted by this field."})
	}
	if desc {
		return order{"-" + name, f.Sort, f.Type, " DESC", "<"}, nil
	}
	return order{name, f.Sort, f.Type, " ASC", ">"}, nil
}

// next is the cursor behind v. The usual key is in the row; another is asked for, since T need not have it.
func (s Set[T]) next(ctx context.Context, tx pgx.Tx, org tandem.ID, o order, v *T) (string, error) {
	at, id := s.key(v)
	key := at.UTC().Format(time.RFC3339Nano)
	if o.sql != s.alias()+".created_at" {
		sql := "SELECT (" + o.sql + ")::text FROM " + s.own() + " WHERE " + s.alias() + ".org_id = @org AND " + s.alias() + ".id = @id"
		if err := tx.QueryRow(ctx, sql, pgx.StrictNamedArgs{"org": org, "id": id}).Scan(&key); err != nil {
			return "", fmt.Errorf("list %s: %w", s.Noun, err)
		}
	}
	return tandem.EncodeCursor(o.name, key, string(id)), nil
}

func (o order) decode(cursor string) (key string, id tandem.ID, err error) {
	part, err := tandem.DecodeCursor(cursor, 3)
	if err != nil {
		return "", "", err
	}
	key = part[1]
	msg := kinds[o.typ].wrong(key)
	if _, err := time.Parse(serverTime, key); o.typ == Time && err == nil || strings.EqualFold(key, "infinity") && (o.typ == Time || o.typ == Date || o.typ == Number) {
		msg = ""
	}
	if id, err = tandem.ParseID(part[2]); err != nil || msg != "" || part[0] != o.name {
		return "", "", tandem.InvalidFields(tandem.FieldError{Field: "cursor", Message: "This is not a cursor of this list. Leave it out to start at the beginning."})
	}
	return key, id, nil
}
