package tools

import (
	"context"

	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/agents"
	"github.com/tandemhq/tandem/crm"
	"github.com/tandemhq/tandem/inbox"
)

type noteArgs struct {
	Text  string `json:"text" max:"2000" about:"What colleagues should know. The customer never sees it."`
	Place string `json:"place,omitempty" enum:"here,record" about:"here: between the messages; record: on the customer's record, for what stays true beyond this conversation. here when left out."`
}

var addNote = agents.NewTool("add_note", "Write a note for your colleagues into this conversation, or onto the record of this customer.", agents.TierWrite,
	func(ctx context.Context, tx pgx.Tx, t *agents.Turn, a noteArgs) (agents.Result, error) {
		var err error
		if a.Place == "record" {
			n := crm.Note{Body: a.Text, Mentions: []tandem.ID{}}
			n.LeadID, n.ContactID = about(t)
			_, err = crm.Notes.Create(ctx, tx, n)
		} else {
			_, err = inbox.Note(ctx, tx, t.Conversation, inbox.Draft{
				Text: a.Text, Fence: t.Fence, Run: t.Run, AI: &inbox.AIMeta{RunID: t.Run, Model: t.Model},
			})
		}
		if err != nil {
			return agents.Result{}, err
		}
		return ok("Noted."), nil
	})

// about is the turn's lead, or, where there is none, its contact: what a record that a tool makes belongs to.
func about(t *agents.Turn) (lead, contact *tandem.ID) {
	if t.Lead != "" {
		return &t.Lead, nil
	}
	return nil, &t.Contact
}
