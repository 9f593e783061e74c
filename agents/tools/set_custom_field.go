package tools

import (
	"context"

	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem/agents"
	"github.com/tandemhq/tandem/crm"
)

type customArgs struct {
	Of    string `json:"of" enum:"lead,contact"`
	Field string `json:"field" max:"40" about:"The field's key, as the records list it."`
	Value string `json:"value,omitempty" max:"8000" about:"As the field's type wants it: 12.5, true, 2026-11-30, 2026-11-30T15:04:05Z, one option, or options with commas between them; money as minor units and currency, such as 125000 EUR. Leave it out to remove the value."`
}

// Which fields there are stands in the records, as data. What may be set is decided by their definitions, not by what is listed.
var setCustomField = agents.NewTool("set_custom_field", "Set one of the fields that the records list as fields you may set, of this conversation's lead or of its contact.",
	agents.TierWrite,
	func(ctx context.Context, tx pgx.Tx, t *agents.Turn, a customArgs) (agents.Result, error) {
		var err error
		if a.Of == "contact" {
			_, err = crm.Contacts.SetCustom(ctx, tx, t.Contact, a.Field, a.Value)
		} else if err = needLead(t); err == nil {
			_, err = crm.Leads.SetCustom(ctx, tx, t.Lead, a.Field, a.Value)
		}
		if err != nil {
			return agents.Result{}, err
		}
		return ok("The field is set."), nil
	})
