package tools

import (
	"context"

	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem/agents"
	"github.com/tandemhq/tandem/inbox"
)

type noteArgs struct {
	Text string `json:"text" max:"2000" about:"What colleagues should know. The customer never sees it."`
}

var addNote = agents.NewTool("add_note", "Write a note for your colleagues into this conversation.", agents.TierWrite,
	func(ctx context.Context, tx pgx.Tx, t *agents.Turn, a noteArgs) (agents.Result, error) {
		_, err := inbox.Note(ctx, tx, t.Conversation, inbox.Draft{
			Text: a.Text, Fence: t.Fence, Run: t.Run, AI: &inbox.AIMeta{RunID: t.Run, Model: t.Model},
		})
		if err != nil {
			return agents.Result{}, err
		}
		return ok("Noted."), nil
	})
