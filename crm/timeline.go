package crm

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/internal/events"
)

// attached are the records that are about others, with the table of each: their facts are on the timelines of those.
var attached = map[string]string{
	"note":     "notes",
	"task":     "tasks",
	"call":     "calls",
	"deal":     "deals",
	"document": "documents",
}

// timelines are the nouns whose records have a composed timeline; a lead's is in the log as it is (events.ForLead).
var timelines = map[string][]events.Source{
	"contact": slices.Concat(ofContacts, attachedTo("contact")),
	"account": slices.Concat(own("account"), ofContacts, attachedTo("account"), attachedTo("contact")),
	"deal":    slices.Concat(ofLead, own("deal"), attachedTo("deal")),
}

// Timelines are the nouns whose records have a timeline that Timeline composes.
func Timelines() []string { return slices.Sorted(maps.Keys(timelines)) }

const (
	maxContacts = 1_000 // of an account, the newest
	// Of the leads, conversations, notes and so on of a timeline, the newest of each kind.
	maxRelated = "10000"
)

// inConversations are the nouns of events that name a conversation.
var inConversations = []string{"conversation", "handoff", "message", "run"}

// ofContacts are a contact's own facts, those of its leads and those of its conversations. Those of a lead come first, so
// that what happened in a conversation about it is told as the lead's.
var ofContacts = append([]events.Source{
	{By: events.ByLead, About: "lead", Of: "contact", IDs: newest("leads", "id", "contact_id")},
	{By: events.ByConversation, About: "contact", Of: "contact", Nouns: inConversations, IDs: newest("conversations", "contact_id", "contact_id")},
}, own("contact")...)

// ofLead are the facts of the lead that a deal came from.
var ofLead = []events.Source{{By: events.ByLead, About: "lead", Of: "deal", IDs: "SELECT lead_id, lead_id FROM deals WHERE org_id = @org AND id = ANY(@ids) AND lead_id IS NOT NULL"}}

// own are the facts of records themselves.
func own(noun string) []events.Source {
	return []events.Source{{By: events.ByRecord, About: noun, Of: noun, Nouns: []string{noun}, IDs: "SELECT i, i FROM unnest(@ids) i"}}
}

// attachedTo are the facts of what is attached to records of the noun.
func attachedTo(noun string) (all []events.Source) {
	column := noun + "_id"
	for _, kind := range slices.Sorted(maps.Keys(attached)) {
		if kind == noun {
			continue
		}
		all = append(all, events.Source{By: events.ByRecord, About: noun, Of: noun, Nouns: []string{kind}, IDs: newest(attached[kind], column, column)})
	}
	return all
}

// newest is the SQL of the ids of a table's rows whose column is one of @ids. An id begins with the time at which it was made.
func newest(table, about, column string) string {
	return "SELECT id, " + about + " FROM " + table + " WHERE org_id = @org AND " + column + " = ANY(@ids) ORDER BY id DESC LIMIT " + maxRelated
}

const sqlAccountContacts = `SELECT id FROM contacts WHERE org_id = @org AND account_id = @id ORDER BY id DESC LIMIT @limit`

// Timeline returns one page of what happened to a record and to what belongs to it, the newest first, each fact once: to a
// contact with its leads, its conversations and what is attached to it; to an account with its contacts likewise; to a deal with the lead that it came from. It is put
// together from the log and from what is related now. Whether the actor may see the record, and facts of the nouns that q
// names, is the caller's question.
func Timeline(ctx context.Context, tx pgx.Tx, noun string, id tandem.ID, q events.Timeline) (p tandem.Page[events.Entry], err error) {
	sources, ok := timelines[noun]
	if !ok {
		return p, fmt.Errorf("a %s has no timeline", noun)
	}
	ids := map[string][]tandem.ID{noun: {id}}
	if noun == "account" {
		a, err := tandem.ActorFrom(ctx)
		if err != nil {
			return p, err
		}
		rows, err := tx.Query(ctx, sqlAccountContacts, pgx.StrictNamedArgs{"org": a.Org, "id": id, "limit": maxContacts})
		if err != nil {
			return p, fmt.Errorf("find the account's contacts: %w", err)
		}
		if ids["contact"], err = pgx.CollectRows(rows, pgx.RowTo[tandem.ID]); err != nil {
			return p, fmt.Errorf("find the account's contacts: %w", err)
		}
	}
	return events.Compose(ctx, tx, q, sources, ids)
}
