package api

import (
	"context"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/crm"
	"github.com/tandemhq/tandem/inbox"
	"github.com/tandemhq/tandem/internal/events"
)

type activitiesInput struct {
	ByID
	Paging
	Type  string `query:"type" maxLength:"400" doc:"Only activities of such records, with commas between them: message, note, task, call, handoff, lead and so on. All when empty."`
	Actor string `query:"actor" enum:"human,ai,external,system,contact" doc:"Only what such actors did."`
}

// activity is a fact of a record's timeline.
type activity struct {
	tandem.Event
	Seq     int64      `json:"seq" doc:"Its place in the log; what happened later has a higher one."`
	About   events.Ref `json:"about" doc:"The record through which it is on this timeline: this one itself, or what belongs to it."`
	Preview string     `json:"preview,omitempty" doc:"The first line of the message that it is about."`
}

// activityRoutes serve what happened to a record.
func (s *server) activityRoutes() {
	read(s, route{method: http.MethodGet, path: "/leads/{id}/activities", permission: "lead:read", summary: "List what happened to a lead, newest first"},
		func(ctx context.Context, tx pgx.Tx, in *activitiesInput) (tandem.Page[activity], error) {
			return onID(in.ByID, func(id tandem.ID) (tandem.Page[activity], error) { return leadActivities(ctx, tx, id, in) })
		})
	for _, r := range crm.All {
		if !slices.Contains(crm.Timelines(), r.Noun) {
			continue
		}
		read(s, route{method: http.MethodGet, path: r.Path + "/{id}/activities", permission: r.Noun + ":read", summary: "List what happened to a " + r.Word + " and what belongs to it, newest first"},
			func(ctx context.Context, tx pgx.Tx, in *activitiesInput) (tandem.Page[activity], error) {
				return onID(in.ByID, func(id tandem.ID) (tandem.Page[activity], error) { return activitiesOf(ctx, tx, r, id, in) })
			})
	}
}

func leadActivities(ctx context.Context, tx pgx.Tx, lead tandem.ID, in *activitiesInput) (p tandem.Page[activity], err error) {
	if _, err := crm.Leads.Set.Get(ctx, tx, lead); err != nil {
		return p, err
	}
	nouns, err := visible(ctx, in.Type)
	if err != nil {
		return p, err
	}
	rows, err := events.ForLead(ctx, tx, events.Timeline{Lead: lead, Nouns: nouns, Actor: tandem.ActorKind(in.Actor), Cursor: in.Cursor, Limit: in.Limit})
	if err != nil {
		return p, err
	}
	p = tandem.Page[activity]{Items: make([]activity, len(rows.Items)), Next: rows.Next}
	for i, r := range rows.Items {
		p.Items[i] = activity{Event: r.Event, Seq: r.Seq, About: events.Ref{Noun: "lead", ID: lead}}
	}
	return p, previewed(ctx, tx, p.Items)
}

// activitiesOf is leadActivities for a record whose timeline crm composes.
func activitiesOf(ctx context.Context, tx pgx.Tx, r crm.Resource, id tandem.ID, in *activitiesInput) (p tandem.Page[activity], err error) {
	if _, err := r.Get(ctx, tx, id); err != nil {
		return p, err
	}
	nouns, err := visible(ctx, in.Type)
	if err != nil {
		return p, err
	}
	rows, err := crm.Timeline(ctx, tx, r.Noun, id, events.Timeline{Nouns: nouns, Actor: tandem.ActorKind(in.Actor), Cursor: in.Cursor, Limit: in.Limit})
	if err != nil {
		return p, err
	}
	p = tandem.Page[activity]{Items: make([]activity, len(rows.Items)), Next: rows.Next}
	for i, e := range rows.Items {
		p.Items[i] = activity{Event: e.Event, Seq: e.Seq, About: e.About}
	}
	return p, previewed(ctx, tx, p.Items)
}

// previewed shows the beginnings of messages beside what happened to them.
func previewed(ctx context.Context, tx pgx.Tx, items []activity) error {
	var ids []tandem.ID
	for _, a := range items {
		if a.Noun == "message" {
			ids = append(ids, a.Record)
		}
	}
	if len(ids) == 0 {
		return nil
	}
	previews, err := inbox.Previews(ctx, tx, ids)
	for i := range items {
		items[i].Preview = previews[items[i].Record]
	}
	return err
}

// visible are the nouns of types whose facts the actor may see, or all such; a type that no fact has is Invalid.
func visible(ctx context.Context, types string) ([]string, error) {
	a, err := tandem.ActorFrom(ctx)
	if err != nil {
		return nil, err
	}
	asked := slices.Sorted(maps.Keys(seenBy))
	if types != "" {
		asked = strings.Split(types, ",")
	}
	nouns := []string{}
	for _, noun := range asked {
		permission, ok := seenBy[noun]
		if !ok {
			return nil, tandem.InvalidFields(tandem.FieldError{Field: "type", Message: "There are no activities of the type " + strconv.Quote(noun) + "."})
		}
		if a.May(permission) {
			nouns = append(nouns, noun)
		}
	}
	return nouns, nil
}
