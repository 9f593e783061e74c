package events

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem"
)

const (
	oneSQL    = `SELECT ` + columns + ` FROM events e WHERE e.org_id = @org AND e.id = @id`
	newestSQL = `SELECT coalesce(max(seq), 0) FROM events WHERE org_id = @org`
)

// Get returns one event of the actor's organization, or NotFound.
func Get(ctx context.Context, tx pgx.Tx, id tandem.ID) (Row, error) {
	a, err := tandem.ActorFrom(ctx)
	if err != nil {
		return Row{}, err
	}
	rows, err := collect(tx.Query(ctx, oneSQL, pgx.StrictNamedArgs{"org": a.Org, "id": id}))
	if err != nil {
		return Row{}, err
	}
	if len(rows) == 0 {
		return Row{}, tandem.Errorf(tandem.NotFound, "There is no event with this id.")
	}
	return rows[0], nil
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
