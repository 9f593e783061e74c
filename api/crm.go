package api

import (
	"context"
	"net/http"

	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/crm"
)

type contactsInput struct {
	Paging
	Search string `query:"search" maxLength:"200" doc:"The beginning of a name or e-mail address."`
}

type leadsInput struct {
	Paging
	BoardID    string `query:"board_id" maxLength:"64"`
	StageID    string `query:"stage_id" maxLength:"64"`
	ContactID  string `query:"contact_id" maxLength:"64"`
	AssigneeID string `query:"assignee_id" maxLength:"64"`
}

type stagesInput struct {
	Paging
	BoardID string `query:"board_id" maxLength:"64"`
}

func (s *server) contactRoutes() {
	read(s, route{method: http.MethodGet, path: "/contacts", permission: "contact:read", summary: "List contacts, newest first"},
		func(ctx context.Context, tx pgx.Tx, in *contactsInput) (tandem.Page[crm.Contact], error) {
			q := in.query(nil)
			q.Search = in.Search
			return crm.Contacts.List(ctx, tx, q)
		})
	read(s, route{method: http.MethodGet, path: "/contacts/{id}", permission: "contact:read", summary: "Get a contact with its identities"},
		func(ctx context.Context, tx pgx.Tx, in *ByID) (crm.Contact, error) {
			return onID(*in, func(id tandem.ID) (crm.Contact, error) { return crm.Contacts.Get(ctx, tx, id) })
		})
}

func (s *server) leadRoutes() {
	read(s, route{method: http.MethodGet, path: "/leads", permission: "lead:read", summary: "List leads, newest first"},
		func(ctx context.Context, tx pgx.Tx, in *leadsInput) (tandem.Page[crm.Lead], error) {
			return crm.Leads.List(ctx, tx, in.query(map[string]string{
				"board_id": in.BoardID, "stage_id": in.StageID, "contact_id": in.ContactID, "assignee_id": in.AssigneeID,
			}))
		})
	read(s, route{method: http.MethodGet, path: "/leads/{id}", permission: "lead:read", summary: "Get a lead with its qualification and conversations"},
		func(ctx context.Context, tx pgx.Tx, in *ByID) (crm.Lead, error) {
			return onID(*in, func(id tandem.ID) (crm.Lead, error) { return crm.Leads.Get(ctx, tx, id) })
		})
	read(s, route{method: http.MethodGet, path: "/boards", permission: "board:read", summary: "List boards with their stages"},
		func(ctx context.Context, tx pgx.Tx, in *Paging) (tandem.Page[crm.Board], error) {
			return crm.Boards.List(ctx, tx, in.query(nil))
		})
	read(s, route{method: http.MethodGet, path: "/boards/{id}", permission: "board:read", summary: "Get a board with its stages"},
		func(ctx context.Context, tx pgx.Tx, in *ByID) (crm.Board, error) {
			return onID(*in, func(id tandem.ID) (crm.Board, error) { return crm.Boards.Get(ctx, tx, id) })
		})
	read(s, route{method: http.MethodGet, path: "/stages", permission: "board:read", summary: "List stages in board order"},
		func(ctx context.Context, tx pgx.Tx, in *stagesInput) (tandem.Page[crm.Stage], error) {
			return crm.Stages.List(ctx, tx, in.query(map[string]string{"board_id": in.BoardID}))
		})
	read(s, route{method: http.MethodGet, path: "/stages/{id}", permission: "board:read", summary: "Get a stage"},
		func(ctx context.Context, tx pgx.Tx, in *ByID) (crm.Stage, error) {
			return onID(*in, func(id tandem.ID) (crm.Stage, error) { return crm.Stages.Get(ctx, tx, id) })
		})
}
