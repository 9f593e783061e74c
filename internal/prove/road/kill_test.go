//go:build prove

package road

import (
	"testing"
	"time"

	"github.com/tandemhq/tandem/internal/proof"
	"github.com/tandemhq/tandem/internal/prove"
)

// REL-1: 10,000 messages of 200 people, by form and chat, while the process is killed 50 times. What was accepted is
// there once, in order, answered once.
func TestKills(t *testing.T) {
	rng := proof.Rand(t)
	s, world := answered(t, prove.SiteOptions{})
	p := s.Serve()
	d := prove.NewDriver(s, world)
	const kills = 50
	const forms, formMessages, chats, chatMessages = 100, 80, 100, 20
	d.Begin(t, prove.Traffic{
		// Visitors may write ten times a minute, so most messages come by form.
		Forms: forms, FormMessages: formMessages, FormEvery: 1200 * time.Millisecond, Chats: chats, ChatMessages: chatMessages, ChatEvery: 6100 * time.Millisecond,
	})
	began := time.Now()
	var starts []time.Duration
	for range kills {
		time.Sleep(time.Duration(200+rng.IntN(2800)) * time.Millisecond) // U(0.2 s, 3 s)
		p.Kill()
		p = s.Begin()
		starts = append(starts, p.WaitReady(prove.Patience))
	}
	lastKill := time.Now()
	killed := time.Since(began)
	accepted := len(d.Accepted())
	backlog := make(chan time.Duration, 1)
	conn := s.DB(t)
	go func() {
		// What had been accepted by the last kill is the backlog; newer messages keep coming meanwhile.
		defer close(backlog)
		for {
			n := 0
			err := conn.QueryRow(within(t, prove.Patience), `SELECT count(*) FROM conversations c WHERE c.handoff_id IS NULL AND coalesce(c.owner_kind, 'ai') <> 'human'
				AND EXISTS (SELECT FROM messages m WHERE m.org_id = c.org_id AND m.conversation_id = c.id AND m.seq > c.answered_seq AND m.direction = 'inbound' AND m.created_at < $1)
				OR EXISTS (SELECT FROM messages m WHERE m.org_id = c.org_id AND m.conversation_id = c.id AND m.status IN ('queued', 'dispatching', 'retry_wait') AND m.created_at < $1)`, lastKill).Scan(&n)
			if err != nil {
				return
			}
			if n == 0 {
				backlog <- time.Since(lastKill)
				return
			}
			time.Sleep(100 * time.Millisecond)
		}
	}()
	took, ok := <-backlog
	if !ok {
		t.Fatal("the backlog cannot be read")
	}
	d.Wait()
	drained(t, conn, 90*time.Second)
	v := compare(t, conn, d, world)
	if len(d.Accepted()) != forms*formMessages+chats*chatMessages {
		t.Errorf("%d messages accepted, want %d", len(d.Accepted()), forms*formMessages+chats*chatMessages)
	}
	slowest := quantile(starts, 1)
	if slowest > 5*time.Second {
		proof.Missed(t, "REL-1", "the slowest start took %.1f s", slowest.Seconds())
	}
	if took > time.Minute {
		proof.Missed(t, "REL-1", "the backlog was gone after %.1f s", took.Seconds())
	}
	proof.Figure(t, "REL-1", "%d kills in %.0f s, %d messages accepted (%d by then, %d repeated) in %d conversations: %d lost, %d doubled, %d out of order, %d effects doubled; %d answers, %d deliveries repeated under their id, %d handed to people, %d unknown; ready after %.1f s at most (median %.1f), backlog gone %.1f s after the last kill",
		kills, killed.Seconds(), v.Accepted, accepted, d.Repeated(), forms+chats, len(v.Lost), len(v.DoubledRows), len(v.Disordered), len(v.DoubledEffect),
		v.Answers, v.Repeats, v.Handoffs, len(v.Unknown), slowest.Seconds(), quantile(starts, 0.5).Seconds(), took.Seconds())
}
