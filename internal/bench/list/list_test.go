package list

import (
	"context"
	"os"
	"testing"
	"time"

	"github.com/tandemhq/tandem/internal/bench"
)

// The rows that SQL makes are such as the product's own: nothing points nowhere, counters are true, and the largest
// organization has the promised share. A second run finds them.
func TestRowsAreWhole(t *testing.T) {
	t.Parallel()
	dir, err := os.MkdirTemp("", "tandem-lists-") // not TempDir, which other accounts cannot enter
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	c, err := bench.StartCluster(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		if err := c.Stop(ctx); err != nil {
			t.Error(err)
		}
	})
	e := &bench.Env{Seed: 1, Log: t.Logf, Dir: dir, Cluster: c}
	const n = 4000
	d, err := open(t.Context(), e, c, n)
	if err != nil {
		t.Fatal(err)
	}
	org := d.org
	pool, err := c.Pool(t.Context(), d.Name, 1)
	if err != nil {
		t.Fatal(err)
	}
	for what, q := range map[string]string{
		"conversations of nobody":   `SELECT count(*) FROM conversations c LEFT JOIN contacts k ON (k.org_id, k.id) = (c.org_id, c.contact_id) LEFT JOIN channels h ON (h.org_id, h.id) = (c.org_id, c.channel_id) WHERE k.id IS NULL OR h.id IS NULL`,
		"owners who are no member":  `SELECT count(*) FROM conversations c LEFT JOIN members m ON (m.org_id, m.id) = (c.org_id, c.owner_id) WHERE c.owner_kind IS DISTINCT FROM m.kind`,
		"leads that are not there":  `SELECT count(*) FROM conversations c LEFT JOIN leads l ON (l.org_id, l.id, l.contact_id) = (c.org_id, c.lead_id, c.contact_id) WHERE c.lead_id IS NOT NULL AND l.id IS NULL`,
		"leads of no stage":         `SELECT count(*) FROM leads l LEFT JOIN stages s ON (s.org_id, s.board_id, s.id) = (l.org_id, l.board_id, l.stage_id) WHERE s.id IS NULL OR l.closed = (s.kind = 'open')`,
		"handoffs that differ":      `SELECT count(*) FROM conversations c FULL JOIN handoffs h ON (h.org_id, h.id, h.conversation_id) = (c.org_id, c.handoff_id, c.id) WHERE (c.handoff_id IS NULL) <> (h.id IS NULL)`,
		"counters that lie":         `SELECT count(*) FROM conversations c WHERE message_count <> (SELECT count(*) FROM messages m WHERE (m.org_id, m.conversation_id) = (c.org_id, c.id)) OR next_seq <> message_count + 1`,
		"a wrong share":             `SELECT abs(count(*) - 2000) FROM conversations WHERE org_id = '` + string(org) + `'`,
		"a wrong share of leads":    `SELECT abs(count(*) - 400) FROM leads WHERE org_id = '` + string(org) + `'`,
		"contacts of the future":    `SELECT count(*) FROM contacts WHERE created_at >= '2026-06-01'`,
		"a wrong share of contacts": `SELECT abs(count(*) - 2000) FROM contacts WHERE org_id = '` + string(org) + `'`,
		"a wrong share of open":     `SELECT greatest(abs(count(*) - 400) - 80, 0) FROM conversations WHERE org_id = '` + string(org) + `' AND state = 'open'`,
		"lost indexes":              `SELECT abs(count(*) - 1) FROM pg_indexes WHERE indexname = 'conversations_state'`,
	} {
		var wrong int
		if err := pool.QueryRow(t.Context(), q).Scan(&wrong); err != nil || wrong != 0 {
			t.Errorf("%s: %d, %v", what, wrong, err)
		}
	}
	pool.Close()
	raw, err := newBare(t.Context(), d)
	if err != nil {
		t.Fatal(err)
	}
	for _, what := range []int{bare, short} {
		if err := raw.op(what)(t.Context(), 0); err != nil {
			t.Error(err)
		}
	}
	raw.pool.Close()
	d.Close()
	again, err := open(t.Context(), e, c, n)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if again.org != org {
		t.Error("the second run made the rows anew")
	}
}
