package agents

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/team"
)

// Budgets that hold when an AI member's profile says nothing else.
const (
	DefaultToolCalls        = 8
	DefaultSeconds          = 120
	DefaultTokens           = 32_000
	DefaultMessagesInRow    = 3
	DefaultMessagesPerHour  = 6
	DefaultCostMicrosPerDay = 20_000_000 // 20 units of the organization's currency
)

// budget is what one turn may still spend.
type budget struct {
	team.Budget
	tools, tokens int
}

func newBudget(b team.Budget) *budget {
	orDefault(&b.ToolCalls, DefaultToolCalls)
	orDefault(&b.Seconds, DefaultSeconds)
	orDefault(&b.Tokens, DefaultTokens)
	orDefault(&b.MessagesInRow, DefaultMessagesInRow)
	orDefault(&b.MessagesPerHour, DefaultMessagesPerHour)
	if b.CostMicrosPerDay <= 0 {
		b.CostMicrosPerDay = DefaultCostMicrosPerDay
	}
	return &budget{Budget: b}
}

func orDefault(n *int, d int) {
	if *n <= 0 {
		*n = d
	}
}

func (b *budget) time() time.Duration { return time.Duration(b.Seconds) * time.Second }

// breach is a spent budget. It ends the turn with a handoff of reason "budget".
type breach struct{ what string }

func (e *breach) Error() string { return "budget: " + e.what }

// call takes one tool call.
func (b *budget) call() error {
	if b.tools >= b.ToolCalls {
		return &breach{fmt.Sprintf("more than %d tool calls in one turn", b.ToolCalls)}
	}
	b.tools++
	return nil
}

// spend takes the tokens of one model call.
func (b *budget) spend(tokens int) error {
	b.tokens += tokens
	if b.tokens > b.Tokens {
		return &breach{fmt.Sprintf("%d tokens in one turn, %d are allowed", b.tokens, b.Tokens)}
	}
	return nil
}

const sqlSpent = `
SELECT (SELECT c.ai_streak FROM conversations c WHERE c.org_id = @org AND c.id = @conversation) AS streak,
       (SELECT count(*) FROM messages m WHERE m.org_id = @org AND m.conversation_id = @conversation AND m.sender_kind = 'ai'
           AND m.kind = 'message' AND m.status <> 'cancelled' AND m.created_at > now() - interval '1 hour') AS hour,
       (SELECT coalesce(sum(r.cost_micros), 0)::bigint FROM runs r WHERE r.org_id = @org AND r.member_id = @member
           AND r.started_at > now() - interval '24 hours') AS day`

// admit checks what spans turns: messages in a row, messages an hour, cost a day.
func (b *budget) admit(ctx context.Context, tx pgx.Tx, org, conversation, member tandem.ID) error {
	var streak, hour int
	var day int64
	err := tx.QueryRow(ctx, sqlSpent, pgx.StrictNamedArgs{"org": org, "conversation": conversation, "member": member}).Scan(&streak, &hour, &day)
	if err != nil {
		return fmt.Errorf("read what the AI member has spent: %w", err)
	}
	switch {
	case streak >= b.MessagesInRow:
		return &breach{fmt.Sprintf("%d messages in a row without an answer", streak)}
	case hour >= b.MessagesPerHour:
		return &breach{fmt.Sprintf("%d messages within an hour, %d are allowed", hour, b.MessagesPerHour)}
	case day >= b.CostMicrosPerDay:
		return &breach{"the cost allowed for a day is spent"}
	}
	return nil
}
