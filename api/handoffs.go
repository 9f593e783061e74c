package api

import (
	"context"
	"net/http"

	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/inbox"
)

type handoffsInput struct {
	Paging
	State string `query:"state" enum:"requested,accepted,rejected,cancelled,expired" default:"requested"`
}

type handoffInput struct {
	ByID
	Body struct {
		Reason string      `json:"reason" enum:"customer_asked,missing_knowledge,unsupported_request,policy,tool_failure,pending_clarification,budget,qualified_lead,sentiment,high_value,out_of_hours"`
		Packet *packetBody `json:"packet,omitempty"`
		To     *struct {
			MemberID string `json:"member_id,omitempty" maxLength:"64"`
			TeamID   string `json:"team_id,omitempty" maxLength:"64"`
			Skill    string `json:"skill,omitempty" maxLength:"120"`
		} `json:"to,omitempty" doc:"Exactly one of the three; the fallback team when left out."`
	}
}

// packetBody is what the one who asks tells the one who takes over; the qualification
// is added from the lead.
type packetBody struct {
	Summary  string   `json:"summary,omitempty" maxLength:"4000"`
	Asked    []string `json:"asked,omitempty" maxItems:"20" nullable:"false" doc:"What the customer asked."`
	Tried    []string `json:"tried,omitempty" maxItems:"20" nullable:"false"`
	Promised []string `json:"promised,omitempty" maxItems:"20" nullable:"false"`
	NextStep string   `json:"next_step,omitempty" maxLength:"1000"`
}

type rejectInput struct {
	ByID
	Body struct {
		Reason string `json:"reason" minLength:"1" maxLength:"1000" doc:"Why not; the AI member reads it."`
	}
}

func (in *handoffInput) request() inbox.HandoffRequest {
	req := inbox.HandoffRequest{Reason: in.Body.Reason}
	if p := in.Body.Packet; p != nil {
		req.Packet = inbox.Packet{Summary: p.Summary, Asked: p.Asked, Tried: p.Tried, Promised: p.Promised, NextStep: p.NextStep}
	}
	if to := in.Body.To; to != nil {
		req.To = inbox.Target{Member: tandem.ID(to.MemberID), Team: tandem.ID(to.TeamID), Skill: to.Skill}
	}
	return req
}

func (s *server) handoffRoutes() {
	const root, one = "/handoffs", "/handoffs/{id}"
	write(s, route{method: http.MethodPost, path: "/conversations/{id}/handoff", permission: "handoff:request", summary: "Ask for a handoff", status: http.StatusCreated},
		func(ctx context.Context, tx pgx.Tx, in *handoffInput) (inbox.Handoff, error) {
			return onID(in.ByID, func(id tandem.ID) (inbox.Handoff, error) { return inbox.RequestHandoff(ctx, tx, id, in.request()) })
		})
	read(s, route{method: http.MethodGet, path: root, permission: "conversation:read", summary: "List handoffs, newest first"},
		func(ctx context.Context, tx pgx.Tx, in *handoffsInput) (tandem.Page[inbox.Handoff], error) {
			return inbox.ListHandoffs(ctx, tx, in.State, in.query(nil))
		})
	read(s, route{method: http.MethodGet, path: root + "/pending", permission: "handoff:decide", summary: "List the handoffs that wait for you or your teams, the soonest deadline first"},
		func(ctx context.Context, tx pgx.Tx, in *Paging) (tandem.Page[inbox.Handoff], error) {
			return inbox.PendingHandoffs(ctx, tx, in.query(nil))
		})
	read(s, route{method: http.MethodGet, path: one, permission: "conversation:read", summary: "Get a handoff"},
		func(ctx context.Context, tx pgx.Tx, in *ByID) (inbox.Handoff, error) {
			return onID(*in, func(id tandem.ID) (inbox.Handoff, error) { return inbox.GetHandoff(ctx, tx, id) })
		})
	write(s, route{method: http.MethodPost, path: one + "/accept", permission: "handoff:decide", summary: "Accept a handoff: the conversation is yours then"},
		func(ctx context.Context, tx pgx.Tx, in *nothing) (inbox.Handoff, error) {
			return onID(in.ByID, func(id tandem.ID) (inbox.Handoff, error) { return inbox.AcceptHandoff(ctx, tx, id) })
		})
	write(s, route{method: http.MethodPost, path: one + "/reject", permission: "handoff:decide", summary: "Reject a handoff, saying why"},
		func(ctx context.Context, tx pgx.Tx, in *rejectInput) (inbox.Handoff, error) {
			return onID(in.ByID, func(id tandem.ID) (inbox.Handoff, error) { return inbox.RejectHandoff(ctx, tx, id, in.Body.Reason) })
		})
	write(s, route{method: http.MethodPost, path: one + "/cancel", permission: "handoff:decide", summary: "Cancel a handoff"},
		func(ctx context.Context, tx pgx.Tx, in *reasonInput) (inbox.Handoff, error) {
			return onID(in.ByID, func(id tandem.ID) (inbox.Handoff, error) { return inbox.CancelHandoff(ctx, tx, id, in.Body.Reason) })
		})
}
