package main

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/channels/webchat"
	"github.com/tandemhq/tandem/channels/webhook"
	"github.com/tandemhq/tandem/crm"
	"github.com/tandemhq/tandem/inbox"
	"github.com/tandemhq/tandem/internal/hub"
	"github.com/tandemhq/tandem/team"
)

type initCmd struct {
	place
	Organization string `required:"" help:"The organization's name."`
	Currency     string `default:"EUR" help:"ISO 4217 code of the currency that leads are valued in."`
	Owner        string `required:"" help:"The owner's name."`
	Email        string `required:"" help:"The e-mail address that the owner signs in with."`
	Password     string `env:"TANDEM_LOGIN_PASSWORD" help:"The owner's password, at least 12 characters; empty makes one and prints it."`
}

// Run makes an organization that can be worked in at once: its owner, an AI member, a
// board, a chat and a lead form.
func (c initCmd) Run(ctx context.Context, io stdio) error {
	c.HTTP = "127.0.0.1:0" // nobody calls; a running Tandem may have the usual address
	conf, err := c.config(io.err)
	if err != nil {
		return err
	}
	conf.Roles = hub.AllRoles
	h, err := hub.Start(ctx, conf)
	if err != nil {
		return err
	}
	made, err := c.create(ctx, h)
	if stopErr := untilDone(cancelled(), h); err == nil {
		err = stopErr
	}
	if err != nil {
		return err
	}
	fmt.Fprintf(io.out, `
  organization  %s
  login         %s
  password      %s
  API key       %s
  widget        <script src="https://YOUR-ADDRESS/chat/widget.js" data-key="%s" async></script>

Keep the password and the key; they are not shown again. Start with: tandem serve

`, c.Organization, made.Email, made.Password, made.APIKey, made.WidgetKey)
	return nil
}

func (c initCmd) create(ctx context.Context, h *hub.Hub) (demoFile, error) {
	made := demoFile{Email: c.Email, Password: c.Password}
	if made.Password == "" {
		made.Password = password()
	}
	org, owner, err := team.CreateOrg(ctx, h.DB, team.NewOrg{
		Name: c.Organization, Currency: c.Currency, OwnerName: c.Owner, OwnerEmail: made.Email, OwnerPassword: made.Password,
	})
	if err != nil {
		return made, err
	}
	err = h.DB.Tx(tandem.AsSystem(ctx, org.ID), func(ctx context.Context, tx pgx.Tx) error {
		ai, err := team.AddAI(ctx, tx, h.Sealer, team.NewAI{Name: "Ava", Title: "First answers"})
		if err != nil {
			return err
		}
		if _, err := crm.SeedBoard(ctx, tx, "Sales", salesStages); err != nil {
			return err
		}
		if _, err := crm.SeedDealBoard(ctx, tx); err != nil {
			return err
		}
		if err := crm.SeedLeadSources(ctx, tx); err != nil {
			return err
		}
		chat, err := h.Inbox.Channels.Create(ctx, tx, inbox.NewChannel{Kind: webchat.Kind.Name, Name: "Website chat", AIMember: ai.ID})
		if err != nil {
			return err
		}
		made.WidgetKey = *chat.PublicKey
		if _, err := h.Inbox.Channels.Create(ctx, tx, inbox.NewChannel{Kind: webhook.Kind.Name, Name: leadForm}); err != nil {
			return err
		}
		made.APIKey, _, err = team.CreateKey(ctx, tx, "First key", owner.ID, nil)
		return err
	})
	return made, err
}
