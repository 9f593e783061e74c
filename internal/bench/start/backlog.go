package start

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/sync/errgroup"

	"github.com/tandemhq/tandem/channels"
	"github.com/tandemhq/tandem/inbox"
	"github.com/tandemhq/tandem/internal/bench"
)

// oldMessagesSQL gives the first conversations 20 messages each, @n in all.
const oldMessagesSQL = `
INSERT INTO messages (org_id, id, conversation_id, seq, direction, sender_kind, text, status)
SELECT c.org_id, gen_random_uuid(), c.id, s, CASE WHEN s % 2 = 1 THEN 'inbound' ELSE 'outbound' END, CASE WHEN s % 2 = 1 THEN 'contact' ELSE 'human' END,
       repeat('words ', 30), CASE WHEN s % 2 = 1 THEN 'received' ELSE 'sent' END
FROM (SELECT org_id, id FROM conversations ORDER BY id LIMIT @n::int / 20) c, generate_series(101, 120) s`

const private = "tandem" // the name of the private cluster's database

// backlog measures the start of everything, PostgreSQL included, on a directory with 100,000 messages whose last work is
// 10,000 facts that no bus has seen.
func backlog(ctx context.Context, e *bench.Env, _ *bench.World) (_ []bench.Row, err error) {
	data, err := os.MkdirTemp(e.Dir, "backlog-")
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(data, 0o755); err != nil {
		return nil, err
	}
	messages, facts := bench.Size(e, 10_000, 100_000), bench.Size(e, 1000, 10_000)
	messages, facts, err = fill(ctx, e, data, messages, facts)
	if err != nil {
		return nil, err
	}
	t, err := e.Start(ctx, bench.Launch{Data: data})
	if err != nil {
		return nil, err
	}
	row := bench.Within("REL-13", "cold start to ready, private database", wantCold, []time.Duration{t.Ready},
		fmt.Sprintf("%d messages, %d facts in the outbox", messages, facts))
	return []bench.Row{row}, t.Stop()
}

// fill makes the directory's private cluster as a Tandem without its drain would leave it.
func fill(ctx context.Context, e *bench.Env, data string, messages, facts int) (haveMessages, haveFacts int, err error) {
	own := *e
	if own.Cluster, err = bench.StartCluster(ctx, data); err != nil {
		return 0, 0, err
	}
	defer func() {
		sctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
		defer cancel()
		err = errors.Join(err, own.Cluster.Stop(sctx))
	}()
	w, err := bench.NewWorld(ctx, &own, private, bench.Inhabitants{Orgs: 2, Contacts: messages / 10})
	if err != nil {
		return 0, 0, err
	}
	defer w.Close()
	conn, err := w.Pool.Acquire(ctx)
	if err != nil {
		return 0, 0, err
	}
	defer conn.Release()
	if _, err := conn.Exec(ctx, oldMessagesSQL, pgx.NamedArgs{"n": messages}); err != nil {
		return 0, 0, fmt.Errorf("make old messages: %w", err)
	}
	if err := deliver(ctx, w, facts); err != nil {
		return 0, 0, err
	}
	err = conn.QueryRow(ctx, `SELECT (SELECT count(*) FROM messages), (SELECT count(*) FROM outbox WHERE published_at IS NULL)`).Scan(&haveMessages, &haveFacts)
	return haveMessages, haveFacts, err
}

// deliver takes messages until the outbox has that many rows.
func deliver(ctx context.Context, w *bench.World, facts int) error {
	ctx, stop := context.WithCancel(ctx)
	batcher := inbox.NewBatcher(w.DB, inbox.BatchOptions{})
	var running errgroup.Group
	running.Go(func() error { return batcher.Run(ctx) })
	defer func() {
		stop()
		_ = running.Wait() // it ends because it was told to
	}()
	for n := 0; ; n += 500 {
		have, err := unpublished(ctx, w.Pool)
		if err != nil || have >= facts {
			return err
		}
		var g errgroup.Group
		g.SetLimit(64)
		for i := range 500 {
			g.Go(func() error {
				o := w.Orgs[i%len(w.Orgs)]
				from := "writer" + strconv.Itoa(i) + "@example.com"
				_, err := batcher.Deliver(ctx, channels.Inbound{
					Org: o.ID, Channel: o.Form.ID, ID: channels.ExternalID("b" + strconv.Itoa(n+i)), From: channels.Address(from),
					FromKind: channels.IdentityEmail, Text: "Is there a discount?", Raw: []byte(`{}`),
				})
				return err
			})
		}
		if err := g.Wait(); err != nil {
			return fmt.Errorf("deliver: %w", err)
		}
	}
}

func unpublished(ctx context.Context, pool *pgxpool.Pool) (n int, err error) {
	err = pool.QueryRow(ctx, `SELECT count(*) FROM outbox WHERE published_at IS NULL`).Scan(&n)
	return n, err
}
