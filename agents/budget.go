package agents

import (
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem/internal/mutant"
	"github.com/tandemhq/tandem/team"
)

// Budgets that hold when an AI member's profile says nothing else.
const (
	DefaultToolCalls        = 8
	DefaultSeconds          = 110
	DefaultTokens           = 32_000
	DefaultMessagesInRow    = 3
	DefaultMessagesPerHour  = 6
	DefaultMachineRounds    = 3
	DefaultCostMicrosPerDay = 20_000_000 // 20 units of the organization's currency
	DefaultTokensPerDay     = 50_000_000
)

// Budgets of all AI members of an organization together, when its settings ai_cost_micros_per_day and
// ai_tokens_per_day say nothing else.
const (
	DefaultOrgCostMicrosPerDay = 5 * DefaultCostMicrosPerDay
	DefaultOrgTokensPerDay     = 5 * DefaultTokensPerDay
)

// mostSeconds bounds a turn whatever its profile says: the line that hands over is out before a customer has
// waited two minutes.
const mostSeconds = 110

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
	orDefault(&b.CostMicrosPerDay, DefaultCostMicrosPerDay)
	orDefault(&b.TokensPerDay, DefaultTokensPerDay)
	if b.MachineRounds == 0 {
		b.MachineRounds = DefaultMachineRounds
	}
	b.Seconds = min(b.Seconds, mostSeconds)
	return &budget{Budget: b}
}

func orDefault[N int | int64](n *N, d N) {
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
	if b.tools >= b.ToolCalls && !mutant.Is("budget-ignored") {
		return &breach{fmt.Sprintf("more than %d tool calls in one turn", b.ToolCalls)}
	}
	b.tools++
	return nil
}

// spend takes the tokens of one model call.
func (b *budget) spend(tokens int) error {
	b.tokens += tokens
	if b.tokens > b.Tokens && !mutant.Is("budget-ignored") {
		return &breach{fmt.Sprintf("%d tokens in one turn, %d are allowed", b.tokens, b.Tokens)}
	}
	return nil
}

// What the organization's AI members spend is kept by the hour, in the transaction that records the step. The hour that a
// day ago is in counts whole, so that what is not yet a day old always does.
const sqlSpent = `
SELECT c.ai_streak AS streak,
       (SELECT count(*) FROM messages m WHERE m.org_id = @org AND m.conversation_id = @conversation AND m.sender_kind = 'ai'
           AND m.kind = 'message' AND m.status <> 'cancelled' AND m.created_at > now() - interval '1 hour') AS hour,
       d.member_cost, d.member_tokens, d.org_cost, d.org_tokens,
       coalesce(CASE WHEN jsonb_typeof(o.settings->'ai_cost_micros_per_day') = 'number' THEN (o.settings->>'ai_cost_micros_per_day')::numeric END, 0)::float8 AS org_cost_limit,
       coalesce(CASE WHEN jsonb_typeof(o.settings->'ai_tokens_per_day') = 'number' THEN (o.settings->>'ai_tokens_per_day')::numeric END, 0)::float8 AS org_token_limit
FROM conversations c JOIN organizations o ON o.id = c.org_id,
     (SELECT coalesce(sum(s.cost_micros) FILTER (WHERE s.member_id = @member), 0)::bigint AS member_cost,
             coalesce(sum(s.tokens) FILTER (WHERE s.member_id = @member), 0)::bigint AS member_tokens,
             coalesce(sum(s.cost_micros), 0)::bigint AS org_cost, coalesce(sum(s.tokens), 0)::bigint AS org_tokens
      FROM ai_spending s WHERE s.org_id = @org AND s.hour > now() - interval '25 hours') d
WHERE c.org_id = @org AND c.id = @conversation`

type spent struct {
	Streak, Hour                int
	MemberCost, MemberTokens    int64
	OrgCost, OrgTokens          int64
	OrgCostLimit, OrgTokenLimit float64 // 0: the default

	said []heard `db:"-"` // the last messages, newest first, when machines are looked for
}

// queue reads what admit needs, as statements of batch.
func (s *spent) queue(batch *pgx.Batch, t *Turn, machines bool) {
	args := pgx.StrictNamedArgs{"org": t.Org, "conversation": t.Conversation, "member": t.Member.ID}
	batch.Queue(sqlSpent, args).Query(func(rows pgx.Rows) (err error) {
		*s, err = pgx.CollectExactlyOneRow(rows, pgx.RowToStructByName[spent])
		return err
	})
	if !machines {
		return
	}
	batch.Queue(sqlRounds, pgx.StrictNamedArgs{"org": t.Org, "conversation": t.Conversation}).Query(func(rows pgx.Rows) (err error) {
		s.said, err = pgx.CollectRows(rows, pgx.RowToStructByName[heard])
		return err
	})
}

// admit checks what spans turns: messages in a row, messages an hour, rounds with a machine, and what a day costs.
func (b *budget) admit(s spent) error {
	switch {
	case mutant.Is("budget-ignored"):
		return nil
	case s.Streak >= b.MessagesInRow:
		return &breach{fmt.Sprintf("%d messages in a row without an answer", s.Streak)}
	case s.Hour >= b.MessagesPerHour:
		return &breach{fmt.Sprintf("%d messages within an hour, %d are allowed", s.Hour, b.MessagesPerHour)}
	case s.MemberCost >= b.CostMicrosPerDay:
		return &breach{"the cost allowed for a day is spent"}
	case s.MemberTokens >= b.TokensPerDay:
		return &breach{"the tokens allowed for a day are spent"}
	case float64(s.OrgCost) >= positive(s.OrgCostLimit, DefaultOrgCostMicrosPerDay):
		return &breach{"the cost allowed for a day of all AI members together is spent"}
	case float64(s.OrgTokens) >= positive(s.OrgTokenLimit, DefaultOrgTokensPerDay):
		return &breach{"the tokens allowed for a day of all AI members together are spent"}
	}
	return b.notMachine(s.said)
}

func positive(n, d float64) float64 {
	if n <= 0 {
		return d
	}
	return n
}
