package tools

import (
	"context"

	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/agents"
	"github.com/tandemhq/tandem/crm"
)

// The value of a lead, its assignee and its contact are not here: those are for people.
type leadArgs struct {
	Title       string   `json:"title,omitempty" max:"200" about:"A short name of what the customer wants."`
	Priority    string   `json:"priority,omitempty" enum:"low,normal,high,urgent"`
	Temperature string   `json:"temperature,omitempty" enum:"cold,warm,hot" about:"How ready the customer is to buy."`
	Tags        []string `json:"tags,omitempty" max:"20" about:"All tags of the lead; what is not listed is removed."`
}

var setLeadFields = agents.NewTool("set_lead_fields", "Change title, priority, temperature or tags of this conversation's lead. Leave out what stays.",
	agents.TierWrite,
	func(ctx context.Context, tx pgx.Tx, t *agents.Turn, a leadArgs) (agents.Result, error) {
		if err := needLead(t); err != nil {
			return agents.Result{}, err
		}
		f := crm.LeadFields{Title: given(a.Title), Priority: given(a.Priority), Temperature: given(a.Temperature)}
		if a.Tags != nil {
			f.Tags = a.Tags
		}
		if f.Title == nil && f.Priority == nil && f.Temperature == nil && f.Tags == nil {
			return agents.Result{}, tandem.Errorf(tandem.Invalid, "Name at least one field to change.")
		}
		if _, err := crm.Leads.SetFields(ctx, tx, t.Lead, f); err != nil {
			return agents.Result{}, err
		}
		return ok("The lead is changed."), nil
	})

func given(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}
