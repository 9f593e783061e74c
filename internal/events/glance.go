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
	done chan struct{} // closed when todo and err are set
	todo bool
	err  error
}

// look reports whether the fact is new and wanted. One that is not wanted is remembered.
func (l *glancer) look(ctx context.Context, f Fact) (bool, error) {
	g := &glance{f: f, done: make(chan struct{})}
	l.mu.Lock()
	l.wait = append(l.wait, g)
	if !l.busy {
		l.busy = true
		go l.run(context.WithoutCancel(ctx))
	}
	l.mu.Unlock()
	<-g.done // within statementLimit, as run is
	return g.todo, g.err
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
	newFactsSQL = `
	SELECT u.id::text FROM unnest(@ids::uuid[]) u(id)
	WHERE NOT EXISTS (SELECT FROM processed p WHERE p.consumer = @consumer AND p.msg_id = u.id)`
	rememberAllSQL = `
	INSERT INTO processed (consumer, msg_id) SELECT @consumer, u.id FROM unnest(@ids::uuid[]) u(id) ORDER BY u.id ON CONFLICT DO NOTHING`
)

// together asks organization by organization. Wants writes nothing, so that what it says of a
// fact that another delivery is just remembering does no harm.
func (l *glancer) together(ctx context.Context, batch []*glance) error {
	ctx, cancel := context.WithTimeout(ctx, statementLimit)
	defer cancel()
	ids := make([]tandem.ID, len(batch))
	for i, g := range batch {
		ids[i] = g.f.ID
	}
	return l.db.Global(ctx, func(ctx context.Context, tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, quickPlansSQL); err != nil {
			return fmt.Errorf("look at facts: %w", err)
		}
		rows, err := tx.Query(ctx, newFactsSQL, pgx.StrictNamedArgs{"consumer": l.s.Name, "ids": ids})
		if err != nil {
			return fmt.Errorf("look at facts: %w", err)
		}
		fresh, err := pgx.CollectRows(rows, pgx.RowTo[tandem.ID])
		if err != nil {
			return fmt.Errorf("look at facts: %w", err)
		}
		isFresh := make(map[tandem.ID]bool, len(fresh))
		for _, id := range fresh {
			isFresh[id] = true
		}
		perOrg := map[tandem.ID][]*glance{}
		for _, g := range batch {
			if g.todo = isFresh[g.f.ID]; g.todo {
				perOrg[g.f.Org] = append(perOrg[g.f.Org], g)
			}
		}
		var unwanted []tandem.ID
		for org, list := range perOrg {
			if err := pg.EnterOrg(ctx, tx, org); err != nil {
				return err
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
		_, err = tx.Exec(ctx, rememberAllSQL, pgx.StrictNamedArgs{"consumer": l.s.Name, "ids": unwanted})
		return wrap(err, "remember facts")
	})
}
