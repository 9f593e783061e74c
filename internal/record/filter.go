package record

import (
	"cmp"
	"errors"
	"math"
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
	// Number is a decimal number.
	Number
	// Time is a moment as RFC 3339 writes it.
	Time
	// Date is a day, such as 2026-11-30.
	Date
	// Texts is a list of texts; has finds one of them.
	Texts
)

// kind is what a Type is in SQL, what may be asked of it, how a text is read and what to say of one that cannot be.
type kind struct {
	sql, ops string
	read     func(string) error
	none     string
}

const (
	equality = "eq ne in null"
	ordering = "eq ne in lt lte gt gte null"
)

var kinds = map[Type]kind{
	Text:   {"text", "eq ne in has null", nil, ""},
	ID:     {"uuid", equality, readID, "This must be an id."},
	Bool:   {"boolean", equality, readBool, "This must be true or false."},
	Int:    {"bigint", ordering, readInt, "This must be a whole number."},
	Number: {"numeric", ordering, readNumber, "This must be a number."},
	Time:   {"timestamptz", ordering, readTime, "This must be a time such as 2026-11-30T15:04:05Z."},
	Date:   {"date", ordering, readDate, "This must be a day such as 2026-11-30."},
	Texts:  {"text", "has null", nil, ""},
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

// plain lists a query's simple filters in declared order, so that one list has one text, which the server prepares once.
func (c *conditions) plain(fields []Field, filter map[string]string) (all []tandem.Where) {
	for name := range filter {
		if f, ok := c.field(name); !ok || !f.Filter {
			c.refuse(name, "A list of this kind cannot be filtered by this field.")
		}
	}
	for _, f := range fields {
		if text := filter[f.Name]; f.Filter && text != "" {
			all = append(all, tandem.Where{Field: f.Name, Value: text})
		}
	}
	return all
}

func (c *conditions) refuse(field, message string) string {
	c.wrong = append(c.wrong, tandem.FieldError{Field: clip(field, 40), Message: message})
	return "true"
}

// write is w in SQL.
func (c *conditions) write(w tandem.Where, depth int) string {
	if c.n++; c.n > maxConditions || depth > maxDepth {
		return c.refuse("where", "There may be at most 50 conditions, 4 groups deep.")
	}
	and, or := len(w.And) > 0, len(w.Or) > 0
	if one := w.Field != ""; btoi(and)+btoi(or)+btoi(one) != 1 {
		return c.refuse("where", "Each condition has a field, or a list and, or a list or.")
	}
	if !and && !or {
		return c.one(w)
	}
	joint, list := " AND ", w.And
	if or {
		joint, list = " OR ", w.Or
	}
	parts := make([]string, len(list))
	for i, x := range list {
		parts[i] = c.write(x, depth+1)
	}
	return "(" + strings.Join(parts, joint) + ")"
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

// one is the condition on one field.
func (c *conditions) one(w tandem.Where) string {
	f, ok := c.field(w.Field)
	if !ok || !f.Filter {
		return c.refuse(w.Field, "A list of this kind cannot be filtered by this field.")
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
	if msg := k.wrong(w.Value); msg != "" {
		return c.refuse(w.Field, msg)
	}
	switch {
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
	if problem := badText(text); problem != "" || k.read == nil || k.read(text) == nil {
		return problem
	}
	return k.none
}

var errRange = errors.New("out of range")

func readID(s string) error { _, err := tandem.ParseID(s); return err }

func readInt(s string) error { _, err := strconv.ParseInt(s, 10, 64); return err }

func readNumber(s string) error {
	f, err := strconv.ParseFloat(s, 64)
	if err == nil && (math.IsNaN(f) || math.Abs(f) > 1e300 || strings.ContainsAny(s, "xXpP_")) {
		return errRange
	}
	return err
}

func readBool(s string) error {
	if s != "true" && s != "false" {
		return errRange
	}
	return nil
}

func readTime(s string) error {
	at, err := time.Parse(time.RFC3339, s)
	if err == nil && (at.Year() < 1 || at.Year() > 9999) {
		return errRange
	}
	return err
}

func readDate(s string) error { _, err := time.Parse(time.DateOnly, s); return err }

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

func clip(s string, n int) string {
	r := []rune(s)
	if len(r) <= n {
		return s
	}
	return string(r[:n]) + "…"
}
