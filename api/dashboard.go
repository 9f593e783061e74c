package api

import (
	"context"
	"net/http"

	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/crm/report"
)

type dashboardInput struct {
	From    string `query:"from" maxLength:"10" doc:"The first day, such as 2026-03-01; when left out, as many days before the last as days says."`
	To      string `query:"to" maxLength:"10" doc:"The last day, which counts whole; today when left out."`
	Days    int    `query:"days" minimum:"0" maximum:"366" doc:"How many days, the last included, instead of from; 30 when both are left out."`
	Zone    string `query:"tz" maxLength:"64" doc:"Whose days they are, as an IANA time zone such as Europe/Berlin; UTC when left out."`
	BoardID string `query:"board_id" maxLength:"64" doc:"Whose pipeline; the default board of leads when left out."`
}

func (s *server) dashboardRoutes() {
	read(s, route{method: http.MethodGet, path: "/metrics/dashboard", permission: "report:read", summary: "Get the numbers of a dashboard"},
		func(ctx context.Context, tx pgx.Tx, in *dashboardInput) (report.Dashboard, error) {
			return report.Get(ctx, tx, report.Question{From: in.From, To: in.To, Days: in.Days, Zone: in.Zone, Board: tandem.ID(in.BoardID)})
		})
}
