package agents

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/tandemhq/tandem"
)

// maxArgs bounds the arguments of one tool call, in bytes.
const maxArgs = 16 << 10

// shape is the argument struct of a tool: its JSON Schema and the strict decoder agree because
// both are read from the same tags.
type shape []field

type field struct {
	name, about string
	kind        reflect.Kind // String, Float64, Int, Slice (of strings)
	index       int
	required    bool
	enum        []string
	min, max    *float64
}

func shapeOf[A any]() shape {
	t := reflect.TypeFor[A]()
	var s shape
	for i := range t.NumField() {
		f := t.Field(i)
		name, opts, _ := strings.Cut(f.Tag.Get("json"), ",")
		kind := f.Type.Kind()
		switch {
		case name == "" || name == "-":
			panic("agents: field " + f.Name + " of a tool's arguments has no json name")
		case kind == reflect.Slice && f.Type.Elem().Kind() != reflect.String,
			kind != reflect.Slice && kind != reflect.String && kind != reflect.Float64 && kind != reflect.Int:
			panic("agents: field " + f.Name + " of a tool's arguments has a type that no schema is made for")
		}
		d := field{name: name, about: f.Tag.Get("about"), kind: kind, index: i, required: !strings.Contains(opts, "omitempty")}
		if e := f.Tag.Get("enum"); e != "" {
			d.enum = strings.Split(e, ",")
		}
		d.min, d.max = bound(f.Tag.Get("min")), bound(f.Tag.Get("max"))
		s = append(s, d)
	}
	return s
}

func bound(tag string) *float64 {
	if tag == "" {
		return nil
	}
	n, err := strconv.ParseFloat(tag, 64)
	if err != nil {
		panic("agents: a bound of a tool's argument is not a number: " + tag)
	}
	return &n
}

func (s shape) schema() json.RawMessage {
	props := map[string]any{}
	required := []string{}
	for _, f := range s {
		p := map[string]any{}
		if f.about != "" {
			p["description"] = f.about
		}
		if f.enum != nil {
			p["enum"] = f.enum
		}
		switch f.kind {
		case reflect.String:
			p["type"] = "string"
			set(p, "maxLength", f.max)
		case reflect.Slice:
			p["type"] = "array"
			p["items"] = map[string]any{"type": "string"}
			set(p, "maxItems", f.max)
		case reflect.Int:
			p["type"] = "integer"
			set(p, "minimum", f.min)
			set(p, "maximum", f.max)
		default:
			p["type"] = "number"
			set(p, "minimum", f.min)
			set(p, "maximum", f.max)
		}
		props[f.name] = p
		if f.required {
			required = append(required, f.name)
		}
	}
	b, err := json.Marshal(map[string]any{"type": "object", "properties": props, "required": required, "additionalProperties": false})
	if err != nil {
		panic(err) // maps of strings and numbers always encode
	}
	return b
}

func set(p map[string]any, key string, v *float64) {
	if v != nil {
		p[key] = *v
	}
}

// decode fills a from args, which must be one object with the fields of the shape and no other.
func (s shape) decode(args json.RawMessage, a any) error {
	if err := s.names(args); err != nil {
		return err
	}
	d := json.NewDecoder(bytes.NewReader(args))
	d.DisallowUnknownFields()
	if err := d.Decode(a); err != nil {
		return tandem.Wrap(tandem.Invalid, err, "The arguments do not fit the tool's schema: %s.", decodeText(err))
	}
	if _, err := d.Token(); err != io.EOF {
		return tandem.Errorf(tandem.Invalid, "The arguments are more than one JSON value.")
	}
	v := reflect.ValueOf(a).Elem()
	for _, f := range s {
		if !f.required && v.Field(f.index).IsZero() {
			continue // left out
		}
		if msg := f.wrong(v.Field(f.index)); msg != "" {
			return tandem.InvalidFields(tandem.FieldError{Field: f.name, Message: msg})
		}
	}
	return nil
}

// names checks size and keys: exactly the declared ones, in their exact spelling, each once.
// encoding/json alone would take "TEXT" for "text" and the last of two.
func (s shape) names(args json.RawMessage) error {
	if len(args) > maxArgs {
		return tandem.Errorf(tandem.Invalid, "The arguments are %d bytes; at most %d are allowed.", len(args), maxArgs)
	}
	if !utf8.Valid(args) || bytes.Contains(args, []byte(`\u0000`)) {
		return tandem.Errorf(tandem.Invalid, "The arguments are not clean UTF-8 text.")
	}
	d := json.NewDecoder(bytes.NewReader(args))
	if tok, err := d.Token(); err != nil || tok != json.Delim('{') {
		return tandem.Errorf(tandem.Invalid, "The arguments are not a JSON object.")
	}
	seen := map[string]bool{}
	for d.More() {
		tok, err := d.Token()
		key, isKey := tok.(string)
		if err != nil || !isKey {
			return tandem.Errorf(tandem.Invalid, "The arguments are not valid JSON.")
		}
		var skip json.RawMessage
		if err := d.Decode(&skip); err != nil {
			return tandem.Errorf(tandem.Invalid, "The arguments are not valid JSON.")
		}
		if seen[key] {
			return tandem.Errorf(tandem.Invalid, "The argument %q is given twice.", clip(key, 40))
		}
		seen[key] = true
	}
	for _, f := range s {
		if f.required && !seen[f.name] {
			return tandem.InvalidFields(tandem.FieldError{Field: f.name, Message: "This is required."})
		}
		delete(seen, f.name)
	}
	for key := range seen {
		return tandem.Errorf(tandem.Invalid, "There is no argument %q; this tool takes %s.", clip(key, 40), s.list())
	}
	return nil
}

func (s shape) list() string {
	names := make([]string, len(s))
	for i, f := range s {
		names[i] = f.name
	}
	return strings.Join(names, ", ")
}

func (f field) wrong(v reflect.Value) string {
	switch f.kind {
	case reflect.String:
		text := v.String()
		if f.required && strings.TrimSpace(text) == "" {
			return "This must not be empty."
		}
		if f.max != nil && len(text) > int(*f.max) {
			return fmt.Sprintf("This is %d bytes long; at most %d are allowed.", len(text), int(*f.max))
		}
		if f.enum != nil && text != "" && !slices.Contains(f.enum, text) {
			return "This must be one of " + strings.Join(f.enum, ", ") + "."
		}
	case reflect.Slice:
		if f.max != nil && v.Len() > int(*f.max) {
			return fmt.Sprintf("This has %d items; at most %d are allowed.", v.Len(), int(*f.max))
		}
		for i := range v.Len() {
			if len(v.Index(i).String()) > 500 {
				return "An item is longer than 500 bytes."
			}
		}
	case reflect.Int:
		return f.outside(float64(v.Int()))
	default:
		return f.outside(v.Float())
	}
	return ""
}

// outside checks a number; an optional one that is 0 was left out.

func (f field) outside(n float64) string {
	if n == 0 && !f.required {
		return ""
	}
	if f.min != nil && n < *f.min || f.max != nil && n > *f.max {
		return fmt.Sprintf("This must be between %g and %g.", *f.min, *f.max)
	}
	return ""
}

// decodeText is the reader's reason without Go's words for it.
func decodeText(err error) string {
	var te *json.UnmarshalTypeError
	if errors.As(err, &te) {
		return fmt.Sprintf("%q is a %s where a %s belongs", te.Field, te.Value, te.Type)
	}
	return strings.TrimPrefix(clip(err.Error(), 200), "json: ")
}

// clip shortens s to at most n bytes without cutting a character.
func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}
