//go:build prove

package faults

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/tandemhq/tandem/internal/proof"
	"github.com/tandemhq/tandem/internal/prove"
)

// 1,000 people with 100 messages each, all answered, and an event of ten messages each that nobody has heard of yet.
var fillSQL = []string{
	`INSERT INTO contacts (org_id, id, name, email) SELECT $1, md5('contact' || i)::uuid, 'Person ' || i, 'person' || i || '@example.org' FROM generate_series(1, 1000) i`,
	`INSERT INTO conversations (org_id, id, channel_id, contact_id, next_seq, message_count, last_inbound_seq, answered_seq, preview)
	 SELECT $1, md5('conversation' || i)::uuid, (SELECT id FROM channels WHERE org_id = $1 AND kind = 'webhook'), md5('contact' || i)::uuid, 101, 100, 99, 99, 'Message 100'
	 FROM generate_series(1, 1000) i`,
	`INSERT INTO messages (org_id, id, conversation_id, seq, direction, sender_kind, sender_name, text, status, created_at)
	 SELECT $1, md5('message' || i || '/' || n)::uuid, md5('conversation' || i)::uuid, n, CASE n % 2 WHEN 1 THEN 'inbound' ELSE 'outbound' END,
	        CASE n % 2 WHEN 1 THEN 'contact' ELSE 'human' END, 'Somebody', 'Message ' || n || ' about something that is worth a line or two.',
	        CASE n % 2 WHEN 1 THEN 'received' ELSE 'sent' END, now() - make_interval(mins => 100 - n)
	 FROM generate_series(1, 1000) i, generate_series(1, 100) n`,
	`WITH e AS (
		INSERT INTO events (org_id, id, noun, verb, record_id, actor_kind, actor_name, description, category, severity, conversation_id, chain_id)
		SELECT $1, gen_random_uuid(), 'message', 'received', md5('message' || i || '/' || n)::uuid, 'contact', 'Somebody', 'A message arrived', 'conversation', 'info',
		       md5('conversation' || i)::uuid, gen_random_uuid()
		FROM generate_series(1, 1000) i, generate_series(1, 20, 2) n
		RETURNING org_id, id, record_id)
	 INSERT INTO outbox (org_id, msg_id, topic, subject, record_id)
	 SELECT org_id, id, 'message.received', 'ev.' || org_id || '.message.received', record_id FROM e`,
}

// REL-13: a start after a kill, with 100,000 messages and 10,000 facts that have not reached the bus.
func TestStartWithABacklog(t *testing.T) {
	took(t)
	s := newStage(t, prove.SiteOptions{})
	s.serve()
	s.p.Terminate(20 * time.Second)
	s.serve()
	conn := s.site.DB(t)
	s.p.Stop() // it must not work the backlog off before it is complete
	for _, q := range fillSQL {
		if _, err := conn.Exec(t.Context(), q, s.site.Org); err != nil {
			t.Fatal(err)
		}
	}
	var messages, pending int
	if err := conn.QueryRow(t.Context(), "SELECT (SELECT count(*) FROM messages), (SELECT count(*) FROM outbox WHERE published_at IS NULL)").Scan(&messages, &pending); err != nil {
		t.Fatal(err)
	}
	if messages < 100_000 || pending < 10_000 {
		t.Fatalf("%d messages and %d facts: the backlog is too small", messages, pending)
	}
	s.p.Kill()
	prove.Until(t, prove.Patience, "PostgreSQL has ended with its parent", func() bool { return s.postmaster() == 0 })
	var starts []time.Duration
	starts = append(starts, s.serve())
	began := time.Now()
	conn = s.site.DB(t)
	prove.Until(t, prove.Patience, "every fact is heard of", func() bool {
		var left int
		if err := conn.QueryRow(t.Context(), `SELECT count(*) FROM outbox o WHERE topic = 'message.received' AND NOT EXISTS (SELECT FROM processed p WHERE p.consumer = 'agents' AND p.msg_id = o.msg_id)`).Scan(&left); err != nil {
			t.Fatal(err)
		}
		return left == 0
	})
	drained := time.Since(began)
	for range 2 { // and twice more, with nothing pending
		s.p.Kill()
		prove.Until(t, prove.Patience, "PostgreSQL has ended with its parent", func() bool { return s.postmaster() == 0 })
		starts = append(starts, s.serve())
	}
	with := starts[0]
	slowest := percentile(starts, 100)
	held(t, slowest <= 5*time.Second, "REL-13", "%d messages, %d facts pending: ready %.1f s after the start, %.1f s at most in %d starts; the facts were worked off within %.1f s",
		messages, pending, with.Seconds(), slowest.Seconds(), len(starts), drained.Seconds())
}

// REL-12 on a real process: 1,000 handoffs run out while it is killed again and again.
func TestTimersUnderKills(t *testing.T) {
	took(t)
	r := rand.New(rand.NewPCG(proof.Seed(t), 0))
	s := newStage(t, prove.SiteOptions{})
	s.serve()
	const n, window, kills = 1000, 15 * time.Second, 6
	s.driver.Begin(t, prove.Traffic{Forms: n, FormMessages: 1, Words: "[handoff]"})
	s.driver.Wait()
	conn := s.site.DB(t)
	prove.Until(t, 2*prove.Patience, "a thousand handoffs wait", func() bool {
		time.Sleep(100 * time.Millisecond)
		var k int
		if err := conn.QueryRow(t.Context(), "SELECT count(*) FROM timers WHERE kind = 'handoff'").Scan(&k); err != nil {
			t.Fatal(err)
		}
		return k == n
	})
	if _, err := conn.Exec(t.Context(), `CREATE TABLE planned (record uuid PRIMARY KEY, due timestamptz)`); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Exec(t.Context(), `WITH u AS (UPDATE timers SET due_at = clock_timestamp() + interval '2 s' + random() * make_interval(secs => $1) WHERE kind = 'handoff' RETURNING record_id, due_at)
		INSERT INTO planned SELECT record_id, due_at FROM u`, window.Seconds()); err != nil {
		t.Fatal(err)
	}
	var starts []time.Duration
	var up []time.Time // when it was ready again
	var down []time.Time
	for began := time.Now(); len(starts) < kills || time.Since(began) < window+2*time.Second; {
		time.Sleep(time.Second + time.Duration(r.IntN(1500))*time.Millisecond)
		if len(starts) < kills {
			down = append(down, time.Now())
			s.p.Kill()
			starts = append(starts, s.serve())
			up = append(up, time.Now())
		}
	}
	conn = s.site.DB(t)
	prove.Until(t, prove.Patience, "all have fired", func() bool {
		var k int
		if err := conn.QueryRow(t.Context(), "SELECT count(*) FROM planned p WHERE EXISTS (SELECT FROM timers t WHERE t.record_id = p.record)").Scan(&k); err != nil {
			t.Fatal(err)
		}
		return k == 0
	})
	rows, err := conn.Query(t.Context(), `SELECT p.due, coalesce(min(e.at), 'epoch'), count(e.id) FROM planned p
		LEFT JOIN events e ON e.record_id = p.record AND e.noun = 'handoff' AND e.verb = 'expired' GROUP BY p.record, p.due`)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	var late []time.Duration
	early, wrong := 0, 0
	for rows.Next() {
		var due, at time.Time
		var k int
		if err := rows.Scan(&due, &at, &k); err != nil {
			t.Fatal(err)
		}
		if k != 1 {
			wrong++
			continue
		}
		// The event carries its transaction's time, which begins when the timer is found due.
		if at.Before(due) {
			early++
		}
		from := due
		for i := range down {
			if due.After(down[i].Add(-time.Second)) && due.Before(up[i]) {
				from = up[i]
			}
		}
		late = append(late, max(0, at.Sub(from)))
	}
	if rows.Err() != nil || early+wrong > 0 || len(late) != n {
		t.Errorf("%d of %d fired once, %d early, %d not once, %v", len(late), n, early, wrong, rows.Err())
	}
	p99 := percentile(late, 99)
	held(t, early+wrong == 0 && p99 <= 2*time.Second, "REL-12", "%d handoffs run out within %.0f s while the process is killed %d times: %d without exactly one effect, %d early; lateness while up p50 %.2f s, p99 %.2f s",
		n, window.Seconds(), kills, wrong, early, percentile(late, 50).Seconds(), p99.Seconds())
}
