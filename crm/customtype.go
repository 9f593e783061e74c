package crm

import (
	"encoding/json"
	"math"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/internal/record"
)

// customType is what the values of one type of custom field are, here and in SQL.
type customType struct {
	// read returns a decoded JSON value in its one spelling, nil for an empty one, or says why it is none.
	read func(f *CustomField, v any) (any, string)
	// text reads what a model writes; nil: as a text.
	text func(s string) any

	kind  record.Type
	value string // in SQL, VALUE is the jsonb value; NULL for what does not fit
	is    string // the jsonb value of those that are ?; empty: to_jsonb(?)
	sort  string // value where it is NULL; empty: a list is not sorted by it

	unique, lengths, bounds bool // whether a field may be unique, and the rules it may have
}

// How the types of fields read in SQL.
const (
	asText   = "(VALUE #>> '{}')"
	asNumber = "tandem_number(VALUE)"
	endless  = "'infinity'"
)

var customTypes = map[string]customType{
	"text":      {read: readText(500), value: asText, sort: "''", unique: true, lengths: true},
	"long_text": {read: readText(20_000), value: asText, lengths: true},
	"number":    {read: readNumber, text: jsonText, kind: record.Number, value: asNumber, sort: endless, unique: true, bounds: true},
	"money": {
		read: readMoney, text: moneyText, kind: record.Number, value: "tandem_number(VALUE->'minor')", is: "jsonb_build_object('minor', ?)", sort: endless, bounds: true,
	},
	"date": {read: readDate, kind: record.Date, value: "tandem_date(VALUE)", is: "to_jsonb(to_char(?, 'YYYY-MM-DD'))", sort: endless, unique: true},
	"datetime": {
		read: readDatetime, kind: record.Time, value: "tandem_time(VALUE)", sort: endless, unique: true,
		is: `to_jsonb(to_char(? AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'))`,
	},
	"select":       {read: readOption, value: asText, sort: "''"},
	"multi_select": {read: readOptions, text: listText, kind: record.Texts, value: "VALUE", is: "jsonb_build_array(?)"},
	"checkbox":     {read: readCheckbox, text: jsonText, kind: record.Bool, value: "tandem_bool(VALUE)", sort: "false"},
	"url":          {read: readURL, value: asText, sort: "''", unique: true},
	"email":        {read: readAs(NormalizeEmail, "This is not an e-mail address."), value: asText, sort: "''", unique: true},
	"phone":        {read: readAs(noRegion, "Write the number with its country code, such as +49 40 123456."), value: asText, sort: "''", unique: true},
	"user":         {read: readID, kind: record.ID, value: "tandem_uuid(VALUE)", is: "to_jsonb(?::text)", unique: true},
	"relation":     {read: readID, kind: record.ID, value: "tandem_uuid(VALUE)", is: "to_jsonb(?::text)", unique: true},
}

// field is what a list of the field's records may do with it. alias is how the list names their table. The key is no text of
// a user: its form is checked here and by the table.
func (f *CustomField) field(alias string) record.Field {
	t := customTypes[f.Type]
	value := strings.ReplaceAll(t.value, "VALUE", "("+alias+".custom->'"+f.Key+"')")
	is := t.is
	if is == "" {
		is = "to_jsonb(?)"
	}
	out := record.Field{
		Name: "custom." + f.Key, Type: t.kind, Column: value, Filter: keyForm.MatchString(f.Key),
		// As the index on custom has it, which holds no record without custom values.
		Is: "(" + alias + ".custom <> '{}' AND " + alias + ".custom @> jsonb_build_object('" + f.Key + "', " + is + "))",
	}
	switch {
	case t.sort == "" || !out.Filter:
	case t.kind == record.Text:
		out.Sort = "coalesce(lower(left(" + value + ", 200)), '')"
	default:
		out.Sort = "coalesce(" + value + ", " + t.sort + ")"
	}
	return out
}

// read returns v as it is stored, nil for none, or says why the field cannot have it. Whether an id is one of something is
// left to the caller.
func (f *CustomField) read(v any) (any, string) {
	if v == nil {
		return nil, ""
	}
	v, wrong := customTypes[f.Type].read(f, v)
	if wrong != "" || v == nil {
		return nil, wrong
	}
	return v, f.Validation.wrong(v)
}

// ofText reads what a model writes as a value of the field; an empty text is none.
func (f *CustomField) ofText(s string) any {
	s = strings.TrimSpace(s)
	if t := customTypes[f.Type]; s != "" && t.text != nil {
		return t.text(s)
	}
	return some(s)
}

// stored drops the space around a text and says why it is none.
func stored(v any) (string, string) {
	s, ok := v.(string)
	switch {
	case !ok:
		return "", "This must be a text."
	case strings.ContainsRune(s, 0) || !utf8.ValidString(s):
		return "", "This has characters that cannot be stored."
	}
	return strings.TrimSpace(s), ""
}

// some is a text as a value: an empty one is none.
func some(s string) any {
	if s == "" {
		return nil
	}
	return s
}

func readText(most int) func(*CustomField, any) (any, string) {
	return func(_ *CustomField, v any) (any, string) {
		s, wrong := stored(v)
		if wrong == "" && utf8.RuneCountInString(s) > most {
			wrong = "This has more than " + strconv.Itoa(most) + " characters."
		}
		return some(s), wrong
	}
}

// readAs is for texts that normal brings into one form.
func readAs(normal func(string) (string, bool), none string) func(*CustomField, any) (any, string) {
	return func(_ *CustomField, v any) (any, string) {
		s, wrong := stored(v)
		if wrong != "" || s == "" {
			return nil, wrong
		}
		s, ok := normal(s)
		if !ok {
			return nil, none
		}
		return s, ""
	}
}

func noRegion(s string) (string, bool) { return NormalizePhone(s, "") }

// Numbers are kept as the double that JSON's readers make of them.
const maxNumber = 1e15

func readNumber(_ *CustomField, v any) (any, string) {
	n, ok := v.(float64)
	if !ok || math.Abs(n) > maxNumber {
		return nil, "This must be a number of at most 15 digits before the point."
	}
	return n, ""
}

func readMoney(_ *CustomField, v any) (any, string) {
	m, _ := v.(map[string]any)
	minor, isNumber := m["minor"].(float64)
	currency, _ := m["currency"].(string)
	if len(m) != 2 || !isNumber || minor != math.Trunc(minor) || math.Abs(minor) > maxNumber || !currencyForm.MatchString(currency) {
		return nil, `Give an amount in the currency's smallest unit and the currency, such as {"minor":125000,"currency":"EUR"}.`
	}
	return m, ""
}

func readDate(_ *CustomField, v any) (any, string) {
	s, _ := v.(string)
	at, err := time.Parse(time.DateOnly, strings.TrimSpace(s))
	if err != nil || at.Year() < 1 {
		return nil, "This must be a day such as 2026-11-30."
	}
	return at.Format(time.DateOnly), ""
}

func readDatetime(_ *CustomField, v any) (any, string) {
	s, _ := v.(string)
	at, err := time.Parse(time.RFC3339, strings.TrimSpace(s))
	if at = at.UTC(); err != nil || at.Year() < 1 || at.Year() > 9999 {
		return nil, "This must be a time such as 2026-11-30T15:04:05Z."
	}
	return at.Format("2006-01-02T15:04:05Z"), ""
}

func readOption(f *CustomField, v any) (any, string) {
	s, wrong := stored(v)
	if wrong == "" && s != "" && !f.offers(s) {
		wrong = "This is not one of the field's options: " + f.choices() + "."
	}
	return some(s), wrong
}

func readOptions(f *CustomField, v any) (any, string) {
	list, ok := v.([]any)
	if !ok {
		return nil, "This must be a list of texts."
	}
	all := []any{}
	for _, x := range list {
		s, wrong := readOption(f, x)
		switch {
		case wrong != "":
			return nil, wrong
		case s != nil && !slices.Contains(all, s):
			all = append(all, s)
		}
	}
	if len(all) == 0 {
		return nil, ""
	}
	return all, ""
}

func readCheckbox(_ *CustomField, v any) (any, string) {
	b, ok := v.(bool)
	if !ok {
		return nil, "This must be true or false."
	}
	return b, ""
}

func readURL(_ *CustomField, v any) (any, string) {
	s, wrong := stored(v)
	if wrong != "" || s == "" {
		return nil, wrong
	}
	u, err := url.Parse(s)
	if err != nil || len(s) > 2000 || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, "This must be an address that begins with http:// or https://, of at most 2,000 bytes."
	}
	return s, ""
}

func readID(_ *CustomField, v any) (any, string) {
	s, _ := v.(string)
	id, err := tandem.ParseID(s)
	if err != nil {
		return nil, "This must be an id."
	}
	return string(id), ""
}

// jsonText reads a number, or true or false; what is none stays a text, which such a field refuses.
func jsonText(s string) any {
	var v any
	if json.Unmarshal([]byte(s), &v) != nil {
		return s
	}
	return v
}

var moneyForm = regexp.MustCompile(`^(-?[0-9]{1,15}) ([A-Z]{3})$`)

// moneyText reads minor units and a currency, such as "125000 EUR".
func moneyText(s string) any {
	m := moneyForm.FindStringSubmatch(s)
	if m == nil {
		return s
	}
	n, err := strconv.ParseFloat(m[1], 64)
	if err != nil {
		return s
	}
	return map[string]any{"minor": n, "currency": m[2]}
}

// listText reads options with commas between them.
func listText(s string) any {
	all := []any{}
	for part := range strings.SplitSeq(s, ",") {
		all = append(all, strings.TrimSpace(part))
	}
	return all
}
