package prove

import (
	"context"

	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/channels/webhook"
	"github.com/tandemhq/tandem/crm"
	"github.com/tandemhq/tandem/inbox"
	"github.com/tandemhq/tandem/internal/pg"
	"github.com/tandemhq/tandem/team"
)

// Neighbor makes a second organization on the site, with a form channel that nobody answers, and returns an API key of
// its owner. Processes may be running.
func (s *Site) Neighbor(name, email string) (key string) {
	s.t.Helper()
	s.edit(func(ctx context.Context, db *pg.DB) error {
		org, owner, err := team.CreateOrg(ctx, db, team.NewOrg{Name: name, Currency: "EUR", OwnerName: name + " owner", OwnerEmail: email, OwnerPassword: s.Password})
		if err != nil {
			return err
		}
		return db.Tx(tandem.AsSystem(ctx, org.ID), func(ctx context.Context, tx pgx.Tx) error {
			if _, err := crm.SeedBoard(ctx, tx, "Leads", []crm.BoardStage{{Name: "New"}, {Name: "Won", Kind: "won"}, {Name: "Lost", Kind: "lost"}}); err != nil {
				return err
			}
			if _, err := s.inbox().Channels.Create(ctx, tx, inbox.NewChannel{Kind: webhook.Kind.Name, Name: name + " form"}); err != nil {
				return err
			}
			key, _, err = team.CreateKey(ctx, tx, name, owner.ID, nil)
			return err
		})
	})
	return key
}
