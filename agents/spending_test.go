package agents_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/agents"
	"github.com/tandemhq/tandem/agents/agenttest"
	"github.com/tandemhq/tandem/agents/llm"
	"github.com/tandemhq/tandem/internal/pg/pgtest"
	"github.com/tandemhq/tandem/internal/proof"
	"github.com/tandemhq/tandem/team"
)

// TestSpendingIsKept: what the hours say is what the runs' steps cost, failed and superseded ones included, and whatever was
// spent within a day counts.
func TestSpendingIsKept(t *testing.T) {
	t.Parallel()
	w := newWorldIn(t, pgtest.New(t), "Acme", team.Budget{TokensPerDay: 2500, ToolCalls: 3})
	r := w.runner()
	n := 0
	w.fallback = agenttest.NewScripted().Otherwise(func(context.Context, llm.Request) (llm.Response, error) {
		usage := llm.Usage{InputTokens: 400, OutputTokens: 100, CostMicros: 7}
		if n++; n == 1 {
			return llm.Response{Calls: []llm.Call{agenttest.Call("add_note", map[string]any{"text": "x"})}, Usage: usage}, nil
		}
		return llm.Response{Text: "Hello.", Usage: usage}, nil
	})
	say := func() string {
		c := w.customer(nil)
		w.wake(r, c.says("Hi"))
		return states(w.runs(c))
	}
	if s := say() + say(); s != "donedone" {
		t.Fatalf("runs %s", s)
	}
	var kept, spent [2]int64
	w.tx(func(ctx context.Context, tx pgx.Tx) error {
		return tx.QueryRow(ctx, `SELECT (SELECT sum(cost_micros) FROM ai_spending), (SELECT sum(tokens) FROM ai_spending),
			(SELECT sum(cost_micros) FROM run_steps), (SELECT sum(input_tokens + output_tokens) FROM run_steps)`).Scan(&kept[0], &kept[1], &spent[0], &spent[1])
	})
	if kept != spent || spent != [2]int64{21, 1500} {
		t.Errorf("kept %v, spent %v", kept, spent)
	}
	age := func(by string) {
		w.tx(func(ctx context.Context, tx pgx.Tx) error {
			_, err := tx.Exec(ctx, `UPDATE ai_spending SET tokens = 2500, hour = date_trunc('hour', now() - $1::interval, 'UTC')`, by)
			return err
		})
	}
	age("24 hours") // its last minutes are within a day
	if s := say(); s != "budget" {
		t.Errorf("what was spent within a day does not count: run %s", s)
	}
	age("25 hours")
	if s := say(); s != "done" {
		t.Errorf("what was spent more than a day ago counts: run %s", s)
	}
}

// TestRunListsWalkTheirIndex: every list of runs is cut from an index in its order under row-level security, by the plan
// that the server keeps for all values.
func TestRunListsWalkTheirIndex(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.customer(agenttest.NewScripted().Otherwise(agenttest.Replies("Hello.")))
	w.wake(w.runner(), c.says("Hi"))
	super := pgtest.Connect(t, w.db, pgtest.Super)
	for _, q := range []string{
		`SET session_replication_role = replica`, // without the conversations of all these runs
		`INSERT INTO runs (org_id, id, conversation_id, member_id, trigger_seq, state, fence, chain_id, started_at, ended_at)
			SELECT r.org_id, gen_random_uuid(), CASE n % 100 WHEN 0 THEN r.conversation_id ELSE gen_random_uuid() END,
				CASE n % 9 WHEN 0 THEN r.member_id ELSE (SELECT id FROM members m WHERE m.org_id = r.org_id AND m.kind = 'human') END,
				100 + n, 'done', 1, r.chain_id, now() - n * interval '1 minute', now()
			FROM runs r, generate_series(1, 20000) n`,
		`VACUUM ANALYZE runs`,
	} {
		if _, err := super.Exec(t.Context(), q); err != nil {
			t.Fatal(err)
		}
	}
	deep := tandem.EncodeCursor(time.Now().Add(-100*time.Hour).UTC().Format(time.RFC3339Nano), string(tandem.NewID()))
	asked := 0
	for index, q := range map[string]agents.RunQuery{"runs_recent": {}, "runs_conversation": {Conversation: c.conv}, "runs_member": {Member: w.ai.ID}} {
		for _, q.Cursor = range []string{"", deep} {
			e := &explainer{}
			must(t, w.asOwner(func(ctx context.Context, tx pgx.Tx) error {
				e.Tx = tx
				p, err := agents.ListRuns(ctx, e, q)
				if err == nil && len(p.Items) != 50 {
					err = fmt.Errorf("%d runs", len(p.Items))
				}
				return err
			}))
			asked++
			if !strings.Contains(e.plan, "using "+index) || strings.Contains(e.plan, "Seq Scan on runs") || strings.Contains(e.plan, "Removed by Filter") || strings.Contains(e.plan, "Sort Key: r_1") {
				t.Errorf("%+v:\n%s", q, e.plan)
			}
		}
	}
	proof.Figure(t, "G6", "%d lists of 20,000 runs walk an index in order", asked)
}

// explainer keeps how the server runs a query when it has no more than one plan for all values.
type explainer struct {
	pgx.Tx
	plan string
}

func (e *explainer) Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error) {
	named, values, err := args[0].(pgx.StrictNamedArgs).RewriteQuery(ctx, nil, sql, nil)
	if err != nil {
		return nil, err
	}
	texts := make([]string, len(values))
	for i, v := range values {
		if at, ok := v.(time.Time); ok {
			v = at.Format(time.RFC3339Nano)
		}
		texts[i] = fmt.Sprintf("'%v'", v)
	}
	for _, s := range []string{"SET LOCAL plan_cache_mode = force_generic_plan", "PREPARE page AS " + named} {
		if _, err := e.Exec(ctx, s); err != nil {
			return nil, err
		}
	}
	rows, err := e.Tx.Query(ctx, "EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF) EXECUTE page("+strings.Join(texts, ", ")+")", pgx.QueryExecModeSimpleProtocol)
	if err != nil {
		return nil, err
	}
	lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, err
	}
	e.plan = strings.Join(lines, "\n")
	if _, err := e.Exec(ctx, "DEALLOCATE page"); err != nil {
		return nil, err
	}
	return e.Tx.Query(ctx, sql, args...)
}
