package crm

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem"
)

// Split is what two contacts are after their merge was undone.
type Split struct {
	Contact Contact `json:"contact"`
	Other   Contact `json:"other" doc:"The contact that was a part of it and is one of its own again."`
}

const (
	sqlUnbecome = `
UPDATE contacts SET archived_at = NULL, merged_into = NULL, updated_at = now(), version = version + 1
WHERE org_id = @org AND id = @from AND merged_into = @into`

	sqlReturnLeads = `
UPDATE leads SET contact_id = @from, updated_at = now(), version = version + 1 WHERE org_id = @org AND contact_id = @into AND id = ANY(@ids::uuid[])`

	// One that was opened on the board since keeps it: there is one chance at a time.
	sqlUnshelve = `
UPDATE leads l SET archived_at = NULL, updated_at = now(), version = version + 1
WHERE l.org_id = @org AND l.contact_id = @from AND l.id = @lead AND l.archived_at IS NOT NULL
  AND (l.closed OR NOT EXISTS (SELECT FROM leads o WHERE o.org_id = @org AND o.board_id = l.board_id AND o.contact_id = @from AND NOT o.closed AND o.archived_at IS NULL))`

	// The threads that its addresses have opened since go along: they could not be answered otherwise.
	sqlReturnConversations = `
UPDATE conversations SET contact_id = @from, thread = substr(thread, length(@prefix) + 1), thread_prefix = substr(thread_prefix, length(@prefix) + 1), updated_at = now()
WHERE org_id = @org AND contact_id = @into AND starts_with(thread_prefix, @prefix)`

	// A thread of one of them would go on in a conversation of the other.
	sqlCrossed = `
SELECT EXISTS (
	SELECT FROM conversations f JOIN conversations t ON t.org_id = @org AND t.id = f.merged_into
	WHERE f.org_id = @org AND f.contact_id = ANY(@both::uuid[]) AND t.contact_id <> f.contact_id)`

	sqlReturnIdentities = `
UPDATE contact_identities SET contact_id = @from, thread_prefix = substr(thread_prefix, length(@prefix) + 1)
WHERE org_id = @org AND contact_id = @into AND starts_with(thread_prefix, @prefix)`

	// A conversation has a lead of its own contact or none; its next message opens one.
	sqlOwnLeads = `
UPDATE conversations c SET lead_id = NULL, updated_at = now()
FROM leads l
WHERE c.org_id = @org AND c.contact_id = ANY(@both::uuid[]) AND l.org_id = @org AND l.id = c.lead_id AND l.contact_id <> c.contact_id`

	sqlUndoMerge = `UPDATE contact_merges SET undone_at = now(), undone_by = @by WHERE org_id = @org AND id = @id AND undone_at IS NULL`
)

// Split undoes one merge: what went over goes back with the threads that its addresses have opened since, what was filled is
// emptied again unless somebody has changed it since, and what else came in later stays. A merge that is undone already is
// Conflict, and so is one after which conversations of the two were merged; one into another contact is NotFound.
func (s contacts) Split(ctx context.Context, tx pgx.Tx, contact, merge tandem.ID) (Split, error) {
	a, err := s.byPerson(ctx)
	if err != nil {
		return Split{}, err
	}
	fields, err := fieldsOf(ctx, tx, a.Org, s.Noun, true)
	if err != nil {
		return Split{}, err
	}
	k, err := keptMerge(ctx, tx, a.Org, merge)
	if err != nil {
		return Split{}, err
	}
	if k.IntoID != contact {
		return Split{}, tandem.Errorf(tandem.NotFound, "There is no such merge of this contact.")
	}
	both := []tandem.ID{k.IntoID, k.FromID}
	const sqlLockBoth = `SELECT id FROM contacts WHERE org_id = @org AND id = ANY(@both::uuid[]) ORDER BY id FOR UPDATE`
	args := pgx.StrictNamedArgs{"org": a.Org, "both": both}
	if _, err := tx.Exec(ctx, sqlLockBoth, args); err != nil {
		return Split{}, fmt.Errorf("lock contacts: %w", err)
	}
	for _, sql := range []string{sqlLockLeads, sqlLockConversations} {
		if _, err := tx.Exec(ctx, sql, pgx.StrictNamedArgs{"org": a.Org, "ids": both}); err != nil {
			return Split{}, fmt.Errorf("lock what contacts have: %w", err)
		}
	}
	if k, err = keptMerge(ctx, tx, a.Org, merge); err != nil { // as it is now: another split may have changed it meanwhile
		return Split{}, err
	}
	one, err := s.Load(ctx, tx, contact, false)
	if tandem.KindOf(err) == tandem.NotFound {
		return Split{}, s.gone(ctx, tx, contact, err)
	}
	if err != nil {
		return Split{}, err
	}
	tag, err := tx.Exec(ctx, sqlUndoMerge, pgx.StrictNamedArgs{"org": a.Org, "id": k.ID, "by": a.Member})
	if err != nil {
		return Split{}, fmt.Errorf("undo merge: %w", err)
	}
	if tag.RowsAffected() == 0 {
		return Split{}, tandem.Errorf(tandem.Conflict, "This merge was undone already.")
	}
	if _, err := tx.Exec(ctx, sqlUnbecome, pgx.StrictNamedArgs{"org": a.Org, "from": k.FromID, "into": k.IntoID}); err != nil {
		return Split{}, fmt.Errorf("restore contact: %w", err)
	}
	if err := returnAll(ctx, tx, a.Org, k); err != nil {
		return Split{}, err
	}
	var crossed bool
	if err := tx.QueryRow(ctx, sqlCrossed, args).Scan(&crossed); err != nil {
		return Split{}, fmt.Errorf("look for merged conversations: %w", err)
	}
	if crossed {
		return Split{}, tandem.Errorf(tandem.Conflict, "Conversations of both were merged into one. Split these first.")
	}
	if _, err := tx.Exec(ctx, sqlOwnLeads, args); err != nil {
		return Split{}, fmt.Errorf("part leads and conversations: %w", err)
	}
	if err := splitConsents(ctx, tx, a.Org, k); err != nil {
		return Split{}, err
	}
	one, changes, err := emptied(one, k.filled)
	if err != nil {
		return Split{}, err
	}
	if len(changes) > 0 {
		if err := rewrite(ctx, tx, a.Org, one); err != nil {
			return Split{}, err
		}
	}
	for i := range changes {
		changes[i] = tandem.Change{Field: changes[i].Field}
	}
	changes = append([]tandem.Change{{Field: "merged", Old: k.FromID}}, changes...)
	if err := emitContact(ctx, tx, k.IntoID, "split", a.Name+" split "+k.FromName+" from "+one.Name, changes...); err != nil {
		return Split{}, err
	}
	if err := emitContact(ctx, tx, k.FromID, "restored", a.Name+" restored the contact "+k.FromName, tandem.Change{Field: "merged_into", Old: k.IntoID}); err != nil {
		return Split{}, err
	}
	var out Split
	if out.Contact, err = s.Get(ctx, tx, k.IntoID); err != nil {
		return out, err
	}
	if out.Other, err = s.Get(ctx, tx, k.FromID); err != nil {
		return out, err
	}
	for _, c := range []*Contact{&out.Contact, &out.Other} { // in this order: what was filled is free for the other
		if err := s.settle(ctx, tx, fields, c); err != nil {
			return Split{}, err
		}
	}
	return out, nil
}

// returnAll gives back what a merge has moved and what still is where it was moved to.
func returnAll(ctx context.Context, tx pgx.Tx, org tandem.ID, k kept) error {
	args := func(more ...any) pgx.StrictNamedArgs {
		m := pgx.StrictNamedArgs{"org": org, "from": k.FromID, "into": k.IntoID}
		for i := 0; i < len(more); i += 2 {
			m[more[i].(string)] = more[i+1]
		}
		return m
	}
	do := func(what, sql string, args pgx.StrictNamedArgs) error {
		if _, err := tx.Exec(ctx, sql, args); err != nil {
			return fmt.Errorf("return %s: %w", what, err)
		}
		return nil
	}
	leads := k.did.Leads
	for _, l := range k.did.Shelved {
		leads = append(leads, l.Lead)
	}
	if err := do("leads", sqlReturnLeads, args("ids", leads)); err != nil {
		return err
	}
	for _, l := range k.did.Shelved {
		if err := do("leads", sqlUnshelve, pgx.StrictNamedArgs{"org": org, "from": k.FromID, "lead": l.Lead}); err != nil {
			return err
		}
	}
	for _, table := range MovesWithContact {
		sql := "UPDATE " + table + " SET contact_id = @from WHERE org_id = @org AND contact_id = @into AND id = ANY(@ids::uuid[])"
		if err := do(table, sql, args("ids", k.did.Records[table])); err != nil {
			return err
		}
	}
	if err := splitFurther(ctx, tx, org, k); err != nil {
		return err
	}
	if err := do("conversations", sqlReturnConversations, args("prefix", k.prefix())); err != nil {
		return err
	}
	if err := do("identities", sqlReturnIdentities, args("prefix", k.prefix())); err != nil {
		return err
	}
	for _, p := range k.did.Pointed {
		const sqlPointBack = `UPDATE conversations SET lead_id = @lead, updated_at = now() WHERE org_id = @org AND id = @conversation AND contact_id = @from AND (lead_id = @instead OR lead_id IS NULL)`
		if err := do("conversations", sqlPointBack, pgx.StrictNamedArgs{"org": org, "from": k.FromID, "conversation": p.Conversation, "lead": p.Lead, "instead": p.Instead}); err != nil {
			return err
		}
		if err := p.handoff(ctx, tx, org, p.Instead, p.Lead); err != nil {
			return err
		}
	}
	return nil
}
