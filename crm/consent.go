package crm

import (
	"context"
	"fmt"
	"regexp"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/internal/pg"
)

// What a contact has said about hearing from us on one sort of channel.
const (
	ConsentUnknown = "unknown" // nothing; so is what is not written down
	ConsentGranted = "granted"
	ConsentDenied  = "denied" // nothing is sent
)

// Consent is what a contact has said about one sort of channel.
type Consent struct {
	Kind      string     `json:"kind" db:"kind" example:"email" doc:"A sort of channel, or one without channels such as phone."`
	State     string     `json:"state" db:"state" enum:"unknown,granted,denied" doc:"Nothing is sent where it is denied."`
	Source    string     `json:"source" db:"source" doc:"Where it was said."`
	Evidence  string     `json:"evidence" db:"evidence" doc:"The words, or where they can be seen."`
	Note      string     `json:"note" db:"note"`
	ByID      *tandem.ID `json:"by_id" db:"by_id" doc:"Who wrote it down; null for Tandem itself, on the contact's own word."`
	ChangedAt time.Time  `json:"changed_at" db:"changed_at"`
}

const (
	consentColumns = `kind, state, source, evidence, note, by_id, changed_at`

	sqlConsents = `SELECT ` + consentColumns + ` FROM contact_consents WHERE org_id = @org AND contact_id = @contact ORDER BY kind LIMIT 200`

	sqlConsent = `SELECT ` + consentColumns + ` FROM contact_consents WHERE org_id = @org AND contact_id = @contact AND kind = @kind`

	sqlSetConsent = `
INSERT INTO contact_consents (org_id, contact_id, kind, state, source, evidence, note, by_id)
VALUES (@org, @contact, @kind, @state, @source, @evidence, @note, @by)
ON CONFLICT (org_id, contact_id, kind) DO UPDATE SET state = excluded.state, source = excluded.source, evidence = excluded.evidence,
	note = excluded.note, by_id = excluded.by_id, changed_at = excluded.changed_at
RETURNING ` + consentColumns

	// The lock keeps out whoever is about to open a conversation with the contact: all that exist can be seen now, and none
	// is opened before this has committed.
	sqlAlone = `SELECT name FROM contacts WHERE org_id = @org AND id = @contact AND archived_at IS NULL FOR UPDATE`

	sqlWroteSince = `
SELECT EXISTS (SELECT FROM conversations c JOIN messages m ON m.org_id = c.org_id AND m.conversation_id = c.id AND m.seq = c.last_inbound_seq
	WHERE c.org_id = @org AND c.contact_id = @contact AND m.created_at > @at)`
)

func consentsOf(ctx context.Context, tx pgx.Tx, org, contact tandem.ID) ([]Consent, error) {
	rows, _ := tx.Query(ctx, sqlConsents, pgx.StrictNamedArgs{"org": org, "contact": contact}) // CollectRows tells its error
	all, err := pgx.CollectRows(rows, pgx.RowToStructByName[Consent])
	if err != nil {
		return nil, fmt.Errorf("get consents: %w", err)
	}
	return all, nil
}

// Consents returns what a contact has said, by sort of channel.
func (s contacts) Consents(ctx context.Context, tx pgx.Tx, contact tandem.ID) ([]Consent, error) {
	c, err := s.Get(ctx, tx, contact)
	return c.Consents, err
}

var channelKind = regexp.MustCompile(`^[a-z]{2,40}$`)

// SetConsent writes down what a contact has said about c.Kind, and says whether that is anything new. A contact who has
// denied it can be written to again only when a person says so and the contact has written since: else that is Conflict, and
// Forbidden for who is no person. inbox.SetConsent holds back besides what is on its way: that is what callers want.
func (s contacts) SetConsent(ctx context.Context, tx pgx.Tx, contact tandem.ID, c Consent) (Consent, bool, error) {
	a, err := s.May(ctx, "write")
	if err != nil {
		return c, false, err
	}
	if err := c.check(); err != nil {
		return c, false, err
	}
	if _, err := tandem.ParseID(string(contact)); err != nil {
		return c, false, s.notFound()
	}
	var name string
	err = tx.QueryRow(ctx, sqlAlone, pgx.StrictNamedArgs{"org": a.Org, "contact": contact}).Scan(&name)
	if pg.NoRows(err) {
		return c, false, s.gone(ctx, tx, contact, s.notFound())
	}
	if err != nil {
		return c, false, fmt.Errorf("lock contact: %w", err)
	}
	old, err := consentFor(ctx, tx, a.Org, contact, c.Kind)
	if err != nil {
		return c, false, err
	}
	if old.State == c.State && old.Source == c.Source && old.Evidence == c.Evidence && old.Note == c.Note {
		return old, false, nil
	}
	if old.State == ConsentDenied && c.State != ConsentDenied {
		if err := s.mayGrant(ctx, tx, a, contact, name, old); err != nil {
			return c, false, err
		}
	}
	rows, _ := tx.Query(ctx, sqlSetConsent, pgx.StrictNamedArgs{ // CollectRows tells its error
		"org": a.Org, "contact": contact, "kind": c.Kind, "state": c.State, "source": c.Source, "evidence": c.Evidence, "note": c.Note, "by": a.Member.Ptr(),
	})
	if c, err = pgx.CollectExactlyOneRow(rows, pgx.RowToStructByName[Consent]); err != nil {
		return c, false, fmt.Errorf("set consent: %w", err)
	}
	verb, did := "consented", a.Name+" wrote down what "+name+" said about "+c.Kind+": "+c.State
	if c.State == ConsentDenied {
		verb, did = "opted_out", name+" opted out of "+c.Kind
	}
	return c, true, emitContact(ctx, tx, contact, verb, did,
		tandem.Change{Field: "kind", New: c.Kind}, tandem.Change{Field: "state", Old: old.State, New: c.State}, tandem.Change{Field: "source", Old: old.Source, New: c.Source})
}

func (s contacts) notFound() error {
	return tandem.Errorf(tandem.NotFound, "There is no such contact.")
}

func (c *Consent) check() error {
	var wrong []tandem.FieldError
	if !channelKind.MatchString(c.Kind) {
		wrong = append(wrong, tandem.FieldError{Field: "kind", Message: "Name a sort of channel such as email, whatsapp or phone."})
	}
	switch c.State {
	case ConsentUnknown, ConsentGranted, ConsentDenied:
	default:
		wrong = append(wrong, tandem.FieldError{Field: "state", Message: "Choose unknown, granted or denied."})
	}
	if len(wrong) > 0 {
		return tandem.InvalidFields(wrong...)
	}
	c.Source, c.Evidence, c.Note = clean(c.Source, 200), clean(c.Evidence, 2000), clean(c.Note, 2000)
	return nil
}

// consentFor returns what the contact has said about the kind; unknown when nothing is written down.
func consentFor(ctx context.Context, tx pgx.Tx, org, contact tandem.ID, kind string) (Consent, error) {
	rows, _ := tx.Query(ctx, sqlConsent, pgx.StrictNamedArgs{"org": org, "contact": contact, "kind": kind}) // CollectRows tells its error
	c, err := pgx.CollectExactlyOneRow(rows, pgx.RowToStructByName[Consent])
	switch {
	case pg.NoRows(err):
		return Consent{Kind: kind, State: ConsentUnknown}, nil
	case err != nil:
		return c, fmt.Errorf("get consent: %w", err)
	}
	return c, nil
}

// mayGrant holds who wants to take a denial back to its conditions.
func (s contacts) mayGrant(ctx context.Context, tx pgx.Tx, a tandem.Actor, contact tandem.ID, name string, old Consent) error {
	if a.Kind != tandem.Human {
		return tandem.Errorf(tandem.Forbidden, "%s has opted out of %s. Only a person may take that back.", name, old.Kind)
	}
	var wrote bool
	if err := tx.QueryRow(ctx, sqlWroteSince, pgx.StrictNamedArgs{"org": a.Org, "contact": contact, "at": old.ChangedAt}).Scan(&wrote); err != nil {
		return fmt.Errorf("look for a message since the denial: %w", err)
	}
	if !wrote {
		return tandem.Errorf(tandem.Conflict, "%s has opted out of %s and has not written since. Wait for a message first.", name, old.Kind)
	}
	return nil
}
