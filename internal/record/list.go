package record

import (
	"cmp"
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem"
)

const maxSearch = 200

// List returns one page, newest first. A filter that is not declared is Invalid and
// names the field; an empty filter value is no filter.
func (s Set[T]) List(ctx context.Context, tx pgx.Tx, q tandem.Query) (p tandem.Page[T], err error) {
	a, err := s.May(ctx, "read")
	if err != nil {
		return p, err
	}
	sql, args, err := s.listSQL(a.Org, q)
	if err != nil {
		return p, err
	}
	rows, err := tx.Query(ctx, sql, args)
	if err != nil {
		return p, fmt.Errorf("list %s: %w", s.Noun, err)
	}
	items, err := pgx.CollectRows(rows, pgx.RowToStructByName[T])
	if err != nil {
		return p, fmt.Errorf("list %s: %w", s.Noun, err)
	}
	return tandem.PageOf(items, q.Size(), func(v T) []string {
		at, id := s.key(&v)
		return []string{at.UTC().Format(time.RFC3339Nano), string(id)}
	}), nil
}

// listSQL writes the statement of one page. Only declared names and the set's own texts
// become SQL; every value is an argument but the limit, for with a number the server knows that few rows are wanted and
// keeps one plan instead of planning each page anew.
func (s Set[T]) listSQL(org tandem.ID, q tandem.Query) (string, pgx.StrictNamedArgs, error) {
	var b strings.Builder
	b.WriteString(s.base())
	args := pgx.StrictNamedArgs{"org": org}

	var wrong []tandem.FieldError
	for name := range q.Filter {
		if f, ok := s.field(name); !ok || !f.Filter {
			wrong = append(wrong, tandem.FieldError{Field: clip(name, 40), Message: "A list of this kind cannot be filtered by this field."})
		}
	}
	for _, f := range s.Fields { // in declared order: one list has one text, and the server prepares it once
		text, ok := q.Filter[f.Name]
		if !ok || !f.Filter || text == "" {
			continue
		}
		v, msg := parse(f.Type, text)
		if msg != "" {
			wrong = append(wrong, tandem.FieldError{Field: f.Name, Message: msg})
			continue
		}
		b.WriteString(" AND " + cmp.Or(f.Column, s.alias()+"."+f.Name) + " = @f_" + f.Name)
		args["f_"+f.Name] = v
	}
	if q.Search != "" {
		switch msg := badText(q.Search); {
		case len(s.Search) == 0:
			wrong = append(wrong, tandem.FieldError{Field: "search", Message: "This list cannot be searched."})
		case msg != "" || len(q.Search) > maxSearch:
			wrong = append(wrong, tandem.FieldError{Field: "search", Message: "Search for at most 200 bytes of plain text."})
		default:
			b.WriteString(" AND (" + strings.Join(s.Search, " ILIKE @search OR ") + " ILIKE @search)")
			args["search"] = strings.NewReplacer(`\`, `\\`, `%`, `\%`, `_`, `\_`).Replace(strings.TrimSpace(q.Search)) + "%"
		}
	}
	if len(wrong) > 0 {
		return "", nil, tandem.InvalidFields(wrong...)
	}
	t := s.alias()
	if q.Cursor != "" {
		at, id, err := decode(q.Cursor)
		if err != nil {
			return "", nil, err
		}
		b.WriteString(" AND (" + t + ".created_at, " + t + ".id) < (@at, @after)")
		args["at"], args["after"] = at, id
	}
	b.WriteString(" ORDER BY " + t + ".created_at DESC, " + t + ".id DESC LIMIT " + strconv.Itoa(q.Size()+1))
	return b.String(), args, nil
}

// parse reads a filter's text as t; the second answer says what is wrong with it.
func parse(t Type, text string) (any, string) {
	if problem := badText(text); problem != "" {
		return nil, problem
	}
	switch t {
	case ID:
		id, err := tandem.ParseID(text)
		if err != nil {
			return nil, "This must be an id."
		}
		return id, ""
	case Bool:
		if text != "true" && text != "false" {
			return nil, "This must be true or false."
		}
		return text == "true", ""
	}
	return text, ""
}

func decode(cursor string) (time.Time, tandem.ID, error) {
	key, err := tandem.DecodeCursor(cursor, 2)
	if err != nil {
		return time.Time{}, "", err
	}
	at, aerr := time.Parse(time.RFC3339Nano, key[0])
	id, ierr := tandem.ParseID(key[1])
	if aerr != nil || ierr != nil || at.Year() < 1 || at.Year() > 9999 {
		return time.Time{}, "", tandem.InvalidFields(tandem.FieldError{Field: "cursor", Message: "This is not a cursor of this list. Leave it out to start at the beginning."})
	}
	return at, id, nil
}

// badText says why no column can hold s.
func badText(s string) string {
	if strings.ContainsRune(s, 0) || !utf8.ValidString(s) {
		return "This has characters that cannot be stored."
	}
	return ""
}

func clip(s string, n int) string {
	r := []rune(s)
	if len(r) <= n {
		return s
	}
	return string(r[:n]) + "…"
}
