package agents

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/internal/events"
)

// The states of a run. A run ends in exactly one of those after Running.
const (
	Running    = "running"
	Done       = "done"       // it replied
	HandedOver = "handed_off" // the model asked for a person
	Superseded = "superseded" // the contact wrote again before it answered; another run took over
	Cancelled  = "cancelled"  // somebody else took the conversation
	FailedRun  = "failed"     // the model or the worker failed; a person was asked for, or another run follows
	OverBudget = "budget"     // its budget was spent; a person was asked for
)

// Run is one turn of an AI member over one conversation.
type Run struct {
	ID           tandem.ID        `json:"id"`
	Conversation tandem.ID        `json:"conversation_id"`
	Member       tandem.MemberRef `json:"member"`
	TriggerSeq   int64            `json:"trigger_seq"` // the newest inbound message it answers
	State        string           `json:"state"`
	Model        string           `json:"model"`
	Provider     string           `json:"provider"`
	InputTokens  int              `json:"input_tokens"`
	OutputTokens int              `json:"output_tokens"`
	CostMicros   int64            `json:"cost_micros"` // millionths of the organization's currency unit
	ToolCalls    int              `json:"tool_calls"`
	Error        string           `json:"error,omitempty"`
	StartedAt    time.Time        `json:"started_at"`
	EndedAt      *time.Time       `json:"ended_at,omitempty"`
	Steps        []Step           `json:"steps,omitempty"` // only GetRun fills it
}

// Step is one model call or tool call of a run.
type Step struct {
	Idx          int             `db:"idx" json:"idx"`
	Kind         string          `db:"kind" json:"kind"` // "model" or "tool"
	Name         string          `db:"name" json:"name"`
	Input        json.RawMessage `db:"input" json:"input"`
	Output       json.RawMessage `db:"output" json:"output"`
	Error        string          `db:"error" json:"error,omitempty"` // why a call was refused or failed
	InputTokens  int             `db:"input_tokens" json:"input_tokens"`
	OutputTokens int             `db:"output_tokens" json:"output_tokens"`
	CostMicros   int64           `db:"cost_micros" json:"cost_micros"`
	Chunks       json.RawMessage `db:"chunks" json:"chunks"` // knowledge found: [{chunk_id, document_id, title, score}]
	LatencyMS    int             `db:"latency_ms" json:"latency_ms"`
	At           time.Time       `db:"at" json:"at"`
}

type runRow struct {
	ID             tandem.ID
	ConversationID tandem.ID
	MemberID       tandem.ID
	MemberKind     tandem.ActorKind
	MemberName     string
	TriggerSeq     int64
	State          string
	Provider       string
	Model          string
	InputTokens    int
	OutputTokens   int
	CostMicros     int64
	ToolCalls      int
	Error          string
	StartedAt      time.Time
	EndedAt        *time.Time
}

func (r runRow) run() Run {
	return Run{
		ID: r.ID, Conversation: r.ConversationID, Member: tandem.MemberRef{ID: r.MemberID, Kind: r.MemberKind, Name: r.MemberName},
		TriggerSeq: r.TriggerSeq, State: r.State, Model: r.Model, Provider: r.Provider, InputTokens: r.InputTokens, OutputTokens: r.OutputTokens,
		CostMicros: r.CostMicros, ToolCalls: r.ToolCalls, Error: r.Error, StartedAt: r.StartedAt, EndedAt: r.EndedAt,
	}
}

const sqlRuns = `SELECT r.id, r.conversation_id, r.member_id, m.kind AS member_kind, m.name AS member_name, r.trigger_seq, r.state, r.provider, r.model,
  r.input_tokens, r.output_tokens, r.cost_micros, r.tool_calls, r.error, r.started_at, r.ended_at
FROM (SELECT * FROM runs r WHERE r.org_id = @org%s) r JOIN members m ON m.org_id = r.org_id AND m.id = r.member_id`

const sqlSteps = `SELECT idx, kind, name, input, output, error, input_tokens, output_tokens, cost_micros, chunks, latency_ms, at
FROM run_steps WHERE org_id = @org AND run_id = @run ORDER BY idx`

// RunQuery asks for a page of runs; empty fields do not filter.
type RunQuery struct {
	Conversation tandem.ID
	Member       tandem.ID
	Cursor       string
	Limit        int
}

// ListRuns returns one page of runs without their steps, newest first. It needs run:read.
func ListRuns(ctx context.Context, tx pgx.Tx, q RunQuery) (p tandem.Page[Run], err error) {
	a, err := mayReadRuns(ctx)
	if err != nil {
		return p, err
	}
	size := tandem.Query{Limit: q.Limit}.Size()
	where, args := "", pgx.StrictNamedArgs{"org": a.Org}
	for name, id := range map[string]tandem.ID{"conversation_id": q.Conversation, "member_id": q.Member} {
		if id == "" {
			continue
		}
		if _, err := tandem.ParseID(string(id)); err != nil {
			return p, tandem.InvalidFields(tandem.FieldError{Field: name, Message: "This is not an id."})
		}
	}
	if q.Conversation != "" {
		where += " AND r.conversation_id = @conversation"
		args["conversation"] = q.Conversation
	}
	if q.Member != "" {
		where += " AND r.member_id = @member"
		args["member"] = q.Member
	}
	if q.Cursor != "" {
		key, err := tandem.DecodeCursor(q.Cursor, 2)
		if err != nil {
			return p, err
		}
		at, terr := time.Parse(time.RFC3339Nano, key[0])
		if _, err := tandem.ParseID(key[1]); err != nil || terr != nil {
			return p, tandem.InvalidFields(tandem.FieldError{Field: "cursor", Message: "This is not a cursor of this list. Leave it out to start at the beginning."})
		}
		where += " AND (r.started_at, r.id) < (@at, @after)"
		args["at"], args["after"] = at, key[1]
	}
	// The limit as text: of a parameter the server assumes that it asks for many rows, and makes another plan. The page is
	// cut before anything is joined to it.
	const order = " ORDER BY r.started_at DESC, r.id DESC"
	rows, err := tx.Query(ctx, fmt.Sprintf(sqlRuns, where+order+" LIMIT "+strconv.Itoa(size+1))+order, args)
	if err != nil {
		return p, fmt.Errorf("list runs: %w", err)
	}
	found, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (Run, error) {
		r, err := pgx.RowToStructByName[runRow](row)
		return r.run(), err
	})
	if err != nil {
		return p, fmt.Errorf("list runs: %w", err)
	}
	return tandem.PageOf(found, size, func(r Run) []string {
		return []string{r.StartedAt.UTC().Format(time.RFC3339Nano), string(r.ID)}
	}), nil
}

// GetRun returns one run with its steps in order. It needs run:read.
func GetRun(ctx context.Context, tx pgx.Tx, id tandem.ID) (Run, error) {
	a, err := mayReadRuns(ctx)
	if err != nil {
		return Run{}, err
	}
	if _, err := tandem.ParseID(string(id)); err != nil {
		return Run{}, err
	}
	args := pgx.StrictNamedArgs{"org": a.Org, "run": id}
	rows, err := tx.Query(ctx, fmt.Sprintf(sqlRuns, " AND r.id = @run"), args)
	if err != nil {
		return Run{}, fmt.Errorf("get run: %w", err)
	}
	found, err := pgx.CollectRows(rows, pgx.RowToStructByName[runRow])
	if err != nil {
		return Run{}, fmt.Errorf("get run: %w", err)
	}
	if len(found) == 0 {
		return Run{}, tandem.Errorf(tandem.NotFound, "There is no such run.")
	}
	r := found[0].run()
	if rows, err = tx.Query(ctx, sqlSteps, args); err != nil {
		return Run{}, fmt.Errorf("get steps of run: %w", err)
	}
	if r.Steps, err = pgx.CollectRows(rows, pgx.RowToStructByName[Step]); err != nil {
		return Run{}, fmt.Errorf("get steps of run: %w", err)
	}
	return r, nil
}

func mayReadRuns(ctx context.Context) (tandem.Actor, error) {
	a, err := tandem.ActorFrom(ctx)
	if err != nil {
		return a, err
	}
	return a, a.Require("run:read")
}

const (
	// Whoever holds the lease knows that no other worker does: a run still marked as running has lost its worker.
	sqlBury = `UPDATE runs SET state = 'failed', error = 'its worker stopped', ended_at = now()
WHERE org_id = @org AND conversation_id = @conversation AND state = 'running'`

	sqlStart = `INSERT INTO runs (org_id, id, conversation_id, member_id, trigger_seq, state, fence, provider, model, chain_id)
VALUES (@org, @run, @conversation, @member, @trigger, 'running', @fence, @provider, @model, @chain)
ON CONFLICT (org_id, conversation_id, trigger_seq) WHERE state IN ('running', 'done', 'handed_off', 'budget') DO NOTHING`

	sqlEnd = `UPDATE runs SET state = @state, error = @error, ended_at = now() WHERE org_id = @org AND id = @run AND state = 'running'`

	sqlAddStep = `
WITH s AS (
  INSERT INTO run_steps (org_id, run_id, idx, kind, name, input, output, error, input_tokens, output_tokens, cost_micros, chunks, latency_ms)
  VALUES (@org, @run, @idx, @kind, @name, @input, @output, @error, @input_tokens, @output_tokens, @cost, @chunks, @latency)
  RETURNING kind),
spent AS (
  INSERT INTO ai_spending (org_id, hour, member_id, cost_micros, tokens)
  SELECT @org, date_trunc('hour', now(), 'UTC'), @member, @cost::bigint, @input_tokens::bigint + @output_tokens::bigint
  WHERE @cost::bigint > 0 OR @input_tokens::bigint + @output_tokens::bigint > 0
  ON CONFLICT (org_id, hour, member_id) DO UPDATE SET cost_micros = ai_spending.cost_micros + excluded.cost_micros, tokens = ai_spending.tokens + excluded.tokens)
UPDATE runs SET input_tokens = input_tokens + @input_tokens, output_tokens = output_tokens + @output_tokens, cost_micros = cost_micros + @cost,
  tool_calls = tool_calls + (SELECT count(*) FROM s WHERE kind = 'tool')
WHERE org_id = @org AND id = @run`

	sqlStoredStep = `SELECT output, error FROM run_steps WHERE org_id = @org AND run_id = @run AND idx = @idx`
)

// start queues what writes the run's row; errNothing when this trigger has been answered already.
func (t *Turn) start(ctx context.Context, b *pgx.Batch) error {
	b.Queue(sqlBury, pgx.StrictNamedArgs{"org": t.Org, "conversation": t.Conversation})
	b.Queue(sqlStart, pgx.StrictNamedArgs{
		"org": t.Org, "run": t.Run, "conversation": t.Conversation, "member": t.Member.ID, "trigger": t.Trigger, "fence": t.Fence,
		"provider": t.Provider, "model": t.Model, "chain": tandem.ChainFrom(ctx),
	}).Exec(func(tag pgconn.CommandTag) error {
		if tag.RowsAffected() == 0 {
			return errNothing
		}
		return nil
	})
	return events.Queue(ctx, b, t.event("started", t.Member.Name+" began to work on an answer."))
}

// end closes the run's row.
func (t *Turn) end(ctx context.Context, tx pgx.Tx, state string, cause error) error {
	text := ""
	if cause != nil {
		text = clip(cause.Error(), 1000)
	}
	tag, err := tx.Exec(ctx, sqlEnd, pgx.StrictNamedArgs{"org": t.Org, "run": t.Run, "state": state, "error": clean(text)})
	if err != nil {
		return fmt.Errorf("end run: %w", err)
	}
	if tag.RowsAffected() == 0 {
		return nil // somebody who held the lease after us has ended it
	}
	_, err = events.Emit(ctx, tx, t.event("ended", t.Member.Name+" "+endText[state], tandem.Change{Field: "state", Old: Running, New: state}))
	if err != nil {
		return fmt.Errorf("emit run.ended: %w", err)
	}
	return nil
}

var endText = map[string]string{
	Done: "answered.", HandedOver: "asked for a colleague.", Superseded: "starts over, because a newer message came.",
	Cancelled: "stopped, because somebody else has the conversation.", FailedRun: "could not answer.", OverBudget: "stopped at its budget.",
}

func (t *Turn) event(verb, text string, changes ...tandem.Change) tandem.Event {
	return tandem.Event{
		Noun: "run", Verb: verb, Record: t.Run, Conv: t.Conversation, Lead: t.Lead, Description: text, Category: "agent", Severity: "info", Changes: changes,
	}
}

// step appends one row of the record. Its unique index decides that a call of a run happens once.
func (t *Turn) step(ctx context.Context, tx pgx.Tx, s Step) error {
	_, err := tx.Exec(ctx, sqlAddStep, pgx.StrictNamedArgs{
		"org": t.Org, "run": t.Run, "member": t.Member.ID, "idx": s.Idx, "kind": s.Kind, "name": clean(clip(s.Name, 200)), "input": s.Input, "output": s.Output, "error": clean(s.Error),
		"input_tokens": s.InputTokens, "output_tokens": s.OutputTokens, "cost": s.CostMicros, "chunks": s.Chunks, "latency": s.LatencyMS,
	})
	if err != nil {
		return fmt.Errorf("record step %d: %w", s.Idx, err)
	}
	return nil
}
