package inbox

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"log/slog"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"golang.org/x/sync/errgroup"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/channels"
	"github.com/tandemhq/tandem/internal/mutant"
	"github.com/tandemhq/tandem/internal/pg"
)

// BatchOptions are the limits of a Batcher. The zero value is fit for production.
type BatchOptions struct {
	Partitions int // writers at once; 0 means 2
	MaxBatch   int // messages in one transaction; 0 means 200
	Share      int // of these, one organization's; 0 means 64
	Queue      int // messages waiting per partition before new ones are refused; 0 means 4,096
	Lane       int // of these, one organization's; 0 means a sixteenth
	// Patience is how long an organization's first message in the queue may have waited before
	// new ones of it are refused; 0 means 1 s. Who is refused at once can try again; who waits
	// for longer than his own patience sends it a second time and makes the queue longer.
	Patience time.Duration
	Logger   *slog.Logger // nil means slog.Default
	Fault    Fault        // nil in production
}

// Batcher commits inbound messages in natural batches: whatever queued up while the last
// commit ran goes into the next transaction, so nobody waits for a batch to fill. Messages
// of one sender go through one writer, in order; a message that fails never fails another.
// Organizations take turns, and none can fill a batch or the queue alone.
type Batcher struct {
	db    *pg.DB
	o     BatchOptions
	parts []*queue
	seed  maphash.Seed
	stop  chan struct{} // closed when Run has ended
	once  sync.Once
}

// delivery is one message and who waits for it.
type delivery struct {
	ctx  context.Context
	in   channels.Inbound
	at   time.Time
	done chan struct{} // closed when got and err are set
	got  channels.Accepted
	err  error
}

func (d *delivery) finish(got channels.Accepted, err error) {
	d.got, d.err = got, err
	close(d.done)
}

// NewBatcher makes a Batcher; Run makes it work.
func NewBatcher(db *pg.DB, o BatchOptions) *Batcher {
	if o.Partitions <= 0 {
		o.Partitions = 2
	}
	if o.MaxBatch <= 0 {
		o.MaxBatch = 200
	}
	if o.Share <= 0 {
		o.Share = 64
	}
	if o.Queue <= 0 {
		o.Queue = 4096
	}
	if o.Lane <= 0 {
		o.Lane = max(1, o.Queue/16)
	}
	if o.Patience <= 0 {
		o.Patience = time.Second
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	b := &Batcher{db: db, o: o, seed: maphash.MakeSeed(), stop: make(chan struct{})}
	for range o.Partitions {
		b.parts = append(b.parts, newQueue())
	}
	return b
}

// Run writes until ctx ends; then it finishes what was accepted into the queue and returns.
// It may be called once.
func (b *Batcher) Run(ctx context.Context) error {
	defer b.once.Do(func() { close(b.stop) })
	var g errgroup.Group
	for _, part := range b.parts {
		g.Go(func() error {
			for {
				select {
				case <-part.wake:
				case <-ctx.Done():
				}
				for batch := b.take(part); len(batch) > 0; batch = b.take(part) {
					b.flush(batch)
				}
				if ctx.Err() != nil {
					return nil
				}
			}
		})
	}
	return g.Wait()
}

func (b *Batcher) take(part *queue) []*delivery { return part.take(b.o.MaxBatch, b.o.Share) }

// Backlog returns how many messages wait to be stored and how long the oldest has waited.
func (b *Batcher) Backlog() (n int, oldest time.Duration) {
	var first time.Time
	for _, part := range b.parts {
		waiting, since := part.waiting()
		n += waiting
		if !since.IsZero() && (first.IsZero() || since.Before(first)) {
			first = since
		}
	}
	if !first.IsZero() {
		oldest = time.Since(first)
	}
	return n, oldest
}

const fullAgain = time.Second

// Room says whether Deliver would take a message of org at once: nil, or the refusal it would answer. It costs next to
// nothing, so that a door can turn a flood away before it reads anything.
func (b *Batcher) Room(org tandem.ID) error {
	for _, part := range b.parts {
		if part.room(org, time.Now(), b.o) {
			return nil
		}
	}
	return full()
}

func full() error {
	return &tandem.Error{Kind: tandem.Unavailable, Msg: "Too many messages are waiting. Send it again in a moment.", RetryAfter: fullAgain}
}

// Deliver queues the message and waits until it is committed or refused. When ctx ends
// first, the message may still be stored; delivering it again is safe. A full queue, a full
// or slow lane of the organization and a stopped Batcher are Unavailable.
func (b *Batcher) Deliver(ctx context.Context, in channels.Inbound) (channels.Accepted, error) {
	if err := in.Check(); err != nil {
		return channels.Accepted{}, err
	}
	if err := ctx.Err(); err != nil {
		return channels.Accepted{}, tandem.Wrap(tandem.Unavailable, err, "The message was not taken in time.")
	}
	var h maphash.Hash
	h.SetSeed(b.seed)
	for _, s := range []string{string(in.Org), string(in.Channel), in.FromKind, string(in.From)} {
		_, _ = h.WriteString(s) // never fails
		_ = h.WriteByte(0)
	}
	d := &delivery{ctx: ctx, in: in, at: time.Now(), done: make(chan struct{})}
	if !b.parts[h.Sum64()%uint64(len(b.parts))].put(d, b.o) {
		return channels.Accepted{}, full()
	}
	select {
	case <-d.done:
		return d.got, d.err
	case <-ctx.Done():
		return channels.Accepted{}, tandem.Wrap(tandem.Unavailable, ctx.Err(), "The message was not taken in time.")
	case <-b.stop:
		select {
		case <-d.done:
			return d.got, d.err
		default:
			return channels.Accepted{}, &tandem.Error{Kind: tandem.Unavailable, Msg: "Tandem is stopping. Send it again in a moment.", RetryAfter: fullAgain}
		}
	}
}

const flushTimeout = 30 * time.Second

// waiting is a delivery on its way into the database.
type waiting struct {
	*delivery
	incoming
}

// flush stores a batch: what it can by one statement, newcomers by a second, and what is left
// message by message. A failing statement leaves all to the last of these. When the database is
// away, whoever waits is told at once.
func (b *Batcher) flush(batch []*delivery) {
	todo := make([]waiting, 0, len(batch))
	for _, d := range batch {
		if err := d.ctx.Err(); err != nil {
			d.finish(channels.Accepted{}, tandem.Wrap(tandem.Unavailable, err, "The message was not taken in time."))
			continue
		}
		i, err := newIncoming(d.ctx, d.in)
		if err != nil {
			d.finish(channels.Accepted{}, err)
			continue
		}
		todo = append(todo, waiting{d, i})
	}
	var slow []waiting
	for _, newcomers := range []bool{false, true} {
		if len(todo) == 0 {
			break
		}
		var err error
		if todo, slow, err = b.together(todo, slow, newcomers); err != nil {
			b.o.Logger.Warn("a batch of inbound messages failed; each is tried alone", "messages", len(todo), "err", err)
			break
		}
	}
	var away error // the database's, once it answered nobody: the rest need not wait for it one after the other
	for _, w := range append(todo, slow...) {
		if away != nil {
			w.finish(channels.Accepted{}, away)
			continue
		}
		got, err := b.alone(w)
		w.finish(got, err)
		if tandem.KindOf(err) == tandem.Unavailable {
			away = err
		}
	}
}

// together stores what tandem_intake takes and answers it. It returns what may be tried again
// and, after those in slow, what only the slow path can do.
func (b *Batcher) together(all, slow []waiting, newcomers bool) ([]waiting, []waiting, error) {
	type sender struct {
		org, channel tandem.ID
		kind, from   string
	}
	quick, messages := make([]waiting, 0, len(all)), make([]incoming, 0, len(all))
	behind := map[sender]bool{} // behind a sender's slow message, all of that sender's are
	for _, w := range all {
		s := sender{w.Org, w.Channel, w.FromKind, string(w.From)}
		if !w.quick || len(behind) > 0 && behind[s] {
			behind[s] = true
			slow = append(slow, w)
			continue
		}
		quick, messages = append(quick, w), append(messages, w.incoming)
	}
	if len(quick) == 0 {
		return nil, slow, nil
	}
	ctx, cancel := b.context()
	defer cancel()
	var got []channels.Accepted
	var rest []leftover
	var err error
	answer := func() {
		for k, w := range quick {
			if rest[k] == stored {
				w.finish(got[k], nil)
			}
		}
	}
	if b.o.Fault == nil {
		err = b.db.Statement(ctx, func(ctx context.Context, q pg.Queryer) (err error) {
			got, rest, err = intake(ctx, q, messages, newcomers)
			if err == nil && mutant.Is("answer-before-commit") {
				answer()
			}
			return err
		})
	} else { // a test wants to stand between the statement and its commit
		err = b.db.Global(ctx, func(ctx context.Context, tx pgx.Tx) (err error) {
			got, rest, err = intake(ctx, tx, messages, newcomers)
			if err == nil && mutant.Is("answer-before-commit") {
				answer()
			}
			fault(ctx, "ingest.applied")
			return err
		})
	}
	if err != nil {
		return quick, slow, err
	}
	if !mutant.Is("answer-before-commit") {
		answer()
	}
	var again []waiting
	for k, w := range quick {
		switch rest[k] {
		case repeated:
			slow = append(slow, w)
		case left:
			again = append(again, w)
		}
	}
	return again, slow, nil
}

// context is for a write that several callers wait for, so it outlives each of them.
func (b *Batcher) context() (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithTimeout(context.Background(), flushTimeout)
	return WithFault(ctx, b.o.Fault), cancel
}

// alone takes the slow path, in a transaction of its own.
func (b *Batcher) alone(w waiting) (got channels.Accepted, err error) {
	ctx, cancel := b.context()
	defer cancel()
	ctx = tandem.WithActor(ctx, tandem.Actor{Org: w.Org, Kind: tandem.System, Name: "Tandem", Chain: w.chain})
	err = b.db.Tx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		fault(ctx, "ingest.alone")
		got, err = w.slow(ctx, tx)
		return err
	})
	if err != nil {
		return channels.Accepted{}, err
	}
	return got, nil
}

// noChannel makes the refusal of an unknown channel's row a NotFound.
func noChannel(err error) error {
	var pe *pgconn.PgError
	if errors.As(err, &pe) && pe.Code == "23503" {
		return tandem.Wrap(tandem.NotFound, err, "There is no such channel.")
	}
	return fmt.Errorf("store inbound message: %w", err)
}
