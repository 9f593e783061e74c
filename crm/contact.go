package crm

import (
	"context"
	"encoding/json"
	"fmt"
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
	Tags       []string       `json:"tags" db:"tags" nullable:"false"`
	Custom     map[string]any `json:"custom" db:"custom" nullable:"false" doc:"Values of custom fields, by key. A change names those to set; null removes one."`
	Identities []Recognized   `json:"identities,omitempty" db:"-"` // only from Get
	CreatedAt  time.Time      `json:"created_at" db:"created_at"`
	UpdatedAt  time.Time      `json:"updated_at" db:"updated_at"`
	Version    int64          `json:"version" db:"version"`
}

// Recognized is one way in which a contact is known.
type Recognized struct {
	Kind  string `json:"kind" db:"kind" enum:"email,phone,whatsapp,visitor,external"`
	Value string `json:"value" db:"value"`
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
	if len(wrong) > 0 {
		return tandem.InvalidFields(wrong...)
	}
	if c.Tags != nil {
		c.Tags = cleanTags(c.Tags)
	}
	return nil
}

// Create adds a contact by hand; its e-mail address and phone number become identities.
// One that belongs to another contact is Conflict.
func (s contacts) Create(ctx context.Context, tx pgx.Tx, c Contact) (Contact, error) {
	c, err := s.customized.Create(ctx, tx, c)
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
			"org": a.Org, "id": c.ID, "evidence": "entered by a member", "kinds": kinds, "scopes": scopes, "values": values,
		}); err != nil {
			return fmt.Errorf("add identities: %w", err)
		}
		owner, _, err := find(ctx, tx, a.Org, i, []Identity{i})
		if err != nil {
			return err
		}
		if owner != c.ID {
			return tandem.Errorf(tandem.Conflict, "Another contact has %s.", i.Value)
		}
	}
	return nil
}

const sqlIdentities = `
SELECT kind, value FROM contact_identities WHERE org_id = @org AND contact_id = @contact ORDER BY kind, scope, value LIMIT 200`

// Get returns one contact with the ways in which it is recognized.
func (s contacts) Get(ctx context.Context, tx pgx.Tx, id tandem.ID) (Contact, error) {
	c, err := s.Set.Get(ctx, tx, id)
	if err != nil {
		return c, err
	}
	a, err := tandem.ActorFrom(ctx)
	if err != nil {
		return c, err
	}
	rows, err := tx.Query(ctx, sqlIdentities, pgx.StrictNamedArgs{"org": a.Org, "contact": id})
	if err != nil {
		return c, fmt.Errorf("get identities: %w", err)
	}
	if c.Identities, err = pgx.CollectRows(rows, pgx.RowToStructByName[Recognized]); err != nil {
		return c, fmt.Errorf("get identities: %w", err)
	}
	return c, nil
}
