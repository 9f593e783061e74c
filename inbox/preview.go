package inbox

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem"
)

// A preview is made of a message's beginning, which is all that is read of a long one.
const sqlPreviews = `SELECT id, left(text, 1000) AS text FROM messages WHERE org_id = @org AND id = ANY(@ids::uuid[])`

// Previews returns the first lines of messages as lists show them, by the messages' ids. It needs conversation:read.
func Previews(ctx context.Context, tx pgx.Tx, ids []tandem.ID) (map[tandem.ID]string, error) {
	a, err := allowed(ctx, "conversation:read")
	if err != nil || len(ids) == 0 {
		return nil, err
	}
	rows, err := tx.Query(ctx, sqlPreviews, pgx.StrictNamedArgs{"org": a.Org, "ids": ids})
	if err != nil {
		return nil, fmt.Errorf("read previews: %w", err)
	}
	all := map[tandem.ID]string{}
	var id tandem.ID
	var text string
	if _, err := pgx.ForEachRow(rows, []any{&id, &text}, func() error {
		all[id] = previewOf(text)
		return nil
	}); err != nil {
		return nil, fmt.Errorf("read previews: %w", err)
	}
	return all, nil
}
