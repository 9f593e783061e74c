// Package crm holds the records a team works on: contacts, boards, stages, leads, deals
// and what is known of them. One entity is one file and one test.
package crm

import (
	"context"
	"fmt"
	"regexp"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem"
)

// All lists every record set of this package; a test fails when one is missing. The API serves them all.
var All = []Resource{
	resource[Account](Accounts),
	resource[Contact](Contacts),
	resource[Lead](Leads),
	resource[Deal](Deals),
	resource[Board](Boards),
	resource[Stage](Stages),
	resource[Note](Notes),
	resource[Task](Tasks),
	resource[Call](Calls),
	resource(LeadSources),
	resource(Tags),
	resource[SavedView](SavedViews),
	resource[CustomField](CustomFields),
	uploaded[Document](Documents),
}

// Money is an amount in the currency's minor unit: 3800000 EUR is 38,000.00 euros.
type Money struct {
	Minor    int64  `json:"minor"`
	Currency string `json:"currency"` // ISO 4217, such as "EUR"
}

var currencyForm = regexp.MustCompile(`^[A-Z]{3}$`)

// check adds to wrong what is not right with the amount, which the caller calls field.
func (m *Money) check(field string, wrong []tandem.FieldError) []tandem.FieldError {
	switch {
	case m == nil:
	case m.Minor < 0:
		return append(wrong, tandem.FieldError{Field: field, Message: "This cannot be below zero."})
	case !currencyForm.MatchString(m.Currency):
		return append(wrong, tandem.FieldError{Field: "currency", Message: "Give the currency as three capital letters, such as EUR."})
	}
	return wrong
}

// columns returns the amount as the two nullable columns it is stored in.
func (m *Money) columns() (minor *int64, currency *string) {
	if m == nil {
		return nil, nil
	}
	return &m.Minor, &m.Currency
}

// clean drops what Postgres cannot store as text and the space around it, and cuts at n characters.
func clean(s string, n int) string {
	s = strings.TrimSpace(strings.ToValidUTF8(strings.ReplaceAll(s, "\x00", ""), ""))
	if r := []rune(s); len(r) > n {
		return strings.TrimSpace(string(r[:n]))
	}
	return s
}

const (
	maxTags   = 50
	maxTag    = 60  // characters
	maxCustom = 100 // values of a record that comes from outside
)

// cleanTags returns tags trimmed, without blanks and repeats, at most 50 of them.
func cleanTags(tags []string) []string {
	out := []string{}
	seen := map[string]bool{}
	for _, t := range tags {
		t = clean(t, maxTag)
		if t == "" || seen[strings.ToLower(t)] || len(out) == maxTags {
			continue
		}
		seen[strings.ToLower(t)] = true
		out = append(out, t)
	}
	return out
}

// mayTakeIn asks for verb, or for the right to bring leads in from outside, which
// includes making the contact and the lead they need.
func mayTakeIn(ctx context.Context, permission string) (tandem.Actor, error) {
	a, err := tandem.ActorFrom(ctx)
	if err != nil || a.May("inbound:write") {
		return a, err
	}
	return a, a.Require(permission)
}

const sqlSetting = `SELECT coalesce(settings->>@name, '') FROM organizations WHERE id = @org`

// setting returns one text of the organization's settings, or "".
func setting(ctx context.Context, tx pgx.Tx, org tandem.ID, name string) (s string, err error) {
	if err := tx.QueryRow(ctx, sqlSetting, pgx.StrictNamedArgs{"org": org, "name": name}).Scan(&s); err != nil {
		return "", fmt.Errorf("read organization's settings: %w", err)
	}
	return s, nil
}

// byMachine reports whether an AI member acts, inside Tandem or from outside.
func byMachine(a tandem.Actor) bool { return a.Kind == tandem.AI || a.Kind == tandem.External }
