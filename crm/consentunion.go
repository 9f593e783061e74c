package crm

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem"
)

const sqlCopyConsent = `
INSERT INTO contact_consents (org_id, contact_id, kind, state, source, evidence, note, by_id, changed_at)
VALUES (@org, @contact, @kind, @state, @source, @evidence, @note, @by, @at)
ON CONFLICT (org_id, contact_id, kind) DO UPDATE SET state = excluded.state, source = excluded.source, evidence = excluded.evidence,
	note = excluded.note, by_id = excluded.by_id, changed_at = excluded.changed_at`

// putConsent makes the contact's word about a kind that of c.
func putConsent(ctx context.Context, tx pgx.Tx, org, contact tandem.ID, c Consent) error {
	_, err := tx.Exec(ctx, sqlCopyConsent, pgx.StrictNamedArgs{
		"org": org, "contact": contact, "kind": c.Kind, "state": c.State, "source": c.Source, "evidence": c.Evidence, "note": c.Note,
		"by": c.ByID, "at": c.ChangedAt,
	})
	if err != nil {
		return fmt.Errorf("copy consent: %w", err)
	}
	return nil
}

// backToConsent is putConsent for a word that may not have been there.
func backToConsent(ctx context.Context, tx pgx.Tx, org, contact tandem.ID, c Consent) error {
	if !c.ChangedAt.IsZero() {
		return putConsent(ctx, tx, org, contact, c)
	}
	const sqlForget = `DELETE FROM contact_consents WHERE org_id = @org AND contact_id = @contact AND kind = @kind`
	if _, err := tx.Exec(ctx, sqlForget, pgx.StrictNamedArgs{"org": org, "contact": contact, "kind": c.Kind}); err != nil {
		return fmt.Errorf("take back consent: %w", err)
	}
	return nil
}

// strictness orders what may have been said: a denial counts for more than a consent, and any word for more than none.
var strictness = map[string]int{ConsentUnknown: 0, ConsentGranted: 1, ConsentDenied: 2}

// moveConsents lets the stricter of two words count for the contact that stays; the other keeps its own.
func moveConsents(ctx context.Context, tx pgx.Tx, org, into, from tandem.ID) (did []consentMove, err error) {
	theirs, err := consentsOf(ctx, tx, org, from)
	if err != nil {
		return nil, err
	}
	for _, c := range theirs {
		was, err := consentFor(ctx, tx, org, into, c.Kind)
		if err != nil {
			return nil, err
		}
		if strictness[c.State] <= strictness[was.State] {
			continue
		}
		if err := putConsent(ctx, tx, org, into, c); err != nil {
			return nil, err
		}
		did = append(did, consentMove{Was: was, Now: c})
	}
	return did, nil
}

const (
	sqlHeldMerges = `
SELECT id, from_id, created_at, moved -> 'consents' AS consents FROM contact_merges
WHERE org_id = @org AND into_id = @into AND undone_at IS NULL ORDER BY created_at, id`

	sqlKeepConsents = `UPDATE contact_merges SET moved = jsonb_set(moved, '{consents}', @consents) WHERE org_id = @org AND id = @id`
)

// heldMerge is what a merge that is not undone has done with consents.
type heldMerge struct {
	ID        tandem.ID     `db:"id"`
	From      tandem.ID     `db:"from_id"`
	CreatedAt time.Time     `db:"created_at"`
	Consents  []consentMove `db:"consents"`
	changed   bool
}

func sameWord(a, b Consent) bool {
	return a.Kind == b.Kind && a.State == b.State && a.ChangedAt.Equal(b.ChangedAt)
}

// splitConsents gives each contact its own word back where nothing was said since the merge, whatever was merged or split in
// between: what others that are still a part of the contact have said goes on counting for it. What it denied itself since
// counts for both.
func splitConsents(ctx context.Context, tx pgx.Tx, org tandem.ID, k kept) error {
	now, err := consentsOf(ctx, tx, org, k.IntoID)
	if err != nil {
		return err
	}
	rows, _ := tx.Query(ctx, sqlHeldMerges, pgx.StrictNamedArgs{"org": org, "into": k.IntoID}) // CollectRows tells its error
	held, err := pgx.CollectRows(rows, pgx.RowToAddrOfStructByName[heldMerge])
	if err != nil {
		return fmt.Errorf("list merges of contact: %w", err)
	}
	for _, c := range now {
		moved := slices.ContainsFunc(k.did.Consents, func(m consentMove) bool { return sameWord(m.Now, c) })
		if !moved && c.State == ConsentDenied && c.ChangedAt.After(k.CreatedAt) && !borrowed(held, c) {
			if err := putConsent(ctx, tx, org, k.FromID, c); err != nil {
				return err
			}
		}
	}
	for _, m := range k.did.Consents {
		for _, h := range held { // what counted before a later merge is what counted before this one
			for i := range h.Consents {
				if sameWord(h.Consents[i].Was, m.Now) {
					h.Consents[i].Was, h.changed = m.Was, true
				}
			}
		}
		if !slices.ContainsFunc(now, func(c Consent) bool { return sameWord(c, m.Now) }) {
			continue
		}
		word, err := strictest(ctx, tx, org, m.Was, held)
		if err != nil {
			return err
		}
		if err := backToConsent(ctx, tx, org, k.IntoID, word); err != nil {
			return err
		}
	}
	for _, h := range held {
		if h.changed {
			if _, err := tx.Exec(ctx, sqlKeepConsents, pgx.StrictNamedArgs{"org": org, "id": h.ID, "consents": h.Consents}); err != nil {
				return fmt.Errorf("keep what a merge did with consents: %w", err)
			}
		}
	}
	return nil
}

// borrowed says whether a word is that of a contact which is a part of this one.
func borrowed(held []*heldMerge, c Consent) bool {
	return slices.ContainsFunc(held, func(h *heldMerge) bool {
		return slices.ContainsFunc(h.Consents, func(m consentMove) bool { return sameWord(m.Now, c) })
	})
}

// strictest lets the words count that were no stricter than the one which is taken back and so were passed over at their merge,
// unless word was said after it.
func strictest(ctx context.Context, tx pgx.Tx, org tandem.ID, word Consent, held []*heldMerge) (Consent, error) {
	for _, h := range held {
		if word.ChangedAt.After(h.CreatedAt) || slices.ContainsFunc(h.Consents, func(m consentMove) bool { return m.Now.Kind == word.Kind }) {
			continue
		}
		theirs, err := consentFor(ctx, tx, org, h.From, word.Kind)
		if err != nil {
			return word, err
		}
		if strictness[theirs.State] > strictness[word.State] {
			h.Consents, h.changed = append(h.Consents, consentMove{Was: word, Now: theirs}), true
			word = theirs
		}
	}
	return word, nil
}
