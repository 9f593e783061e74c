package api

import (
	"context"
	"encoding/json"
	"net/http"
	"reflect"

	"github.com/danielgtaylor/huma/v2"
	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/crm"
	"github.com/tandemhq/tandem/inbox"
)

type stageInput struct {
	ByID
	IfMatch string `header:"If-Match" maxLength:"100" doc:"The version you saw, as an entity tag."`
	Body    struct {
		StageID    string `json:"stage_id" maxLength:"64"`
		LostReason string `json:"lost_reason,omitempty" maxLength:"1000" doc:"Why the lead is lost; only with a stage of kind lost. A lead that is opened again loses it."`
	}
}

type assignInput struct {
	ByID
	Body struct {
		MemberID *string `json:"member_id" maxLength:"64" doc:"Who is responsible, a person or an AI member; null for nobody."`
	}
}

type qualifyInput struct {
	ByID
	Field string `path:"field" enum:"budget,authority,need,timeline"`
	Body  struct {
		Value      string  `json:"value" minLength:"1" maxLength:"1000"`
		Confidence float64 `json:"confidence" minimum:"0" maximum:"1"`
		Quote      string  `json:"quote,omitempty" maxLength:"2000" doc:"The words it was taken from."`
		MessageID  string  `json:"message_id,omitempty" maxLength:"64" doc:"The message it was taken from, one of the lead's contact."`
		Locked     *bool   `json:"locked,omitempty" doc:"Whether AI members may not change it. Only a person may lock; what a person notes is locked when this is left out."`
	}
}

type convertInput struct {
	ByID
	Body struct {
		AccountID   string   `json:"account_id,omitempty" maxLength:"64" doc:"The account that the contact works for. When it is left out, the one of the domain, or of that name, is found, or else made."`
		AccountName string   `json:"account_name,omitempty" maxLength:"300" doc:"The company; that of the contact when it is left out."`
		Domain      string   `json:"domain,omitempty" maxLength:"253" doc:"The company's; that of the contact's e-mail address when it is left out, unless anybody can have such an address."`
		Deal        dealWish `json:"deal,omitempty" doc:"The deal that begins; null for none."`
	}
}

// dealWish is what is said of the deal that a lead shall become, or null.
type dealWish struct {
	none bool
	dealWords
}

type dealWords struct {
	Name          string     `json:"name,omitempty" maxLength:"300" doc:"The lead's title when it is left out."`
	Amount        *crm.Money `json:"amount,omitempty" doc:"The lead's value when it is left out."`
	BoardID       string     `json:"board_id,omitempty" maxLength:"64" doc:"The default board for deals when it is left out."`
	StageID       string     `json:"stage_id,omitempty" maxLength:"64" doc:"The first open stage when it is left out."`
	ExpectedClose string     `json:"expected_close,omitempty" maxLength:"10" format:"date"`
}

// UnmarshalJSON tells null from what is left out.
func (d *dealWish) UnmarshalJSON(b []byte) error {
	d.none = string(b) == "null"
	return json.Unmarshal(b, &d.dealWords)
}

// Schema implements huma.SchemaProvider.
func (dealWish) Schema(r huma.Registry) *huma.Schema {
	s := *huma.SchemaFromType(r, reflect.TypeFor[dealWords]())
	s.Nullable = true
	return &s
}

func (in *convertInput) asked() crm.Conversion {
	b := in.Body
	c := crm.Conversion{Account: tandem.ID(b.AccountID), AccountName: b.AccountName, Domain: b.Domain, NoDeal: b.Deal.none}
	c.Deal = crm.Deal{Name: b.Deal.Name, Amount: b.Deal.Amount, BoardID: tandem.ID(b.Deal.BoardID), StageID: tandem.ID(b.Deal.StageID)}
	if b.Deal.ExpectedClose != "" {
		c.Deal.ExpectedClose = &b.Deal.ExpectedClose
	}
	return c
}

type stagesInput struct {
	ByID
	Paging
}

// leadRoutes are what a lead can do besides what every record can.
func (s *server) leadRoutes() {
	const one = "/leads/{id}"
	lead := s.schema(reflect.TypeFor[crm.Lead]())
	handleAs(s, route{method: http.MethodPost, path: one + "/stage", permission: "lead:write", summary: "Move a lead to another stage of its board"}, lead, nil,
		func(ctx context.Context, in *stageInput) (*recordOutput, error) {
			version, err := ifMatch(in.IfMatch)
			if err != nil {
				return nil, err
			}
			return s.keep(ctx, in, func(ctx context.Context, tx pgx.Tx) (any, error) {
				return onID(in.ByID, func(id tandem.ID) (any, error) {
					return crm.Leads.Move(ctx, tx, id, crm.LeadMove{Stage: tandem.ID(in.Body.StageID), LostReason: in.Body.LostReason, Version: version})
				})
			})
		})
	handleAs(s, route{method: http.MethodPost, path: one + "/assign", permission: "lead:write", summary: "Make a member responsible for a lead, or nobody"}, lead, nil,
		func(ctx context.Context, in *assignInput) (*recordOutput, error) {
			return s.keep(ctx, in, func(ctx context.Context, tx pgx.Tx) (any, error) {
				return onID(in.ByID, func(id tandem.ID) (any, error) {
					var member tandem.ID
					if in.Body.MemberID != nil {
						member = tandem.ID(*in.Body.MemberID)
					}
					return crm.Leads.Assign(ctx, tx, id, member)
				})
			})
		})
	read(s, route{method: http.MethodGet, path: one + "/stages", permission: "lead:read", summary: "List the stages that a lead has been on, the first one first"},
		func(ctx context.Context, tx pgx.Tx, in *stagesInput) (tandem.Page[crm.StageStay], error) {
			return onID(in.ByID, func(id tandem.ID) (tandem.Page[crm.StageStay], error) {
				return crm.Leads.Stages(ctx, tx, id, in.query(nil))
			})
		})
	write(s, route{method: http.MethodPost, path: one + "/convert", permission: "lead:write", summary: "Convert a lead to an account and a deal"},
		func(ctx context.Context, tx pgx.Tx, in *convertInput) (crm.Converted, error) {
			return onID(in.ByID, func(id tandem.ID) (crm.Converted, error) { return crm.Leads.Convert(ctx, tx, id, in.asked()) })
		})
	write(s, route{method: http.MethodPost, path: one + "/handoff", permission: "handoff:request", summary: "Ask for a handoff of a lead's latest conversation", status: http.StatusCreated},
		func(ctx context.Context, tx pgx.Tx, in *handoffInput) (inbox.Handoff, error) {
			return onID(in.ByID, func(id tandem.ID) (inbox.Handoff, error) { return inbox.RequestLeadHandoff(ctx, tx, id, in.request()) })
		})
	read(s, route{method: http.MethodGet, path: one + "/qualification", permission: "lead:read", summary: "Get what is known of a lead, by field"},
		func(ctx context.Context, tx pgx.Tx, in *ByID) (map[string]crm.Qualification, error) {
			return onID(*in, func(id tandem.ID) (map[string]crm.Qualification, error) { return crm.Leads.Qualification(ctx, tx, id) })
		})
	write(s, route{method: http.MethodPut, path: one + "/qualification/{field}", permission: "lead:write", summary: "Note what is known of a lead"},
		func(ctx context.Context, tx pgx.Tx, in *qualifyInput) (crm.Qualification, error) {
			return onID(in.ByID, func(id tandem.ID) (crm.Qualification, error) {
				b := in.Body
				message := tandem.ID(b.MessageID)
				return crm.Leads.SetQualification(ctx, tx, id, crm.Qualification{
					Field: in.Field, Value: b.Value, Confidence: b.Confidence, Quote: b.Quote, MessageID: message.Ptr(), Lock: b.Locked,
				})
			})
		})
}
