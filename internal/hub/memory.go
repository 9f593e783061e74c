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
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		now := allocated()
		if now-before < quietBytes && now-given > worthBytes {
			runtime.GC() // what pools keep survives one collection
			debug.FreeOSMemory()
			now = allocated()
			given = now
		}
		before = now
	}
}
