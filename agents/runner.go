package agents

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/agents/llm"
	"github.com/tandemhq/tandem/inbox"
	"github.com/tandemhq/tandem/internal/events"
	"github.com/tandemhq/tandem/internal/pg"
	"github.com/tandemhq/tandem/internal/seal"
	"github.com/tandemhq/tandem/team"
)

// Runner lets AI members answer. Fill its fields before the first Wake; it is safe for use by
// several goroutines and in several processes, because the database decides who works where.
type Runner struct {
	DB     *pg.DB
	Sealer *seal.Sealer
	// Models returns the model of an AI member; Models.Open does.
	Models   func(ctx context.Context, profile team.AIProfile, key seal.Secret) (llm.Model, error)
	Tools    []Tool
	Embedder llm.Embedder // nil: the knowledge is searched by words alone
	// Signal tells screens that an AI member is writing; nil: nobody is told.
	Signal func(ctx context.Context, subject string, body []byte) error
	Logger *slog.Logger // nil: slog.Default

	Lease       time.Duration // how long a silent worker keeps its conversation; 0: 30 s
	Heartbeat   time.Duration // how often a turn renews its lease; 0: 10 s
	MaxRestarts int           // how often a newer message makes a turn start over; 0: 3
	Workers     int           // conversations that are answered at the same time; 0: 64

	// Fault is called at "turn.claimed", "turn.thinking" and "turn.answered", so that tests can stop or
	// overtake a turn there.
	Fault func(point string)

	mu   sync.Mutex
	live map[tandem.ID]map[*live]bool // turns of this process by conversation
}

// live is a running turn as those see it who want it to look at its conversation.
type live struct {
	org  tandem.ID
	look chan struct{}
}

const (
	defaultLease    = 30 * time.Second
	defaultBeat     = 10 * time.Second
	defaultRestarts = 3
	defaultWorkers  = 64                     // a turn mostly waits for its model, which takes seconds, and holds no connection while it does
	maxCrashes      = 3                      // runs of one trigger that lost their worker until a person is asked
	lookEvery       = 100 * time.Millisecond // at most, however much is heard
)

// Topics are the facts after which an AI member may have something to answer.
var Topics = []string{
	"message.received", "message.cancelled", "conversation.released", "conversation.handed_to_ai", "conversation.reopened",
	"handoff.rejected", "handoff.cancelled", "handoff.expired",
}

// Subscription is the Runner's place on the bus. A turn runs inside its handler, so that a worker
// that dies has not acknowledged the fact.
func (r *Runner) Subscription() events.Subscription {
	return events.Subscription{Name: "agents", Topics: Topics, Workers: or(r.Workers, defaultWorkers), MaxDeliver: 6, Handle: r.Wake, Wants: r.wants}
}

// poke makes turns look; those of one organization, or all when org is empty.
func poke(turns map[*live]bool, org tandem.ID) {
	for l := range turns {
		if org != "" && l.org != org {
			continue
		}
		select {
		case l.look <- struct{}{}:
		default: // it will look anyhow
		}
	}
}

const sqlConversationOf = `
SELECT conversation_id FROM messages WHERE org_id = @org AND id = @id
UNION ALL SELECT conversation_id FROM handoffs WHERE org_id = @org AND id = @id
UNION ALL SELECT id FROM conversations WHERE org_id = @org AND id = @id`

var sqlWants = `
SELECT f.n, c.id, coalesce(c.owner_kind = 'ai', ch.ai_member_id IS NOT NULL)
FROM unnest(@ids::uuid[]) WITH ORDINALITY f(id, n)
CROSS JOIN LATERAL (SELECT (SELECT conversation_id FROM (` + strings.ReplaceAll(sqlConversationOf, "@id", "f.id") + `) x LIMIT 1) AS id) v
JOIN LATERAL (SELECT * FROM conversations c WHERE c.org_id = @org AND c.id = v.id LIMIT 1) c ON true
JOIN LATERAL (SELECT * FROM channels ch WHERE ch.org_id = @org AND ch.id = c.channel_id LIMIT 1) ch ON true`

// wants reports of which facts the conversation is an AI member's, or nobody's with one on its
// channel. What people do among themselves costs no more than this one look.
func (r *Runner) wants(ctx context.Context, tx pgx.Tx, facts []events.Fact) ([]bool, error) {
	yes, ids := make([]bool, len(facts)), make([]tandem.ID, len(facts))
	for i, f := range facts {
		ids[i] = f.Record
	}
	rows, err := tx.Query(ctx, sqlWants, pgx.StrictNamedArgs{"org": facts[0].Org, "ids": ids})
	if err != nil {
		return nil, fmt.Errorf("find conversations of facts: %w", err)
	}
	var n int
	var conv tandem.ID
	var ai bool
	_, err = pgx.ForEachRow(rows, []any{&n, &conv, &ai}, func() error {
		if yes[n-1] = ai; !ai {
			r.nudge(events.Fact{Record: conv, Topic: "conversation."})
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("find conversations of facts: %w", err)
	}
	return yes, nil
}

// Wake looks at the conversation of a fact and lets its AI member answer if the contact waits and the
// conversation is the member's, or nobody's and the channel's AI member is active. It returns when
// the turns it started have ended. Its errors are failures of the database or the bus's shutdown;
// the fact may be delivered again at any time.
func (r *Runner) Wake(ctx context.Context, f events.Fact) error {
	seen := int64(0)
	for {
		w, err := r.claim(ctx, f.Record, seen)
		if err != nil || w == nil {
			return err
		}
		newest, again, err := r.answer(ctx, w)
		if err != nil || !again {
			return err
		}
		seen = newest
	}
}

// answer runs turns until one is not superseded. It reports the newest inbound message that the
// last of them has seen, and whether the contact has written more since.
func (r *Runner) answer(ctx context.Context, w *work) (seen int64, again bool, err error) {
	ctx = tandem.WithActor(ctx, w.actor)
	timed, cancel := context.WithTimeout(ctx, w.budget.time())
	defer cancel()
	for restarts := 1; ; restarts++ {
		r.fault("turn.claimed")
		end, err := r.attempt(timed, w)
		if errors.Is(err, inbox.ErrSuperseded) {
			next, rerr := r.restart(ctx, w, restarts >= or(r.MaxRestarts, defaultRestarts))
			if rerr != nil || next == nil {
				return 0, false, rerr
			}
			w = next
			continue
		}
		again, err := r.finish(ctx, w, end, err)
		return w.Trigger, again, err
	}
}

// attempt runs one turn with its heartbeat.
func (r *Runner) attempt(ctx context.Context, w *work) (Ending, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	l := &live{org: w.Org, look: make(chan struct{}, 1)}
	r.enter(w.Conversation, l)
	var beat sync.WaitGroup
	beat.Go(func() { r.beat(ctx, cancel, w, l) })
	defer func() {
		cancel(nil)
		beat.Wait()
		r.leave(w.Conversation, l)
		r.typing(context.WithoutCancel(ctx), w, 0)
	}()
	if w.crashed {
		return "", &fault{errors.New("the worker stopped several times while answering this message")}
	}
	if w.openErr != nil {
		return "", &fault{w.openErr}
	}
	var rd reading
	err := w.read(ctx, func(ctx context.Context, tx pgx.Tx) error {
		return rd.read(ctx, tx, w.Turn, w.budget.MachineRounds >= 0)
	})
	if err != nil {
		return "", err
	}
	if err := w.budget.admit(rd.spent); err != nil {
		return "", err
	}
	return w.loop(ctx, w.request(rd, w.persona, r.Tools, time.Now()))
}

// beat renews the lease until ctx ends, and cancels the turn when it is no longer wanted.
func (r *Runner) beat(ctx context.Context, cancel context.CancelCauseFunc, w *work, l *live) {
	every := orTime(r.Heartbeat, defaultBeat)
	tick := time.NewTicker(every)
	defer tick.Stop()
	var looked time.Time
	r.typing(ctx, w, every+2*time.Second)
	for {
		due := false
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			due = true
			r.typing(ctx, w, every+2*time.Second)
		case <-l.look:
			select {
			case <-ctx.Done():
				return
			case <-time.After(lookEvery - time.Since(looked)): // at once when the last look is long ago
			}
		}
		looked = time.Now()
		var err error
		if due {
			err = w.tx(ctx, func(ctx context.Context, tx pgx.Tx) error {
				if err := w.hold(ctx, tx); err != nil { // first, because it takes the locks in everybody's order
					return err
				}
				return inbox.Heartbeat(ctx, tx, w.Conversation, w.Run, w.Fence, orTime(r.Lease, defaultLease))
			})
		} else {
			err = w.read(ctx, w.look)
		}
		switch {
		case err == nil:
		case errors.Is(err, inbox.ErrFenceMoved), errors.Is(err, inbox.ErrSuperseded):
			cancel(err)
			return
		case ctx.Err() == nil:
			r.log().WarnContext(ctx, "heartbeat failed", "run", w.Run, "err", err)
		}
	}
}

// typing shows for how long the AI member will be writing; 0 says that it stopped.
func (r *Runner) typing(ctx context.Context, w *work, d time.Duration) {
	if r.Signal == nil || ctx.Err() != nil {
		return
	}
	body, err := json.Marshal(map[string]any{"conversation_id": w.Conversation, "member": w.Member, "until": time.Now().UTC().Add(d)})
	if err != nil {
		return
	}
	if err := r.Signal(ctx, "sig."+string(w.Org)+".typing", body); err != nil {
		r.log().DebugContext(ctx, "typing not shown", "err", err)
	}
}

func (r *Runner) enter(conv tandem.ID, l *live) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.live == nil {
		r.live = map[tandem.ID]map[*live]bool{}
	}
	if r.live[conv] == nil {
		r.live[conv] = map[*live]bool{}
	}
	r.live[conv][l] = true
}

func (r *Runner) leave(conv tandem.ID, l *live) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if delete(r.live[conv], l); len(r.live[conv]) == 0 {
		delete(r.live, conv)
	}
}

func (r *Runner) fault(point string) {
	if r.Fault != nil {
		r.Fault(point)
	}
}

func (r *Runner) log() *slog.Logger {
	if r.Logger != nil {
		return r.Logger
	}
	return slog.Default()
}

func or(n, d int) int {
	if n <= 0 {
		return d
	}
	return n
}

func orTime(t, d time.Duration) time.Duration {
	if t <= 0 {
		return d
	}
	return t
}
