package crm

import (
	"context"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/internal/events"
	"github.com/tandemhq/tandem/internal/pg"
)

const (
	sqlDealContacts = `
SELECT deal_id, contact_id FROM deal_contacts WHERE org_id = @org AND deal_id = ANY(@deals::uuid[]) ORDER BY deal_id, contact_id`
	sqlExclude = `DELETE FROM deal_contacts WHERE org_id = @org AND deal_id = @deal AND contact_id <> ALL(@contacts::uuid[])`
	sqlInclude = `
INSERT INTO deal_contacts (org_id, deal_id, contact_id) SELECT @org, @deal, c FROM unnest(@contacts::uuid[]) c ON CONFLICT DO NOTHING`
	sqlDealVersion = `UPDATE deals SET updated_at = now(), version = version + 1 WHERE org_id = @org AND id = @deal`
)

// withContacts fills in the further contacts of all deals, with one query.
func withContacts(ctx context.Context, tx pgx.Tx, list []Deal) error {
	a, err := tandem.ActorFrom(ctx)
	if err != nil {
		return err
	}
	ids, at := make([]tandem.ID, len(list)), map[tandem.ID]int{}
	for i := range list {
		ids[i], at[list[i].ID], list[i].ContactIDs = list[i].ID, i, []tandem.ID{}
	}
	rows, err := tx.Query(ctx, sqlDealContacts, pgx.StrictNamedArgs{"org": a.Org, "deals": ids})
	if err != nil {
		return fmt.Errorf("list the deals' contacts: %w", err)
	}
	var deal, contact tandem.ID
	if _, err := pgx.ForEachRow(rows, []any{&deal, &contact}, func() error {
		d := &list[at[deal]]
		d.ContactIDs = append(d.ContactIDs, contact)
		return nil
	}); err != nil {
		return fmt.Errorf("list the deals' contacts: %w", err)
	}
	return nil
}

// include makes contacts the further ones of a deal, whose row the caller holds, and returns those before. Its first contact
// is not among them.
func (s deals) include(ctx context.Context, tx pgx.Tx, org tandem.ID, d Deal, contacts []tandem.ID) (was []tandem.ID, err error) {
	none := tandem.InvalidFields(tandem.FieldError{Field: "contact_ids", Message: "This names somebody who is no contact."})
	kept := []tandem.ID{}
	for _, c := range contacts {
		if _, err := tandem.ParseID(string(c)); err != nil {
			return nil, none
		}
		if c != tandem.Deref(d.ContactID) {
			kept = append(kept, c)
		}
	}
	one := []Deal{d}
	if err := withContacts(ctx, tx, one); err != nil {
		return nil, err
	}
	args := pgx.StrictNamedArgs{"org": org, "deal": d.ID, "contacts": kept}
	for _, sql := range []string{sqlExclude, sqlInclude} {
		if _, err := tx.Exec(ctx, sql, args); err != nil {
			if tandem.KindOf(pg.Refusal(err, s.Noun)) == tandem.Invalid {
				return nil, none
			}
			return nil, fmt.Errorf("change the deal's contacts: %w", err)
		}
	}
	return one[0].ContactIDs, nil
}

// told writes the fact that a deal's further contacts are others than they were, when they are.
func (s deals) told(ctx context.Context, tx pgx.Tx, a tandem.Actor, d Deal, was []tandem.ID) error {
	one := []Deal{d}
	if err := withContacts(ctx, tx, one); err != nil || slices.Equal(was, one[0].ContactIDs) {
		return err
	}
	if _, err := tx.Exec(ctx, sqlDealVersion, pgx.StrictNamedArgs{"org": a.Org, "deal": d.ID}); err != nil {
		return fmt.Errorf("change the deal's contacts: %w", err)
	}
	return emitDeal(ctx, tx, d, "updated", a.Name+" changed the contacts of the deal "+tandem.Clip(d.Name, 80),
		tandem.Change{Field: "contact_ids", Old: was, New: one[0].ContactIDs})
}

func emitDeal(ctx context.Context, tx pgx.Tx, d Deal, verb, description string, changes ...tandem.Change) error {
	_, err := events.Emit(ctx, tx, tandem.Event{
		Noun: "deal", Verb: verb, Record: d.ID, Lead: tandem.Deref(d.LeadID), Category: "crm", Severity: "info", Description: description, Changes: changes,
	})
	if err != nil {
		return fmt.Errorf("deal %s: %w", verb, err)
	}
	return nil
}
