package bench

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/channels/webhook"
	"github.com/tandemhq/tandem/crm"
	"github.com/tandemhq/tandem/inbox"
	"github.com/tandemhq/tandem/team"
)

// Org is an organization that takes leads.
type Org struct {
	ID    tandem.ID
	Owner team.Member
	AI    team.Member // only when NewOrg was given a profile
	Board crm.Board
	Form  inbox.Channel // takes POST /api/v1/inbound/lead
	Key   string        // an API key of the owner
}

// NewOrg makes an organization. With a profile it has an AI member who answers the form's conversations; without one
// nobody answers.
func (d *Database) NewOrg(ctx context.Context, name string, ai *team.AIProfile) (Org, error) {
	var o Org
	org, owner, err := team.CreateOrg(ctx, d.DB, team.NewOrg{
		Name: name, Currency: "EUR", OwnerName: name + " owner",
		OwnerEmail: strings.ReplaceAll(strings.ToLower(name), " ", ".") + "@example.com", OwnerPassword: "a long enough password",
	})
	if err != nil {
		return o, fmt.Errorf("make organization %s: %w", name, err)
	}
	o.ID, o.Owner = org.ID, owner
	err = d.DB.Tx(tandem.AsSystem(ctx, o.ID), func(ctx context.Context, tx pgx.Tx) (err error) {
		if ai != nil {
			if o.AI, err = team.AddAI(ctx, tx, d.Sealer, team.NewAI{Name: name + " AI", Profile: *ai}); err != nil {
				return err
			}
		}
		if o.Board, err = crm.SeedBoard(ctx, tx, "Sales", []crm.BoardStage{{Name: "New"}, {Name: "Won", Kind: "won"}, {Name: "Lost", Kind: "lost"}}); err != nil {
			return err
		}
		if o.Form, err = d.Inbox.Channels.Create(ctx, tx, inbox.NewChannel{Kind: webhook.Kind.Name, Name: "Form", AIMember: o.AI.ID}); err != nil {
			return err
		}
		o.Key, _, err = team.CreateKey(ctx, tx, "Bench", owner.ID, nil)
		return err
	})
	if err != nil {
		return o, fmt.Errorf("make organization %s: %w", name, err)
	}
	return o, nil
}
