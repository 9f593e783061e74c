package hub_test

import (
	"bytes"
	"log/slog"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/tandemhq/tandem/internal/hub"
	"github.com/tandemhq/tandem/internal/tandemtest"
)

// lockedBuffer takes a log that many goroutines write.
type lockedBuffer struct {
	mu sync.Mutex
	bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.Buffer.Write(p)
}

// Stopping cuts work that is under way. That is no failure, so it is no warning either.
func TestAStopWarnsOfNothing(t *testing.T) {
	t.Parallel()
	const rounds = 12
	for range rounds {
		var log lockedBuffer
		h := tandemtest.Start(t, func(c *hub.Config) {
			c.Logger = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelWarn}))
		})
		org := h.NewOrg("Quiet")
		askMany(t, h, org, 5)
		at := rand.N(20 * time.Millisecond)
		<-time.After(at)
		stop(t, h)
		log.mu.Lock()
		said := log.String()
		log.mu.Unlock()
		if said != "" {
			t.Errorf("stopped %s after the last message:\n%s", at, said)
		}
	}
}
