package crm

import (
	"context"
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/internal/record"
)

// Contact is somebody who writes to us, or whom we know.
type Contact struct {
	ID         tandem.ID      `json:"id" db:"id"`
	Name       string         `json:"name" db:"name"`
	FirstName  string         `json:"first_name" db:"first_name"`
	LastName   string         `json:"last_name" db:"last_name"`
	Email      *string        `json:"email,omitempty" db:"email"`
	Phone      *string        `json:"phone,omitempty" db:"phone"` // E.164
	Company    string         `json:"company" db:"company"`
	AccountID  *tandem.ID     `json:"account_id" db:"account_id"` // the company, when it is an account
	Title      string         `json:"title" db:"title" example:"Head of Purchasing" doc:"What they do at the company."`
	Language   *string        `json:"language" db:"language" example:"de" doc:"The language to write in, as BCP 47 names it."`
	Timezone   *string        `json:"timezone" db:"timezone" example:"Europe/Berlin"`
	City       string         `json:"city" db:"city"`
	Country    *string        `json:"country" db:"country" example:"DE" doc:"Two capital letters, as in ISO 3166."`
	Tags       []string       `json:"tags" db:"tags" nullable:"false"`
	Custom     map[string]any `json:"custom" db:"custom" nullable:"false" doc:"Values of custom fields, by key. A change names those to set; null removes one."`
	Identities []Recognized   `json:"identities,omitempty" db:"-"` // only from Get
	Consents   []Consent      `json:"consents,omitempty" db:"-"`   // only from Get
	CreatedAt  time.Time      `json:"created_at" db:"created_at"`
	UpdatedAt  time.Time      `json:"updated_at" db:"updated_at"`
	Version    int64          `json:"version" db:"version"`
}

type contacts struct{ customized[Contact] }

// Contacts is the set of contacts.
var Contacts = contacts{customized[Contact]{parts: func(c *Contact) (*tandem.ID, *map[string]any) { return &c.ID, &c.Custom }, Set: record.Set[Contact]{
	Noun: "contact", Table: "contacts",
	Fields: []record.Field{
		{Name: "name", Filter: true, Write: true, Needed: true, Sort: "lower(contacts.name)"},
		{Name: "first_name", Write: true},
		{Name: "last_name", Write: true},
		{Name: "email", Filter: true, Write: true},
		{Name: "phone", Filter: true, Write: true},
		{Name: "company", Filter: true, Write: true},
		{Name: "account_id", Type: record.ID, Filter: true, Write: true},
		{Name: "title", Filter: true, Write: true},
		{Name: "language", Filter: true, Write: true},
		{Name: "timezone", Filter: true, Write: true},
		{Name: "city", Filter: true, Write: true},
		{Name: "country", Filter: true, Write: true},
		{Name: "tags", Type: record.Texts, Filter: true, Write: true},
		{Name: "custom", Write: true},
		{Name: "created_at", Type: record.Time, Filter: true},
		{Name: "updated_at", Type: record.Time, Filter: true},
	},
	Search:     []string{"contacts.name", "contacts.last_name", "contacts.email", "contacts.company"},
	Archivable: true, Label: "name", Category: "crm", Check: checkContact,
}}}

func checkContact(c *Contact) error {
	var wrong []tandem.FieldError
	if n := len([]rune(c.Name)); n == 0 || n > 300 {
		wrong = append(wrong, tandem.FieldError{Field: "name", Message: "A contact needs a name of at most 300 characters."})
	}
	if c.Email != nil {
		if e, ok := NormalizeEmail(*c.Email); ok {
			c.Email = &e
		} else {
			wrong = append(wrong, tandem.FieldError{Field: "email", Message: "This is not an e-mail address."})
		}
	}
	if c.Phone != nil {
		if p, ok := NormalizePhone(*c.Phone, ""); ok {
			c.Phone = &p
		} else {
			wrong = append(wrong, tandem.FieldError{Field: "phone", Message: "Write the number with its country code, such as +49 40 123456."})
		}
	}
	wrong = checkPlace(c, wrong)
	if len(wrong) > 0 {
		return tandem.InvalidFields(wrong...)
	}
	if c.Tags != nil {
		c.Tags = cleanTags(c.Tags)
	}
	return nil
}

var (
	languageForm = regexp.MustCompile(`^[a-z]{2,3}(-[A-Za-z0-9]{2,8})*$`)
	timezoneForm = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_+-]*(/[A-Za-z0-9_+-]+){0,2}$`)
	countryForm  = regexp.MustCompile(`^[A-Z]{2}$`)
)

// checkPlace looks at what says where and in which language a contact is spoken to.
func checkPlace(c *Contact, wrong []tandem.FieldError) []tandem.FieldError {
	for _, f := range []struct {
		name string
		text *string
		most int
	}{{"title", &c.Title, 200}, {"city", &c.City, 120}} {
		if *f.text = strings.TrimSpace(*f.text); len([]rune(*f.text)) > f.most {
			wrong = append(wrong, tandem.FieldError{Field: f.name, Message: fmt.Sprintf("This is too long; %d characters are the most.", f.most)})
		}
	}
	if c.Language != nil && (!languageForm.MatchString(*c.Language) || len(*c.Language) > 35) {
		wrong = append(wrong, tandem.FieldError{Field: "language", Message: "Write a language such as de or en-GB, or null for none."})
	}
	if c.Timezone != nil && (!timezoneForm.MatchString(*c.Timezone) || len(*c.Timezone) > 60) {
		wrong = append(wrong, tandem.FieldError{Field: "timezone", Message: "Write a time zone such as Europe/Berlin, or null for none."})
	}
	if c.Country != nil {
		upper := strings.ToUpper(strings.TrimSpace(*c.Country))
		if c.Country = &upper; !countryForm.MatchString(upper) {
			wrong = append(wrong, tandem.FieldError{Field: "country", Message: "Write two letters such as DE, or null for none."})
		}
	}
	return wrong
}

// Create adds a contact by hand; its e-mail address and phone number become identities.
// One that belongs to another contact is Conflict. A contact that names no account works for
// the one whose domain is that of its e-mail address.
func (s contacts) Create(ctx context.Context, tx pgx.Tx, c Contact) (Contact, error) {
	a, err := s.May(ctx, "write")
	if err != nil {
		return c, err
	}
	if c.AccountID == nil {
		if c.AccountID, err = employer(ctx, tx, a.Org, deref(c.Email)); err != nil {
			return c, err
		}
	}
	c, err = s.customized.Create(ctx, tx, c)
	if err != nil {
		return c, err
	}
	return c, identify(ctx, tx, c)
}

// Patch changes a contact as customized does. A new e-mail address or phone number becomes
// an identity beside the old ones, by which the contact is still recognized.
func (s contacts) Patch(ctx context.Context, tx pgx.Tx, id tandem.ID, raw json.RawMessage, version *int64) (Contact, error) {
	c, err := s.customized.Patch(ctx, tx, id, raw, version)
	if err != nil {
		return c, err
	}
	return c, identify(ctx, tx, c)
}

const byMember = "entered by a member" // the evidence for what somebody of the team has typed in

// identify makes the contact's e-mail and phone identities of it.
func identify(ctx context.Context, tx pgx.Tx, c Contact) error {
	a, err := tandem.ActorFrom(ctx)
	if err != nil {
		return err
	}
	for _, i := range []Identity{{Kind: "email", Value: deref(c.Email)}, {Kind: "phone", Value: deref(c.Phone)}} {
		if i.Value == "" {
			continue
		}
		kinds, scopes, values := columns([]Identity{i})
		if _, err := tx.Exec(ctx, sqlAddIdentities, pgx.StrictNamedArgs{
			"org": a.Org, "id": c.ID, "evidence": byMember, "kinds": kinds, "scopes": scopes, "values": values,
		}); err != nil {
			return fmt.Errorf("add identities: %w", err)
		}
		owner, _, err := find(ctx, tx, a.Org, i, []Identity{i})
		if err != nil {
			return err
		}
		if owner != c.ID {
			return taken(ctx, tx, a.Org, i, owner)
		}
	}
	return nil
}

// Get returns one contact with the ways in which it is recognized and where it may be written to.
// One that was merged into another is NotFound with a sentence that names the other.
func (s contacts) Get(ctx context.Context, tx pgx.Tx, id tandem.ID) (Contact, error) {
	c, err := s.Set.Get(ctx, tx, id)
	if tandem.KindOf(err) == tandem.NotFound {
		return c, s.gone(ctx, tx, id, err)
	}
	if err != nil {
		return c, err
	}
	a, err := tandem.ActorFrom(ctx)
	if err != nil {
		return c, err
	}
	if c.Identities, err = identitiesOf(ctx, tx, a.Org, id); err != nil {
		return c, err
	}
	c.Consents, err = consentsOf(ctx, tx, a.Org, id)
	return c, err
}

// Restore brings an archived contact back. One that was merged into another is Conflict: splitting the merge brings it back.
func (s contacts) Restore(ctx context.Context, tx pgx.Tx, id tandem.ID) (Contact, error) {
	a, err := s.May(ctx, "write")
	if err != nil {
		return Contact{}, err
	}
	into, err := mergedInto(ctx, tx, a.Org, id)
	if err != nil {
		return Contact{}, err
	}
	if into.ID != "" {
		return Contact{}, tandem.Errorf(tandem.Conflict, "This contact was merged into %s (%s). Split the two to have it back.", into.Name, into.ID)
	}
	return s.customized.Restore(ctx, tx, id)
}

// gone is what to answer when there is no such contact: where it went, if it was merged.
func (s contacts) gone(ctx context.Context, tx pgx.Tx, id tandem.ID, otherwise error) error {
	a, err := tandem.ActorFrom(ctx)
	if err != nil {
		return err
	}
	into, err := mergedInto(ctx, tx, a.Org, id)
	if err != nil {
		return err
	}
	if into.ID == "" {
		return otherwise
	}
	return tandem.Errorf(tandem.NotFound, "There is no such contact any more: it was merged into %s (%s).", into.Name, into.ID)
}
