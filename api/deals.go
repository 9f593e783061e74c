package api

import (
	"context"
	"net/http"
	"reflect"

	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/crm"
)

type dealStageInput struct {
	ByID
	IfMatch string `header:"If-Match" maxLength:"100" doc:"The version you saw, as an entity tag."`
	Body    struct {
		StageID    string `json:"stage_id" maxLength:"64"`
		WonReason  string `json:"won_reason,omitempty" maxLength:"1000" doc:"Why the deal is won; only with a stage of kind won."`
		LostReason string `json:"lost_reason,omitempty" maxLength:"1000" doc:"Why the deal is lost; only with a stage of kind lost."`
	}
}

// dealRoutes are what a deal can do besides what every record can.
func (s *server) dealRoutes() {
	const one = "/deals/{id}"
	deal := s.schema(reflect.TypeFor[crm.Deal]())
	handleAs(s, route{method: http.MethodPost, path: one + "/stage", permission: "deal:write", summary: "Move a deal to another stage of its board"}, deal, nil,
		func(ctx context.Context, in *dealStageInput) (*recordOutput, error) {
			version, err := ifMatch(in.IfMatch)
			if err != nil {
				return nil, err
			}
			return s.keep(ctx, in, func(ctx context.Context, tx pgx.Tx) (any, error) {
				return onID(in.ByID, func(id tandem.ID) (any, error) {
					b := in.Body
					return crm.Deals.Move(ctx, tx, id, crm.DealMove{Stage: tandem.ID(b.StageID), WonReason: b.WonReason, LostReason: b.LostReason, Version: version})
				})
			})
		})
	handleAs(s, route{method: http.MethodPost, path: one + "/assign", permission: "deal:write", summary: "Make a member responsible for a deal, or nobody"}, deal, nil,
		func(ctx context.Context, in *assignInput) (*recordOutput, error) {
			return s.keep(ctx, in, func(ctx context.Context, tx pgx.Tx) (any, error) {
				return onID(in.ByID, func(id tandem.ID) (any, error) {
					var member tandem.ID
					if in.Body.MemberID != nil {
						member = tandem.ID(*in.Body.MemberID)
					}
					return crm.Deals.Assign(ctx, tx, id, member)
				})
			})
		})
	read(s, route{method: http.MethodGet, path: one + "/stages", permission: "deal:read", summary: "List the stages that a deal has been on, the first one first"},
		func(ctx context.Context, tx pgx.Tx, in *stagesInput) (tandem.Page[crm.StageStay], error) {
			return onID(in.ByID, func(id tandem.ID) (tandem.Page[crm.StageStay], error) {
				return crm.Deals.Stages(ctx, tx, id, in.query(nil))
			})
		})
}
