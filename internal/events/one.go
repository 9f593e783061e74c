package events

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem"
)

const (
	someSQL   = `SELECT ` + columns + ` FROM events e WHERE e.org_id = @org AND e.id = ANY(@ids::uuid[])`
	newestSQL = `SELECT coalesce(max(seq), 0) FROM events WHERE org_id = @org`
)

// Some returns those of the actor's organization's events that have these ids, in any order.
func Some(ctx context.Context, tx pgx.Tx, ids []tandem.ID) ([]Row, error) {
	a, err := tandem.ActorFrom(ctx)
	if err != nil {
		return nil, err
	}
	return collect(tx.Query(ctx, someSQL, pgx.StrictNamedArgs{"org": a.Org, "ids": ids}))
}

// Newest returns the highest seq of the organization's log, 0 when it is empty.
func Newest(ctx context.Context, tx pgx.Tx) (seq int64, err error) {
	a, err := tandem.ActorFrom(ctx)
	if err != nil {
		return 0, err
	}
	if err := tx.QueryRow(ctx, newestSQL, pgx.StrictNamedArgs{"org": a.Org}).Scan(&seq); err != nil {
		return 0, fmt.Errorf("read the newest event: %w", err)
	}
	return seq, nil
}
