package bus

import (
	"context"
	"fmt"
	"runtime/debug"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/tandemhq/tandem"
)

// more adds to the first message whatever comes up while the worker lingers. It never waits for a full load.
func (d *durable) more(ctx context.Context, cons jetstream.Consumer, first jetstream.Msg) []jetstream.Msg {
	list := []jetstream.Msg{first}
	if d.c.Linger > 0 && pause(ctx, d.c.Linger) != nil {
		return list
	}
	if d.c.Most == 1 {
		return list
	}
	batch, err := cons.FetchNoWait(d.c.Most - 1)
	if err != nil {
		return list // the next pull sees why
	}
	for jm := range batch.Messages() {
		list = append(list, jm)
	}
	return list
}

// together runs messages to their verdicts.
func (d *durable) together(ctx, hctx context.Context, all []jetstream.Msg) {
	stop := d.progress(all...)
	defer stop()
	d.halves(ctx, hctx, all)
}

// halves looks for those that are at fault where all together failed, half by half. What is nobody's fault ends for all
// at once.
func (d *durable) halves(ctx, hctx context.Context, all []jetstream.Msg) {
	if len(all) == 1 {
		d.handle(ctx, hctx, all[0])
		return
	}
	list := make([]Msg, len(all))
	for i, jm := range all {
		list[i] = msgOf(jm)
	}
	err := d.guardAll(hctx, list)
	if kind := tandem.KindOf(err); err == nil || ctx.Err() != nil || kind == tandem.Unavailable || kind == tandem.Throttled {
		for i, jm := range all {
			d.verdict(ctx, hctx, jm, list[i], err)
		}
		return
	}
	d.b.log.DebugContext(ctx, "messages that failed together are tried by halves", "consumer", d.c.Name, "messages", len(all), "err", err)
	d.halves(ctx, hctx, all[:len(all)/2])
	d.halves(ctx, hctx, all[len(all)/2:])
}

// guardAll is guard for Together.
func (d *durable) guardAll(ctx context.Context, list []Msg) (err error) {
	defer func() {
		if r := recover(); r != nil {
			d.b.log.ErrorContext(ctx, "panic in a consumer", "consumer", d.c.Name, "messages", len(list), "panic", r, "stack", string(debug.Stack()))
			err = fmt.Errorf("panic: %v", r)
		}
	}()
	return d.c.Together(ctx, list)
}
