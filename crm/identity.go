package crm

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/internal/events"
	"github.com/tandemhq/tandem/internal/pg"
)

// Recognized is one way in which a contact is known.
type Recognized struct {
	ID        tandem.ID `json:"id" db:"id" doc:"Always the same for the same kind, scope and value."`
	Kind      string    `json:"kind" db:"kind" enum:"email,phone,whatsapp,visitor,external"`
	Scope     string    `json:"scope" db:"scope" doc:"The channel where the value means something; empty for addresses that mean the same everywhere."`
	Value     string    `json:"value" db:"value" doc:"In its one spelling: an e-mail address in lower case, a number with its country code."`
	Evidence  string    `json:"evidence" db:"evidence" doc:"What made us believe it."`
	CreatedAt time.Time `json:"created_at" db:"created_at"`
}

const (
	// An identity is named by what it is, so that it needs neither a column nor an index for its name.
	identityID = `md5(kind || ' ' || scope || ' ' || value)::uuid::text`

	identityColumns = identityID + ` AS id, kind, scope, value, evidence, created_at`

	sqlIdentities = `
SELECT ` + identityColumns + ` FROM contact_identities WHERE org_id = @org AND contact_id = @contact ORDER BY kind, scope, value LIMIT 200`

	sqlIdentity = `
SELECT ` + identityColumns + ` FROM contact_identities WHERE org_id = @org AND kind = @kind AND scope = @scope AND value = @value AND contact_id = @contact`

	sqlRemoveIdentity = `
DELETE FROM contact_identities WHERE org_id = @org AND contact_id = @contact AND ` + identityID + ` = @id RETURNING ` + identityColumns
)

func identitiesOf(ctx context.Context, tx pgx.Tx, org, contact tandem.ID) ([]Recognized, error) {
	rows, _ := tx.Query(ctx, sqlIdentities, pgx.StrictNamedArgs{"org": org, "contact": contact}) // CollectRows tells its error
	all, err := pgx.CollectRows(rows, pgx.RowToStructByName[Recognized])
	if err != nil {
		return nil, fmt.Errorf("get identities: %w", err)
	}
	return all, nil
}

// Identities returns the ways in which a contact is recognized, at most 200.
func (s contacts) Identities(ctx context.Context, tx pgx.Tx, contact tandem.ID) ([]Recognized, error) {
	c, err := s.Get(ctx, tx, contact)
	return c.Identities, err
}

// AddIdentity makes the contact known by one more address. One that it has already is returned as it is; one of another
// contact is Conflict and names it, and no two contacts become one by this: that is what Merge is for.
func (s contacts) AddIdentity(ctx context.Context, tx pgx.Tx, contact tandem.ID, in Identity) (Recognized, error) {
	var got Recognized
	a, err := s.May(ctx, "write")
	if err != nil {
		return got, err
	}
	c, err := s.Load(ctx, tx, contact, true)
	if err != nil {
		return got, err
	}
	if in, err = s.told(ctx, tx, a.Org, in); err != nil {
		return got, err
	}
	kinds, scopes, values := columns([]Identity{in})
	tag, err := tx.Exec(ctx, sqlAddIdentities, pgx.StrictNamedArgs{
		"org": a.Org, "id": contact, "evidence": in.Evidence, "kinds": kinds, "scopes": scopes, "values": values,
	})
	if err != nil {
		return got, fmt.Errorf("add identity: %w", err)
	}
	if tag.RowsAffected() == 1 {
		if err := emitContact(ctx, tx, c.ID, "identity_added", a.Name+" added an address of "+c.Name, tandem.Change{Field: in.Kind, New: in.Value}); err != nil {
			return got, err
		}
	}
	rows, _ := tx.Query(ctx, sqlIdentity, pgx.StrictNamedArgs{"org": a.Org, "contact": contact, "kind": in.Kind, "scope": in.Scope, "value": in.Value}) // CollectRows tells its error
	got, err = pgx.CollectExactlyOneRow(rows, pgx.RowToStructByName[Recognized])
	if !pg.NoRows(err) {
		if err != nil {
			err = fmt.Errorf("add identity: %w", err)
		}
		return got, err
	}
	owner, _, err := find(ctx, tx, a.Org, in, []Identity{in})
	if err != nil {
		return got, err
	}
	return got, taken(ctx, tx, a.Org, in, owner)
}

// told is an identity as a member says it: in its one spelling, with the channel that it needs.
func (s contacts) told(ctx context.Context, tx pgx.Tx, org tandem.ID, in Identity) (Identity, error) {
	var wrong []tandem.FieldError
	if _, ok := identityKinds[in.Kind]; !ok {
		return in, tandem.InvalidFields(tandem.FieldError{Field: "kind", Message: "Choose email, phone, whatsapp, visitor or external."})
	}
	spelled, err := Normalize(ctx, tx, in)
	if err != nil && len(tandem.FieldErrors(err)) == 0 {
		return in, err
	}
	if err != nil {
		wrong = append(wrong, tandem.FieldError{Field: "value", Message: identityKinds[in.Kind]})
	}
	in.Value, in.Evidence = spelled.Value, clean(in.Evidence, 200)
	if in.Evidence == "" {
		in.Evidence = byMember
	}
	switch {
	case in.Kind == "visitor" && in.Scope == "":
		wrong = append(wrong, tandem.FieldError{Field: "scope", Message: "Name the channel that knows this visitor."})
	case in.Scope == "":
	case in.Kind != "visitor" && in.Kind != "external":
		wrong = append(wrong, tandem.FieldError{Field: "scope", Message: "An address of this kind means the same on every channel: leave this empty."})
	default:
		known, err := isChannel(ctx, tx, org, in.Scope)
		if err != nil {
			return in, err
		}
		if !known {
			wrong = append(wrong, tandem.FieldError{Field: "scope", Message: "There is no such channel."})
		}
	}
	if len(wrong) > 0 {
		return in, tandem.InvalidFields(wrong...)
	}
	return in, nil
}

// identityKinds are the kinds of identity with what to say of a value that is none.
var identityKinds = map[string]string{
	"email":    "This is not an e-mail address.",
	"phone":    "This is not a phone number. Write it with its country code, such as +49 40 123456.",
	"whatsapp": "This is not a phone number. Write it with its country code, such as +49 40 123456.",
	"visitor":  "A visitor needs the id that the channel knows.",
	"external": "An external identity needs the id that the other system knows.",
}

func isChannel(ctx context.Context, tx pgx.Tx, org tandem.ID, id string) (found bool, err error) {
	if _, err := tandem.ParseID(id); err != nil {
		return false, nil
	}
	const sqlIsChannel = `SELECT EXISTS (SELECT FROM channels WHERE org_id = @org AND id = @id)`
	if err := tx.QueryRow(ctx, sqlIsChannel, pgx.StrictNamedArgs{"org": org, "id": id}).Scan(&found); err != nil {
		return false, fmt.Errorf("look for a channel: %w", err)
	}
	return found, nil
}

// RemoveIdentity makes the contact no longer known by an address; who writes from there next is somebody new.
func (s contacts) RemoveIdentity(ctx context.Context, tx pgx.Tx, contact, identity tandem.ID) error {
	a, err := s.May(ctx, "write")
	if err != nil {
		return err
	}
	c, err := s.Load(ctx, tx, contact, true)
	if err != nil {
		return err
	}
	rows, _ := tx.Query(ctx, sqlRemoveIdentity, pgx.StrictNamedArgs{"org": a.Org, "contact": contact, "id": string(identity)}) // CollectRows tells its error
	was, err := pgx.CollectExactlyOneRow(rows, pgx.RowToStructByName[Recognized])
	switch {
	case pg.NoRows(err):
		return tandem.Errorf(tandem.NotFound, "The contact has no such identity.")
	case err != nil:
		return fmt.Errorf("remove identity: %w", err)
	}
	return emitContact(ctx, tx, c.ID, "identity_removed", a.Name+" removed an address of "+c.Name, tandem.Change{Field: was.Kind, Old: was.Value})
}

func emitContact(ctx context.Context, tx pgx.Tx, contact tandem.ID, verb, did string, changes ...tandem.Change) error {
	_, err := events.Emit(ctx, tx, tandem.Event{
		Noun: "contact", Verb: verb, Record: contact, Category: "crm", Severity: "info", Changes: changes, Description: did,
	})
	if err != nil {
		return fmt.Errorf("emit contact.%s: %w", verb, err)
	}
	return nil
}

// taken is the Conflict that names the contact whose identity it is.
func taken(ctx context.Context, tx pgx.Tx, org tandem.ID, in Identity, owner tandem.ID) error {
	names, err := namesOf(ctx, tx, org, []tandem.ID{owner})
	if err != nil {
		return err
	}
	return tandem.Errorf(tandem.Conflict, "Another contact has %s: %s.", in.Value, names)
}

// namesOf lists contacts by name and id, for a sentence.
func namesOf(ctx context.Context, tx pgx.Tx, org tandem.ID, ids []tandem.ID) (string, error) {
	const sqlNames = `SELECT name || ' (' || id || ')' FROM contacts WHERE org_id = @org AND id = ANY(@ids::uuid[]) ORDER BY id`
	rows, _ := tx.Query(ctx, sqlNames, pgx.StrictNamedArgs{"org": org, "ids": ids}) // CollectRows tells its error
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return "", fmt.Errorf("name contacts: %w", err)
	}
	return strings.Join(names, " and "), nil
}
