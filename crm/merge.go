package crm

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/internal/pg"
)

// Merge is one contact that became a part of another.
type Merge struct {
	ID        tandem.ID      `json:"id"`
	IntoID    tandem.ID      `json:"into_id" doc:"The contact that has all of it now."`
	FromID    tandem.ID      `json:"from_id" doc:"The contact that became a part of it."`
	FromName  string         `json:"from_name"`
	Moved     map[string]int `json:"moved" nullable:"false" doc:"How many records of each kind went over."`
	Filled    []string       `json:"filled" nullable:"false" doc:"The fields that were empty before."`
	ByID      tandem.ID      `json:"by_id"`
	CreatedAt time.Time      `json:"created_at"`
	UndoneAt  *time.Time     `json:"undone_at" doc:"When the two were split again; null while they are one."`
}

// MovesWithContact are the tables whose rows go over with their contact by their contact_id alone. A new table that names a
// contact is listed here or handled in Merge and Split; a test looks for one that is forgotten.
var MovesWithContact = []string{"notes", "tasks", "calls", "deals", "documents"}

// moved is exactly what a merge did, as contact_merges keeps it.
type moved struct {
	Identities    []string               `json:"identities"` // as kind scope value
	Conversations []tandem.ID            `json:"conversations"`
	Leads         []tandem.ID            `json:"leads"`   // without those of Shelved
	Shelved       []shelved              `json:"shelved"` // leads that were archived for the one that is open on the same board
	Pointed       []pointed              `json:"pointed"` // conversations of shelved leads
	Records       map[string][]tandem.ID `json:"records"` // by table of MovesWithContact
	Further       []furtherContact       `json:"further"` // what both were among the further contacts of deals
	Consents      []consentMove          `json:"consents"`
}

type shelved struct {
	Lead    tandem.ID `json:"lead" db:"lead"`
	Instead tandem.ID `json:"instead" db:"instead"`
	Title   string    `json:"-" db:"title"`
}

type pointed struct {
	Conversation tandem.ID `json:"conversation"`
	Lead         tandem.ID `json:"lead"`
	Instead      tandem.ID `json:"instead"`
}

type consentMove struct {
	Was Consent `json:"was"`
	Now Consent `json:"now"`
}

func (m moved) counts() map[string]int {
	n := map[string]int{"identities": len(m.Identities), "conversations": len(m.Conversations), "leads": len(m.Leads) + len(m.Shelved), "consents": len(m.Consents)}
	for table, ids := range m.Records {
		n[table] = len(ids)
	}
	return n
}

const maxMerge = 10

const (
	// All contacts of a merge in the order of their ids, so that two merges wait for each other; nobody opens a lead or a
	// conversation with one of them meanwhile. Leads come next and conversations last, as everybody takes these locks.
	sqlLockContacts = `
SELECT id FROM contacts WHERE org_id = @org AND id = ANY(@ids::uuid[]) AND archived_at IS NULL ORDER BY id FOR UPDATE`
	sqlLockLeads         = `SELECT id FROM leads WHERE org_id = @org AND contact_id = ANY(@ids::uuid[]) ORDER BY id FOR NO KEY UPDATE`
	sqlLockConversations = `SELECT id FROM conversations WHERE org_id = @org AND contact_id = ANY(@ids::uuid[]) ORDER BY id FOR UPDATE`

	sqlShelve = `
UPDATE leads b SET contact_id = @into, archived_at = now(), updated_at = now(), version = b.version + 1
FROM leads a
WHERE b.org_id = @org AND b.contact_id = @from AND NOT b.closed AND b.archived_at IS NULL
  AND a.org_id = @org AND a.contact_id = @into AND a.board_id = b.board_id AND NOT a.closed AND a.archived_at IS NULL
RETURNING b.id AS lead, a.id AS instead, b.title`

	sqlPoint = `UPDATE conversations SET lead_id = @instead, updated_at = now() WHERE org_id = @org AND contact_id = @contact AND lead_id = @lead RETURNING id`

	// A handoff that waits is about the lead that is worked on; one that is decided says what was then.
	sqlPointHandoff = `UPDATE handoffs SET lead_id = @instead WHERE org_id = @org AND conversation_id = @conversation AND state = 'requested' AND lead_id = @lead`

	sqlMoveLeads = `
UPDATE leads SET contact_id = @into, updated_at = now(), version = version + 1 WHERE org_id = @org AND contact_id = @from RETURNING id`

	sqlMoveConversations = `
UPDATE conversations SET contact_id = @into, thread = @prefix || thread, thread_prefix = @prefix || thread_prefix, updated_at = now()
WHERE org_id = @org AND contact_id = @from RETURNING id`

	sqlMoveIdentities = `
UPDATE contact_identities SET contact_id = @into, thread_prefix = @prefix || thread_prefix
WHERE org_id = @org AND contact_id = @from RETURNING kind || ' ' || scope || ' ' || value`

	sqlBecome = `
UPDATE contacts SET archived_at = now(), merged_into = @into, updated_at = now(), version = version + 1 WHERE org_id = @org AND id = @from`

	sqlKeepMerge = `
INSERT INTO contact_merges (org_id, id, into_id, from_id, moved, filled, by_id) VALUES (@org, @id, @into, @from, @moved, @filled, @by)`

	// Where a contact has ended up, however many merges later.
	sqlMergedInto = `
WITH RECURSIVE way (id) AS (
	SELECT merged_into FROM contacts WHERE org_id = @org AND id = @id AND merged_into IS NOT NULL
	UNION SELECT c.merged_into FROM way JOIN contacts c ON c.org_id = @org AND c.id = way.id WHERE c.merged_into IS NOT NULL)
SELECT c.id, c.name FROM way JOIN contacts c ON c.org_id = @org AND c.id = way.id WHERE c.merged_into IS NULL`
)

// mergedInto returns the contact that has what was the given one's, or an empty reference.
func mergedInto(ctx context.Context, tx pgx.Tx, org, id tandem.ID) (into LeadContact, err error) {
	if _, err := tandem.ParseID(string(id)); err != nil {
		return into, nil
	}
	err = tx.QueryRow(ctx, sqlMergedInto, pgx.StrictNamedArgs{"org": org, "id": id}).Scan(&into.ID, &into.Name)
	if err != nil && !pg.NoRows(err) {
		return into, fmt.Errorf("find the contact that it was merged into: %w", err)
	}
	return into, nil
}

// byPerson returns the actor when it is a person who may write contacts: whether two contacts are one, no machine decides.
func (s contacts) byPerson(ctx context.Context) (tandem.Actor, error) {
	a, err := s.May(ctx, "write")
	if err == nil && a.Kind != tandem.Human {
		err = tandem.Errorf(tandem.Forbidden, "Only a person may merge contacts or split them.")
	}
	return a, err
}

// Merge makes contacts a part of one: their identities, conversations, leads, notes, tasks and calls are its own then, its empty
// fields are filled from theirs, tags are united, a denied consent counts for it too, and they are archived. Owner and fence of
// the conversations stay. Where both have an open lead on one board, theirs is archived and its conversations go on with the
// other. It returns a record of each that Split undoes. One of them that does not exist is NotFound. inbox.MergeContacts holds
// back besides what may no longer be sent: that is what callers want.
func (s contacts) Merge(ctx context.Context, tx pgx.Tx, into tandem.ID, from []tandem.ID) (Contact, []Merge, error) {
	a, err := s.byPerson(ctx)
	if err != nil {
		return Contact{}, nil, err
	}
	if _, err := s.Get(ctx, tx, into); err != nil {
		return Contact{}, nil, err
	}
	switch sorted := slices.Sorted(slices.Values(from)); {
	case len(from) == 0 || len(from) > maxMerge:
		return Contact{}, nil, tandem.InvalidFields(tandem.FieldError{Field: "from_ids", Message: "Name 1 to 10 contacts."})
	case len(slices.Compact(sorted)) < len(from) || slices.Contains(from, into):
		return Contact{}, nil, tandem.InvalidFields(tandem.FieldError{Field: "from_ids", Message: "Name each contact once, and not the one that they become a part of."})
	}
	fields, err := fieldsOf(ctx, tx, a.Org, s.Noun, true)
	if err != nil {
		return Contact{}, nil, err
	}
	all := append([]tandem.ID{into}, from...)
	if err := s.lock(ctx, tx, a.Org, all); err != nil {
		return Contact{}, nil, err
	}
	for _, sql := range []string{sqlLockLeads, sqlLockConversations} {
		if _, err := tx.Exec(ctx, sql, pgx.StrictNamedArgs{"org": a.Org, "ids": all}); err != nil {
			return Contact{}, nil, fmt.Errorf("lock what contacts have: %w", err)
		}
	}
	merges := make([]Merge, len(from))
	for i, id := range from {
		if merges[i], err = s.absorb(ctx, tx, a, into, id); err != nil {
			return Contact{}, nil, err
		}
	}
	c, err := s.Get(ctx, tx, into)
	if err != nil {
		return c, nil, err
	}
	return c, merges, s.settle(ctx, tx, fields, &c)
}

// lock takes the contacts for a merge or a split; one that is not there is NotFound.
func (s contacts) lock(ctx context.Context, tx pgx.Tx, org tandem.ID, ids []tandem.ID) error {
	for _, id := range ids {
		if _, err := tandem.ParseID(string(id)); err != nil {
			return s.notFound()
		}
	}
	found, err := idsOf(ctx, tx, sqlLockContacts, pgx.StrictNamedArgs{"org": org, "ids": ids})
	if err != nil {
		return fmt.Errorf("lock contacts: %w", err)
	}
	for _, id := range ids {
		if !slices.Contains(found, id) {
			return s.gone(ctx, tx, id, s.notFound())
		}
	}
	return nil
}

// idsOf runs a statement that returns ids.
func idsOf(ctx context.Context, tx pgx.Tx, sql string, args pgx.StrictNamedArgs) ([]tandem.ID, error) {
	rows, _ := tx.Query(ctx, sql, args) // CollectRows tells its error
	return pgx.CollectRows(rows, pgx.RowTo[tandem.ID])
}

// absorb makes one contact a part of another; both are locked, and what they have.
func (s contacts) absorb(ctx context.Context, tx pgx.Tx, a tandem.Actor, into, from tandem.ID) (Merge, error) {
	m := Merge{ID: tandem.NewID(), IntoID: into, FromID: from, ByID: a.Member, Filled: []string{}}
	one, err := s.Load(ctx, tx, into, false)
	if err != nil {
		return m, err
	}
	other, err := s.Load(ctx, tx, from, false)
	if err != nil {
		return m, err
	}
	m.FromName = other.Name
	did, err := s.moveAll(ctx, tx, a, m)
	if err != nil {
		return m, err
	}
	if did.Consents, err = moveConsents(ctx, tx, a.Org, into, from); err != nil {
		return m, err
	}
	one, filled := filledFrom(one, other)
	if len(filled) > 0 {
		if err := rewrite(ctx, tx, a.Org, one); err != nil {
			return m, err
		}
	}
	args := pgx.StrictNamedArgs{"org": a.Org, "into": into, "from": from}
	if _, err := tx.Exec(ctx, sqlBecome, args); err != nil {
		return m, fmt.Errorf("archive merged contact: %w", err)
	}
	if _, err := tx.Exec(ctx, sqlRelease, pgx.StrictNamedArgs{"org": a.Org, "record": from}); err != nil {
		return m, fmt.Errorf("release unique values: %w", err)
	}
	if filled == nil {
		filled = []tandem.Change{}
	}
	args["id"], args["moved"], args["filled"], args["by"] = m.ID, did, filled, a.Member
	if _, err := tx.Exec(ctx, sqlKeepMerge, args); err != nil {
		return m, fmt.Errorf("keep merge: %w", err)
	}
	changes := []tandem.Change{{Field: "merged", New: from}}
	for _, f := range filled {
		m.Filled = append(m.Filled, f.Field)
		changes = append(changes, tandem.Change{Field: f.Field})
	}
	if err := emitContact(ctx, tx, into, "merged", a.Name+" merged "+other.Name+" into "+one.Name, changes...); err != nil {
		return m, err
	}
	if err := emitContact(ctx, tx, from, "archived", a.Name+" archived the contact "+other.Name+": it is a part of "+one.Name, tandem.Change{Field: "merged_into", New: into}); err != nil {
		return m, err
	}
	return s.mergeByID(ctx, tx, a.Org, m.ID)
}

// moveAll takes over whatever names the contact.
func (s contacts) moveAll(ctx context.Context, tx pgx.Tx, a tandem.Actor, m Merge) (did moved, err error) {
	args := pgx.StrictNamedArgs{"org": a.Org, "into": m.IntoID, "from": m.FromID}
	rows, _ := tx.Query(ctx, sqlShelve, args) // CollectRows tells its error
	if did.Shelved, err = pgx.CollectRows(rows, pgx.RowToStructByName[shelved]); err != nil {
		return did, fmt.Errorf("archive leads of merged contact: %w", err)
	}
	for _, l := range did.Shelved {
		if err := emitLead(ctx, tx, l.Lead, "archived", a.Name+" merged contacts that both had an open lead: "+l.Title+" is archived", tandem.Change{Field: "instead", New: l.Instead}); err != nil {
			return did, err
		}
		convs, err := idsOf(ctx, tx, sqlPoint, pgx.StrictNamedArgs{"org": a.Org, "contact": m.FromID, "lead": l.Lead, "instead": l.Instead})
		if err != nil {
			return did, fmt.Errorf("turn conversations to another lead: %w", err)
		}
		for _, c := range convs {
			p := pointed{c, l.Lead, l.Instead}
			did.Pointed = append(did.Pointed, p)
			if err := p.handoff(ctx, tx, a.Org, l.Lead, l.Instead); err != nil {
				return did, err
			}
		}
	}
	if did.Leads, err = idsOf(ctx, tx, sqlMoveLeads, args); err != nil {
		return did, fmt.Errorf("move leads: %w", err)
	}
	if did.Further, err = readFurther(ctx, tx, a.Org, m.IntoID, m.FromID); err != nil {
		return did, err
	}
	did.Records = map[string][]tandem.ID{}
	for _, table := range MovesWithContact {
		sql := "UPDATE " + table + " SET contact_id = @into WHERE org_id = @org AND contact_id = @from RETURNING id"
		if did.Records[table], err = idsOf(ctx, tx, sql, args); err != nil {
			return did, fmt.Errorf("move %s: %w", table, err)
		}
	}
	if err := mergeFurther(ctx, tx, a.Org, m.IntoID, did.Further); err != nil {
		return did, err
	}
	args["prefix"] = m.prefix()
	if did.Conversations, err = idsOf(ctx, tx, sqlMoveConversations, args); err != nil {
		return did, fmt.Errorf("move conversations: %w", err)
	}
	rows, _ = tx.Query(ctx, sqlMoveIdentities, args) // CollectRows tells its error
	if did.Identities, err = pgx.CollectRows(rows, pgx.RowTo[string]); err != nil {
		return did, fmt.Errorf("move identities: %w", err)
	}
	return did, nil
}

// prefix is what the threads of the addresses that came with the merge begin with.
func (m Merge) prefix() string { return string(m.ID) + ":" }

// handoff makes the one that waits in the conversation name another lead.
func (p pointed) handoff(ctx context.Context, tx pgx.Tx, org, lead, instead tandem.ID) error {
	_, err := tx.Exec(ctx, sqlPointHandoff, pgx.StrictNamedArgs{"org": org, "conversation": p.Conversation, "lead": lead, "instead": instead})
	if err != nil {
		return fmt.Errorf("turn a handoff to another lead: %w", err)
	}
	return nil
}

const (
	sqlMerges = `
SELECT m.id, m.into_id, m.from_id, c.name, m.moved, m.filled, m.by_id, m.created_at, m.undone_at
FROM contact_merges m JOIN contacts c ON c.org_id = m.org_id AND c.id = m.from_id
WHERE m.org_id = @org`
	sqlMergesOf  = sqlMerges + ` AND m.into_id = @into ORDER BY m.created_at DESC, m.id DESC LIMIT 200`
	sqlMergeByID = sqlMerges + ` AND m.id = @id`
)

// kept is a merge as it is stored.
type kept struct {
	Merge
	did    moved
	filled []tandem.Change
}

func mergeRow(row pgx.CollectableRow) (k kept, err error) {
	err = row.Scan(&k.ID, &k.IntoID, &k.FromID, &k.FromName, &k.did, &k.filled, &k.ByID, &k.CreatedAt, &k.UndoneAt)
	k.Moved, k.Filled = k.did.counts(), []string{}
	for _, f := range k.filled {
		k.Filled = append(k.Filled, f.Field)
	}
	return k, err
}

func (s contacts) mergeByID(ctx context.Context, tx pgx.Tx, org, id tandem.ID) (Merge, error) {
	k, err := keptMerge(ctx, tx, org, id)
	return k.Merge, err
}

func keptMerge(ctx context.Context, tx pgx.Tx, org, id tandem.ID) (k kept, err error) {
	none := tandem.Errorf(tandem.NotFound, "There is no such merge.")
	if _, err := tandem.ParseID(string(id)); err != nil {
		return k, none
	}
	rows, _ := tx.Query(ctx, sqlMergeByID, pgx.StrictNamedArgs{"org": org, "id": id}) // CollectRows tells its error
	k, err = pgx.CollectExactlyOneRow(rows, mergeRow)
	switch {
	case pg.NoRows(err):
		return k, none
	case err != nil:
		return k, fmt.Errorf("get merge: %w", err)
	}
	return k, nil
}

// Merges returns what became a part of a contact, the latest first, at most 200; those that were split again among them.
func (s contacts) Merges(ctx context.Context, tx pgx.Tx, contact tandem.ID) ([]Merge, error) {
	c, err := s.Get(ctx, tx, contact)
	if err != nil {
		return nil, err
	}
	a, err := tandem.ActorFrom(ctx)
	if err != nil {
		return nil, err
	}
	rows, _ := tx.Query(ctx, sqlMergesOf, pgx.StrictNamedArgs{"org": a.Org, "into": c.ID}) // CollectRows tells its error
	found, err := pgx.CollectRows(rows, mergeRow)
	if err != nil {
		return nil, fmt.Errorf("list merges: %w", err)
	}
	all := make([]Merge, len(found))
	for i, k := range found {
		all[i] = k.Merge
	}
	return all, nil
}
