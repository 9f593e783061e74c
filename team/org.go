// Package team holds organizations and who works in them: people, AI members and
// external members, their roles, sessions and API keys.
package team

import (
	"context"
	"fmt"
	"net/mail"
	"regexp"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/internal/events"
	"github.com/tandemhq/tandem/internal/pg"
)

// Org is one organization: everything in Tandem belongs to exactly one.
type Org struct {
	ID       tandem.ID `json:"id" db:"id"`
	Name     string    `json:"name" db:"name"`
	Currency string    `json:"currency" db:"currency"` // ISO 4217, such as "EUR"
}

// NewOrg is what a new organization and its owner need.
type NewOrg struct {
	Name          string
	Currency      string // ISO 4217; empty means EUR
	Region        string // ISO 3166 alpha-2 of phone numbers written without a country code; empty: none
	OwnerName     string
	OwnerEmail    string
	OwnerPassword string // at least 12 characters
}

const (
	sqlNewOrg   = `INSERT INTO organizations (id, name, currency, settings) VALUES (@id, @name, @currency, @settings)`
	sqlNewUser  = `INSERT INTO users (id, email, name, password_hash) VALUES (@id, @email, @name, @hash) ON CONFLICT (email) DO NOTHING`
	sqlUserDoor = `INSERT INTO doors (kind, key, org_id, record_id) VALUES ('user', uuid_send(@user::uuid), @org, @member)`
	sqlGetOrg   = `SELECT id, name, currency FROM organizations WHERE id = @org`
)

var (
	currencyForm = regexp.MustCompile(`^[A-Z]{3}$`)
	regionForm   = regexp.MustCompile(`^([A-Z]{2})?$`)
)

// CreateOrg makes, in one transaction, an organization, its owner and the team that
// handoffs fall back to, with the owner in it. An e-mail address that already has an
// account is Conflict; wrong input is Invalid and names each field.
func CreateOrg(ctx context.Context, db *pg.DB, in NewOrg) (org Org, owner Member, err error) {
	in.Name, in.OwnerName = strings.TrimSpace(in.Name), strings.TrimSpace(in.OwnerName)
	if in.Currency == "" {
		in.Currency = "EUR"
	}
	var wrong []tandem.FieldError
	wrong = checkText(wrong, "name", in.Name, 200)
	if !currencyForm.MatchString(in.Currency) {
		wrong = append(wrong, tandem.FieldError{Field: "currency", Message: "Give the currency as three capital letters, such as EUR."})
	}
	if !regionForm.MatchString(in.Region) {
		wrong = append(wrong, tandem.FieldError{Field: "region", Message: "Give the country as two capital letters, such as DE."})
	}
	if len(wrong) > 0 {
		return org, owner, tandem.InvalidFields(wrong...)
	}
	h := NewHuman{Name: in.OwnerName, Email: in.OwnerEmail, Password: in.OwnerPassword, Role: Owner}
	if err := h.check(); err != nil {
		return org, owner, err
	}
	hash, err := hashPassword(ctx, in.OwnerPassword)
	if err != nil {
		return org, owner, err
	}
	org = Org{ID: tandem.NewID(), Name: in.Name, Currency: in.Currency}
	settings := map[string]string{}
	if in.Region != "" {
		settings["region"] = in.Region
	}
	ctx = tandem.AsSystem(ctx, org.ID)
	err = db.Tx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, sqlNewOrg, pgx.StrictNamedArgs{"id": org.ID, "name": org.Name, "currency": org.Currency, "settings": settings}); err != nil {
			return fmt.Errorf("create organization: %w", err)
		}
		if _, err := events.Emit(ctx, tx, tandem.Event{
			Noun: "organization", Verb: "created", Record: org.ID, Category: "team", Severity: "info",
			Description: "The organization " + org.Name + " was created",
		}); err != nil {
			return fmt.Errorf("create organization: %w", err)
		}
		if owner, err = addHuman(ctx, tx, h, hash); err != nil {
			return err
		}
		_, err := AddTeam(ctx, tx, "Team", true, []tandem.ID{owner.ID})
		return err
	})
	if err != nil {
		return Org{}, Member{}, err
	}
	return org, owner, nil
}

// GetOrg returns the organization of ctx's actor.
func GetOrg(ctx context.Context, tx pgx.Tx) (o Org, err error) {
	a, err := tandem.ActorFrom(ctx)
	if err != nil {
		return o, err
	}
	rows, err := tx.Query(ctx, sqlGetOrg, pgx.StrictNamedArgs{"org": a.Org})
	if err != nil {
		return o, fmt.Errorf("get organization: %w", err)
	}
	o, err = pgx.CollectExactlyOneRow(rows, pgx.RowToStructByName[Org])
	if pg.NoRows(err) {
		return o, tandem.Errorf(tandem.NotFound, "There is no such organization.")
	}
	if err != nil {
		return o, fmt.Errorf("get organization: %w", err)
	}
	return o, nil
}

// checkText adds to wrong when text is empty, too long or not fit to be stored.
func checkText(wrong []tandem.FieldError, field, text string, longest int) []tandem.FieldError {
	switch n := len([]rune(text)); {
	case n == 0:
		return append(wrong, tandem.FieldError{Field: field, Message: "This is needed."})
	case n > longest:
		return append(wrong, tandem.FieldError{Field: field, Message: fmt.Sprintf("This may have at most %d characters.", longest)})
	case strings.ContainsRune(text, 0) || strings.ToValidUTF8(text, "") != text:
		return append(wrong, tandem.FieldError{Field: field, Message: "This has characters that cannot be stored."})
	}
	return wrong
}

// loginEmail returns the address in the one form that users are stored and found by.
func loginEmail(s string) (string, bool) {
	s = strings.ToLower(strings.TrimSpace(s))
	a, err := mail.ParseAddress(s)
	return s, err == nil && a.Address == s && len(s) <= 254 && !strings.ContainsRune(s, 0)
}

// cleanText drops what Postgres cannot store as text.
func cleanText(s string) string {
	return strings.ToValidUTF8(strings.ReplaceAll(s, "\x00", ""), "")
}
