package crm

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/internal/events"
	"github.com/tandemhq/tandem/internal/pg"
)

// Identity is the address that somebody was seen at.
type Identity struct {
	Kind     string // email, phone, whatsapp, visitor or external
	Scope    string // the channel's id for kinds that mean something only there, else empty
	Value    string
	Evidence string // what made us believe it, such as "webhook"
}

// ContactFacts is what a message says about its sender. Empty means not said.
type ContactFacts struct {
	Name, FirstName, LastName, Email, Phone, Company string
}

// normal returns the identity in its one spelling, or Invalid.
func (in Identity) normal(region string) (Identity, error) {
	ok := true
	switch in.Kind {
	case "email":
		in.Value, ok = NormalizeEmail(in.Value)
	case "phone", "whatsapp":
		in.Value, ok = NormalizePhone(in.Value, region)
	case "visitor", "external":
		in.Value = clean(in.Value, 320)
		ok = in.Value != ""
	default:
		return in, fmt.Errorf("identity of unknown kind %q", in.Kind)
	}
	if !ok {
		return in, tandem.InvalidFields(tandem.FieldError{Field: in.Kind, Message: "This is not a valid address."})
	}
	return in, nil
}

// Normalize returns the identity in its one spelling, a phone number read as the organization's region says, or Invalid.
func Normalize(ctx context.Context, tx pgx.Tx, in Identity) (Identity, error) {
	region := ""
	if in.Kind == "phone" || in.Kind == "whatsapp" {
		a, err := tandem.ActorFrom(ctx)
		if err != nil {
			return in, err
		}
		if region, err = setting(ctx, tx, a.Org, "region"); err != nil {
			return in, err
		}
	}
	return in.normal(region)
}

// trusted reports whether what is said beside this identity identifies somebody too. Anybody
// can type any address into a web chat: taking it for proof would show a stranger's thread.
func (in Identity) trusted() bool { return in.Kind != "visitor" }

// known is the facts, cleaned. Blank fields were not said or are not valid.
type known struct {
	name, first, last, email, phone, company string
	rawPhone                                 string // a number that is none: kept for people to read
}

func (f ContactFacts) clean(region string) known {
	k := known{name: clean(f.Name, 300), first: clean(f.FirstName, 150), last: clean(f.LastName, 150), company: clean(f.Company, 300)}
	k.email, _ = NormalizeEmail(f.Email)
	var ok bool
	if k.phone, ok = NormalizePhone(f.Phone, region); !ok {
		k.rawPhone = clean(f.Phone, 60)
	}
	if k.name == "" {
		k.name = strings.TrimSpace(k.first + " " + k.last)
	} else if k.first == "" && k.last == "" {
		k.first, k.last = SplitName(k.name)
	}
	return k
}

// called is the name of a new contact.
func (k known) called(in Identity, id tandem.ID) string {
	if k.name != "" {
		return k.name
	}
	return clean(k.fallback(in, id), 300)
}

// fallback is what a contact is called until a name is known.
func (k known) fallback(in Identity, id tandem.ID) string {
	switch {
	case k.email != "":
		return k.email
	case k.phone != "":
		return k.phone
	case k.company != "":
		return k.company
	case in.Kind == "visitor":
		return "Visitor " + string(id[len(id)-4:])
	}
	return in.Value
}

const (
	sqlFindContact = `
SELECT i.kind, i.scope, i.value, i.contact_id
FROM contact_identities i
WHERE i.org_id = @org AND (i.kind, i.scope, i.value) IN (SELECT * FROM unnest(@kinds::text[], @scopes::text[], @values::text[]))`
	sqlNewContact = `
WITH c AS (
	INSERT INTO contacts (org_id, id, name, first_name, last_name, email, phone, company, account_id, custom)
	VALUES (@org, @id, @name, @first, @last, nullif(@email, ''), nullif(@phone, ''), @company, @account, @custom))
INSERT INTO contact_identities (org_id, kind, scope, value, contact_id, evidence)
SELECT @org, k, s, v, @id, @evidence FROM unnest(@kinds::text[], @scopes::text[], @values::text[]) AS u(k, s, v)
ON CONFLICT DO NOTHING`
	sqlUndoIdentities = `DELETE FROM contact_identities WHERE org_id = @org AND contact_id = @id`
	sqlUndoContact    = `DELETE FROM contacts WHERE org_id = @org AND id = @id`
	sqlAddIdentities  = `
INSERT INTO contact_identities (org_id, kind, scope, value, contact_id, evidence)
SELECT @org, k, s, v, @id, @evidence FROM unnest(@kinds::text[], @scopes::text[], @values::text[]) AS u(k, s, v)
ON CONFLICT DO NOTHING`
	// Only blanks are filled, in SQL, so that two messages at once cannot overwrite each other.
	// A name that stands for an unknown one (no first and no last name) is a blank.
	sqlFillContact = `
UPDATE contacts SET
	name       = CASE WHEN first_name = '' AND last_name = '' AND @name <> '' THEN @name ELSE name END,
	first_name = CASE WHEN first_name = '' AND last_name = '' THEN @first ELSE first_name END,
	last_name  = CASE WHEN first_name = '' AND last_name = '' THEN @last ELSE last_name END,
	email      = coalesce(email, nullif(@email, '')),
	phone      = coalesce(phone, nullif(@phone, '')),
	company    = CASE WHEN company = '' THEN @company ELSE company END,
	custom     = @custom::jsonb || custom,
	archived_at = NULL,
	updated_at = now(), version = version + 1
WHERE org_id = @org AND id = @id`
	// Locked against a merge, which would take away what is about to be written to it.
	sqlContactAnyhow = `
SELECT id, name, first_name, last_name, email, phone, company, account_id, title, language, timezone, city, country, tags, custom,
	created_at, updated_at, version, archived_at IS NOT NULL AS archived, merged_into IS NOT NULL AS merged
FROM contacts WHERE org_id = @org AND id = @id FOR KEY SHARE`
)

const maxRaces = 5

// Resolve finds the contact behind an identity or makes one, and says which. Of any number
// of callers at once with one identity, one makes the contact: the primary key of
// contact_identities decides. Blank fields are filled from the facts, filled ones are never
// changed. E-mail and phone from the facts identify too, and become identities, unless they
// belong to another contact or the identity is a web visitor's, who may claim anything.
// A phone number that cannot be read is kept under custom "phone_as_given"; callers who
// want to refuse it ask NormalizePhone first. An identity of wrong form is Invalid.
func Resolve(ctx context.Context, tx pgx.Tx, in Identity, facts ContactFacts) (Contact, bool, error) {
	a, err := mayTakeIn(ctx, "contact:write")
	if err != nil {
		return Contact{}, false, err
	}
	region := ""
	if in.Kind == "phone" || facts.Phone != "" {
		if region, err = setting(ctx, tx, a.Org, "region"); err != nil {
			return Contact{}, false, err
		}
	}
	if in, err = in.normal(region); err != nil {
		return Contact{}, false, err
	}
	k := facts.clean(region)
	switch in.Kind { // an address is a fact, too
	case "email":
		k.email = in.Value
	case "phone", "whatsapp":
		k.phone, k.rawPhone = in.Value, ""
	}
	ids := identities(in, k)
	for range maxRaces {
		id, missing, err := find(ctx, tx, a.Org, in, ids)
		if err != nil {
			return Contact{}, false, err
		}
		if id != "" {
			c, err := fill(ctx, tx, a, id, in, k, missing)
			return c, false, err
		}
		c, made, err := create(ctx, tx, a, in, k, ids, nil)
		if err != nil || made {
			return c, made, err
		}
		// Somebody else made a contact of one of these identities in the meantime: look again.
	}
	return Contact{}, false, tooFast()
}

func tooFast() error {
	return tandem.Errorf(tandem.Unavailable, "The contact changes too fast at this moment. Try again.")
}

// errMerged: the contact became a part of another one between two looks. Its identities lead elsewhere now, but its lock is
// held, so the transaction begins anew.
var errMerged = tandem.Wrap(tandem.Unavailable, pg.ErrStale, "The contact changes too fast at this moment. Try again.")

// identities lists what identifies the contact, in the one order in which all callers
// insert them, so that two callers cannot wait for each other.
func identities(in Identity, k known) []Identity {
	ids := []Identity{in}
	if in.trusted() {
		for _, more := range []Identity{{Kind: "email", Value: k.email}, {Kind: "phone", Value: k.phone}} {
			if more.Value != "" && (more.Kind != in.Kind || more.Value != in.Value) {
				ids = append(ids, more)
			}
		}
	}
	slices.SortFunc(ids, inOrder)
	return ids
}

func inOrder(x, y Identity) int {
	return cmp.Or(cmp.Compare(x.Kind, y.Kind), cmp.Compare(x.Scope, y.Scope), cmp.Compare(x.Value, y.Value))
}

func columns(ids []Identity) (kinds, scopes, values []string) {
	for _, i := range ids {
		kinds, scopes, values = append(kinds, i.Kind), append(scopes, i.Scope), append(values, i.Value)
	}
	return kinds, scopes, values
}

// owners says to whom identities belong; those that nobody has are not in it.
func owners(ctx context.Context, tx pgx.Tx, org tandem.ID, ids []Identity) (map[[3]string]tandem.ID, error) {
	kinds, scopes, values := columns(ids)
	rows, err := tx.Query(ctx, sqlFindContact, pgx.StrictNamedArgs{"org": org, "kinds": kinds, "scopes": scopes, "values": values})
	if err != nil {
		return nil, fmt.Errorf("find contact: %w", err)
	}
	type row struct {
		Kind    string    `db:"kind"`
		Scope   string    `db:"scope"`
		Value   string    `db:"value"`
		Contact tandem.ID `db:"contact_id"`
	}
	found, err := pgx.CollectRows(rows, pgx.RowToStructByName[row])
	if err != nil {
		return nil, fmt.Errorf("find contact: %w", err)
	}
	of := map[[3]string]tandem.ID{}
	for _, r := range found {
		of[[3]string{r.Kind, r.Scope, r.Value}] = r.Contact
	}
	return of, nil
}

func (in Identity) key() [3]string { return [3]string{in.Kind, in.Scope, in.Value} }

// find returns the contact that the identities belong to: the primary one decides, then
// e-mail, then phone. missing are those that nobody has yet.
func find(ctx context.Context, tx pgx.Tx, org tandem.ID, in Identity, ids []Identity) (id tandem.ID, missing []Identity, err error) {
	of, err := owners(ctx, tx, org, ids)
	if err != nil {
		return "", nil, err
	}
	id = of[in.key()]
	for _, i := range ids { // sorted: e-mail comes before phone
		o := of[i.key()]
		if o == "" {
			missing = append(missing, i)
		} else if id == "" {
			id = o
		}
	}
	return id, missing, nil
}

// create inserts the contact with all its identities. When one of them has been taken
// meanwhile, it takes the contact back and reports false. account is whom it works for, nil for nobody that is known.
func create(ctx context.Context, tx pgx.Tx, a tandem.Actor, in Identity, k known, ids []Identity, account *tandem.ID) (c Contact, made bool, err error) {
	id := tandem.NewID()
	name := k.called(in, id)
	kinds, scopes, values := columns(ids)
	tag, err := tx.Exec(ctx, sqlNewContact, pgx.StrictNamedArgs{
		"org": a.Org, "id": id, "name": name, "first": k.first, "last": k.last, "email": k.email, "phone": k.phone,
		"company": k.company, "account": account, "custom": k.custom(), "evidence": clean(in.Evidence, 200),
		"kinds": kinds, "scopes": scopes, "values": values,
	})
	if err != nil {
		return c, false, fmt.Errorf("create contact: %w", err)
	}
	args := pgx.StrictNamedArgs{"org": a.Org, "id": id}
	if tag.RowsAffected() != int64(len(ids)) {
		for _, sql := range []string{sqlUndoIdentities, sqlUndoContact} {
			if _, err := tx.Exec(ctx, sql, args); err != nil {
				return c, false, fmt.Errorf("take contact back: %w", err)
			}
		}
		return c, false, nil
	}
	if c, err = Contacts.Load(ctx, tx, id, false); err != nil {
		return c, false, err
	}
	_, err = events.Emit(ctx, tx, tandem.Event{
		Noun: "contact", Verb: "created", Record: id, Category: "crm", Severity: "info",
		Changes:     []tandem.Change{{Field: "name", New: c.Name}},
		Description: a.Name + " added the contact " + c.Name,
	})
	if err != nil {
		return c, false, fmt.Errorf("create contact: %w", err)
	}
	return c, true, nil
}

func (k known) custom() map[string]any {
	if k.rawPhone == "" {
		return map[string]any{}
	}
	return map[string]any{"phone_as_given": k.rawPhone}
}

// fill writes what the contact lacks. An archived contact who writes again comes back; one that was merged is errMerged.
func fill(ctx context.Context, tx pgx.Tx, a tandem.Actor, id tandem.ID, in Identity, k known, missing []Identity) (Contact, error) {
	old, archived, err := contactAnyhow(ctx, tx, a.Org, id)
	if err != nil {
		return old, err
	}
	if len(missing) > 0 {
		kinds, scopes, values := columns(missing)
		if _, err := tx.Exec(ctx, sqlAddIdentities, pgx.StrictNamedArgs{
			"org": a.Org, "id": id, "evidence": clean(in.Evidence, 200), "kinds": kinds, "scopes": scopes, "values": values,
		}); err != nil {
			return old, fmt.Errorf("add identities: %w", err)
		}
	}
	nameless := old.FirstName == "" && old.LastName == ""
	_, hasRaw := old.Custom["phone_as_given"]
	if !archived && !(nameless && k.name != "") && !(old.Email == nil && k.email != "") && !(old.Phone == nil && k.phone != "") &&
		!(old.Company == "" && k.company != "") && (hasRaw || k.rawPhone == "") {
		return old, nil
	}
	if _, err := tx.Exec(ctx, sqlFillContact, pgx.StrictNamedArgs{
		"org": a.Org, "id": id, "name": k.name, "first": k.first, "last": k.last, "email": k.email, "phone": k.phone,
		"company": k.company, "custom": k.custom(),
	}); err != nil {
		return old, fmt.Errorf("fill contact: %w", err)
	}
	c, err := Contacts.Load(ctx, tx, id, false)
	if err != nil {
		return c, err
	}
	var changes []tandem.Change
	for _, f := range []struct{ name, old, now string }{
		{"name", old.Name, c.Name},
		{"first_name", old.FirstName, c.FirstName},
		{"last_name", old.LastName, c.LastName},
		{"email", deref(old.Email), deref(c.Email)},
		{"phone", deref(old.Phone), deref(c.Phone)},
		{"company", old.Company, c.Company},
	} {
		if f.old != f.now {
			changes = append(changes, tandem.Change{Field: f.name, Old: f.old, New: f.now})
		}
	}
	_, err = events.Emit(ctx, tx, tandem.Event{
		Noun: "contact", Verb: "updated", Record: id, Category: "crm", Severity: "info", Changes: changes,
		Description: a.Name + " learned more about " + c.Name,
	})
	if err != nil {
		return c, fmt.Errorf("fill contact: %w", err)
	}
	return c, nil
}

func contactAnyhow(ctx context.Context, tx pgx.Tx, org, id tandem.ID) (Contact, bool, error) {
	rows, err := tx.Query(ctx, sqlContactAnyhow, pgx.StrictNamedArgs{"org": org, "id": id})
	if err != nil {
		return Contact{}, false, fmt.Errorf("get contact: %w", err)
	}
	r, err := pgx.CollectExactlyOneRow(rows, pgx.RowToStructByName[struct {
		Contact
		Archived bool `db:"archived"`
		Merged   bool `db:"merged"`
	}])
	switch {
	case pg.NoRows(err):
		return Contact{}, false, tandem.Errorf(tandem.NotFound, "There is no such contact.")
	case err != nil:
		return Contact{}, false, fmt.Errorf("get contact: %w", err)
	case r.Merged:
		return Contact{}, false, errMerged
	}
	return r.Contact, r.Archived, nil
}

func deref(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}
