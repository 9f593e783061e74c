package dashboard

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/crm/report"
	"github.com/tandemhq/tandem/internal/bench"
	"github.com/tandemhq/tandem/internal/bench/list"
)

// What the product would have written of the largest organization's messages, conversations and leads: who sent the
// answers and when, and the facts. The rollups are then counted from these by the product itself.
var seedSQL = []string{
	`WITH who AS (SELECT array_agg(id ORDER BY id) AS ids, array_agg(kind ORDER BY id) AS kinds FROM members WHERE org_id = @org)
	UPDATE messages m SET sender_id = x.id, sender_kind = x.kind, sent_at = m.created_at + power(x.h % 1000 / 1000.0, 3) * interval '9 hours'
	FROM (SELECT t.id AS message, who.ids[1 + t.h % cardinality(who.ids)] AS id, who.kinds[1 + t.h % cardinality(who.ids)] AS kind, t.h
	      FROM (SELECT id, abs(hashtext(id::text)::bigint) AS h FROM messages WHERE org_id = @org AND direction = 'outbound') t, who) x
	WHERE m.org_id = @org AND m.id = x.message`,

	`INSERT INTO events (org_id, id, noun, verb, record_id, actor_kind, actor_name, description, category, severity, conversation_id, chain_id, at)
	SELECT @org, gen_random_uuid(), 'conversation', 'opened', id, 'contact', 'A contact', 'Opened.', 'conversation', 'info', id, id, created_at
	FROM conversations WHERE org_id = @org`,

	`INSERT INTO events (org_id, id, noun, verb, record_id, actor_id, actor_kind, actor_name, changes, description, category, severity, conversation_id, chain_id, at)
	SELECT @org, gen_random_uuid(), 'message', CASE m.direction WHEN 'inbound' THEN 'received' ELSE 'sent' END, m.id, m.sender_id, m.sender_kind, 'Somebody',
	       '[{"field": "status", "old": "dispatching", "new": "sent"}]', 'A message.', 'conversation', 'info', m.conversation_id, m.id, coalesce(m.sent_at, m.created_at)
	FROM messages m WHERE m.org_id = @org`,

	`INSERT INTO events (org_id, id, noun, verb, record_id, actor_id, actor_kind, actor_name, changes, description, category, severity, conversation_id, chain_id, at)
	SELECT @org, gen_random_uuid(), 'conversation', 'resolved', c.id, m.sender_id, m.sender_kind, 'Somebody',
	       '[{"field": "state", "old": "open", "new": "resolved"}]', 'Resolved.', 'conversation', 'info', c.id, c.id, m.sent_at + interval '10 minutes'
	FROM conversations c JOIN messages m ON m.org_id = c.org_id AND m.conversation_id = c.id AND m.direction = 'outbound'
	WHERE c.org_id = @org AND c.state = 'resolved'`,

	`INSERT INTO events (org_id, id, noun, verb, record_id, actor_kind, actor_name, description, category, severity, lead_id, chain_id, at)
	SELECT @org, gen_random_uuid(), 'lead', 'created', id, 'system', 'Tandem', 'Opened.', 'crm', 'info', id, id, created_at FROM leads WHERE org_id = @org`,

	`INSERT INTO events (org_id, id, noun, verb, record_id, actor_kind, actor_name, description, category, severity, conversation_id, chain_id, at)
	SELECT @org, gen_random_uuid(), 'handoff', 'requested', id, 'ai', 'Somebody', 'Asked.', 'conversation', 'info', conversation_id, id, created_at FROM handoffs WHERE org_id = @org`,

	`UPDATE leads SET source = 'source ' || abs(hashtext(id::text)) % 8, stage_changed_at = created_at + interval '9 days' WHERE org_id = @org`,

	`INSERT INTO ai_spending (org_id, hour, member_id, cost_micros, tokens)
	SELECT @org, h, m.id, 1000, 5000 FROM members m, generate_series(timestamptz '2024-06-01', '2026-06-01', '1 hour') h WHERE m.org_id = @org AND m.kind = 'ai'`,
}

// furnish adds to the lists' rows what a dashboard reads, unless an earlier run has.
func furnish(ctx context.Context, e *bench.Env, d *list.Dataset) error {
	pool, err := d.Cluster.Pool(ctx, d.Name, 1)
	if err != nil {
		return err
	}
	defer pool.Close()
	var there bool
	if err := pool.QueryRow(ctx, `SELECT EXISTS (SELECT FROM rollup_hours WHERE org_id = $1)`, d.Org).Scan(&there); err != nil {
		return fmt.Errorf("look for rollups: %w", err)
	}
	if there {
		return nil
	}
	began := time.Now()
	for _, q := range append([]string{"SET session_replication_role = replica", "SET synchronous_commit = off"}, seedSQL...) {
		var args []any
		if strings.Contains(q, "@org") {
			args = []any{pgx.NamedArgs{"org": d.Org}}
		}
		if _, err := pool.Exec(ctx, q, args...); err != nil {
			return fmt.Errorf("%s: %w", strings.Join(strings.Fields(q), " "), err)
		}
	}
	if _, err := pool.Exec(ctx, "ANALYZE"); err != nil {
		return fmt.Errorf("analyze: %w", err)
	}
	seeded := time.Since(began)
	began = time.Now()
	var n int64
	err = d.DB.Tx(tandem.AsSystem(ctx, d.Org), func(ctx context.Context, tx pgx.Tx) (err error) {
		n, err = report.Build(ctx, tx)
		return err
	})
	if err != nil {
		return err
	}
	e.Log("made %d events in %.0f s, counted them in %.0f s", n, seeded.Seconds(), time.Since(began).Seconds())
	return d.Cluster.Settle(ctx, d.Name)
}
