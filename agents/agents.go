// Package agents runs AI members: a model, a few tools, one conversation at a time.
//
// A turn answers the unanswered messages of one conversation. The runner claims the conversation
// for a run, builds what the model may see, lets it call tools, and ends with exactly one of: a
// reply, a handoff to people, or nothing at all because a person took over. What holds it together:
//
//   - Tools are capabilities. Conversation, lead, contact and channel are baked into the Turn; no tool
//     takes them, or a recipient, from the model. What a prompt says grants nothing.
//   - Every tool call is one transaction that first locks the conversation and compares the fence, so a
//     takeover that has committed stops the turn whatever the model does. Canceling the model's
//     context is a courtesy on top.
//   - No transaction is open while a model or an embedder is awaited.
//   - Every model call and tool call is a row of run_steps, refused ones with their reason.
//   - A failing model or a spent budget is a handoff, never silence and never a raw error.
package agents

import (
	"context"
	"encoding/json"

	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/agents/llm"
	"github.com/tandemhq/tandem/internal/mutant"
)

// Risk tiers of tools. Tier 2 (stage won or lost, value, assignment, new recipients) needs a
// person's approval and tier 3 (bulk, delete, export, permissions, keys) is never a tool, so the
// runner refuses to call either.
const (
	TierRead  = 0 // reads the own lead and the knowledge base
	TierWrite = 1 // replies to the bound contact, sets allow-listed fields of the own lead
)

// Tool is one thing an AI member can do in a turn. Make it with NewTool.
type Tool struct {
	Name   string
	About  string          // one or two sentences that the model reads
	Schema json.RawMessage // JSON Schema of the arguments; the runner refuses anything else
	Tier   int

	// Embeds returns the text whose vector Run needs. The runner computes it before the transaction
	// opens and puts it into Turn.Embedder. Nil for tools that search nothing.
	Embeds func(args json.RawMessage) string

	// Run does it, inside the caller's transaction, as the AI member. An error of kind Invalid,
	// NotFound, Conflict or Forbidden rolls its effects back, is recorded, and is told to the model.
	Run func(ctx context.Context, tx pgx.Tx, t *Turn, args json.RawMessage) (Result, error)
}

// Ending says how a tool call ended the turn.
type Ending string

// The two ways in which a model ends a turn.
const (
	Replied   Ending = "replied"
	HandedOff Ending = "handed_off"
)

// Result is what a tool call came to.
type Result struct {
	Text    string // what the model reads
	Hits    []Hit  // the knowledge it found; only these may be named as sources later in the run
	Unknown bool   // a search that found nothing
	Ends    Ending // empty: the turn goes on
}

// Turn is what a tool may touch: everything is fixed before the model sees the first word.
type Turn struct {
	Org, Conversation, Contact, Channel tandem.ID
	Lead, Board                         tandem.ID // empty when the conversation has no lead
	Member                              tandem.MemberRef
	Run                                 tandem.ID
	Fence                               int64     // every write and every send names it
	Trigger                             int64     // seq of the newest inbound message that the model has seen
	Last                                bool      // restarted often enough: answer although a newer message came
	Message                             tandem.ID // the inbound message with seq Trigger
	Model, Provider                     string    // for the record of an answer
	Confidence                          float64   // the model's own of its last step, 0 when it does not say
	Embedder                            llm.Embedder
	Retrieved                           map[tandem.ID]Hit // chunks found in this run, by id

	nonce string // of the borders in the request; never to be said to anybody
}

// NewTool makes a tool whose schema is derived from the struct A. Its fields need a json tag; an
// "about" tag tells the model what the field is for, "enum" lists the values allowed, "max" bounds a
// string's length in bytes, a list's items or a number, "min" bounds a number from below. A field
// without ",omitempty" is required.
func NewTool[A any](name, about string, tier int, run func(ctx context.Context, tx pgx.Tx, t *Turn, a A) (Result, error)) Tool {
	shape := shapeOf[A]()
	return Tool{
		Name: name, About: about, Tier: tier, Schema: shape.schema(),
		Run: func(ctx context.Context, tx pgx.Tx, t *Turn, args json.RawMessage) (Result, error) {
			if mutant.Is("tool-takes-recipient") && endings[name] == "" {
				t, args = t.aimed(args)
			}
			var a A
			if err := shape.decode(args, &a); err != nil {
				return Result{}, err
			}
			return run(ctx, tx, t, a)
		},
	}
}

// aimed is the deliberate defect of a tool that lets the model say on what it acts.
func (t *Turn) aimed(args json.RawMessage) (*Turn, json.RawMessage) {
	var fields map[string]json.RawMessage
	var lead tandem.ID
	if json.Unmarshal(args, &fields) != nil || json.Unmarshal(fields["lead_id"], &lead) != nil {
		return t, args
	}
	other := *t
	other.Lead = lead
	delete(fields, "lead_id")
	delete(fields, "lead")
	args, _ = json.Marshal(fields)
	return &other, args
}

func specs(tools []Tool) []llm.ToolSpec {
	out := make([]llm.ToolSpec, len(tools))
	for i, t := range tools {
		out[i] = llm.ToolSpec{Name: t.Name, About: t.About, Schema: t.Schema}
	}
	return out
}
