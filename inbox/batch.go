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
	"github.com/tandemhq/tandem/internal/pg"
)

// BatchOptions are the limits of a Batcher. The zero value is fit for production.
type BatchOptions struct {
	Partitions int          // writers at once; 0 means 2
	MaxBatch   int          // messages in one transaction; 0 means 200
	Queue      int          // messages waiting per partition before new ones are refused; 0 means 4,096
	Logger     *slog.Logger // nil means slog.Default
	Fault      Fault        // nil in production
}

// Batcher commits inbound messages in natural batches: whatever queued up while the last
// commit ran goes into the next transaction, so nobody waits for a batch to fill. Messages
// of one sender go through one writer, in order; a message that fails never fails another.
type Batcher struct {
	db    *pg.DB
	o     BatchOptions
	parts []chan *delivery
	seed  maphash.Seed
	stop  chan struct{} // closed when Run has ended
	once  sync.Once
}

// delivery is one message and who waits for it.
type delivery struct {
	ctx  context.Context
	in   channels.Inbound
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
	if o.Queue <= 0 {
		o.Queue = 4096
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	b := &Batcher{db: db, o: o, seed: maphash.MakeSeed(), stop: make(chan struct{})}
	for range o.Partitions {
		b.parts = append(b.parts, make(chan *delivery, o.Queue))
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
				case d := <-part:
					b.flush(b.collect(part, d))
				case <-ctx.Done():
					for {
						select {
						case d := <-part:
							b.flush(b.collect(part, d))
						default:
							return nil
						}
					}
				}
			}
		})
	}
	return g.Wait()
}

// collect takes what has queued up behind the first one.
func (b *Batcher) collect(part chan *delivery, first *delivery) []*delivery {
	batch := []*delivery{first}
	for len(batch) < b.o.MaxBatch {
		select {
		case d := <-part:
			batch = append(batch, d)
		default:
			return batch
		}
	}
	return batch
}

const fullAgain = time.Second

// Deliver queues the message and waits until it is committed or refused. When ctx ends
// first, the message may still be stored; delivering it again is safe. A full queue and a
// stopped Batcher are Unavailable.
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
	d := &delivery{ctx: ctx, in: in, done: make(chan struct{})}
	select {
	case b.parts[h.Sum64()%uint64(len(b.parts))] <- d:
	default:
		return channels.Accepted{}, &tandem.Error{Kind: tandem.Unavailable, Msg: "Too many messages are waiting. Send it again in a moment.", RetryAfter: fullAgain}
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

// flush commits a batch, or, when that fails, each of its messages alone.
func (b *Batcher) flush(batch []*delivery) {
	live := batch[:0]
	for _, d := range batch {
		if err := d.ctx.Err(); err != nil {
			d.finish(channels.Accepted{}, tandem.Wrap(tandem.Unavailable, err, "The message was not taken in time."))
			continue
		}
		live = append(live, d)
	}
	if len(live) > 1 {
		got, err := b.together(live)
		if err == nil {
			for i, d := range live {
				d.finish(got[i], nil)
			}
			return
		}
		b.o.Logger.Warn("a batch of inbound messages failed; each is tried alone", "messages", len(live), "err", err)
	}
	for _, d := range live {
		got, err := b.alone(d)
		d.finish(got, err)
	}
}

// context is for a write that several callers wait for, so it outlives each of them.
func (b *Batcher) context() (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithTimeout(context.Background(), flushTimeout)
	return WithFault(ctx, b.o.Fault), cancel
}

func (b *Batcher) alone(d *delivery) (got channels.Accepted, err error) {
	ctx, cancel := b.context()
	defer cancel()
	ctx = tandem.WithActor(ctx, tandem.Actor{Org: d.in.Org, Kind: tandem.System, Name: "Tandem", Chain: tandem.ChainFrom(d.ctx)})
	err = b.db.Tx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		got, err = Ingest(ctx, tx, d.in)
		return err
	})
	if err != nil {
		return channels.Accepted{}, err
	}
	return got, nil
}

// together writes a batch in one transaction: organization after organization.
func (b *Batcher) together(batch []*delivery) ([]channels.Accepted, error) {
	ctx, cancel := b.context()
	defer cancel()
	byOrg := map[tandem.ID][]int{}
	var orgs []tandem.ID
	for i, d := range batch {
		if byOrg[d.in.Org] == nil {
			orgs = append(orgs, d.in.Org)
		}
		byOrg[d.in.Org] = append(byOrg[d.in.Org], i)
	}
	got := make([]channels.Accepted, len(batch))
	first := tandem.AsSystem(ctx, orgs[0])
	err := b.db.Tx(first, func(ctx context.Context, tx pgx.Tx) error {
		for n, org := range orgs {
			if n > 0 {
				if err := pg.EnterOrg(ctx, tx, org); err != nil {
					return err
				}
			}
			ctx := tandem.WithActor(ctx, tandem.Actor{Org: org, Kind: tandem.System, Name: "Tandem", Chain: tandem.NewID()})
			if err := ingestMany(ctx, tx, org, batch, byOrg[org], got); err != nil {
				return err
			}
		}
		return nil
	})
	return got, err
}

// noChannel makes the refusal of an unknown channel's row a NotFound.
func noChannel(err error) error {
	var pe *pgconn.PgError
	if errors.As(err, &pe) && pe.Code == "23503" {
		return tandem.Wrap(tandem.NotFound, err, "There is no such channel.")
	}
	return fmt.Errorf("store inbound message: %w", err)
}
