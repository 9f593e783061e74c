package events

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tandemhq/tandem/internal/pg/pgtest"
)

// A process that stands still keeps its session. Its turn to drain ends all the same, and another one publishes.
func TestAFrozenLeaderLosesItsTurn(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	ctx := newOrg(t, db)
	frozen, err := tryLead(t.Context(), db.Pool(), 300*time.Millisecond)
	if err != nil || frozen == nil {
		t.Fatalf("the lock is not free: %v", err)
	}
	defer frozen.close(t.Context())
	background(t, drainOf(db, openBus(t, t.TempDir()), keeper).Run)
	emit(t, ctx, db, 10)
	began := time.Now()
	eventually(t, "another drain publishes", func() bool { return unpublished(t, db) == 0 })
	t.Logf("figure: published %v after the leader froze", time.Since(began))
	if err := frozen.listen(t.Context(), func() {}); err == nil {
		t.Error("the one that was frozen is not told that it has lost its turn")
	}
}

// One that lives keeps its turn, whether much is said or nothing.
func TestALiveLeaderKeepsItsTurn(t *testing.T) {
	t.Parallel()
	for _, busy := range []bool{true, false} {
		db := pgtest.New(t)
		const idle = 300 * time.Millisecond
		l, err := tryLead(t.Context(), db.Pool(), idle)
		if err != nil || l == nil {
			t.Fatalf("the lock is not free: %v", err)
		}
		defer l.close(t.Context())
		ctx, cancel := context.WithTimeout(t.Context(), 4*idle)
		defer cancel()
		if busy {
			background(t, func(ctx context.Context) error {
				for pause(ctx, idle/10) == nil {
					if _, err := db.Pool().Exec(ctx, "NOTIFY tandem_outbox"); err != nil && ctx.Err() == nil {
						return err
					}
				}
				return nil
			})
		}
		var heard atomic.Int64
		if err := l.listen(ctx, func() { heard.Add(1) }); ctx.Err() == nil {
			t.Errorf("busy %v: the turn was lost: %v", busy, err)
		}
		if (heard.Load() > 0) != busy {
			t.Errorf("busy %v: %d notifications heard", busy, heard.Load())
		}
	}
}
