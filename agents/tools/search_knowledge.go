package tools

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem/agents"
)

type searchArgs struct {
	Query string `json:"query" max:"500" about:"What to look for, in a few words."`
	Limit int    `json:"limit,omitempty" min:"1" max:"8" about:"How many passages at most; 5 when left out."`
}

const defaultHits = 5

var searchKnowledge = withQuery(agents.NewTool("search_knowledge",
	"Search the organization's knowledge base. Returns JSON: results, best first, each with chunk_id, document_id, title, text, url, score (0 to 1 within this search), similarity (0 to 1) and words (found by its words).",
	agents.TierRead,
	func(ctx context.Context, tx pgx.Tx, t *agents.Turn, a searchArgs) (agents.Result, error) {
		if a.Limit == 0 {
			a.Limit = defaultHits
		}
		hits, err := agents.Search(ctx, tx, t.Embedder, a.Query, a.Limit)
		if err != nil {
			return agents.Result{}, err
		}
		text, err := json.Marshal(map[string]any{"results": hits})
		if err != nil {
			return agents.Result{}, fmt.Errorf("write hits: %w", err)
		}
		return agents.Result{Text: string(text), Hits: hits}, nil
	}))

// withQuery has the runner embed the query before the transaction opens.
func withQuery(tool agents.Tool) agents.Tool {
	tool.Embeds = func(args json.RawMessage) string {
		var a searchArgs
		_ = json.Unmarshal(args, &a) // Run refuses what this cannot read
		return a.Query
	}
	return tool
}
