package tools

import (
	"context"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/agents"
	"github.com/tandemhq/tandem/inbox"
)

type replyArgs struct {
	Text       string   `json:"text" max:"4000" about:"The answer, plain text in the customer's language."`
	Confidence float64  `json:"confidence,omitempty" min:"0" max:"1" about:"How sure you are that this answers the customer, 0 to 1."`
	Sources    []string `json:"sources,omitempty" max:"10" about:"The chunk_id of each passage from search_knowledge that the answer rests on."`
}

var reply = agents.NewTool("reply", "Send an answer to the customer of this conversation. This ends your turn.", agents.TierWrite,
	func(ctx context.Context, tx pgx.Tx, t *agents.Turn, a replyArgs) (agents.Result, error) {
		text, removed, err := guarded(ctx, tx, t, a.Text)
		if err != nil {
			return agents.Result{}, err
		}
		if strings.Trim(text, " \n[]") == "" {
			return agents.Result{}, tandem.InvalidFields(tandem.FieldError{Field: "text", Message: "Nothing is left of this after links, addresses and markup are removed."})
		}
		confidence := a.Confidence
		if confidence == 0 {
			confidence = t.Confidence
		}
		meta := &inbox.AIMeta{RunID: t.Run, Model: t.Model, Confidence: confidence, Sources: sources(t, a.Sources)}
		_, err = inbox.Reply(ctx, tx, t.Conversation, inbox.Draft{Text: text, Fence: t.Fence, Run: t.Run, Trigger: t.Trigger, Late: t.Last, AI: meta})
		if err != nil {
			return agents.Result{}, err
		}
		said := "Sent."
		if len(removed) > 0 {
			said += " Removed before sending: " + strings.Join(slices.Compact(removed), ", ") + "."
		}
		return agents.Result{Text: said, Ends: agents.Replied}, nil
	})

// sources are the documents behind the named passages, each once. A passage that no search of this
// run has returned is not a source, whatever the model says.
func sources(t *agents.Turn, named []string) []inbox.Source {
	out := []inbox.Source{}
	for _, id := range named {
		h, found := t.Retrieved[tandem.ID(strings.ToLower(strings.TrimSpace(id)))]
		if !found || slices.ContainsFunc(out, func(s inbox.Source) bool { return s.DocumentID == h.Document }) {
			continue
		}
		out = append(out, inbox.Source{DocumentID: h.Document, Title: h.Title, URL: h.URL, Score: h.Score})
	}
	return out
}
