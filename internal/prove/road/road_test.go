//go:build prove

package road

import (
	"context"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem/internal/prove"
	"github.com/tandemhq/tandem/internal/prove/oracle"
)

func TestMain(m *testing.M) {
	code := m.Run()
	prove.CleanUp()
	os.Exit(code)
}

// answered is a site whose AI member thinks with the oracle and answers forms at the oracle's webhook sink.
func answered(t *testing.T, o prove.SiteOptions) (*prove.Site, oracle.Client) {
	t.Helper()
	world := prove.NewOracle(t)
	s := prove.NewSite(t, o)
	s.AddModel(world.Addresses.Model)
	s.ReplyTo(world.Addresses.Webhook, "")
	return s, world
}

// drained waits until nobody waits for an answer and everything has gone out, and returns how long that took.
func drained(t *testing.T, conn *pgx.Conn, within time.Duration) time.Duration {
	t.Helper()
	began := time.Now()
	for {
		b, err := prove.ReadBooks(t.Context(), conn)
		if err != nil {
			t.Fatal(err)
		}
		if b.Drained() {
			return time.Since(began)
		}
		if time.Since(began) > within {
			t.Errorf("not drained within %s: %q\n%s", within, prove.Check(nil, b, nil).Wrong(), whatWaits(t, conn))
			return time.Since(began)
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// whatWaits tells of the first conversations that wait what a person needs to find the reason.
func whatWaits(t *testing.T, conn *pgx.Conn) (text string) {
	t.Helper()
	err := conn.QueryRow(t.Context(), `
		SELECT coalesce(string_agg(jsonb_pretty(j), E'\n'), '') FROM (SELECT jsonb_build_object(
			'conversation', to_jsonb(c) - 'preview',
			'runs', (SELECT jsonb_agg(r.trigger_seq || ' ' || r.state || ' ' || r.error || ' ' || r.started_at ORDER BY r.started_at) FROM runs r WHERE r.org_id = c.org_id AND r.conversation_id = c.id),
			'messages', (SELECT jsonb_agg(m.seq || ' ' || m.sender_kind || ' ' || m.status || ' ' || m.fence || ' ' || m.attempt || ' ' || m.error ORDER BY m.seq) FROM messages m WHERE m.org_id = c.org_id AND m.conversation_id = c.id),
			'timers', (SELECT jsonb_agg(to_jsonb(x)) FROM timers x WHERE x.org_id = c.org_id),
			'outbox', (SELECT jsonb_agg(to_jsonb(o)) FROM outbox o JOIN events e ON e.id = o.msg_id WHERE e.conversation_id = c.id),
			'dead', (SELECT jsonb_agg(to_jsonb(d) - 'body') FROM dead_letters d WHERE d.org_id = c.org_id)
		) AS j FROM conversations c
		WHERE c.last_inbound_seq > c.answered_seq AND c.handoff_id IS NULL
		   OR EXISTS (SELECT FROM messages m WHERE m.org_id = c.org_id AND m.conversation_id = c.id AND m.status IN ('queued', 'dispatching', 'retry_wait'))
		LIMIT 2) x`).Scan(&text)
	if err != nil {
		return err.Error()
	}
	return text
}

// compare checks all journals once the visitors have read what there is to read.
func compare(t *testing.T, conn *pgx.Conn, d *prove.Driver, world oracle.Client) prove.Verdict {
	t.Helper()
	var v prove.Verdict
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(200 * time.Millisecond) {
		b, err := prove.ReadBooks(t.Context(), conn)
		if err != nil {
			t.Fatal(err)
		}
		seen, err := world.Journal(t.Context(), 0, "", "")
		if err != nil {
			t.Fatal(err)
		}
		var sent []prove.Sent
		if d != nil {
			sent = d.Accepted()
		}
		// Visitors read by themselves, and some may be between two connections.
		if v = prove.Check(sent, b, seen); len(v.Wrong()) == 0 || time.Now().After(deadline) {
			break
		}
	}
	for _, wrong := range v.Wrong() {
		t.Error(wrong)
	}
	if d != nil && len(d.Refused()) > 0 {
		t.Errorf("refused: %q", d.Refused()[:min(len(d.Refused()), 3)])
	}
	return v
}

// quantile is the q-quantile of what was measured.
func quantile(of []time.Duration, q float64) time.Duration {
	if len(of) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(of))
	return sorted[min(len(sorted)-1, int(q*float64(len(sorted))))]
}

func count(t *testing.T, conn *pgx.Conn, sql string, args ...any) (n int) {
	t.Helper()
	if err := conn.QueryRow(t.Context(), sql, args...).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

// underway waits a moment for n turns to run at once, and returns how many do. On a busy machine fewer may overlap; who
// cuts turns counts the ones that were really cut.
func underway(t *testing.T, conn *pgx.Conn, n int) (running int) {
	t.Helper()
	for deadline := time.Now().Add(3 * time.Second); running < n && time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		running = count(t, conn, `SELECT count(*) FROM runs WHERE state = 'running'`)
	}
	return running
}

// until polls sql until it counts at least n.
func until(t *testing.T, conn *pgx.Conn, within time.Duration, n int, what, sql string, args ...any) {
	t.Helper()
	prove.Until(t, within, what, func() bool { return count(t, conn, sql, args...) >= n })
}

func within(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), d)
	t.Cleanup(cancel)
	return ctx
}
