package tools

import (
	"context"
	"fmt"
	"strings"
	"unicode"

	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/agents"
	"github.com/tandemhq/tandem/crm"
	"github.com/tandemhq/tandem/internal/pg"
)

type qualificationArgs struct {
	Field      string  `json:"field" enum:"budget,authority,need,timeline" about:"Which of the four."`
	Value      string  `json:"value" max:"500" about:"What is now known, in a few words."`
	Confidence float64 `json:"confidence" min:"0" max:"1" about:"How sure you are, 0 to 1."`
	Quote      string  `json:"quote,omitempty" max:"1000" about:"The customer's own words that say so, copied exactly."`
}

var setQualification = agents.NewTool("set_qualification",
	"Record what the customer said about budget, authority, need or timeline of this lead, with the words as evidence. What a colleague has fixed cannot be changed.",
	agents.TierWrite,
	func(ctx context.Context, tx pgx.Tx, t *agents.Turn, a qualificationArgs) (agents.Result, error) {
		if err := needLead(t); err != nil {
			return agents.Result{}, err
		}
		message := t.Message
		if quote := words(a.Quote); quote != "" {
			found, err := quoted(ctx, tx, t, quote)
			if err != nil {
				return agents.Result{}, err
			}
			if found == "" {
				return agents.Result{}, tandem.InvalidFields(tandem.FieldError{Field: "quote", Message: "The customer did not write this. Copy the words from a message of the customer."})
			}
			message = found
		} else {
			a.Confidence /= 2 // a belief without evidence
		}
		_, err := crm.Leads.SetQualification(ctx, tx, t.Lead, crm.Qualification{
			Field: a.Field, Value: strings.TrimSpace(a.Value), Confidence: a.Confidence, Quote: strings.TrimSpace(a.Quote), MessageID: message.Ptr(),
		})
		if err != nil {
			return agents.Result{}, err
		}
		return ok(a.Field + " is recorded."), nil
	})

const sqlInbound = `SELECT id, text FROM messages
WHERE org_id = @org AND conversation_id = @conversation AND direction = 'inbound' AND seq <= @trigger ORDER BY seq DESC LIMIT 200`

// quoted returns the newest message of the contact that holds the words; empty when none does.
func quoted(ctx context.Context, tx pgx.Tx, t *agents.Turn, quote string) (found tandem.ID, err error) {
	rows, err := tx.Query(ctx, sqlInbound, pgx.StrictNamedArgs{"org": t.Org, "conversation": t.Conversation, "trigger": t.Trigger})
	if err != nil {
		return "", fmt.Errorf("look for the quote: %w", err)
	}
	var id tandem.ID
	var text string
	_, err = pgx.ForEachRow(rows, []any{&id, &text}, func() error {
		if found == "" && strings.Contains(" "+words(text)+" ", " "+quote+" ") {
			found = id
		}
		return nil
	})
	if err != nil && !pg.NoRows(err) {
		return "", fmt.Errorf("look for the quote: %w", err)
	}
	return found, nil
}

// words is text reduced to its letters and digits, so that a model may change case, spaces and
// punctuation of a quote but no word.
func words(s string) string {
	return strings.Join(strings.FieldsFunc(strings.ToLower(s), func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsNumber(r) }), " ")
}
