package webhook

import (
	"bytes"
	"encoding/json"
	"io"
	"net/mail"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/channels"
)

// Bounds of a lead as it comes in; texts in characters.
const (
	MaxBody       = 256 << 10 // bytes
	MaxMessage    = 50_000
	MaxTitle      = 300
	MaxShort      = 120 // source, board
	MaxTags       = 50
	MaxTag        = 60
	MaxCustom     = 50 // fields
	MaxCustomText = 2_000
	MaxExternalID = 200
	MaxKey        = 255                   // of an Idempotency-Key
	MaxValue      = 9_007_199_254_740_991 // minor units: what every JSON reader keeps exactly
)

// ErrMalformed is in the chain when the body is not one JSON object at all: the
// sender's program is wrong, not its data.
var ErrMalformed = &tandem.Error{Kind: tandem.Invalid, Msg: "The body is not a valid JSON object in UTF-8."}

// Parse reads a lead. Everything that is wrong with it is named at once, by path, in
// one Invalid error. NUL characters, which no one can type, are removed.
//
// From the result the caller still sets Org and Channel. The ID is the body's
// external_id, or else a fresh one; see [WithKey] for a request with an Idempotency-Key. Without a
// message the title is also the text.
func Parse(body []byte) (channels.Inbound, error) {
	if len(body) > MaxBody {
		return channels.Inbound{}, tandem.Errorf(tandem.Invalid, "The body is larger than %d kB.", MaxBody>>10)
	}
	if !utf8.Valid(body) {
		return channels.Inbound{}, ErrMalformed
	}
	root, err := object(body)
	if err != nil {
		return channels.Inbound{}, ErrMalformed
	}
	p := &parser{}
	lead := &channels.LeadFacts{
		Title:    p.text(root, "", "title", MaxTitle),
		Source:   p.text(root, "", "source", MaxShort),
		Board:    p.text(root, "", "board", MaxShort),
		Priority: p.text(root, "", "priority", 10),
	}
	message := p.text(root, "", "message", MaxMessage)
	external := p.text(root, "", "external_id", MaxExternalID)
	p.money(root, lead)
	lead.Tags = p.tags(root)
	lead.Custom = p.custom(root)
	if lead.Priority != "" && !slices.Contains([]string{"low", "normal", "high", "urgent"}, lead.Priority) {
		p.bad("priority", "Write low, normal, high or urgent.")
	}
	contact, from, kind := p.contact(root)
	if message == "" && lead.Title == "" && !p.named("message") && !p.named("title") {
		p.bad("message", "Give a message or a title.")
	}
	p.rest(root, "")
	if len(p.wrong) > 0 {
		return channels.Inbound{}, tandem.InvalidFields(p.wrong...)
	}
	in := channels.Inbound{
		ID: channels.ExternalID(external), From: from, FromKind: kind,
		Text: message, Contact: contact, Lead: lead, Raw: body,
	}
	if in.ID == "" {
		in.ID = channels.ExternalID(tandem.NewID())
	}
	if in.Text == "" {
		in.Text = lead.Title
	}
	return in, nil
}

// WithKey gives a parsed lead the identity of its Idempotency-Key header: the same key
// with the same body is the same lead, and with another body an error.
func WithKey(in channels.Inbound, key string) (channels.Inbound, error) {
	plain := key != ""
	for i := range len(key) {
		plain = plain && key[i] >= 0x20 && key[i] <= 0x7e
	}
	if !plain || len(key) > MaxKey {
		return in, tandem.InvalidFields(tandem.FieldError{
			Field: "Idempotency-Key", Message: "Write 1 to 255 plain ASCII characters.",
		})
	}
	in.ID = channels.ExternalID("idempotency-key:" + key) // apart from external_id, which is the sender's other name space
	in.StrictBody = true
	return in, nil
}

// fields is a JSON object whose known fields are taken out one by one.
type fields map[string]json.RawMessage

func object(raw []byte) (fields, error) {
	dec := json.NewDecoder(bytes.NewReader(raw))
	var f fields
	if err := dec.Decode(&f); err != nil {
		return nil, err
	}
	if _, err := dec.Token(); err != io.EOF || f == nil {
		return nil, ErrMalformed
	}
	return f, nil
}

// parser collects what is wrong.
type parser struct{ wrong []tandem.FieldError }

func (p *parser) bad(field, message string) {
	p.wrong = append(p.wrong, tandem.FieldError{Field: field, Message: message})
}

func (p *parser) named(field string) bool {
	return slices.ContainsFunc(p.wrong, func(e tandem.FieldError) bool { return e.Field == field })
}

// take removes a field; null counts as absent.
func (f fields) take(name string) (json.RawMessage, bool) {
	raw, ok := f[name]
	delete(f, name)
	return raw, ok && string(raw) != "null"
}

// rest names every field that nobody took.
func (p *parser) rest(f fields, path string) {
	names := make([]string, 0, len(f))
	for name := range f {
		names = append(names, name)
	}
	slices.Sort(names)
	for i, name := range names {
		if i == 20 {
			p.bad(path+"…", "There are more fields that Tandem does not know.")
			return
		}
		p.bad(path+tandem.Clip(name, MaxTag), "Tandem does not know this field. Put your own fields into custom.")
	}
}

func (p *parser) text(f fields, path, name string, most int) string {
	raw, ok := f.take(name)
	if !ok {
		return ""
	}
	s, ok := p.str(raw, path+name, most)
	if !ok {
		return ""
	}
	return s
}

func (p *parser) str(raw json.RawMessage, field string, most int) (string, bool) {
	var s string
	if json.Unmarshal(raw, &s) != nil {
		p.bad(field, "This must be a text.")
		return "", false
	}
	s = strings.TrimSpace(strings.ReplaceAll(s, "\x00", ""))
	if n := utf8.RuneCountInString(s); n > most {
		p.bad(field, tandem.Errorf(tandem.Invalid, "This has %d characters; at most %d are allowed.", n, most).Msg)
		return "", false
	}
	return s, true
}

var currencyCode = regexp.MustCompile(`^[A-Z]{3}$`)

// money reads value, in minor units, with its currency. A currency without a value says nothing.
func (p *parser) money(f fields, lead *channels.LeadFacts) {
	currency := strings.ToUpper(p.text(f, "", "currency", 10))
	if currency != "" && !currencyCode.MatchString(currency) {
		p.bad("currency", "Write the three letters of ISO 4217, such as EUR.")
	}
	raw, ok := f.take("value")
	if !ok {
		return
	}
	var n int64
	if json.Unmarshal(raw, &n) != nil || n < 0 || n > MaxValue {
		p.bad("value", "Write a whole number of minor units (cents), 0 or more: 12.50 is 1250.")
		return
	}
	if currency == "" && !p.named("currency") {
		p.bad("currency", "Give the currency of value, such as EUR.")
	}
	lead.Value, lead.Currency = &n, currency
}

func (p *parser) tags(f fields) []string {
	raw, ok := f.take("tags")
	if !ok {
		return nil
	}
	var list []json.RawMessage
	if json.Unmarshal(raw, &list) != nil {
		p.bad("tags", "This must be a list of texts.")
		return nil
	}
	if len(list) > MaxTags {
		p.bad("tags", "At most 50 tags are allowed.")
		return nil
	}
	var tags []string
	for i, one := range list {
		tag, ok := p.str(one, index("tags", i), MaxTag)
		if ok && tag != "" && !slices.Contains(tags, tag) {
			tags = append(tags, tag)
		}
	}
	return tags
}

var (
	phoneNoise = strings.NewReplacer(" ", "", "-", "", ".", "", "(", "", ")", "", "/", "", "\u00a0", "")
	phoneForm  = regexp.MustCompile(`^\+?[0-9]{6,15}$`)
)

// contact reads the writer, who must be reachable by email or phone.
func (p *parser) contact(f fields) (c channels.ContactFacts, from channels.Address, kind string) {
	raw, ok := f.take("contact")
	if !ok {
		p.bad("contact", "Give a contact with an email or a phone.")
		return c, "", ""
	}
	in, err := object(raw)
	if err != nil {
		p.bad("contact", "This must be an object.")
		return c, "", ""
	}
	const path = "contact."
	c = channels.ContactFacts{
		Name:      p.text(in, path, "name", channels.MaxName),
		FirstName: p.text(in, path, "first_name", channels.MaxName),
		LastName:  p.text(in, path, "last_name", channels.MaxName),
		Email:     p.text(in, path, "email", 254),
		Phone:     p.text(in, path, "phone", 40),
		Company:   p.text(in, path, "company", channels.MaxName),
	}
	if c.Email != "" && !emailAddress(c.Email) {
		p.bad("contact.email", "This is not a mail address.")
	}
	phone := phoneNoise.Replace(c.Phone)
	if c.Phone != "" && !phoneForm.MatchString(phone) {
		p.bad("contact.phone", "This is not a phone number. Write it with its country, such as +49 30 901820.")
	}
	if c.Email == "" && c.Phone == "" && !p.named("contact.email") && !p.named("contact.phone") {
		p.bad("contact", "Give an email or a phone.")
	}
	p.rest(in, path)
	if c.Email != "" {
		return c, channels.Address(strings.ToLower(c.Email)), channels.IdentityEmail
	}
	return c, channels.Address(phone), channels.IdentityPhone
}

// emailAddress is a check of the form only: one bare address with a domain of at least two labels.
func emailAddress(s string) bool {
	a, err := mail.ParseAddress(s)
	if err != nil || a.Address != s || a.Name != "" {
		return false
	}
	local, domain, ok := strings.Cut(s, "@")
	if !ok || len(local) > 64 || strings.ContainsAny(s, "\"[]\\ \t\r\n") {
		return false
	}
	labels := strings.Split(domain, ".")
	for _, l := range labels {
		if l == "" || len(l) > 63 || l[0] == '-' || l[len(l)-1] == '-' {
			return false
		}
	}
	return len(labels) >= 2
}
