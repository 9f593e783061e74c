package hub

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/api"
	"github.com/tandemhq/tandem/internal/events"
	"github.com/tandemhq/tandem/internal/timers"
)

const (
	redeliverEvery = time.Second
	redeliverBatch = 10
	redeliverLimit = 3 * time.Minute // longer than any turn of an AI member
)

// redeliver works off, one after the other, the dead letters that people have had requeued and that are for s. A process that ends in the middle leaves the rest to the next one; consumers bear a repeat.
func (h *Hub) redeliver(ctx context.Context, s events.Subscription) error {
	kind := []string{api.RedeliverTimer(s.Name)}
	tick := time.NewTicker(redeliverEvery)
	defer tick.Stop()
	for {
		due, err := timers.DueNow(ctx, h.work, kind, redeliverBatch)
		if err != nil && ctx.Err() == nil {
			h.log.WarnContext(ctx, "look for failed messages to try again", "err", err)
		}
		for _, d := range due {
			if err := h.redeliverOne(tandem.AsSystem(ctx, d.Org), s, d); err != nil && ctx.Err() == nil {
				h.log.WarnContext(ctx, "a failed message was tried again", "letter", d.Record, "consumer", s.Name, "err", err)
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// redeliverOne tries one letter. When that fails the letter says so, and waits for a person again.
func (h *Hub) redeliverOne(ctx context.Context, s events.Subscription, d timers.Due) error {
	limited, cancel := context.WithTimeout(ctx, redeliverLimit)
	defer cancel()
	failure := events.Redeliver(limited, h.work, s, d.Record)
	switch {
	case failure == nil:
	case tandem.KindOf(failure) == tandem.NotFound:
		failure = nil // discarded meanwhile, or tried by another process
	case ctx.Err() != nil:
		return nil // we are stopping: the timer stays
	default:
		if err := events.StillDead(ctx, h.work, d.Record, failure); err != nil {
			return err
		}
	}
	err := h.work.Tx(ctx, func(ctx context.Context, tx pgx.Tx) error { return timers.Clear(ctx, tx, d.Kind, d.Record) })
	if failure == nil {
		failure = err
	}
	return failure
}
