package timers

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/internal/pg"
)

// Due names a timer whose time has come.
type Due struct {
	Kind   string    `db:"kind"`
	Org    tandem.ID `db:"org_id"`
	Record tandem.ID `db:"record_id"`
}

// DueNow returns the timers of kinds that are due, at most limit, the longest due first. It is for work that takes too
// long for a Handler's transaction: whoever does it clears the timer afterwards, so that a crash has it done again.
func DueNow(ctx context.Context, db *pg.DB, kinds []string, limit int) (due []Due, err error) {
	const q = `SELECT kind, org_id, record_id FROM timers WHERE kind = ANY(@kinds) AND due_at <= now() ORDER BY due_at LIMIT @limit`
	err = db.Global(ctx, func(ctx context.Context, tx pgx.Tx) error {
		rows, err := tx.Query(ctx, q, pgx.StrictNamedArgs{"kinds": kinds, "limit": limit})
		if err != nil {
			return err
		}
		due, err = pgx.CollectRows(rows, pgx.RowToStructByName[Due])
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("look for due timers: %w", err)
	}
	return due, nil
}
