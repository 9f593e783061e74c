package inbox

import "context"

// Fault is called at named points of the road, so that a test can stop, kill or overtake
// whoever is passing there. In production it is nil. The points:
//
//	reply.before        Reply, before the conversation is locked
//	reply.locked        Reply, with the lock held
//	reply.enqueued      Reply, the message is queued, not yet committed
//	ingest.alone        Batcher, a message is tried by itself, in its transaction
//	ingest.applied      Ingest, everything is written, not yet committed
//	courier.before      Courier, before the first transaction
//	courier.dispatching Courier, "dispatching" is committed, nothing is sent yet
//	courier.sent        Courier, the channel has answered, nothing is recorded yet
type Fault func(point string)

type faultKey struct{}

// WithFault returns ctx carrying f for the package's functions that run inside the
// caller's transaction.
func WithFault(ctx context.Context, f Fault) context.Context {
	if f == nil {
		return ctx
	}
	return context.WithValue(ctx, faultKey{}, f)
}

func fault(ctx context.Context, point string) {
	if f, ok := ctx.Value(faultKey{}).(Fault); ok {
		f(point)
	}
}
