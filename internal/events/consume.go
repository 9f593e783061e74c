package events

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/bus"
	"github.com/tandemhq/tandem/internal/mutant"
	"github.com/tandemhq/tandem/internal/pg"
)

// Subscription is one independent reader of facts.
type Subscription struct {
	// Name is what processed and dead_letters rows remember it by. It never changes.
	Name string
	// Topics are "noun.verb", "noun.*", "*" (every event) or "out" (every command to send).
	Topics []string
	// Workers bounds how many facts are handled at once; 0 means 1.
	Workers int
	// MaxDeliver is how often a failing fact is tried before it becomes a dead letter; 0 means 5.
	// Tries that end in Unavailable or Throttled do not count.
	MaxDeliver int
	// Backoff is the wait after the first failure; it grows fourfold up to 1 minute. 0 means 1 s.
	Backoff time.Duration
	// Apply makes the effect inside tx. Effect and memory commit together, so it happens exactly once.
	Apply func(ctx context.Context, tx pgx.Tx, f Fact) error
	// ApplyAll is Apply for whatever facts of one organization have come up together, at most togetherMost of them: under
	// load one transaction applies and remembers many. Facts that were applied before are not among them.
	ApplyAll func(ctx context.Context, tx pgx.Tx, facts []Fact) error
	// Before, which only ApplyAll may have beside it, runs in tx before it is looked up which facts are new: it takes the
	// locks that ApplyAll relies on.
	Before func(ctx context.Context, tx pgx.Tx) error
	// Handle opens its own transactions, or calls the outside world. It may run again for the same
	// fact after a crash, and must bear that. Exactly one of Apply, ApplyAll and Handle is set.
	Handle func(ctx context.Context, f Fact) error
	// Wants, which only Handle may have beside it, reads in tx which of the facts, all of one
	// organization, give Handle anything to do; those it does not want are remembered by the same
	// transaction. nil wants all. It writes nothing.
	Wants func(ctx context.Context, tx pgx.Tx, facts []Fact) ([]bool, error)
}

// Consume runs one subscription until ctx ends and then returns nil. The ctx that Apply and
// Handle get carries Tandem itself as actor of the fact's organization, on the event's causal
// chain. A fact that fails for good becomes a row of dead_letters and counts as processed.
func Consume(ctx context.Context, db *pg.DB, b *bus.Bus, s Subscription) error {
	ways := 0
	for _, set := range []bool{s.Apply != nil, s.ApplyAll != nil, s.Handle != nil} {
		if set {
			ways++
		}
	}
	if ways != 1 || s.Wants != nil && s.Handle == nil || s.Before != nil && s.ApplyAll == nil {
		return tandem.Errorf(tandem.Invalid, "The subscription %q needs exactly one of Apply, ApplyAll and Handle.", s.Name)
	}
	subjects := make([]string, len(s.Topics))
	for i, t := range s.Topics {
		subject, err := topicSubject(t)
		if err != nil {
			return err
		}
		subjects[i] = subject
	}
	r := &reader{db: db, s: s}
	workers := s.Workers
	if s.Wants != nil { // many are looked at, and of those that are wanted Workers handled at once
		r.glancer = &glancer{db: db, s: s}
		r.slots = make(chan struct{}, max(workers, 1))
		workers = glances + max(workers, 1)
	}
	c := bus.Consumer{Name: s.Name, Subjects: subjects, Workers: workers, MaxDeliver: s.MaxDeliver, Backoff: s.Backoff, Handle: r.handle, Dead: r.dead}
	if s.ApplyAll != nil {
		c.Together, c.Most, c.Linger = r.together, togetherMost, togetherLinger
	}
	return b.Consume(ctx, c)
}

func topicSubject(topic string) (string, error) {
	noun, verb, _ := strings.Cut(topic, ".")
	switch {
	case topic == TopicOut:
		return "out.>", nil
	case topic == "*":
		return "ev.>", nil
	case word(noun) && (word(verb) || verb == "*"):
		return "ev.*." + topic, nil
	}
	return "", tandem.Errorf(tandem.Invalid, "The topic %q is not of the form noun.verb.", topic)
}

type reader struct {
	db *pg.DB
	s  Subscription

	glancer *glancer      // with Wants
	slots   chan struct{} // with Wants: has a token for each Handle that runs
}

// One statement remembers the fact and reads the causal chain of its event.
const applySQL = `
	WITH p AS (INSERT INTO processed (consumer, msg_id) VALUES (@consumer, @id) ON CONFLICT DO NOTHING RETURNING 1)
	SELECT EXISTS (SELECT FROM p), (SELECT chain_id::text FROM events WHERE org_id = @org AND id = @id)`

const lookSQL = `
	SELECT NOT EXISTS (SELECT FROM processed WHERE consumer = @consumer AND msg_id = @id),
	       (SELECT chain_id::text FROM events WHERE org_id = @org AND id = @id)`

const rememberSQL = `INSERT INTO processed (consumer, msg_id) VALUES (@consumer, @id) ON CONFLICT DO NOTHING`

func (r *reader) handle(ctx context.Context, m bus.Msg) error {
	f, err := decode(m)
	if err != nil {
		return err
	}
	if r.s.ApplyAll != nil {
		return r.together(ctx, []bus.Msg{m})
	}
	ctx = systemOf(ctx, f.Org)
	if r.s.Apply != nil {
		if mutant.Is("processed-before-effect") {
			return r.early(ctx, f)
		}
		return r.db.Tx(ctx, func(ctx context.Context, tx pgx.Tx) error {
			ctx, fresh, err := r.look(ctx, tx, applySQL, f)
			if err != nil || !fresh {
				return err
			}
			return r.s.Apply(ctx, tx, f)
		})
	}
	hctx, todo := ctx, false
	if r.glancer != nil {
		if hctx, todo, err = r.glancer.look(ctx, f); err != nil || !todo {
			return err
		}
		select {
		case r.slots <- struct{}{}:
			defer func() { <-r.slots }()
		case <-ctx.Done():
			return ctx.Err()
		}
	} else {
		err = r.db.Read(ctx, func(ctx context.Context, tx pgx.Tx) (err error) {
			hctx, todo, err = r.look(ctx, tx, lookSQL, f)
			return err
		})
		if err != nil || !todo {
			return err
		}
	}
	if err := r.s.Handle(hctx, f); err != nil {
		return err
	}
	return r.remember(ctx, f)
}

// remember is for what Handle has done.
func (r *reader) remember(ctx context.Context, f Fact) error {
	err := r.db.Statement(ctx, func(ctx context.Context, q pg.Queryer) error {
		rows, err := q.Query(ctx, rememberSQL, pgx.StrictNamedArgs{"consumer": r.s.Name, "id": f.ID})
		if err != nil {
			return err
		}
		rows.Close()
		return rows.Err()
	})
	return wrap(err, "remember the fact")
}

// early is the deliberate defect that remembers a fact before its effect.
func (r *reader) early(ctx context.Context, f Fact) error {
	fresh := false
	err := r.db.Tx(ctx, func(ctx context.Context, tx pgx.Tx) (err error) {
		_, fresh, err = r.look(ctx, tx, applySQL, f)
		return err
	})
	if err != nil || !fresh {
		return err
	}
	return r.db.Tx(ctx, func(ctx context.Context, tx pgx.Tx) error { return r.s.Apply(ctx, tx, f) })
}

// look runs applySQL or lookSQL: whether the fact is new to this consumer, and ctx on its event's chain.
func (r *reader) look(ctx context.Context, tx pgx.Tx, q string, f Fact) (context.Context, bool, error) {
	args := pgx.StrictNamedArgs{"consumer": r.s.Name, "id": f.ID, "org": f.Org}
	var fresh bool
	var chain *tandem.ID
	if err := tx.QueryRow(ctx, q, args).Scan(&fresh, &chain); err != nil {
		return ctx, false, fmt.Errorf("look the fact up: %w", err)
	}
	if mutant.Is("processed-not-checked") {
		fresh = true
	}
	return onChain(ctx, f.Org, chain), fresh, nil
}

// onChain is ctx on the causal chain of a fact's event, if that has one.
func onChain(ctx context.Context, org tandem.ID, chain *tandem.ID) context.Context {
	if chain == nil {
		return ctx
	}
	return tandem.WithActor(ctx, tandem.Actor{Org: org, Kind: tandem.System, Name: "Tandem", Chain: *chain})
}

const deadSQL = `
	WITH p AS (INSERT INTO processed (consumer, msg_id) VALUES (@consumer, @msg) ON CONFLICT DO NOTHING RETURNING 1)
	INSERT INTO dead_letters (org_id, id, consumer, msg_id, subject, body, error, tries)
	SELECT @org, @id, @consumer, @msg, @subject, @body, @error, @tries FROM p
	ON CONFLICT (org_id, consumer, msg_id) DO NOTHING`

// dead keeps the fact as a dead letter and as processed, in one transaction. A fact that was
// processed all the same, by another delivery, leaves none.
func (r *reader) dead(ctx context.Context, m bus.Msg, cause error) error {
	org, id, ok := names(m)
	if !ok {
		slog.ErrorContext(ctx, "a message that names no organization is dropped", "consumer", r.s.Name, "subject", m.Subject, "err", cause)
		return nil
	}
	return r.db.Tx(systemOf(ctx, org), func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, deadSQL, pgx.StrictNamedArgs{
			"consumer": r.s.Name, "msg": id, "org": org, "id": tandem.NewID(),
			"subject": m.Subject, "body": m.Body, "error": clean(cause.Error()), "tries": m.Delivered,
		})
		return wrap(err, "keep a dead letter")
	})
}

func decode(m bus.Msg) (Fact, error) {
	var f Fact
	if err := json.Unmarshal(m.Body, &f); err != nil {
		return f, tandem.Wrap(tandem.Invalid, err, "The message is not a fact.")
	}
	_, err1 := tandem.ParseID(string(f.ID))
	_, err2 := tandem.ParseID(string(f.Org))
	if err1 != nil || err2 != nil {
		return f, tandem.Errorf(tandem.Invalid, "The message names no event or organization.")
	}
	return f, nil
}

// names finds out whose message it is, from its body or else from its envelope.
func names(m bus.Msg) (org, id tandem.ID, ok bool) {
	if f, err := decode(m); err == nil {
		return f.Org, f.ID, true
	}
	token := strings.SplitN(m.Subject, ".", 3)
	if len(token) < 3 {
		return "", "", false
	}
	org, err1 := tandem.ParseID(token[1])
	id, err2 := tandem.ParseID(string(m.ID))
	return org, id, err1 == nil && err2 == nil
}

const maxErrorText = 4000

// clean makes s fit for a text column.
func clean(s string) string {
	s = strings.ReplaceAll(strings.ToValidUTF8(s, "?"), "\x00", "")
	if len(s) > maxErrorText {
		s = strings.ToValidUTF8(s[:maxErrorText], "")
	}
	return s
}
