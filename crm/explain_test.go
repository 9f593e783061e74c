package crm_test

import (
	"context"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem/internal/pg/pgtest"
)

// analyze gathers the planner's statistics, which no one does by itself in tests.
func (h *hub) analyze(tables ...string) {
	h.t.Helper()
	conn := pgtest.Connect(h.t, h.db, pgtest.Owner)
	for _, table := range tables {
		if _, err := conn.Exec(h.t.Context(), "ANALYZE "+table); err != nil {
			h.t.Fatal(err)
		}
	}
}

// explain runs fn and returns the plans of all its queries, as they ran.
func (h *hub) explain(fn func(ctx context.Context, tx pgx.Tx) error) string {
	h.t.Helper()
	e := &explainer{}
	h.tx(h.human, func(ctx context.Context, tx pgx.Tx) error {
		e.Tx = tx
		return fn(ctx, e)
	})
	return strings.Join(e.plans, "\n")
}

type explainer struct {
	pgx.Tx
	plans []string
}

func (e *explainer) Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error) {
	rows, err := e.Tx.Query(ctx, "EXPLAIN (ANALYZE, COSTS OFF, BUFFERS OFF, TIMING OFF) "+sql, args...)
	if err != nil {
		return nil, err
	}
	plan, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, err
	}
	e.plans = append(e.plans, strings.Join(plan, "\n"))
	return e.Tx.Query(ctx, sql, args...)
}
