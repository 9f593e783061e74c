// Package loose knows the contents of the file store that no record names: those of an upload that is under way or was
// cut off, and those whose last record is gone. Storing bytes and committing the row that names them cannot be one step;
// this list, entered before the first and left with the second, is what makes sure that nothing is kept for ever that
// nobody can find.
package loose

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/internal/blob"
	"github.com/tandemhq/tandem/internal/pg"
)

// Add enters a content of the actor's organization. Commit it before the content is stored; and in the transaction that
// removes the last row that names one.
func Add(ctx context.Context, tx pgx.Tx, id tandem.ID) error {
	a, err := tandem.ActorFrom(ctx)
	if err != nil {
		return err
	}
	const sqlAdd = `INSERT INTO loose_blobs (org_id, id) VALUES (@org, @id)`
	if _, err := tx.Exec(ctx, sqlAdd, pgx.StrictNamedArgs{"org": a.Org, "id": id}); err != nil {
		return fmt.Errorf("enter a loose content: %w", err)
	}
	return nil
}

// Take takes a content out, in the transaction that names it. One that is being swept is Unavailable: it must be stored
// once more, under another name.
func Take(ctx context.Context, tx pgx.Tx, id tandem.ID) error {
	a, err := tandem.ActorFrom(ctx)
	if err != nil {
		return err
	}
	const sqlTake = `DELETE FROM loose_blobs WHERE org_id = @org AND id = @id AND swept_at IS NULL`
	tag, err := tx.Exec(ctx, sqlTake, pgx.StrictNamedArgs{"org": a.Org, "id": id})
	if err != nil {
		return fmt.Errorf("take a loose content: %w", err)
	}
	if tag.RowsAffected() == 0 {
		return tandem.Errorf(tandem.Unavailable, "The upload took too long and was not kept. Send the file again.")
	}
	return nil
}

// Sweeper removes what has been loose for long. Any number may run at once.
type Sweeper struct {
	DB     *pg.DB
	Store  blob.Store
	Age    time.Duration // 0 means a day
	Every  time.Duration // how often to look; 0 means 10 minutes
	Logger *slog.Logger  // nil means slog.Default
}

const (
	atOnce    = 100
	sweepTime = 5 * time.Minute
	againTime = time.Hour // after which another sweeper removes what one has begun with
)

// Run sweeps until ctx ends and then returns nil.
func (s *Sweeper) Run(ctx context.Context) error {
	every, log := s.Every, s.Logger
	if every <= 0 {
		every = 10 * time.Minute
	}
	if log == nil {
		log = slog.Default()
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		for n := atOnce; n == atOnce && ctx.Err() == nil; {
			var err error
			if n, err = s.Sweep(ctx); err != nil && ctx.Err() == nil {
				log.WarnContext(ctx, "files that nobody names stay for now", "err", err)
				break
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

const (
	sqlSweep = `
	UPDATE loose_blobs SET swept_at = now() WHERE (org_id, id) IN (
		SELECT org_id, id FROM loose_blobs
		WHERE since < now() - make_interval(secs => @age) AND (swept_at IS NULL OR swept_at < now() - make_interval(secs => @again))
		ORDER BY since LIMIT @most FOR UPDATE SKIP LOCKED)
	RETURNING org_id::text AS org, id::text AS id`

	sqlSwept = `DELETE FROM loose_blobs WHERE org_id = @org AND id = @id`
)

// Sweep removes at most a hundred contents and returns how many it has removed. The first transaction makes sure that
// nobody names them any more; the store is asked outside of any.
func (s *Sweeper) Sweep(ctx context.Context) (n int, err error) {
	ctx, cancel := context.WithTimeout(ctx, sweepTime)
	defer cancel()
	age := s.Age
	if age <= 0 {
		age = 24 * time.Hour
	}
	var keys []blob.Key
	err = s.DB.Global(ctx, func(ctx context.Context, tx pgx.Tx) error {
		rows, _ := tx.Query(ctx, sqlSweep, pgx.StrictNamedArgs{"age": age.Seconds(), "again": againTime.Seconds(), "most": atOnce}) // CollectRows tells its error
		keys, err = pgx.CollectRows(rows, pgx.RowToStructByName[blob.Key])
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("look for loose contents: %w", err)
	}
	for _, k := range keys {
		if err := s.Store.Delete(ctx, k); err != nil {
			return n, fmt.Errorf("remove a loose content: %w", err)
		}
		err := s.DB.Global(ctx, func(ctx context.Context, tx pgx.Tx) error {
			_, err := tx.Exec(ctx, sqlSwept, pgx.StrictNamedArgs{"org": k.Org, "id": k.ID})
			return err
		})
		if err != nil {
			return n, fmt.Errorf("forget a loose content: %w", err)
		}
		n++
	}
	return n, nil
}
