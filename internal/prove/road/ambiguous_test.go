//go:build prove

package road

import (
	"fmt"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/tandemhq/tandem/internal/proof"
	"github.com/tandemhq/tandem/internal/prove"
	"github.com/tandemhq/tandem/internal/prove/oracle"
)

// REL-7 with a receiver that removes duplicates: of 1,000 answers 20 % are cut after the receiver took them and 10 % are
// confirmed after our patience ended. Each arrives under one id, whatever number of times, and in order; and what a
// killed process had on the wire goes out again soon after its successor is up.
func TestAmbiguousSends(t *testing.T) {
	t.Parallel()
	seed := proof.Seed(t)
	s, world := answered(t, prove.SiteOptions{})
	args := []string{"--send-timeout", "2s"}
	p := s.Serve(args...)
	const people, messages = 250, 4
	conversations := make([]string, people)
	each := func(do func(conv string) error) {
		gate := make(chan struct{}, 8)
		var wg sync.WaitGroup
		for _, conv := range conversations {
			wg.Go(func() {
				gate <- struct{}{}
				defer func() { <-gate }()
				if err := do(conv); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
	}
	for i := range people {
		name := fmt.Sprintf("a%d", i)
		conversations[i] = write(t, s, name, name, "Hello [#"+name+"]").Conversation.ID
	}
	conn := s.DB(t)
	drained(t, conn, prove.Patience)
	each(func(conv string) error {
		_, err := call(s, http.MethodPost, "/conversations/"+conv+"/takeover", map[string]string{}, nil)
		return err
	})
	began := time.Now()
	for _, f := range []oracle.Fault{
		{Provider: oracle.Webhook, Point: oracle.AfterTaking, Rate: 0.2, Seed: seed},
		{Provider: oracle.Webhook, Point: oracle.BeforeAnswering, Rate: 0.1, Seed: seed, DelayMS: 3000},
	} {
		if err := world.Fault(t.Context(), f); err != nil {
			t.Fatal(err)
		}
	}
	each(func(conv string) error {
		for n := range messages {
			if _, err := call(s, http.MethodPost, "/conversations/"+conv+"/messages", map[string]string{"text": fmt.Sprintf("Answer %d", n)}, nil); err != nil {
				return err
			}
		}
		return nil
	})
	// A conversation's next message waits for the one before, so the faults go on until nearly all have had their first
	// attempt; then the world is well again and the repeats must come through.
	const first = `SELECT count(*) FROM messages WHERE sender_kind = 'human' AND attempt > 0`
	for deadline := time.Now().Add(50 * time.Second); count(t, conn, first) < people*messages*19/20 && time.Now().Before(deadline); {
		time.Sleep(100 * time.Millisecond)
	}
	tried := count(t, conn, first)
	ambiguous := count(t, conn, `SELECT count(*) FROM messages WHERE sender_kind = 'human' AND (status = 'retry_wait' OR attempt > 1)`)
	if err := world.NoFaults(t.Context()); err != nil {
		t.Fatal(err)
	}
	took := drained(t, conn, 100*time.Second)
	faulted := time.Since(began)

	// A process dies with sends on the wire.
	if err := world.Fault(t.Context(), oracle.Fault{Provider: oracle.Webhook, Point: oracle.BeforeAnswering, Rate: 1, DelayMS: 1900}); err != nil {
		t.Fatal(err)
	}
	for _, conv := range conversations[:20] {
		must(t, s, http.MethodPost, "/conversations/"+conv+"/messages", map[string]string{"text": "The last answer"}, nil)
	}
	until(t, conn, prove.Patience, 8, "sends are on the wire", `SELECT count(*) FROM messages WHERE status = 'dispatching'`)
	p.Kill()
	if err := world.NoFaults(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.Serve(args...)
	conn = s.DB(t)
	cut := count(t, conn, `SELECT count(*) FROM messages WHERE status = 'dispatching'`)
	again := drained(t, conn, prove.Patience)
	if again > 10*time.Second {
		proof.Missed(t, "REL-7", "sends of a killed process were settled %.1f s after the restart", again.Seconds())
	}
	v := compare(t, conn, nil, world)
	if len(v.Unknown) > 0 || v.Repeats == 0 || cut == 0 || ambiguous == 0 {
		t.Errorf("%d unknown, %d repeats, %d cut, %d ambiguous", len(v.Unknown), v.Repeats, cut, ambiguous)
	}
	proof.Figure(t, "REL-7", "%d sends to a receiver that knows our ids, 20 %% cut after it took them, 10 %% confirmed too late (%d of %d tried by then were ambiguous, %.0f s): %d messages taken under two ids, %d repeats under the same id, %d unknown, %d out of order, settled %.1f s after the faults ended; %d on the wire at a kill -9: settled %.1f s after the restart",
		people*messages, ambiguous, tried, faulted.Seconds(), len(v.DoubledEffect)+len(v.Phantom), v.Repeats, len(v.Unknown), len(v.Disordered), took.Seconds(), cut, again.Seconds())
}
