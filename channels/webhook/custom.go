package webhook

import (
	"encoding/json"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/tandemhq/tandem"
)

// custom reads the sender's own fields: texts, numbers, booleans and lists of these.
// Deeper objects are refused by path, because no page could show or filter them.
func (p *parser) custom(f fields) map[string]any {
	raw, ok := f.take("custom")
	if !ok {
		return nil
	}
	in, err := object(raw)
	if err != nil {
		p.bad("custom", "This must be an object.")
		return nil
	}
	if len(in) > MaxCustom {
		p.bad("custom", "At most 50 fields are allowed.")
		return nil
	}
	out := make(map[string]any, len(in))
	for name, value := range in {
		field := "custom." + tandem.Clip(name, MaxTag)
		if n := utf8.RuneCountInString(name); n == 0 || n > MaxTag || strings.IndexByte(name, 0) >= 0 {
			p.bad(field, "A field's name has 1 to 60 characters.")
			continue
		}
		if v, ok := p.value(value, field); ok {
			out[name] = v
		}
	}
	return out
}

func (p *parser) value(raw json.RawMessage, field string) (any, bool) {
	switch raw[0] {
	case '[':
		var list []json.RawMessage
		if json.Unmarshal(raw, &list) != nil || len(list) > MaxTags {
			p.bad(field, "A list has at most 50 items.")
			return nil, false
		}
		out := make([]any, 0, len(list))
		for i, one := range list {
			v, ok := p.scalar(one, index(field, i))
			if !ok {
				return nil, false
			}
			out = append(out, v)
		}
		return out, true
	default:
		return p.scalar(raw, field)
	}
}

func (p *parser) scalar(raw json.RawMessage, field string) (any, bool) {
	switch raw[0] {
	case '"':
		return p.str(raw, field, MaxCustomText)
	case 't', 'f':
		return raw[0] == 't', true
	case 'n':
		return nil, true
	case '{', '[':
		p.bad(field, "This must be a text, a number, true or false, or a list of these.")
		return nil, false
	}
	if n, err := strconv.ParseInt(string(raw), 10, 64); err == nil {
		return n, true
	}
	n, err := strconv.ParseFloat(string(raw), 64)
	if err != nil || math.IsInf(n, 0) {
		p.bad(field, "This number is too large.")
		return nil, false
	}
	return n, true
}

func index(field string, i int) string { return field + "[" + strconv.Itoa(i) + "]" }
