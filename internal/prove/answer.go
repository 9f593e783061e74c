package prove

import (
	"context"
	"encoding/json"

	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/channels"
	"github.com/tandemhq/tandem/channels/webchat"
	"github.com/tandemhq/tandem/channels/webhook"
	"github.com/tandemhq/tandem/inbox"
	"github.com/tandemhq/tandem/internal/egress"
	"github.com/tandemhq/tandem/internal/pg"
	"github.com/tandemhq/tandem/team"
)

// Wide is a budget that no test spends by accident.
var Wide = team.Budget{ToolCalls: 100, Seconds: 120, Tokens: 10_000_000, MessagesInRow: 1000, MessagesPerHour: 100_000, MachineRounds: -1}

// AddModel adds an AI member that thinks with the OpenAI-compatible server at baseURL (such as the oracle's), with a
// wide budget, and lets it answer both channels. Processes need not be running; running ones learn of it at once.
func (s *Site) AddModel(baseURL string) tandem.ID {
	s.t.Helper()
	return s.Answer(team.NewAI{
		Name: "Max", Title: "Thinks with the oracle", APIKey: "sk-proof",
		Profile: team.AIProfile{Provider: "compatible", BaseURL: baseURL, Model: "oracle", Budget: Wide},
	})
}

// AddRules adds an AI member with the built-in rules model and a wide budget, and lets it answer both channels.
func (s *Site) AddRules() tandem.ID {
	s.t.Helper()
	return s.Answer(team.NewAI{Name: "Ben", Title: "Follows the rules", Profile: team.AIProfile{Provider: "rules", Budget: Wide}})
}

// Answer adds an AI member and lets it answer both channels.
func (s *Site) Answer(in team.NewAI) (member tandem.ID) {
	s.t.Helper()
	s.asSystem(func(ctx context.Context, tx pgx.Tx) error {
		m, err := team.AddAI(ctx, tx, s.sealer, in)
		if err != nil {
			return err
		}
		member = m.ID
		id := string(m.ID)
		for _, ch := range []tandem.ID{s.Chat, s.Form} {
			if _, err := s.inbox().Channels.Patch(ctx, tx, ch, inbox.ChannelPatch{AIMember: &id}); err != nil {
				return err
			}
		}
		return nil
	})
	return member
}

// ReplyTo lets the form channel post its answers to url, signed with secret when that is not empty.
func (s *Site) ReplyTo(url, secret string) {
	s.t.Helper()
	settings, err := json.Marshal(webhook.Settings{ReplyURL: url})
	if err != nil {
		s.t.Fatal(err)
	}
	s.asSystem(func(ctx context.Context, tx pgx.Tx) error {
		_, err := s.inbox().Channels.Patch(ctx, tx, s.Form, inbox.ChannelPatch{Settings: settings, Secret: &secret})
		return err
	})
}

// AddPerson adds a person with the role agent and returns the member and an API key of theirs.
func (s *Site) AddPerson(name, email string) (member tandem.ID, key string) {
	s.t.Helper()
	s.asSystem(func(ctx context.Context, tx pgx.Tx) error {
		m, err := team.AddHuman(ctx, tx, team.NewHuman{Name: name, Email: email, Password: s.Password})
		if err != nil {
			return err
		}
		member = m.ID
		key, _, err = team.CreateKey(ctx, tx, name, m.ID, nil)
		return err
	})
	return member, key
}

// asSystem runs fn in one transaction of the site's organization, as the system.
func (s *Site) asSystem(fn pg.TxFunc) {
	s.t.Helper()
	s.edit(func(ctx context.Context, db *pg.DB) error { return db.Tx(tandem.AsSystem(ctx, s.Org), fn) })
}

// inbox is just enough of one to change channels: it checks their settings and touches no network.
func (s *Site) inbox() *inbox.Inbox {
	return inbox.New(inbox.Options{
		Sealer: s.sealer, Kinds: []channels.Kind{webchat.Kind, webhook.Kind}, HTTP: egress.New(egress.Options{}).HTTP(),
	})
}
