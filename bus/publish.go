package bus

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tandemhq/tandem"
)

// Publish stores body under subject, which starts with "ev." or "out.", and returns once the
// stream has it. A message id that the stream took within the last minute is not stored
// again. A short outage, such as a restart of the server, is waited out for up to 5 s or until
// ctx ends; after that the error is Unavailable. A subject or size that can never be stored is Invalid.
func (b *Bus) Publish(ctx context.Context, subject string, msgID tandem.ID, body []byte) (Ack, error) {
	if !validSubject(subject) || (!strings.HasPrefix(subject, "ev.") && !strings.HasPrefix(subject, "out.")) {
		return Ack{}, tandem.Errorf(tandem.Invalid, "The subject %q cannot be published.", subject)
	}
	ctx, cancel := context.WithTimeout(ctx, publishTimeout)
	defer cancel()
	for wait := 10 * time.Millisecond; ; wait = min(2*wait, 250*time.Millisecond) {
		ack, err := b.publishOnce(ctx, subject, msgID, body)
		if err == nil {
			return ack, nil
		}
		if errors.Is(err, nats.ErrMaxPayload) || errors.Is(err, nats.ErrBadSubject) || errors.Is(err, jetstream.ErrInvalidSubject) {
			return Ack{}, tandem.Wrap(tandem.Invalid, err, "The message for %q cannot be published.", subject)
		}
		b.complain(err)
		var ae *jetstream.APIError
		if errors.As(err, &ae) || errors.Is(err, nats.ErrConnectionClosed) { // the server answered that it will not, or we are closed: waiting here helps nobody
			return Ack{}, unavailable(fmt.Errorf("publish: %w", err))
		}
		if pause(ctx, wait) != nil {
			return Ack{}, unavailable(fmt.Errorf("publish: %w", err))
		}
	}
}

func (b *Bus) publishOnce(ctx context.Context, subject string, msgID tandem.ID, body []byte) (Ack, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	defer context.AfterFunc(b.connection(), cancel)() // no answer comes over a lost connection
	b.mu.Lock()
	epoch := b.epoch // read before: a position of a newer stream under an older epoch is only published again, the reverse would be lost
	b.mu.Unlock()
	pa, err := b.js.Publish(ctx, subject, body, jetstream.WithMsgID(string(msgID)), jetstream.WithExpectStream(streamName))
	if err != nil {
		return Ack{}, err
	}
	return Ack{Seq: pa.Sequence, Epoch: epoch, Duplicate: pa.Duplicate}, nil
}

// Signal sends body to whoever listens right now, at most once, without storing it: typing
// notices and the like. Subjects are sig.<org>.<what>. Without a connection it is Unavailable.
func (b *Bus) Signal(ctx context.Context, subject string, body []byte) error {
	if !strings.HasPrefix(subject, "sig.") || !validSubject(subject) {
		return tandem.Errorf(tandem.Invalid, "The subject %q cannot be signaled.", subject)
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("signal: %w", err)
	}
	if err := b.nc.Publish(subject, body); err != nil {
		if errors.Is(err, nats.ErrMaxPayload) {
			return tandem.Wrap(tandem.Invalid, err, "The signal is too long.")
		}
		return unavailable(fmt.Errorf("signal: %w", err))
	}
	return nil
}

// validSubject accepts a literal subject: tokens of letters, digits, "_" and "-" between dots.
func validSubject(s string) bool {
	if s == "" || len(s) > 255 {
		return false
	}
	for t := range strings.SplitSeq(s, ".") {
		if t == "" {
			return false
		}
		for _, c := range t {
			if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '_' && c != '-' {
				return false
			}
		}
	}
	return true
}

const (
	listenMessages = 16384
	listenBytes    = 16 << 20
)

type listener struct {
	fn      func(subject string, body []byte)
	sub     *nats.Subscription
	mu      sync.Mutex // fn runs one at a time
	dropped int
}

func (l *listener) call(subject string, body []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.fn(subject, body)
}

// Listen calls fn for every message on subject (wildcards allowed) from now on, one at a time,
// at most once each, stored or not. It survives a lost connection; because messages may have
// been missed then, fn is called once with an empty subject after each reconnect and after
// each overflow of its queue (16,384 messages). fn must not block. Call stop to end it.
func (b *Bus) Listen(subject string, fn func(subject string, body []byte)) (stop func(), err error) {
	l := &listener{fn: fn}
	l.sub, err = b.nc.Subscribe(subject, func(m *nats.Msg) {
		if n, err := m.Sub.Dropped(); err == nil && n > l.dropped {
			l.dropped = n
			l.call("", nil)
		}
		l.call(m.Subject, m.Data)
	})
	if err != nil {
		return nil, unavailable(fmt.Errorf("listen on %s: %w", subject, err))
	}
	if err := l.sub.SetPendingLimits(listenMessages, listenBytes); err != nil {
		return nil, errors.Join(unavailable(fmt.Errorf("listen on %s: %w", subject, err)), l.sub.Unsubscribe())
	}
	if err := b.nc.FlushTimeout(requestTimeout); err != nil && b.nc.IsConnected() {
		return nil, errors.Join(unavailable(fmt.Errorf("listen on %s: %w", subject, err)), l.sub.Unsubscribe())
	}
	b.mu.Lock()
	b.listeners[l] = struct{}{}
	b.mu.Unlock()
	return func() {
		b.mu.Lock()
		delete(b.listeners, l)
		b.mu.Unlock()
		if err := l.sub.Unsubscribe(); err != nil && !errors.Is(err, nats.ErrConnectionClosed) && !errors.Is(err, nats.ErrBadSubscription) {
			b.log.Warn("stop listening", "subject", subject, "err", err)
		}
	}, nil
}

// missed tells every listener that it may have missed something while the connection was away.
func (b *Bus) missed() {
	b.mu.Lock()
	ls := slices.Collect(maps.Keys(b.listeners))
	b.mu.Unlock()
	for _, l := range ls {
		l.call("", nil)
	}
}
