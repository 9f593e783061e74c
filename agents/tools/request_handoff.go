package tools

import (
	"context"

	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem/agents"
	"github.com/tandemhq/tandem/inbox"
)

type handoffArgs struct {
	Reason       string   `json:"reason" enum:"customer_asked,missing_knowledge,unsupported_request,policy,tool_failure,pending_clarification,budget,qualified_lead,sentiment,high_value,out_of_hours"`
	Summary      string   `json:"summary" max:"2000" about:"The conversation so far for a colleague who has not read it."`
	Asked        []string `json:"asked,omitempty" max:"10" about:"What the customer asked."`
	Tried        []string `json:"tried,omitempty" max:"10" about:"What you tried."`
	Promised     []string `json:"promised,omitempty" max:"10" about:"What you promised the customer."`
	NextStep     string   `json:"next_step,omitempty" max:"500" about:"What the colleague should do first."`
	CustomerLine string   `json:"customer_line,omitempty" max:"2000" about:"One line that tells the customer that a colleague takes over."`
}

const defaultLine = "A colleague will take over and answer you here."

var requestHandoff = agents.NewTool("request_handoff",
	"Ask the team to take this conversation over. The customer reads your one line, you write nothing more until a person decides. This ends your turn.",
	agents.TierWrite,
	func(ctx context.Context, tx pgx.Tx, t *agents.Turn, a handoffArgs) (agents.Result, error) {
		p, err := agents.PacketOf(ctx, tx, t)
		if err != nil {
			return agents.Result{}, err
		}
		p.Summary, p.Tried, p.Promised, p.NextStep = a.Summary, a.Tried, a.Promised, a.NextStep
		if len(a.Asked) > 0 {
			p.Asked = a.Asked
		}
		line, _, err := guarded(ctx, tx, t, a.CustomerLine)
		if err != nil {
			return agents.Result{}, err
		}
		if line == "" {
			line = defaultLine
		}
		_, err = inbox.RequestHandoff(ctx, tx, t.Conversation, inbox.HandoffRequest{
			Reason: a.Reason, Packet: p, CustomerLine: line, Fence: t.Fence, Run: t.Run,
		})
		if err != nil {
			return agents.Result{}, err
		}
		return agents.Result{Text: "The team has been asked.", Ends: agents.HandedOff}, nil
	})
