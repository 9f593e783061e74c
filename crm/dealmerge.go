package crm

import (
	"context"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem"
)

// furtherContact is one further contact of a deal.
type furtherContact struct {
	Deal    tandem.ID `json:"deal" db:"deal"`
	Contact tandem.ID `json:"contact" db:"contact"`
}

const (
	// Both contacts' rows of every deal that the one which is merged has to do with.
	sqlFurther = `
SELECT x.deal_id AS deal, x.contact_id AS contact FROM deal_contacts x
WHERE x.org_id = @org AND x.contact_id = ANY(@both::uuid[])
  AND (EXISTS (SELECT FROM deal_contacts y WHERE y.org_id = @org AND y.deal_id = x.deal_id AND y.contact_id = @from)
    OR EXISTS (SELECT FROM deals d WHERE d.org_id = @org AND d.id = x.deal_id AND d.contact_id = @from))
ORDER BY 1, 2`
	sqlDropFurther = `
DELETE FROM deal_contacts WHERE org_id = @org AND contact_id = ANY(@contacts::uuid[]) AND deal_id = ANY(@deals::uuid[]) RETURNING deal_id`
	sqlFirstOf = `SELECT id FROM deals WHERE org_id = @org AND contact_id = @contact AND id = ANY(@deals::uuid[])`
	// The first contact of a deal is no further one.
	sqlAddFurther = `
INSERT INTO deal_contacts (org_id, deal_id, contact_id)
SELECT DISTINCT @org::uuid, d.id, u.contact FROM unnest(@deals::uuid[], @contacts::uuid[]) u(deal, contact)
JOIN deals d ON d.org_id = @org AND d.id = u.deal AND d.contact_id IS DISTINCT FROM u.contact
ON CONFLICT DO NOTHING`
)

// mergeFurther makes the contact that stays a further one where either was, when the deals' first contacts have moved.
func mergeFurther(ctx context.Context, tx pgx.Tx, org, into tandem.ID, was []furtherContact) error {
	if len(was) == 0 {
		return nil
	}
	deals, contacts, stays := make([]tandem.ID, len(was)), make([]tandem.ID, len(was)), make([]tandem.ID, len(was))
	for i, f := range was {
		deals[i], contacts[i], stays[i] = f.Deal, f.Contact, into
	}
	if _, err := tx.Exec(ctx, sqlDropFurther, pgx.StrictNamedArgs{"org": org, "contacts": contacts, "deals": deals}); err != nil {
		return fmt.Errorf("move the deals' further contacts: %w", err)
	}
	if _, err := tx.Exec(ctx, sqlAddFurther, pgx.StrictNamedArgs{"org": org, "contacts": stays, "deals": deals}); err != nil {
		return fmt.Errorf("move the deals' further contacts: %w", err)
	}
	return nil
}

// readFurther returns both contacts' places among the further ones of deals, before anything moves.
func readFurther(ctx context.Context, tx pgx.Tx, org, into, from tandem.ID) ([]furtherContact, error) {
	rows, _ := tx.Query(ctx, sqlFurther, pgx.StrictNamedArgs{"org": org, "from": from, "both": []tandem.ID{into, from}}) // CollectRows tells its error
	was, err := pgx.CollectRows(rows, pgx.RowToStructByName[furtherContact])
	if err != nil {
		return nil, fmt.Errorf("read the deals' further contacts: %w", err)
	}
	return was, nil
}

// splitFurther gives both contacts their places back, but for deals that somebody has taken the merged one out of since.
// The deals' first contacts have gone back already.
func splitFurther(ctx context.Context, tx pgx.Tx, org tandem.ID, k kept) error {
	if len(k.did.Further) == 0 {
		return nil
	}
	var all []tandem.ID
	for _, f := range k.did.Further {
		all = append(all, f.Deal)
	}
	still, err := idsOf(ctx, tx, sqlDropFurther, pgx.StrictNamedArgs{"org": org, "contacts": []tandem.ID{k.IntoID}, "deals": all})
	if err != nil {
		return fmt.Errorf("return the deals' further contacts: %w", err)
	}
	first, err := idsOf(ctx, tx, sqlFirstOf, pgx.StrictNamedArgs{"org": org, "contact": k.IntoID, "deals": all})
	if err != nil {
		return fmt.Errorf("return the deals' further contacts: %w", err)
	}
	back := map[tandem.ID]bool{}
	for _, id := range slices.Concat(still, first, k.did.Records["deals"]) {
		back[id] = true
	}
	var deals, contacts []tandem.ID
	for _, f := range k.did.Further {
		if back[f.Deal] {
			deals, contacts = append(deals, f.Deal), append(contacts, f.Contact)
		}
	}
	if _, err := tx.Exec(ctx, sqlAddFurther, pgx.StrictNamedArgs{"org": org, "contacts": contacts, "deals": deals}); err != nil {
		return fmt.Errorf("return the deals' further contacts: %w", err)
	}
	return nil
}
