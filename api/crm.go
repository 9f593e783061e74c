package api

import (
	"context"
	"net/http"

	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/crm"
)

type stagesInput struct {
	Paging
	BoardID string `query:"board_id" maxLength:"64"`
}

// recordRoutes serves every kind of record that crm lists.
func (s *server) recordRoutes() {
	for _, r := range crm.All {
		s.records(r)
	}
}

func (s *server) boardRoutes() {
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
