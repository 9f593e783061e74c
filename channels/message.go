package channels

import (
	"strings"
	"time"
	"unicode/utf8"

	"github.com/tandemhq/tandem"
)

// Bounds that every Inbound keeps, in bytes unless said otherwise.
const (
	MaxID      = 500     // ExternalID, Thread; characters
	MaxAddress = 320     // Address; characters
	MaxName    = 300     // each of ContactFacts; characters
	MaxSubject = 1_000   // characters
	MaxText    = 200_000 // characters; adapters may set less
	MaxHTML    = 2 << 20
	MaxRaw     = 32 << 20
)

// Inbound is one message from outside, as an adapter understood it.
type Inbound struct {
	Org     tandem.ID
	Channel tandem.ID
	ID      ExternalID // the provider's id; the same id again is the same message

	From     Address // who wrote; also where answers go
	FromKind string  // what From is: IdentityVisitor, IdentityEmail, IdentityPhone or IdentityExternal
	Thread   string  // the provider's thread key; empty where a person has one thread per channel

	Subject string
	Text    string // plain text as a person reads it
	HTML    string // not sanitized; empty when the message is plain text

	Contact ContactFacts // what the message says about its writer; empty fields are unknown
	Lead    *LeadFacts   // what it says about a lead; nil: nothing

	Raw []byte    // the message exactly as it came, kept as evidence
	At  time.Time // when the provider says it was written; for display only, zero: now

	// StrictBody makes the same ID with another Raw an Invalid error, as an
	// Idempotency-Key asks for; otherwise it is a success that changes nothing.
	StrictBody bool
}

// Values of Inbound.FromKind.
const (
	IdentityVisitor  = "visitor"  // a browser that we gave a token to
	IdentityEmail    = "email"    // a mail address
	IdentityPhone    = "phone"    // a phone number
	IdentityExternal = "external" // the sender's name in the provider's world
)

// ContactFacts is what a message tells about its writer. All as written by the
// outside: crm normalizes them.
type ContactFacts struct {
	Name, FirstName, LastName string
	Email, Phone, Company     string
}

// LeadFacts is what a message tells about a lead.
type LeadFacts struct {
	Title    string
	Source   string // where the lead came from, such as "website"
	Board    string // a board's id or name; empty: the channel's board
	Value    *int64 // in minor units of Currency; nil: unknown
	Currency string // ISO 4217, upper case
	Priority string // low, normal, high or urgent; empty: unknown
	Tags     []string
	Custom   map[string]any
}

// Outbound is one message to send.
type Outbound struct {
	Message      tandem.ID
	Conversation tandem.ID
	ProviderID   ExternalID // our id of the message at the provider, fixed before the first attempt
	To           Address    // the From of the person's inbound messages
	Thread       string
	Text         string
	HTML         string // sanitized; empty when the message is plain text
	Attempt      int    // 1 for the first
}

// Receipt is what a provider answered to a send.
type Receipt struct {
	ID ExternalID // the provider's own id, when it gave one; later Status calls may use it
}

// Check reports, as one Invalid error naming each field, whether an adapter broke the
// bounds of the contract. Texts must be valid UTF-8 without NUL, because Postgres
// stores no other text.
func (in Inbound) Check() error {
	var wrong []tandem.FieldError
	bad := func(field, message string) { wrong = append(wrong, tandem.FieldError{Field: field, Message: message}) }
	text := func(field, s string, most int) {
		switch {
		case !utf8.ValidString(s):
			bad(field, "This is not valid UTF-8.")
		case strings.IndexByte(s, 0) >= 0:
			bad(field, "This contains a NUL character.")
		case utf8.RuneCountInString(s) > most:
			bad(field, "This is too long.")
		}
	}
	if in.Org == "" {
		bad("org", "This is missing.")
	}
	if in.Channel == "" {
		bad("channel", "This is missing.")
	}
	if in.ID == "" {
		bad("id", "This is missing.")
	}
	if in.From == "" {
		bad("from", "This is missing.")
	}
	switch in.FromKind {
	case IdentityVisitor, IdentityEmail, IdentityPhone, IdentityExternal:
	default:
		bad("from_kind", "This is not one of visitor, email, phone, external.")
	}
	text("id", string(in.ID), MaxID)
	text("from", string(in.From), MaxAddress)
	text("thread", in.Thread, MaxID)
	text("subject", in.Subject, MaxSubject)
	text("text", in.Text, MaxText)
	text("html", in.HTML, MaxHTML)
	text("contact.name", in.Contact.Name, MaxName)
	text("contact.first_name", in.Contact.FirstName, MaxName)
	text("contact.last_name", in.Contact.LastName, MaxName)
	text("contact.email", in.Contact.Email, MaxName)
	text("contact.phone", in.Contact.Phone, MaxName)
	text("contact.company", in.Contact.Company, MaxName)
	if len(in.Raw) > MaxRaw {
		bad("raw", "This is too large.")
	}
	if len(wrong) > 0 {
		return tandem.InvalidFields(wrong...)
	}
	return nil
}
