package hub_test

import (
	"context"
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/bus"
	"github.com/tandemhq/tandem/channels"
	"github.com/tandemhq/tandem/internal/hub"
	"github.com/tandemhq/tandem/internal/pg/pgtest"
	"github.com/tandemhq/tandem/internal/proof"
	"github.com/tandemhq/tandem/internal/tandemtest"
)

// storm publishes every message of the bus twice more under other message ids, a little later, so that neighbors
// overtake each other. It returns once a message's copies are out.
type storm struct {
	b       *bus.Bus
	mu      sync.Mutex
	r       *rand.Rand
	ours    map[string]int // subject and body -> copies that are not to be copied again
	over    bool           // what is heard now is not copied any more
	wg      sync.WaitGroup
	copies  atomic.Int64
	failing atomic.Int64
}

func (s *storm) hear(subject string, body []byte) {
	if subject == "" {
		s.failing.Add(1) // messages were missed, and so not copied
		return
	}
	key := subject + string(body)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over {
		return
	}
	if s.ours[key] > 0 {
		s.ours[key]--
		return
	}
	s.ours[key] += 2
	for range 2 {
		wait := time.Duration(s.r.IntN(400)) * time.Millisecond
		s.wg.Go(func() {
			time.Sleep(wait) // the shuffle
			if _, err := s.b.Publish(context.Background(), subject, tandem.NewID(), body); err != nil {
				s.failing.Add(1)
			}
			s.copies.Add(1)
		})
	}
}

// end lets the copies that are on their way arrive, and makes no more.
func (s *storm) end() {
	s.mu.Lock()
	s.over = true
	s.mu.Unlock()
	s.wg.Wait()
}

// stateSQL describes all that an organization holds, without ids and times: conversation by conversation, in the
// order of who writes there.
const stateSQL = `
SELECT i.value || ' ' || jsonb_build_object(
	'conversation', jsonb_build_array(c.state, c.owner_kind, c.fence, c.next_seq, c.preview, c.preview_kind, c.message_count, c.unread, c.last_inbound_seq, c.answered_seq, c.ai_streak, c.lease_until IS NULL, c.handoff_id IS NULL),
	'messages', (SELECT jsonb_agg(jsonb_build_array(m.seq, m.kind, m.direction, m.sender_kind, m.status, m.text) ORDER BY m.seq) FROM messages m WHERE m.org_id = c.org_id AND m.conversation_id = c.id),
	'inbound', (SELECT jsonb_agg(jsonb_build_array(n.external_id, n.state) ORDER BY n.external_id) FROM inbound n JOIN messages m ON m.org_id = n.org_id AND m.id = n.message_id WHERE m.conversation_id = c.id),
	'runs', (SELECT jsonb_agg(jsonb_build_array(r.trigger_seq, r.state, r.tool_calls) ORDER BY r.trigger_seq) FROM runs r WHERE r.org_id = c.org_id AND r.conversation_id = c.id),
	'handoffs', (SELECT count(*) FROM handoffs h WHERE h.org_id = c.org_id AND h.conversation_id = c.id),
	'lead', (SELECT jsonb_build_array(l.value_minor, l.temperature, (SELECT jsonb_agg(jsonb_build_array(q.field, q.value) ORDER BY q.field) FROM qualifications q WHERE q.org_id = l.org_id AND q.lead_id = l.id)) FROM leads l WHERE l.org_id = c.org_id AND l.id = c.lead_id),
	'events', (SELECT jsonb_agg(e.noun || '.' || e.verb ORDER BY e.noun, e.verb) FROM events e WHERE e.org_id = c.org_id AND e.conversation_id = c.id),
	'timers', (SELECT jsonb_agg(t.kind ORDER BY t.kind) FROM timers t WHERE t.org_id = c.org_id AND t.record_id = c.id))
FROM conversations c JOIN contact_identities i ON i.org_id = c.org_id AND i.contact_id = c.contact_id
WHERE c.org_id = $1 ORDER BY i.value`

const countsSQL = `
SELECT format('contacts %s, leads %s, events %s, outbox %s, timers %s, dead %s',
	(SELECT count(*) FROM contacts WHERE org_id = $1), (SELECT count(*) FROM leads WHERE org_id = $1), (SELECT count(*) FROM events WHERE org_id = $1),
	(SELECT count(*) FROM outbox WHERE org_id = $1), (SELECT count(*) FROM timers WHERE org_id = $1), (SELECT count(*) FROM dead_letters WHERE org_id = $1))`

// state is everything an organization holds, one line per conversation and a last one with sums.
func state(t *testing.T, conn *pgx.Conn, org tandem.ID) []string {
	t.Helper()
	rows, err := conn.Query(t.Context(), stateSQL, org)
	if err != nil {
		t.Fatal(err)
	}
	lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	var counts string
	if err := conn.QueryRow(t.Context(), countsSQL, org).Scan(&counts); err != nil {
		t.Fatal(err)
	}
	return append(lines, counts)
}

// sentences make the rules model answer, ask, qualify and hand off.
var sentences = []string{
	"Hello, what do you offer?", "We are 40 people and have a budget of 12000 EUR.", "We need it next month.",
	"I decide that myself.", "I want to talk to a person, please.", "Do you have a free trial?", "Thanks!",
}

// converse lets visitors write their messages, each after the answer to the one before, so that two runs of the same
// messages can be compared.
func converse(t *testing.T, h *tandemtest.Hub, org tandemtest.Org, conn *pgx.Conn, visitors, each int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*atMost)
	defer cancel()
	for n := range each {
		var wg sync.WaitGroup
		slots := make(chan struct{}, 32)
		for v := range visitors {
			slots <- struct{}{}
			wg.Go(func() {
				defer func() { <-slots }()
				from := fmt.Sprintf("visitor-%04d", v)
				_, err := h.Batcher.Deliver(ctx, channels.Inbound{
					Org: org.ID, Channel: org.Chat.ID, ID: channels.ExternalID(fmt.Sprint(from, "/", n)), From: channels.Address(from),
					FromKind: channels.IdentityVisitor, Text: sentences[(v+n)%len(sentences)], Raw: []byte(from),
				})
				if err != nil {
					t.Errorf("deliver: %v", err)
				}
			})
		}
		wg.Wait()
		h.Eventually(2*atMost, "everybody is answered and nothing is under way", func() bool {
			var open int
			err := conn.QueryRow(t.Context(), `SELECT (SELECT count(*) FROM conversations WHERE org_id = $1 AND answered_seq < last_inbound_seq AND handoff_id IS NULL)
				+ (SELECT count(*) FROM messages WHERE org_id = $1 AND status IN ('queued', 'dispatching', 'retry_wait'))
				+ (SELECT count(*) FROM runs WHERE org_id = $1 AND state = 'running')`, org.ID).Scan(&open)
			if err != nil {
				t.Fatal(err)
			}
			return open == 0
		})
	}
}

// REL-9 for the whole hub: the same conversations twice, once with every message of the bus delivered three times out of
// order and 30 % of the acknowledgements lost. Both leave the same database, but for ids and times.
func TestARedeliveryStormChangesNothing(t *testing.T) {
	t.Parallel()
	seed := proof.Seed(t)
	r := rand.New(rand.NewPCG(seed, 0))
	visitors, each := proof.Size(12, 60), proof.Size(2, 5)
	run := func(t *testing.T, stormy bool) (lines []string, copies, lost int64) {
		var unheard atomic.Int64
		var mu sync.Mutex
		h := tandemtest.Start(t, func(c *hub.Config) {
			if stormy {
				c.Unheard = func(bus.Msg) bool {
					mu.Lock()
					defer mu.Unlock()
					lose := r.IntN(10) < 3
					if lose {
						unheard.Add(1)
					}
					return lose
				}
			}
		})
		org := h.NewOrg("storm")
		conn := pgtest.Connect(t, h.DB, pgtest.Super)
		s := &storm{b: h.Bus, r: rand.New(rand.NewPCG(seed, 1)), ours: map[string]int{}}
		if stormy {
			for _, subject := range []string{"ev.>", "out.>"} {
				stop, err := h.Bus.Listen(subject, s.hear)
				if err != nil {
					t.Fatal(err)
				}
				defer stop()
			}
		}
		converse(t, h, org, conn, visitors, each)
		s.end()
		h.Eventually(2*atMost, "nothing is left to hear of", func() bool {
			var n int
			if err := conn.QueryRow(t.Context(), "SELECT count(*) FROM outbox").Scan(&n); err != nil {
				t.Fatal(err)
			}
			return n == 0
		})
		if s.failing.Load() > 0 {
			t.Errorf("%d copies were not made", s.failing.Load())
		}
		lines = state(t, conn, org.ID)
		stop(t, h)
		return lines, s.copies.Load(), unheard.Load()
	}
	began := time.Now()
	var calm, stormy []string
	var copies, lost int64
	t.Run("both", func(t *testing.T) {
		t.Run("calm", func(t *testing.T) {
			t.Parallel()
			calm, _, _ = run(t, false)
		})
		t.Run("stormy", func(t *testing.T) {
			t.Parallel()
			stormy, copies, lost = run(t, true)
		})
	})
	if t.Failed() {
		return
	}
	if copies == 0 || lost == 0 || len(calm) != visitors+1 {
		t.Fatalf("%d copies, %d acknowledgements lost, %d lines: the storm did not happen", copies, lost, len(calm))
	}
	for i := range calm {
		if i >= len(stormy) || calm[i] != stormy[i] {
			t.Fatalf("line %d differs:\n  calm:   %s\n  stormy: %s", i, calm[i], strings.Join(stormy[i:min(i+1, len(stormy))], ""))
		}
	}
	hash := sha256.Sum256([]byte(strings.Join(stormy, "\n")))
	proof.Figure(t, "REL-9", "whole hub, %d visitors with %d messages each: %d extra deliveries out of order, %d acknowledgements lost, and the database is that of a calm run (hash %x) in %.0f s",
		visitors, each, copies, lost, hash[:6], time.Since(began).Seconds())
}
