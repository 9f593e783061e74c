package crm

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem"
)

const (
	// Each count stops at 1,000, at a price that does not grow.
	sqlGlance = `
SELECT (SELECT count(*) FROM (SELECT FROM contacts c WHERE c.org_id = @org AND c.account_id = @id AND c.archived_at IS NULL LIMIT 1000) few) AS contacts,
       (SELECT count(*) FROM (
            SELECT FROM contacts c JOIN leads l ON l.org_id = c.org_id AND l.contact_id = c.id
            WHERE c.org_id = @org AND c.account_id = @id AND c.archived_at IS NULL AND NOT l.closed AND l.archived_at IS NULL LIMIT 1000) few) AS open_leads,
       (SELECT count(*) FROM (
            SELECT FROM contacts c JOIN conversations v ON v.org_id = c.org_id AND v.contact_id = c.id
            WHERE c.org_id = @org AND c.account_id = @id AND c.archived_at IS NULL AND v.state IN ('open', 'waiting', 'snoozed') LIMIT 1000) few) AS open_conversations,
       (SELECT count(*) FROM (SELECT FROM deals d WHERE d.org_id = @org AND d.account_id = @id AND NOT d.closed AND d.archived_at IS NULL LIMIT 1000) few) AS open_deals`
	sqlChildren = `
SELECT id, name FROM accounts WHERE org_id = @org AND parent_id = @id AND archived_at IS NULL ORDER BY lower(name), id LIMIT 100`
)

// Get returns one account with what belongs to it at a glance.
func (s accounts) Get(ctx context.Context, tx pgx.Tx, id tandem.ID) (Account, error) {
	v, err := s.Set.Get(ctx, tx, id)
	if err != nil {
		return v, err
	}
	a, err := tandem.ActorFrom(ctx)
	if err != nil {
		return v, err
	}
	args := pgx.StrictNamedArgs{"org": a.Org, "id": id}
	rows, err := tx.Query(ctx, sqlGlance, args)
	if err != nil {
		return v, fmt.Errorf("count what an account has: %w", err)
	}
	g, err := pgx.CollectExactlyOneRow(rows, pgx.RowToStructByName[AccountGlance])
	if err != nil {
		return v, fmt.Errorf("count what an account has: %w", err)
	}
	if rows, err = tx.Query(ctx, sqlChildren, args); err != nil {
		return v, fmt.Errorf("get an account's children: %w", err)
	}
	if g.Children, err = pgx.CollectRows(rows, pgx.RowToStructByName[AccountChild]); err != nil {
		return v, fmt.Errorf("get an account's children: %w", err)
	}
	v.Glance = &g
	return v, nil
}
