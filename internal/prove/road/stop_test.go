//go:build prove

package road

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/tandemhq/tandem/internal/proof"
	"github.com/tandemhq/tandem/internal/prove"
)

// REL-10: 100 orderly stops under load, on four installations at once. Whatever was accepted is there and answered, no
// send is left in doubt, and no stop takes long.
func TestStops(t *testing.T) {
	rng := proof.Rand(t)
	const sites, stops = 4, 25
	var mu sync.Mutex
	var ends, starts []time.Duration
	accepted, repeated, unknown, answers, codes := 0, 0, 0, 0, map[int]int{}
	began := time.Now()
	t.Run("sites", func(t *testing.T) {
		for i := range sites {
			pauses := make([]time.Duration, stops)
			for j := range pauses {
				pauses[j] = time.Duration(100+rng.IntN(700)) * time.Millisecond
			}
			t.Run(fmt.Sprint(i), func(t *testing.T) {
				t.Parallel()
				s, world := answered(t, prove.SiteOptions{})
				p := s.Serve()
				d := prove.NewDriver(s, world)
				d.Begin(t, prove.Traffic{Forms: 12, FormMessages: 10_000, FormEvery: 300 * time.Millisecond, Chats: 6, ChatMessages: 1000, ChatEvery: 6200 * time.Millisecond})
				for _, pause := range pauses {
					time.Sleep(pause)
					code, took := p.Terminate(30 * time.Second)
					p = s.Begin()
					ready := p.WaitReady(prove.Patience)
					mu.Lock()
					ends, starts = append(ends, took), append(starts, ready)
					codes[code]++
					mu.Unlock()
				}
				d.End()
				conn := s.DB(t)
				drained(t, conn, time.Minute)
				v := compare(t, conn, d, world)
				mu.Lock()
				defer mu.Unlock()
				accepted, repeated, unknown, answers = accepted+v.Accepted, repeated+d.Repeated(), unknown+len(v.Unknown), answers+v.Answers
			})
		}
	})
	slowest := quantile(ends, 1)
	if slowest > 15*time.Second || len(codes) != 1 || codes[0] != sites*stops || unknown > 0 {
		t.Errorf("exit codes %v, slowest end %s, %d conversations with an unknown send", codes, slowest, unknown)
	}
	proof.Figure(t, "REL-10", "%d SIGTERMs under load in %.0f s, %d messages accepted (%d repeated), %d answers: 0 lost, 0 doubled, %d left unknown; all ended with 0, after %.1f s at most (median %.1f); ready again after %.1f s at most",
		len(ends), time.Since(began).Seconds(), accepted, repeated, answers, unknown, slowest.Seconds(), quantile(ends, 0.5).Seconds(), quantile(starts, 1).Seconds())
}
