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
)

// REL-6: a process with turns under way is frozen for twice the lease; another one takes its conversations over and
// answers; then the frozen one goes on with an answer in its hands, which must neither be stored nor sent.
func TestFrozenWorkers(t *testing.T) {
	t.Parallel()
	rng := proof.Rand(t)
	s, world := answered(t, prove.SiteOptions{Cluster: prove.NewCluster(t, prove.WatchSettings), NATSURL: bustest.Server(t)})
	s.WatchDispatches()
	const lease, think, trials, writers = time.Second, 1200, 200, 4
	s.Serve("--roles", "api,channels,jobs", "--lease", lease.String())
	workers := []*prove.Process{s.ServeBeside("--roles", "agents", "--lease", lease.String()), s.ServeBeside("--roles", "agents", "--lease", lease.String())}
	conn := s.DB(t)
	const stopped = `SELECT count(*) FROM runs WHERE error = 'its worker stopped'`
	stop := make(chan struct{})
	var wg sync.WaitGroup
	written := sync.OnceFunc(func() { close(stop); wg.Wait() })
	defer written()
	for n := range writers { // people who write all the while, each time somebody new
		wg.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				case <-time.After(100 * time.Millisecond):
				}
				who := fmt.Sprintf("f%d-%d", n, i)
				if _, err := call(s, http.MethodPost, "/inbound/lead", lead(who, who, fmt.Sprintf("[think %d] [#%s]", think, who)), nil); err != nil {
					t.Errorf("a message is not accepted while a worker stands still: %v", err)
					return
				}
			}
		})
	}
	underway(t, conn, 10)
	began := time.Now()
	freezes := 0
	for ; count(t, conn, stopped) < trials && time.Since(began) < 400*time.Second; freezes++ {
		frozen := workers[rng.IntN(2)]
		frozen.Stop()
		time.Sleep(2 * lease)
		frozen.Cont()
		time.Sleep(time.Duration(rng.IntN(think)) * time.Millisecond)
	}
	written()
	drained(t, conn, prove.Patience)
	v := compare(t, conn, nil, world)
	dead := count(t, conn, stopped)
	// An answer of a run that was cut must not have gone out, and none may be stored by it after the next claim.
	stale := count(t, conn, `SELECT count(*) FROM messages m JOIN runs r ON r.org_id = m.org_id AND r.id = m.run_id
		WHERE r.error = 'its worker stopped' AND m.status NOT IN ('cancelled', 'draft')`)
	writes := count(t, conn, `SELECT count(*) FROM run_steps st JOIN runs r ON r.org_id = st.org_id AND r.id = st.run_id
		WHERE r.error = 'its worker stopped' AND st.kind = 'tool' AND st.error = '' AND st.at > r.ended_at`)
	tried := count(t, conn, `SELECT count(*) FROM run_steps st JOIN runs r ON r.org_id = st.org_id AND r.id = st.run_id
		WHERE r.error = 'its worker stopped' AND st.at > r.ended_at`)
	if dead < trials || stale > 0 || writes > 0 || tried == 0 {
		t.Errorf("%d turns were taken over, want %d; %d stale answers, %d stale writes, %d tries of them", dead, trials, stale, writes, tried)
	}
	proof.Figure(t, "REL-6", "%d turns of frozen processes (2 lease times of %s, %d freezes, %.0f s) taken over by another: %d stale writes (%d came back and tried), %d stale sends, %d answered twice, %d answers",
		dead, lease, freezes, time.Since(began).Seconds(), writes, tried, stale, len(v.DoubledEffect), v.Answers)
}
