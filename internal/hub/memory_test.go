package hub

import (
	"runtime"
	"runtime/metrics"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tandemhq/tandem/internal/proof"
)

// What a burst of work needed goes back to the system soon after it and not after the minutes that the runtime takes, also
// when memory was given back while the work was still in use.
func TestMemoryGoesBackAfterABurst(t *testing.T) {
	released := []metrics.Sample{{Name: "/memory/classes/heap/released:bytes"}}
	freed := func() uint64 {
		metrics.Read(released)
		return released[0].Value.Uint64()
	}
	forced := func() uint32 {
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.NumForcedGC
	}
	synctest.Test(t, func(t *testing.T) {
		go func() { _ = giveBackEvery(t.Context(), quietEvery) }()
		const burst = 128 << 20
		work := make([][]byte, burst>>20)
		for i := range work {
			work[i] = make([]byte, 1<<20)
			for j := 0; j < len(work[i]); j += 4096 {
				work[i][j] = 1
			}
		}
		until := func(what string, most time.Duration, ok func() bool) time.Duration {
			t.Helper()
			began := time.Now()
			for !ok() {
				if time.Since(began) > most {
					t.Fatalf("not within %v: %s", most, what)
				}
				time.Sleep(quietEvery)
				synctest.Wait()
			}
			return time.Since(began)
		}
		given := forced()
		until("memory is given back while the work is in use", time.Minute, func() bool { return forced() > given })
		held := freed()
		runtime.KeepAlive(work)
		took := until("half of the burst is back", time.Minute, func() bool { return freed() >= held+burst/2 })
		proof.Figure(t, "G15", "half of %d MB went back at most %v after a burst", burst>>20, took)
	})
}
