package hub

import (
	"context"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

const (
	quietEvery = 5 * time.Second
	quietBytes = 4 << 20  // allocated since the last look: less is a process with little to do
	worthBytes = 16 << 20 // allocated since memory was last given back: less is not worth a collection
	triesAgain = 3        // after 2, 4 and 8 further looks, for what was still in use at the first
)

// giveBack returns memory to the system when a burst of work is over. By itself the runtime keeps what the burst needed
// for minutes, and on a small machine others could use it.
func giveBack(ctx context.Context) error { return giveBackEvery(ctx, quietEvery) }

func giveBackEvery(ctx context.Context, every time.Duration) error {
	sample := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	allocated := func() uint64 {
		metrics.Read(sample)
		return sample[0].Value.Uint64()
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	var given, before uint64 // from the start of the process: starting is a burst too
	var tries, wait, waited int
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		now := allocated()
		waited++
		burst := now-given > worthBytes
		if now-before < quietBytes && (burst || tries > 0 && waited >= wait) {
			if burst {
				tries, wait = triesAgain, 1
			} else {
				tries--
			}
			wait, waited = 2*wait, 0
			runtime.GC() // what pools keep survives one collection
			debug.FreeOSMemory()
			now = allocated()
			given = now
		}
		before = now
	}
}
