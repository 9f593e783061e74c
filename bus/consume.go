package bus

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/internal/mutant"
)

// Msg is one message as a consumer sees it.
type Msg struct {
	Subject   string
	ID        tandem.ID // the message id it was published with
	Body      []byte
	Delivered int       // 1 for the first delivery
	Published time.Time // when the stream took it
}

// Consumer says what to do with the messages of some subjects.
type Consumer struct {
	// Name of the durable consumer: letters, digits, "_" and "-". Processes that use the same
	// name share the messages between them.
	Name string
	// Subjects to receive, wildcards allowed; they must not overlap.
	Subjects []string
	// Workers bounds how many messages are handled at once; 0 means 1, at most 256.
	Workers int
	// AckWait is after how long a silent consumer's message goes to another; 0 means 10 s.
	// While Handle runs, progress is reported every third of it, so Handle may take longer.
	AckWait time.Duration
	// MaxDeliver is how often a failing message is tried; 0 means 5. A try that failed with
	// Unavailable or Throttled does not count: the message is not at fault.
	MaxDeliver int
	// Backoff is the wait after the first failure; it grows fourfold up to 1 minute. 0 means 1 s.
	Backoff time.Duration
	// Grace is how long running handlers may go on after ctx ends before their context is
	// cancelled too; 0 means 5 s.
	Grace time.Duration
	// Handle does the work and returns nil when it is durable. Invalid, NotFound, Forbidden and
	// Unauthenticated will not get better: the message is dead at once. It must bear repetition.
	Handle func(ctx context.Context, m Msg) error
	// Together, which is optional, does the work of many messages at once, at most Most of them. When it fails it
	// gets half of them, and so on: one that is at fault comes to Handle alone. It must bear repetition as Handle does.
	Together func(ctx context.Context, list []Msg) error
	// Most bounds what Together gets, and what one worker holds; 0 means 256, at most 1024.
	Most int
	// Linger is how long a worker that has a message waits for more to come up, so that Together has fewer to do with
	// more each; only with Together.
	Linger time.Duration
	// Dead keeps a message that will not be tried again. Until it returns nil the message stays.
	Dead func(ctx context.Context, m Msg, cause error) error
}

const (
	maxWorkers    = 256
	mostTogether  = 1024
	maxAckPending = 4096
	maxBackoff    = time.Minute

	maxExcusedWait = 5 * time.Second
	maxRetryAfter  = 10 * time.Minute

	unheardAgain = 10 * time.Millisecond

	pollWait    = 25 * time.Second
	deadTimeout = 30 * time.Second
	// A message delivered this many times its MaxDeliver, without this process knowing an excuse,
	// keeps killing its consumer before it can answer: it is dead without another try.
	crashLoop = 10
)

// Consume handles messages until ctx ends, waits for the handlers that run, and returns nil.
// It survives restarts of the server and makes its durable consumer again when the stream was
// lost. It returns an error only for a Consumer that can never work.
func (b *Bus) Consume(ctx context.Context, c Consumer) error {
	if err := c.complete(); err != nil {
		return err
	}
	d := &durable{b: b, c: c, excused: map[string]int{}}
	hctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	grace := context.AfterFunc(ctx, func() {
		time.AfterFunc(c.Grace, cancel)
	})
	defer grace()
	var wg sync.WaitGroup
	for range c.Workers {
		wg.Go(func() { d.work(ctx, hctx) })
	}
	wg.Wait()
	return nil
}

func (c *Consumer) complete() error {
	if !validSubject(c.Name) || strings.Contains(c.Name, ".") || len(c.Subjects) == 0 || c.Handle == nil || c.Dead == nil || c.Workers > maxWorkers {
		return tandem.Errorf(tandem.Invalid, "The consumer %q needs a plain name, subjects, Handle, Dead and at most %d workers.", c.Name, maxWorkers)
	}
	if c.Workers <= 0 {
		c.Workers = 1
	}
	if c.AckWait <= 0 {
		c.AckWait = 10 * time.Second
	}
	if c.MaxDeliver <= 0 {
		c.MaxDeliver = 5
	}
	if c.Backoff <= 0 {
		c.Backoff = time.Second
	}
	if c.Grace <= 0 {
		c.Grace = 5 * time.Second
	}
	if c.Most <= 0 {
		c.Most = 256
	}
	c.Most = min(c.Most, mostTogether)
	return nil
}

// durable is one Consumer's state in this process.
type durable struct {
	b *Bus
	c Consumer

	mu      sync.Mutex
	cons    jetstream.Consumer
	gen     int            // counts how often cons was made
	excused map[string]int // by message id: failed tries that were not the message's fault
}

// work pulls one message at a time, or as many as Together takes: it never holds more than it handles, so no message ages
// in a buffer until the server gives it to somebody else.
func (d *durable) work(ctx, hctx context.Context) {
	for wait := time.Duration(0); ctx.Err() == nil; {
		cons, gen := d.current()
		if cons == nil {
			if err := d.renew(ctx, gen); err != nil {
				wait = min(max(2*wait, 20*time.Millisecond), time.Second)
				if pause(ctx, wait) != nil {
					return
				}
			}
			continue
		}
		m, err := d.next(ctx, cons)
		switch {
		case err == nil:
			wait = 0
			if d.c.Together != nil {
				d.together(ctx, hctx, d.more(ctx, cons, m))
			} else {
				d.handle(ctx, hctx, m)
			}
		case ctx.Err() != nil:
			return
		case errors.Is(err, nats.ErrTimeout) || errors.Is(err, context.DeadlineExceeded):
		default:
			d.b.log.DebugContext(ctx, "pull from the bus", "consumer", d.c.Name, "err", err)
			d.forget(gen)
			wait = min(max(2*wait, 20*time.Millisecond), time.Second)
			if pause(ctx, wait) != nil {
				return
			}
		}
	}
}

// next waits for one message, until ctx ends or the connection is lost.
func (d *durable) next(ctx context.Context, cons jetstream.Consumer) (jetstream.Msg, error) {
	pctx, cancel := context.WithTimeout(ctx, pollWait)
	defer cancel()
	defer context.AfterFunc(d.b.connection(), cancel)()
	return cons.Next(jetstream.FetchContext(pctx), jetstream.FetchHeartbeat(pollWait/5))
}

func (d *durable) current() (jetstream.Consumer, int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.cons, d.gen
}

// forget makes the workers look for the durable consumer again, unless one already did.
func (d *durable) forget(gen int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.gen == gen {
		d.cons = nil
	}
}

// renew finds or makes the durable consumer on the server.
func (d *durable) renew(ctx context.Context, gen int) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.cons != nil || d.gen != gen {
		return nil // another worker was faster
	}
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	cfg := jetstream.ConsumerConfig{
		Durable: d.c.Name, FilterSubjects: slices.Sorted(slices.Values(d.c.Subjects)), DeliverPolicy: jetstream.DeliverAllPolicy,
		AckPolicy: jetstream.AckExplicitPolicy, AckWait: d.c.AckWait, MaxAckPending: maxAckPending,
		// We count tries ourselves: a message past the server's own limit would be skipped in silence
		// when this process dies before it has kept the message as dead.
		MaxDeliver: -1,
	}
	cons, err := d.b.js.CreateOrUpdateConsumer(ctx, streamName, cfg)
	var ae *jetstream.APIError
	if errors.As(err, &ae) && ae.Code == 400 {
		// The one on the server is of another shape. What it had acknowledged does not matter:
		// handlers remember in the database what they have done.
		d.b.log.WarnContext(ctx, "durable consumer made anew", "consumer", d.c.Name, "err", err)
		if err = d.b.js.DeleteConsumer(ctx, streamName, d.c.Name); err == nil || errors.Is(err, jetstream.ErrConsumerNotFound) {
			cons, err = d.b.js.CreateOrUpdateConsumer(ctx, streamName, cfg)
		}
	}
	if err == nil {
		cons, err = d.rewound(ctx, cons, cfg)
	}
	if err != nil {
		return fmt.Errorf("durable consumer %s: %w", d.c.Name, err)
	}
	d.cons = cons
	d.gen++
	return nil
}

// rewound replaces a consumer that is ahead of its stream. That is what a power cut leaves when
// the stream's last messages were not yet on disk; the consumer would skip their successors.
func (d *durable) rewound(ctx context.Context, cons jetstream.Consumer, cfg jetstream.ConsumerConfig) (jetstream.Consumer, error) {
	s, err := d.b.js.Stream(ctx, streamName)
	if err != nil {
		return nil, fmt.Errorf("look at the stream: %w", err)
	}
	if cons.CachedInfo().Delivered.Stream <= s.CachedInfo().State.LastSeq {
		return cons, nil
	}
	d.b.log.WarnContext(ctx, "durable consumer was ahead of its stream; made anew", "consumer", d.c.Name)
	if err := d.b.js.DeleteConsumer(ctx, streamName, d.c.Name); err != nil {
		return nil, fmt.Errorf("delete: %w", err)
	}
	return d.b.js.CreateOrUpdateConsumer(ctx, streamName, cfg)
}

func msgOf(jm jetstream.Msg) Msg {
	m := Msg{Subject: jm.Subject(), ID: tandem.ID(jm.Headers().Get(jetstream.MsgIDHeader)), Body: jm.Data(), Delivered: 1}
	if md, err := jm.Metadata(); err == nil {
		m.Delivered, m.Published = int(md.NumDelivered), md.Timestamp
	}
	return m
}

// handle runs one message to its verdict: done, later, or dead.
func (d *durable) handle(ctx, hctx context.Context, jm jetstream.Msg) {
	m := msgOf(jm)
	stop := d.progress(jm)
	defer stop()

	tries := m.Delivered - d.excuses(m)
	if tries > d.c.MaxDeliver*crashLoop {
		d.bury(hctx, jm, m, tandem.Errorf(tandem.Internal, "Delivered %d times and never finished.", m.Delivered))
		return
	}
	if mutant.Is("ack-before-commit") {
		d.answer(jm.Ack(), m)
	}
	d.verdict(ctx, hctx, jm, m, d.guard(hctx, m))
}

// verdict answers for a message that was handled, err saying how.
func (d *durable) verdict(ctx, hctx context.Context, jm jetstream.Msg, m Msg, err error) {
	tries := m.Delivered - d.excuses(m)
	kind := tandem.KindOf(err)
	switch {
	case err == nil && d.b.o.Unheard != nil && d.b.o.Unheard(m):
		d.answer(jm.NakWithDelay(unheardAgain), m)
	case err == nil:
		d.settle(m)
		d.answer(jm.Ack(), m)
	case ctx.Err() != nil: // we are stopping: the failure says nothing about the message
		d.answer(jm.NakWithDelay(time.Millisecond), m)
	case kind == tandem.Invalid || kind == tandem.NotFound || kind == tandem.Forbidden || kind == tandem.Unauthenticated:
		d.bury(hctx, jm, m, err)
	case kind == tandem.Unavailable || kind == tandem.Throttled:
		d.excuse(m)
		d.later(hctx, jm, m, err, d.excusedDelay(err, m))
	case tries >= d.c.MaxDeliver:
		d.bury(hctx, jm, m, err)
	default:
		d.later(hctx, jm, m, err, d.delay(tries))
	}
}

// guard runs Handle and turns a panic into an error whose stack is in the log.
func (d *durable) guard(ctx context.Context, m Msg) (err error) {
	defer func() {
		if r := recover(); r != nil {
			d.b.log.ErrorContext(ctx, "panic in a consumer", "consumer", d.c.Name, "subject", m.Subject, "msg", m.ID, "panic", r, "stack", string(debug.Stack()))
			err = fmt.Errorf("panic: %v", r)
		}
	}()
	return d.c.Handle(ctx, m)
}

// later gives the message back for another try after delay.
func (d *durable) later(ctx context.Context, jm jetstream.Msg, m Msg, cause error, delay time.Duration) {
	level := slog.LevelWarn
	if kind := tandem.KindOf(cause); kind == tandem.Unavailable || kind == tandem.Throttled {
		level = slog.LevelInfo // one line per waiting message would bury the cause, which its owner logs
	}
	d.b.log.Log(ctx, level, "message failed; it will be tried again", "consumer", d.c.Name, "subject", m.Subject, "msg", m.ID, "delivered", m.Delivered, "in", delay, "err", cause)
	d.answer(jm.NakWithDelay(delay), m)
}

// bury keeps the message as dead and only then ends it on the bus.
func (d *durable) bury(ctx context.Context, jm jetstream.Msg, m Msg, cause error) {
	dctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), deadTimeout)
	defer cancel()
	err := func() (err error) {
		defer func() {
			if r := recover(); r != nil {
				err = fmt.Errorf("panic: %v", r)
			}
		}()
		if mutant.Is("last-delivery-silent") {
			return nil
		}
		return d.c.Dead(dctx, m, cause)
	}()
	if err != nil {
		d.excuse(m)
		d.later(ctx, jm, m, fmt.Errorf("keep the dead message: %w (it died of: %w)", err, cause), d.excusedDelay(err, m))
		return
	}
	d.b.log.ErrorContext(ctx, "message is dead", "consumer", d.c.Name, "subject", m.Subject, "msg", m.ID, "delivered", m.Delivered, "err", cause)
	d.settle(m)
	d.answer(jm.Term(), m)
}

// progress keeps the server from giving the messages to somebody else while they are handled.
func (d *durable) progress(list ...jetstream.Msg) (stop func()) {
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		t := time.NewTicker(d.c.AckWait / 3)
		defer t.Stop()
		for {
			select {
			case <-done:
				return
			case <-t.C:
				for _, jm := range list {
					_ = jm.InProgress() // without a connection the message comes again, which handlers bear
				}
			}
		}
	})
	return func() { close(done); wg.Wait() }
}

// answer notes an acknowledgement that could not be sent. The message then comes again.
func (d *durable) answer(err error, m Msg) {
	if err != nil {
		d.b.log.Debug("acknowledge", "consumer", d.c.Name, "msg", m.ID, "err", err)
	}
}

// delay is the wait after the nth failure.
func (d *durable) delay(n int) time.Duration {
	w := d.c.Backoff
	for range n - 1 {
		if w *= 4; w >= maxBackoff {
			return maxBackoff
		}
	}
	return min(w, maxBackoff)
}

// excusedDelay is the wait after a failure that was not the message's fault: what the error asks
// for, or else a short one, because such failures end for all messages at once.
func (d *durable) excusedDelay(err error, m Msg) time.Duration {
	var te *tandem.Error
	if errors.As(err, &te) && te.RetryAfter > 0 {
		return min(te.RetryAfter, maxRetryAfter)
	}
	return min(d.delay(m.Delivered), maxExcusedWait)
}

func (m Msg) key() string { return m.Subject + " " + string(m.ID) }

func (d *durable) excuses(m Msg) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.excused[m.key()]
}

// excuse notes a try that does not count. At most maxAckPending messages are outstanding, so
// the map stays small; what a redelivery elsewhere leaves behind is dropped when it does not.
func (d *durable) excuse(m Msg) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.excused) >= 2*maxAckPending {
		clear(d.excused)
	}
	d.excused[m.key()]++
}

func (d *durable) settle(m Msg) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.excused, m.key())
}
