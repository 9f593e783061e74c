package record

import (
	"cmp"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem"
)

// Type says how a field's values compare and how a filter's text is read.
type Type uint8

const (
	// Text compares as it is; has finds a part of it, whatever the case.
	Text Type = iota
	// ID is a UUID.
	ID
	// Bool is "true" or "false".
	Bool
	// Int is a whole number.
	Int
	// Time is a moment as RFC 3339 writes it.
	Time
	// Texts is a list of texts; has finds one of them.
	Texts
	// Number is a decimal number.
	Number
	// Date is a day as ISO 8601 writes it.
	Date
)

// kind is what a Type is in SQL, what may be asked of it, how a text is read and what to say of one that cannot be.
type kind struct {
	sql, ops string
	read     func(string) bool
	none     string
}

const (
	equality = "eq ne in null"
	ordering = "eq ne in lt lte gt gte null"
)

var kinds = map[Type]kind{
	Text:   {"text", "eq ne in has null", nil, ""},
	ID:     {"uuid", equality, func(s string) bool { _, err := tandem.ParseID(s); return err == nil }, "This must be an id."},
	Bool:   {"boolean", equality, func(s string) bool { return s == "true" || s == "false" }, "This must be true or false."},
	Int:    {"bigint", ordering, func(s string) bool { _, err := strconv.ParseInt(s, 10, 64); return err == nil }, "This must be a whole number."},
	Time:   {"timestamptz", ordering, func(s string) bool { return since(time.RFC3339, s) }, "This must be a time such as 2026-11-30T15:04:05Z."},
	Texts:  {"text", "has null", nil, ""},
	Number: {"numeric", ordering, regexp.MustCompile(`^-?\d{1,400}(\.\d{1,400})?$`).MatchString, "This must be a number such as 12.5."},
	Date:   {"date", ordering, func(s string) bool { return since(time.DateOnly, s) }, "This must be a day such as 2026-11-30."},
}

var comparison = map[string]string{"eq": " = ", "ne": " IS DISTINCT FROM ", "lt": " < ", "lte": " <= ", "gt": " > ", "gte": " >= "}

const (
	maxConditions = 50
	maxDepth      = 4
	maxIn         = 200
)

// conditions writes the WHERE of a query. Only declared names and the set's own texts become SQL; every value is an
// argument.
type conditions struct {
	field func(name string) (Field, bool)
	alias string
	args  pgx.StrictNamedArgs
	wrong []tandem.FieldError
	n     int
}

const notFilter = "A list of this kind cannot be filtered by this field."

func (c *conditions) refuse(field, message string) string {
	c.wrong = append(c.wrong, tandem.FieldError{Field: tandem.Clip(field, 40), Message: message})
	return "true"
}

// write is w in SQL.
func (c *conditions) write(w tandem.Where, depth int) string {
	if c.n++; c.n > maxConditions || depth > maxDepth {
		return c.refuse("where", "There may be at most 50 conditions, 4 groups deep.")
	}
	joint, list := " AND ", w.And
	switch {
	case w.Field != "" && len(w.And) == 0 && len(w.Or) == 0:
		return c.one(w)
	case w.Field != "" || (len(w.And) > 0) == (len(w.Or) > 0):
		return c.refuse("where", "Each condition has a field, or a list and, or a list or.")
	case len(w.Or) > 0:
		joint, list = " OR ", w.Or
	}
	parts := make([]string, len(list))
	for i, x := range list {
		parts[i] = c.write(x, depth+1)
	}
	return "(" + strings.Join(parts, joint) + ")"
}

// one is the condition on one field.
func (c *conditions) one(w tandem.Where) string {
	f, ok := c.field(w.Field)
	if w.Field == "id" { // which every record has
		f, ok = Field{Name: "id", Type: ID, Filter: true}, true
	}
	if !ok || !f.Filter {
		return c.refuse(w.Field, notFilter)
	}
	k, op := kinds[f.Type], cmp.Or(w.Op, "eq")
	if f.Type == Texts && w.Op == "" {
		op = "has"
	}
	if !slices.Contains(strings.Fields(k.ops), op) {
		return c.refuse(w.Field, "This field understands: "+strings.ReplaceAll(k.ops, " ", ", ")+".")
	}
	col := cmp.Or(f.Column, c.alias+"."+f.Name)
	switch op {
	case "null":
		if w.Value != "true" && w.Value != "false" {
			return c.refuse(w.Field, kinds[Bool].none)
		}
		return "(" + col + " IS NULL) = " + w.Value
	case "in":
		parts := strings.Split(w.Value, ",")
		for _, p := range parts {
			if msg := k.wrong(p); msg != "" || len(parts) > maxIn {
				return c.refuse(w.Field, cmp.Or(msg, "There may be at most 200 values."))
			}
		}
		return col + " = ANY(" + c.arg(parts, "text[]") + "::" + k.sql + "[])"
	}
	switch msg := k.wrong(w.Value); {
	case msg != "":
		return c.refuse(w.Field, msg)
	case f.Is != "" && (op == "eq" || f.Type == Texts):
		return strings.ReplaceAll(f.Is, "?", c.arg(w.Value, k.sql))
	case op == "has" && f.Type == Texts:
		return col + " @> ARRAY[" + c.arg(w.Value, "text") + "]"
	case op == "has":
		return col + " ILIKE " + c.arg("%"+escape(w.Value)+"%", "text")
	}
	return col + comparison[op] + c.arg(w.Value, k.sql)
}

// arg adds an argument, as text that the server casts, and returns how the statement names it.
func (c *conditions) arg(v any, sql string) string {
	name := "w" + strconv.Itoa(len(c.args))
	c.args[name] = v
	return "@" + name + "::" + sql
}

// wrong says why text is no value of the kind, or nothing.
func (k kind) wrong(text string) string {
	if problem := badText(text); problem != "" || k.read == nil || k.read(text) {
		return problem
	}
	return k.none
}

// since reads a moment that a column can hold: one of the years 1 to 9999.
func since(layout, s string) bool {
	at, err := time.Parse(layout, s)
	return err == nil && at.Year() >= 1
}

func escape(s string) string {
	return strings.NewReplacer(`\`, `\\`, `%`, `\%`, `_`, `\_`).Replace(s)
}

// badText says why no column can hold s.
func badText(s string) string {
	if strings.ContainsRune(s, 0) || !utf8.ValidString(s) {
		return "This has characters that cannot be stored."
	}
	return ""
}
