package bus

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"syscall"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

const (
	failuresToRestart = 3
	minRestartGap     = time.Second
	maxRestartGap     = 15 * time.Second
	leastRoom         = 1 << 20 // bytes that a new server needs to open its store and to take a message
	storeFailed       = jetstream.ErrorCode(10077)
	noResources       = jetstream.ErrorCode(10023) // what a server says once a full disk has wedged it
)

// Run watches the bus until ctx ends and then returns nil: every ProbeEvery it publishes for
// real, puts a missing stream back, and restarts an embedded server in process when it says
// that it is out of resources or fails three times in a row. A server that met a full disk
// refuses for good otherwise. While the disk is full a new one could not open its store: the
// restart waits for room, so that it comes as soon as there is some.
func (b *Bus) Run(ctx context.Context) error {
	b.mu.Lock()
	b.watched = true
	b.mu.Unlock()
	defer func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.watched = false
	}()
	failures, gap := 0, minRestartGap
	var lastRestart time.Time
	next := time.NewTimer(b.o.ProbeEvery)
	defer next.Stop()
	for {
		wedged := false
		select {
		case <-ctx.Done():
			return nil
		case err := <-b.kick:
			wedged = outOfResources(err)
		case <-next.C:
		}
		err := b.probe(ctx)
		b.noteProbe(err)
		switch {
		case ctx.Err() != nil:
			return nil
		case err == nil && !wedged:
			failures, gap = 0, minRestartGap
			next.Reset(b.o.ProbeEvery)
			continue
		case err != nil:
			failures++
			b.log.WarnContext(ctx, "probe of the message bus failed", "failures", failures, "err", err)
		}
		next.Reset(min(b.o.ProbeEvery, time.Second))
		due := wedged || outOfResources(err) || (failures >= failuresToRestart && !streamFull(err)) || !b.serverRuns()
		if b.o.URL != "" || !due || time.Since(lastRestart) < gap || b.room() != nil {
			continue
		}
		if !lastRestart.IsZero() {
			gap = min(2*gap, maxRestartGap)
		}
		lastRestart = time.Now()
		if err := b.restartServer(ctx); err != nil {
			b.noteProbe(err)
			if ctx.Err() != nil {
				return nil
			}
			b.log.ErrorContext(ctx, "the embedded message server does not come back", "err", err)
			continue
		}
		failures = 0
	}
}

// room returns why the embedded server's disk takes nothing more, or nil. A small message may still fit where the next
// one does not.
func (b *Bus) room() error {
	var st syscall.Statfs_t
	if b.o.URL != "" || syscall.Statfs(b.o.Dir, &st) != nil {
		return nil
	}
	if free := int64(st.Bavail) * int64(st.Bsize); free < leastRoom { //nolint:unconvert // the types differ between systems
		return unavailable(fmt.Errorf("%d kB are free in %s", free>>10, b.o.Dir))
	}
	return nil
}

// probe publishes one message and makes sure that the stream exists.
func (b *Bus) probe(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	defer context.AfterFunc(b.connection(), cancel)() // no answer comes over a lost connection
	if _, err := b.js.Stream(ctx, streamName); err != nil {
		if !errors.Is(err, jetstream.ErrStreamNotFound) {
			return unavailable(fmt.Errorf("probe: look at the stream: %w", err))
		}
		b.log.WarnContext(ctx, "the stream is gone; making a new one")
		if err := b.ensureStream(ctx); err != nil {
			return unavailable(fmt.Errorf("probe: %w", err))
		}
	}
	if _, err := b.js.Publish(ctx, probeSubject, nil); err != nil {
		return unavailable(fmt.Errorf("probe: publish: %w", err))
	}
	return b.room()
}

func (b *Bus) noteProbe(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.sick, b.probed = err, time.Now()
}

// Healthy returns nil when the last probe published for real and the connection stands, else
// why not. It asks nobody, so it may be called as often as wanted.
func (b *Bus) Healthy() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.closed:
		return unavailable(errors.New("closed"))
	case b.sick != nil:
		return b.sick
	case !b.nc.IsConnected():
		return unavailable(errors.New("not connected"))
	case b.watched && time.Since(b.probed) > 3*b.o.ProbeEvery+openTimeout:
		return unavailable(fmt.Errorf("the last probe is %s old", time.Since(b.probed).Round(time.Second)))
	}
	return nil
}

func (b *Bus) serverRuns() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.srv != nil && b.srv.Running()
}

// Restarts returns how often the embedded server has been replaced since Open.
func (b *Bus) Restarts() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.restarts
}

func outOfResources(err error) bool {
	var ae *jetstream.APIError
	return errors.As(err, &ae) && ae.ErrorCode == noResources
}

// streamFull reports whether the stream has reached MaxStore. That is healed by time, not by a restart.
func streamFull(err error) bool {
	var ae *jetstream.APIError
	return errors.As(err, &ae) && ae.ErrorCode == storeFailed && strings.Contains(ae.Description, "maximum bytes")
}

// complain asks the watchdog to look at once instead of at the next tick.
func (b *Bus) complain(err error) {
	select {
	case b.kick <- err:
	default:
	}
}

func (b *Bus) disconnected() {
	b.complain(errors.New("the connection was lost"))
	b.mu.Lock()
	defer b.mu.Unlock()
	b.lose()
	b.lost, b.lose = context.WithCancel(context.Background())
}

// connection returns a context that ends when the connection of now is lost.
func (b *Bus) connection() context.Context {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.lost
}
