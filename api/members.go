package api

import (
	"context"
	"net/http"

	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/team"
)

func (s *server) memberRoutes() {
	read(s, route{method: http.MethodGet, path: "/members", permission: "member:read", summary: "List members, people and AI"},
		func(ctx context.Context, tx pgx.Tx, in *Paging) (tandem.Page[team.Member], error) {
			return team.Members.List(ctx, tx, in.query(nil))
		})
	read(s, route{method: http.MethodGet, path: "/members/{id}", permission: "member:read", summary: "Get a member"},
		func(ctx context.Context, tx pgx.Tx, in *ByID) (team.Member, error) {
			return onID(*in, func(id tandem.ID) (team.Member, error) { return team.Members.Get(ctx, tx, id) })
		})
	read(s, route{method: http.MethodGet, path: "/teams", permission: "member:read", summary: "List teams with their members"},
		func(ctx context.Context, tx pgx.Tx, in *Paging) (tandem.Page[team.Team], error) {
			return team.Teams.List(ctx, tx, in.query(nil))
		})
}
