package events

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/bus"
	"github.com/tandemhq/tandem/internal/pg"
)

const (
	togetherMost = 512
	// What is applied together is for nobody who waits, so a fact may wait a moment for others: each transaction costs
	// the same few milliseconds however many it applies.
	togetherLinger = 250 * time.Millisecond
)

// Those that were not remembered before are: the order is one for all, so that no two transactions wait for each other.
const rememberNewSQL = `
	INSERT INTO processed (consumer, msg_id) SELECT @consumer, u.id FROM unnest(@ids::uuid[]) u(id) ORDER BY u.id
	ON CONFLICT DO NOTHING RETURNING msg_id::text`

// together applies the facts of one transaction, organization by organization.
func (r *reader) together(ctx context.Context, list []bus.Msg) error {
	perOrg := map[tandem.ID][]Fact{}
	for _, m := range list {
		f, err := decode(m)
		if err != nil {
			return err
		}
		perOrg[f.Org] = append(perOrg[f.Org], f)
	}
	return r.db.Global(ctx, func(ctx context.Context, tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, quickPlansSQL); err != nil {
			return fmt.Errorf("apply facts: %w", err)
		}
		for _, org := range slices.Sorted(maps.Keys(perOrg)) {
			if err := pg.EnterOrg(ctx, tx, org); err != nil {
				return err
			}
			if err := r.applyAll(systemOf(ctx, org), tx, perOrg[org]); err != nil {
				return err
			}
		}
		return nil
	})
}

// applyAll remembers the facts that are new and makes their effect.
func (r *reader) applyAll(ctx context.Context, tx pgx.Tx, facts []Fact) error {
	if r.s.Before != nil {
		if err := r.s.Before(ctx, tx); err != nil {
			return err
		}
	}
	ids := make([]tandem.ID, len(facts))
	for i, f := range facts {
		ids[i] = f.ID
	}
	rows, err := tx.Query(ctx, rememberNewSQL, pgx.StrictNamedArgs{"consumer": r.s.Name, "ids": ids})
	if err != nil {
		return fmt.Errorf("remember facts: %w", err)
	}
	fresh, err := pgx.CollectRows(rows, pgx.RowTo[tandem.ID])
	if err != nil {
		return fmt.Errorf("remember facts: %w", err)
	}
	left := make(map[tandem.ID]bool, len(fresh))
	for _, id := range fresh {
		left[id] = true
	}
	todo := make([]Fact, 0, len(fresh))
	for _, f := range facts {
		if left[f.ID] { // and not a second time when the same fact came twice
			todo = append(todo, f)
			delete(left, f.ID)
		}
	}
	if len(todo) == 0 {
		return nil
	}
	return r.s.ApplyAll(ctx, tx, todo)
}
