package main

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/agents"
	"github.com/tandemhq/tandem/channels/webchat"
	"github.com/tandemhq/tandem/channels/webhook"
	"github.com/tandemhq/tandem/crm"
	"github.com/tandemhq/tandem/inbox"
	"github.com/tandemhq/tandem/internal/hub"
	"github.com/tandemhq/tandem/team"
)

const (
	demoOrg   = "Lumen"
	demoEmail = "daniel@lumen.example.com"
	leadForm  = "Lead form"
)

// salesStages is the board that a new organization begins with.
var salesStages = []crm.BoardStage{
	{Name: "New"}, {Name: "Contacted"}, {Name: "Qualified"}, {Name: "Proposal"}, {Name: "Won", Kind: "won"}, {Name: "Lost", Kind: "lost"},
}

// seedDemo makes the demo organization: two people, two AI members, a board, two
// channels and a knowledge base, through the same functions as any other.
func seedDemo(ctx context.Context, h *hub.Hub) (demoFile, error) {
	demo := demoFile{Email: demoEmail, Password: password()}
	org, owner, err := team.CreateOrg(ctx, h.DB, team.NewOrg{
		Name: demoOrg, Currency: "EUR", OwnerName: "Daniel Brandt", OwnerEmail: demo.Email, OwnerPassword: demo.Password,
	})
	if tandem.KindOf(err) == tandem.Conflict {
		return demo, errors.New("there is a demo organization, but its keys in demo.json are gone; choose a new data directory")
	}
	if err != nil {
		return demo, err
	}
	demo.Org, demo.HumanMember = org.ID, owner.ID
	err = h.DB.Tx(tandem.AsSystem(ctx, org.ID), func(ctx context.Context, tx pgx.Tx) error { return seedTeam(ctx, tx, h, &demo) })
	return demo, err
}

func seedTeam(ctx context.Context, tx pgx.Tx, h *hub.Hub, demo *demoFile) error {
	if _, err := team.AddHuman(ctx, tx, team.NewHuman{Name: "Rita Gomes", Email: "rita@lumen.example.com", Password: password(), Title: "Customer success", Role: team.Agent}); err != nil {
		return err
	}
	// Whoever tries the demo writes faster than customers do, and the played customers are machines.
	chatty := team.AIProfile{Budget: team.Budget{MessagesPerHour: 60, MachineRounds: -1}}
	ava, err := team.AddAI(ctx, tx, h.Sealer, team.NewAI{Name: "Ava", Title: "First answers in the chat", Profile: chatty})
	if err != nil {
		return err
	}
	max, err := team.AddAI(ctx, tx, h.Sealer, team.NewAI{Name: "Max", Title: "Qualifies new leads", Profile: chatty})
	if err != nil {
		return err
	}
	demo.AIMember = ava.ID
	if _, err := crm.SeedBoard(ctx, tx, "Sales", salesStages); err != nil {
		return err
	}
	if _, err := crm.SeedDealBoard(ctx, tx); err != nil {
		return err
	}
	if err := crm.SeedLeadSources(ctx, tx); err != nil {
		return err
	}
	chat, err := h.Inbox.Channels.Create(ctx, tx, inbox.NewChannel{
		Kind: webchat.Kind.Name, Name: "Website chat", AIMember: ava.ID,
		Settings: json.RawMessage(`{"title":"Lumen","greeting":"Hi! Ask us anything about Lumen."}`),
	})
	if err != nil {
		return err
	}
	demo.WidgetKey = *chat.PublicKey
	if _, err := h.Inbox.Channels.Create(ctx, tx, inbox.NewChannel{Kind: webhook.Kind.Name, Name: leadForm, AIMember: max.ID}); err != nil {
		return err
	}
	for _, d := range lumenKnowledge {
		if _, err := agents.Documents.Create(ctx, tx, d); err != nil {
			return err
		}
	}
	demo.APIKey, _, err = team.CreateKey(ctx, tx, "Demo", demo.HumanMember, nil)
	return err
}

// pointLeadForm sends answers to lead forms back to the page that plays the customers:
// its address may be another one after a restart.
func pointLeadForm(ctx context.Context, h *hub.Hub, demo demoFile) error {
	ctx, cancel := context.WithTimeout(tandem.AsSystem(ctx, demo.Org), 10*time.Second)
	defer cancel()
	settings, err := json.Marshal(map[string]string{"reply_url": demo.URL + "/demo/replies"})
	if err != nil {
		return err
	}
	return h.DB.Tx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		id, err := inbox.ChannelOfKind(ctx, tx, webhook.Kind.Name)
		if err != nil {
			return err
		}
		_, err = h.Inbox.Channels.Patch(ctx, tx, id, inbox.ChannelPatch{Settings: settings})
		return err
	})
}
