//go:build prove

package road

import (
	"fmt"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/tandemhq/tandem/bus/bustest"
	"github.com/tandemhq/tandem/internal/proof"
	"github.com/tandemhq/tandem/internal/prove"
	"github.com/tandemhq/tandem/internal/prove/oracle"
)

// CLM-4 on real processes: people take conversations over by the API at random moments of a turn, before the model is
// asked until after the answer has gone out. The database itself notes the order of commits, and the receiver what came.
func TestTakeovers(t *testing.T) {
	t.Parallel()
	rng := proof.Rand(t)
	s, world := answered(t, prove.SiteOptions{Cluster: prove.NewCluster(t, prove.WatchSettings), NATSURL: bustest.Server(t)})
	s.WatchDispatches()
	s.Serve("--roles", "api,channels,jobs")
	s.ServeBeside("--roles", "agents")
	s.ServeBeside("--roles", "agents")

	const trials, atOnce, think = 160, 16, 300
	began := time.Now()
	var mu sync.Mutex
	var early, late, told int // taken over before the answer was let out, after it, and dispatches that the takeover had overtaken
	for batch := range trials / atOnce {
		var wg sync.WaitGroup
		for i := range atOnce {
			name := fmt.Sprintf("t%d-%d", batch, i)
			pause := time.Duration(rng.IntN(2*think)) * time.Millisecond
			wg.Go(func() {
				o := write(t, s, name, name, fmt.Sprintf("[think %d] [#%s]", think, name))
				time.Sleep(pause)
				var c struct{ Owner struct{ Kind string } }
				if _, err := call(s, http.MethodPost, "/conversations/"+o.Conversation.ID+"/takeover", map[string]string{}, &c); err != nil || c.Owner.Kind != "human" {
					t.Errorf("%s: takeover: %v, owner %q", name, err, c.Owner.Kind)
					return
				}
				mark, err := world.Mark(t.Context(), o.Conversation.ID, "taken over")
				if err != nil {
					t.Error(err)
					return
				}
				time.Sleep(think * time.Millisecond) // whatever still comes, comes now
				seen, err := world.Journal(t.Context(), 0, oracle.Webhook, oracle.Took)
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				defer mu.Unlock()
				before := false
				for _, e := range seen {
					if e.Thread == o.Conversation.ID {
						before = true
						if e.N > mark.N {
							told++ // on the wire when the takeover was confirmed; the commits below decide
						}
					}
				}
				if before {
					late++
				} else {
					early++
				}
			})
		}
		wg.Wait()
	}
	conn := s.DB(t)
	v := compare(t, conn, nil, world)
	b, err := prove.ReadBooks(t.Context(), conn)
	if err != nil {
		t.Fatal(err)
	}
	if len(b.Takeovers) != trials || len(b.Dispatches) == 0 || early == 0 || late == 0 {
		t.Errorf("%d takeovers noted, %d dispatches, %d early, %d late: the trials prove nothing", len(b.Takeovers), len(b.Dispatches), early, late)
	}
	drafts := count(t, conn, `SELECT count(DISTINCT conversation_id) FROM messages WHERE sender_kind = 'ai' AND status IN ('cancelled', 'draft')`)
	proof.Figure(t, "CLM-4", "%d takeovers over the API while the model thinks, 3 processes, %.0f s: %d AI messages let out after the takeover's commit; %d takeovers came before the answer, %d after it, %d receivers got one that was on the wire when the takeover was confirmed, %d answers were held back",
		trials, time.Since(began).Seconds(), len(v.AfterTakeover), early, late, told, drafts)
}

// CLM-6 on real processes: the process that thinks is killed; another one answers, once.
func TestWorkerIsKilled(t *testing.T) {
	t.Parallel()
	proof.Seed(t)
	s, world := answered(t, prove.SiteOptions{Cluster: prove.NewCluster(t, nil), NATSURL: bustest.Server(t)})
	s.Serve("--roles", "api,channels,jobs")
	conn := s.DB(t)
	began := time.Now()
	const rounds, each = 12, 6
	var waits []time.Duration
	worker := s.ServeBeside("--roles", "agents")
	for round := range rounds {
		for i := range each {
			name := fmt.Sprintf("k%d-%d", round, i)
			write(t, s, name, name, fmt.Sprintf("[think 1500] [#%s]", name))
		}
		underway(t, conn, each)
		next := s.ServeBeside("--roles", "agents") // it is up before the other one dies, as in a real installation
		time.Sleep(100 * time.Millisecond)
		running := count(t, conn, `SELECT count(*) FROM runs WHERE state = 'running'`)
		killed := time.Now()
		worker.Kill()
		worker = next
		if running == 0 {
			continue
		}
		prove.Until(t, prove.Patience, "conversations of the dead are claimed again", func() bool {
			return count(t, conn, `SELECT count(*) FROM conversations WHERE last_inbound_seq > answered_seq AND NOT EXISTS (
				SELECT FROM runs r WHERE r.conversation_id = conversations.id AND r.state = 'running' AND r.started_at > $1)`, killed) == 0
		})
		waits = append(waits, time.Since(killed))
		drained(t, conn, prove.Patience)
	}
	v := compare(t, conn, nil, world)
	dead := count(t, conn, `SELECT count(*) FROM runs WHERE error = 'its worker stopped'`)
	slowest := quantile(waits, 1)
	if slowest > 35*time.Second || dead == 0 {
		t.Errorf("claimed again after %s at most, %d runs lost their worker", slowest, dead)
	}
	proof.Figure(t, "CLM-6", "%d kill -9 of the process that thinks, %d turns cut, lease 30 s, %.0f s: all claimed again after %.1f s at most (median %.1f), %d answered twice, %d answers",
		rounds, dead, time.Since(began).Seconds(), slowest.Seconds(), quantile(waits, 0.5).Seconds(), len(v.DoubledEffect), v.Answers)
}
