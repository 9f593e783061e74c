package list

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// rawList is what a page costs without Tandem: one prepared statement over one connection, as the superuser.
type rawList struct {
	pool *pgxpool.Pool
	org  string
}

const bareSQL = `
SELECT c.id, c.state, c.subject, c.preview, c.unread, c.message_count, c.last_message_at, k.name
FROM conversations c JOIN contacts k ON k.org_id = c.org_id AND k.id = c.contact_id
WHERE c.org_id = $1 AND c.state = $2 ORDER BY c.last_message_at DESC, c.id DESC LIMIT 50`

// line is what such a page shows of a conversation.
type line struct {
	ID, State, Subject, Preview string
	Unread, MessageCount        int
	LastMessageAt               time.Time
	Name                        string
}

func newBare(ctx context.Context, d *dataset) (*rawList, error) {
	pool, err := d.Cluster.Pool(ctx, d.Name, 1)
	if err != nil {
		return nil, err
	}
	return &rawList{pool, string(d.org)}, nil
}

// page reads a page.
func (l *rawList) page(ctx context.Context, _ int) error {
	rows, err := l.pool.Query(ctx, bareSQL, l.org, "open")
	if err != nil {
		return fmt.Errorf("bare page: %w", err)
	}
	lines, err := pgx.CollectRows(rows, pgx.RowToStructByPos[line])
	if err != nil {
		return fmt.Errorf("bare page: %w", err)
	}
	if len(lines) != pageSize {
		return fmt.Errorf("bare page: %d rows, not %d", len(lines), pageSize)
	}
	return nil
}
