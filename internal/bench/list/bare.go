package list

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/tandemhq/tandem/internal/bench"
)

// rawList is what a page costs without Tandem: one prepared statement over one connection, as the superuser, whom no
// policy stops.
type rawList struct {
	pool *pgxpool.Pool
	org  string
}

// bareSQL reads what the page shows, all of it: the same 50 rows, and each value that is in their JSON. It cuts the page
// before it joins, as the product does: with the limit behind the joins the server plans it anew each time, which costs
// several times as much and would flatter us.
const bareSQL = `
SELECT c.id, c.channel_id, ch.kind, ch.name, c.contact_id, ct.name, ct.company, ct.email, ct.phone,
	c.lead_id, l.title, l.stage_id, s.name, l.value_minor, l.currency, l.temperature, l.priority,
	c.subject, c.state, c.snoozed_until, c.owner_id, c.owner_kind, m.name, c.fence,
	c.handoff_id, h.reason, h.created_at, h.deadline,
	c.preview, c.preview_kind, c.preview_name, c.last_message_at, c.message_count, c.unread,
	c.last_inbound_seq, c.answered_seq, c.created_at, c.updated_at, c.priority, c.tags, c.version
FROM (SELECT * FROM conversations WHERE org_id = $1 AND state = $2 AND merged_into IS NULL ORDER BY last_message_at DESC, id DESC LIMIT 50) c
JOIN channels ch ON ch.org_id = c.org_id AND ch.id = c.channel_id
JOIN contacts ct ON ct.org_id = c.org_id AND ct.id = c.contact_id
LEFT JOIN leads l ON l.org_id = c.org_id AND l.id = c.lead_id
LEFT JOIN stages s ON s.org_id = l.org_id AND s.id = l.stage_id
LEFT JOIN members m ON m.org_id = c.org_id AND m.id = c.owner_id
LEFT JOIN handoffs h ON h.org_id = c.org_id AND h.id = c.handoff_id
ORDER BY c.last_message_at DESC, c.id DESC`

// bareLine is a row of bareSQL.
type bareLine struct {
	ID, Channel, ChannelKind, ChannelName, Contact, ContactName, Company string
	Email, Phone                                                         *string
	Lead, Title, Stage, StageName                                        *string
	Value                                                                *int64
	Currency, Temperature, Priority                                      *string
	Subject, State                                                       string
	SnoozedUntil                                                         *time.Time
	Owner, OwnerKind, OwnerName                                          *string
	Fence                                                                int64
	Handoff, Reason                                                      *string
	HandedOver, Deadline                                                 *time.Time
	Preview, PreviewKind, PreviewName                                    string
	LastMessageAt                                                        time.Time
	MessageCount, Unread                                                 int
	LastInbound, Answered                                                int64
	CreatedAt, UpdatedAt                                                 time.Time
	Urgency                                                              string
	Tags                                                                 []string
	Version                                                              int64
}

// shortSQL reads a fifth of that, from two tables: the least that anybody would call a list.
const shortSQL = `
SELECT c.id, c.state, c.subject, c.preview, c.unread, c.message_count, c.last_message_at, k.name
FROM conversations c JOIN contacts k ON k.org_id = c.org_id AND k.id = c.contact_id
WHERE c.org_id = $1 AND c.state = $2 AND c.merged_into IS NULL ORDER BY c.last_message_at DESC, c.id DESC LIMIT 50`

// shortLine is a row of shortSQL.
type shortLine struct {
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

// op reads a page with the statement that what names.
func (l *rawList) op(what int) bench.Op {
	if what == short {
		return func(ctx context.Context, _ int) error { return page[shortLine](ctx, l, shortSQL) }
	}
	return func(ctx context.Context, _ int) error { return page[bareLine](ctx, l, bareSQL) }
}

func page[T any](ctx context.Context, l *rawList, sql string) error {
	rows, err := l.pool.Query(ctx, sql, l.org, "open")
	if err != nil {
		return fmt.Errorf("bare page: %w", err)
	}
	lines, err := pgx.CollectRows(rows, pgx.RowToStructByPos[T])
	if err != nil {
		return fmt.Errorf("bare page: %w", err)
	}
	if len(lines) != pageSize {
		return fmt.Errorf("bare page: %d rows, not %d", len(lines), pageSize)
	}
	return nil
}

// inTurns does one operation after the other, again and again, for the given time after a moment of warming up: what
// else the machine does meets all of them alike. The first error ends it.
func inTurns(ctx context.Context, during time.Duration, ops ...bench.Op) ([]bench.Sample, error) {
	took := make([][]time.Duration, len(ops))
	from := time.Now().Add(during / 10)
	for until := from.Add(during); time.Now().Before(until); {
		for i, op := range ops {
			began := time.Now()
			if err := op(ctx, 0); err != nil {
				return nil, err
			}
			if began.After(from) {
				took[i] = append(took[i], time.Since(began))
			}
		}
	}
	samples := make([]bench.Sample, len(ops))
	for i, t := range took {
		samples[i] = bench.Sample{N: len(t), Rate: float64(len(t)) / during.Seconds(), P50: bench.Percentile(t, 0.5), P99: bench.Percentile(t, 0.99)}
	}
	return samples, nil
}
