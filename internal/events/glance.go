package events

import (
	"context"
	"fmt"
	"sync"

	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/internal/pg"
)

const (
	glances    = 64  // facts that are looked at while others are
	glanceMost = 256 // facts in one look
)

// glancer asks Wants about whatever facts have come up while it asked about those before: under
// load one transaction remembers many facts that nobody wants.
type glancer struct {
	db *pg.DB
	s  Subscription

	mu   sync.Mutex
	wait []*glance
	busy bool
}

type glance struct {
	f    Fact
	done chan struct{} // closed when the rest is set
	todo bool
	ctx  context.Context // for Handle, on the causal chain of the fact's event
	err  error
}

// look reports whether the fact is new and wanted, and the context to handle it in. One that is not wanted is remembered.
func (l *glancer) look(ctx context.Context, f Fact) (context.Context, bool, error) {
	g := &glance{f: f, ctx: ctx, done: make(chan struct{})}
	l.mu.Lock()
	l.wait = append(l.wait, g)
	if !l.busy {
		l.busy = true
		go l.run(context.WithoutCancel(ctx))
	}
	l.mu.Unlock()
	<-g.done // within statementLimit, as run is
	return g.ctx, g.todo, g.err
}

// run looks until nothing is left to look at.
func (l *glancer) run(ctx context.Context) {
	for {
		l.mu.Lock()
		n := min(len(l.wait), glanceMost)
		batch := l.wait[:n:n]
		l.wait = l.wait[n:]
		l.busy = n > 0
		l.mu.Unlock()
		if n == 0 {
			return
		}
		err := l.together(ctx, batch)
		for _, g := range batch {
			if err != nil && n > 1 { // one of them may be at fault: each by itself
				g.err = l.together(ctx, []*glance{g})
			} else {
				g.err = err
			}
			close(g.done)
		}
	}
}

const (
	enterSQL = quickPlansSQL + `, set_config('app.org_id', @org, true)`

	// Those that are new, each with the causal chain of its event, looked up one by one: a plan that reads all of processed
	// instead is what a server without statistics would choose.
	newFactsSQL = `
	SELECT u.id::text, (SELECT e.chain_id::text FROM events e WHERE e.org_id = @org AND e.id = u.id)
	FROM unnest(@ids::uuid[]) u(id)
	WHERE (SELECT p.at FROM processed p WHERE p.consumer = @consumer AND p.msg_id = u.id) IS NULL`

	rememberAllSQL = `
	INSERT INTO processed (consumer, msg_id) SELECT @consumer, u.id FROM unnest(@ids::uuid[]) u(id) ORDER BY u.id ON CONFLICT DO NOTHING`
)

// together asks organization by organization. Wants writes nothing, so that what it says of a
// fact that another delivery is just remembering does no harm.
func (l *glancer) together(ctx context.Context, batch []*glance) error {
	ctx, cancel := context.WithTimeout(ctx, statementLimit)
	defer cancel()
	return l.db.Global(ctx, func(ctx context.Context, tx pgx.Tx) error {
		perOrg := map[tandem.ID][]*glance{}
		for _, g := range batch {
			g.todo = false
			perOrg[g.f.Org] = append(perOrg[g.f.Org], g)
		}
		var unwanted []tandem.ID
		for org, list := range perOrg {
			list, err := l.fresh(ctx, tx, org, list)
			if err != nil {
				return err
			}
			if len(list) == 0 {
				continue
			}
			facts := make([]Fact, len(list))
			for i, g := range list {
				facts[i] = g.f
			}
			wanted, err := l.s.Wants(systemOf(ctx, org), tx, facts)
			if err != nil {
				return err
			}
			for i, g := range list {
				if g.todo = wanted[i]; !g.todo {
					unwanted = append(unwanted, g.f.ID)
				}
			}
		}
		if len(unwanted) == 0 {
			return nil
		}
		_, err := tx.Exec(ctx, rememberAllSQL, pgx.StrictNamedArgs{"consumer": l.s.Name, "ids": unwanted})
		return wrap(err, "remember facts")
	})
}

// fresh enters the organization and returns the glances at facts that are new.
func (l *glancer) fresh(ctx context.Context, tx pgx.Tx, org tandem.ID, list []*glance) (out []*glance, err error) {
	ids := make([]tandem.ID, len(list))
	for i, g := range list {
		ids[i] = g.f.ID
	}
	chains := map[tandem.ID]*tandem.ID{}
	b := &pgx.Batch{}
	b.Queue(enterSQL, pgx.StrictNamedArgs{"org": org})
	b.Queue(newFactsSQL, pgx.StrictNamedArgs{"org": org, "consumer": l.s.Name, "ids": ids}).Query(func(rows pgx.Rows) error {
		var id tandem.ID
		var chain *tandem.ID
		_, err := pgx.ForEachRow(rows, []any{&id, &chain}, func() error {
			chains[id] = chain
			return nil
		})
		return err
	})
	if err := tx.SendBatch(ctx, b).Close(); err != nil {
		return nil, fmt.Errorf("look at facts: %w", err)
	}
	for _, g := range list {
		if chain, ok := chains[g.f.ID]; ok {
			g.ctx, out = onChain(g.ctx, g.f.Org, chain), append(out, g)
		}
	}
	return out, nil
}
