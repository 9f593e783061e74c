package crm

import (
	"regexp"
	"strconv"
	"unicode/utf8"

	"github.com/tandemhq/tandem"
)

// check refuses rules that values of the type cannot follow.
func (r *FieldRules) check(t customType, wrong []tandem.FieldError) []tandem.FieldError {
	refuse := func(message string) {
		wrong = append(wrong, tandem.FieldError{Field: "validation", Message: message})
	}
	lengths := r.MinLength != nil || r.MaxLength != nil || r.Pattern != ""
	if lengths && !t.lengths || (r.Min != nil || r.Max != nil) && !t.bounds {
		refuse("Texts have min_length, max_length and pattern; numbers and money have min and max; other types have no rules.")
	}
	if r.Min != nil && r.Max != nil && *r.Min > *r.Max {
		refuse("Min is above max.")
	}
	least := 0
	if r.MinLength != nil {
		least = *r.MinLength
	}
	if least < 0 || r.MaxLength != nil && *r.MaxLength < max(least, 1) {
		refuse("The lengths contradict each other.")
	}
	if _, err := r.pattern(); err != nil || len(r.Pattern) > maxPattern {
		refuse("The pattern must be an RE2 expression of at most 200 bytes.")
	}
	return wrong
}

// pattern is the expression that whole values match. RE2 takes time in proportion to the text, whatever the expression.
func (r *FieldRules) pattern() (*regexp.Regexp, error) {
	return regexp.Compile(`^(?:` + r.Pattern + `)$`)
}

// wrong says why v, a value in its one spelling, breaks a rule, or nothing.
func (r *FieldRules) wrong(v any) string {
	n, isNumber := v.(float64)
	if m, ok := v.(map[string]any); ok {
		n, isNumber = m["minor"].(float64)
	}
	if isNumber && (r.Min != nil && n < *r.Min || r.Max != nil && n > *r.Max) {
		return r.bounds()
	}
	s, ok := v.(string)
	if !ok {
		return ""
	}
	length := utf8.RuneCountInString(s)
	if r.MinLength != nil && length < *r.MinLength {
		return "This has fewer than " + strconv.Itoa(*r.MinLength) + " characters."
	}
	if r.MaxLength != nil && length > *r.MaxLength {
		return "This has more than " + strconv.Itoa(*r.MaxLength) + " characters."
	}
	if r.Pattern == "" {
		return ""
	}
	if form, err := r.pattern(); err != nil || !form.MatchString(s) {
		return "This does not have the form that is asked for: " + tandem.Clip(r.Pattern, 80) + "."
	}
	return ""
}

func (r *FieldRules) bounds() string {
	number := func(n *float64) string { return strconv.FormatFloat(*n, 'f', -1, 64) }
	switch {
	case r.Max == nil:
		return "This must be at least " + number(r.Min) + "."
	case r.Min == nil:
		return "This must be at most " + number(r.Max) + "."
	}
	return "This must be between " + number(r.Min) + " and " + number(r.Max) + "."
}
