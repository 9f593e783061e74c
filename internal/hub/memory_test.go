package hub

import (
	"runtime"
	"runtime/metrics"
	"testing"
	"time"

	"github.com/tandemhq/tandem/internal/proof"
)

// What a burst of work needed goes back to the system soon after it, and not after the minutes that the runtime takes.
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
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = giveBackEvery(t.Context(), 50*time.Millisecond)
	}()
	const burst = 128 << 20
	work := make([][]byte, burst>>20)
	for i := range work {
		work[i] = make([]byte, 1<<20)
		for j := 0; j < len(work[i]); j += 4096 {
			work[i][j] = 1
		}
	}
	// It is still in use when memory is given back for the first time, as it is when that comes in the middle of a burst.
	deadline := time.Now().Add(20 * time.Second)
	for given := forced(); forced() == given; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("nothing was given back while the work was in use")
		}
	}
	held := freed()
	runtime.KeepAlive(work)
	began := time.Now()
	for freed() < held+burst/2 {
		if time.Now().After(deadline) {
			t.Fatalf("%d MB of %d MB went back", (freed()-min(held, freed()))>>20, burst>>20)
		}
		select {
		case <-done:
			t.Fatal("giving back ended")
		case <-time.After(10 * time.Millisecond):
		}
	}
	proof.Figure(t, "G15", "half of %d MB went back %v after a burst", burst>>20, time.Since(began).Round(time.Millisecond))
}
