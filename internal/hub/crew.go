package hub

import (
	"context"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync"
	"time"
)

// crew is a group of workers that start together and stop together.
type crew struct {
	name   string
	log    *slog.Logger
	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup
}

func newCrew(name string, log *slog.Logger) *crew {
	ctx, cancel := context.WithCancel(context.Background())
	return &crew{name: name, log: log, ctx: ctx, cancel: cancel}
}

const (
	restartFirst = 200 * time.Millisecond
	restartMost  = 10 * time.Second
)

// run keeps one worker running until the crew stops: an error or a panic is logged and
// the worker starts again, after a pause that doubles while it keeps failing.
func (c *crew) run(worker string, fn func(context.Context) error) {
	c.wg.Go(func() {
		pause := restartFirst
		for c.ctx.Err() == nil {
			began := time.Now()
			err := guarded(c.ctx, fn)
			if c.ctx.Err() != nil {
				return
			}
			if time.Since(began) > restartMost {
				pause = restartFirst
			}
			c.log.Error("worker ended and starts again", "worker", worker, "err", err, "pause", pause)
			select {
			case <-c.ctx.Done():
			case <-time.After(pause):
			}
			pause = min(2*pause, restartMost)
		}
	})
}

func guarded(ctx context.Context, fn func(context.Context) error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
		}
	}()
	return fn(ctx)
}

// stop tells the crew to end and waits for it, at most until ctx ends.
func (c *crew) stop(ctx context.Context) {
	c.cancel()
	done := make(chan struct{})
	go func() { c.wg.Wait(); close(done) }()
	select {
	case <-done:
	case <-ctx.Done():
		c.log.Warn("workers did not end in time", "crew", c.name)
	}
}
