package bus

import (
	"context"
	"fmt"
	"runtime/debug"

	"github.com/nats-io/nats.go/jetstream"
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

// together runs messages to their verdicts: all are done, or each is handled alone. One that was delivered before is
// handled alone from the start: it may be what keeps failing.
func (d *durable) together(ctx, hctx context.Context, all []jetstream.Msg) {
	fresh := make([]jetstream.Msg, 0, len(all))
	list := make([]Msg, 0, len(all))
	var again []jetstream.Msg
	for _, jm := range all {
		if m := msgOf(jm); m.Delivered > d.c.MaxDeliver {
			again = append(again, jm)
		} else {
			fresh, list = append(fresh, jm), append(list, m)
		}
	}
	stop := d.progress(all...)
	defer stop()
	if len(list) > 0 {
		if err := d.guardAll(hctx, list); err != nil {
			d.b.log.DebugContext(ctx, "messages that failed together are handled one by one", "consumer", d.c.Name, "messages", len(list), "err", err)
			again = append(again, fresh...)
		} else {
			for i, jm := range fresh {
				if d.b.o.Unheard != nil && d.b.o.Unheard(list[i]) {
					d.answer(jm.NakWithDelay(unheardAgain), list[i])
					continue
				}
				d.settle(list[i])
				d.answer(jm.Ack(), list[i])
			}
		}
	}
	for _, jm := range again {
		d.handle(ctx, hctx, jm)
	}
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
