package crm

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/internal/events"
)

// Matched is what became of looking for an account's contacts.
type Matched struct {
	Linked int  `json:"linked" doc:"How many contacts belong to the account from now on."`
	More   bool `json:"more" doc:"Whether there are more: ask again."`
}

const maxMatch = 1000 // contacts at once

const (
	// In the order of their ids, as bulk changes take them; who is given an account meanwhile is left alone.
	sqlUnmatched = `
SELECT id FROM contacts
WHERE org_id = @org AND email_domain = @domain AND account_id IS NULL AND archived_at IS NULL
ORDER BY id LIMIT @limit FOR NO KEY UPDATE`
	sqlMatch = `
UPDATE contacts SET account_id = @account, updated_at = now(), version = version + 1 WHERE org_id = @org AND id = ANY(@ids::uuid[])
RETURNING id, name`
)

// Match makes contacts of the account of those who have no account and an e-mail address of its domain: at most 1,000, with a
// fact for each. An account without a domain, or with one where anybody can have an address, is Conflict.
func (s accounts) Match(ctx context.Context, tx pgx.Tx, id tandem.ID) (m Matched, err error) {
	a, err := Contacts.May(ctx, "write")
	if err != nil {
		return m, err
	}
	v, err := s.Set.Get(ctx, tx, id)
	if err != nil {
		return m, err
	}
	switch {
	case v.Domain == nil:
		return m, tandem.Errorf(tandem.Conflict, "%s has no domain to look for.", v.Name)
	case publicDomains[*v.Domain]:
		return m, tandem.Errorf(tandem.Conflict, "Anybody can have an address of %s: it says nothing about the company.", *v.Domain)
	}
	rows, err := tx.Query(ctx, sqlUnmatched, pgx.StrictNamedArgs{"org": a.Org, "domain": *v.Domain, "limit": maxMatch + 1})
	if err != nil {
		return m, fmt.Errorf("look for an account's contacts: %w", err)
	}
	ids, err := pgx.CollectRows(rows, pgx.RowTo[tandem.ID])
	if err != nil {
		return m, fmt.Errorf("look for an account's contacts: %w", err)
	}
	if m.More = len(ids) > maxMatch; m.More {
		ids = ids[:maxMatch]
	}
	if rows, err = tx.Query(ctx, sqlMatch, pgx.StrictNamedArgs{"org": a.Org, "account": id, "ids": ids}); err != nil {
		return m, fmt.Errorf("link an account's contacts: %w", err)
	}
	var facts events.Many
	var contact tandem.ID
	var name string
	if _, err := pgx.ForEachRow(rows, []any{&contact, &name}, func() error {
		m.Linked++
		return facts.Add(ctx, tandem.Event{
			Noun: "contact", Verb: "updated", Record: contact, Category: "crm", Severity: "info",
			Changes:     []tandem.Change{{Field: "account_id", New: id}},
			Description: a.Name + " found that " + tandem.Clip(name, 80) + " belongs to " + tandem.Clip(v.Name, 80),
		})
	}); err != nil {
		return m, fmt.Errorf("link an account's contacts: %w", err)
	}
	if err := facts.Flush(ctx, tx); err != nil {
		return m, fmt.Errorf("link an account's contacts: %w", err)
	}
	return m, nil
}
