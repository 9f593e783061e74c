// Package tools is what AI members can do in a turn. One file per tool; All lists them, and a test
// fails when a file's tool is missing there.
//
// To add one: copy add_note.go, name the arguments, keep every id out of them (the Turn has those
// that the tool may touch), and add the word to All.
package tools

import (
	"context"

	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/agents"
)

// All returns every tool, in the order in which a model reads them.
func All() []agents.Tool {
	return []agents.Tool{
		reply, searchKnowledge, setQualification, setLeadFields, setCustomField, moveStage, addNote, createTask, requestHandoff,
	}
}

func ok(text string) agents.Result { return agents.Result{Text: text} }

// needLead refuses what makes no sense in a conversation without a lead.
func needLead(t *agents.Turn) error {
	if t.Lead == "" {
		return tandem.Errorf(tandem.Conflict, "This conversation has no lead.")
	}
	return nil
}

// guarded returns text as the contact may read it, and what was taken out.
func guarded(ctx context.Context, tx pgx.Tx, t *agents.Turn, text string) (string, []string, error) {
	g, err := agents.GuardFor(ctx, tx, t)
	if err != nil {
		return "", nil, err
	}
	clean, removed := g.Clean(text)
	return clean, removed, nil
}
