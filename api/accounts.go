package api

import (
	"context"
	"net/http"

	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/crm"
)

// accountRoutes are what an account can do besides what every record can.
func (s *server) accountRoutes() {
	write(s, route{method: http.MethodPost, path: "/accounts/{id}/match", permission: "contact:write", summary: "Link contacts without an account who write from an account's domain, at most 1,000 at once"},
		func(ctx context.Context, tx pgx.Tx, in *ByID) (crm.Matched, error) {
			return onID(*in, func(id tandem.ID) (crm.Matched, error) { return crm.Accounts.Match(ctx, tx, id) })
		})
}
