package events

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/bus"
	"github.com/tandemhq/tandem/internal/pg"
)

const deadLetterSQL = `SELECT msg_id::text, subject, body FROM dead_letters WHERE org_id = @org AND id = @id AND consumer = @consumer`

// Redeliver gives a dead letter of the actor's organization to its subscription once more,
// here and now, and deletes it when that succeeds. With Apply, effect and deletion commit
// together. A letter that is not there, or is another subscription's, is NotFound; what Apply or
// Handle returns is returned, and the letter stays. The caller checks permissions.
func Redeliver(ctx context.Context, db *pg.DB, s Subscription, letter tandem.ID) error {
	a, err := tandem.ActorFrom(ctx)
	if err != nil {
		return err
	}
	r := &reader{db: db, s: s}
	ctx = systemOf(ctx, a.Org)
	apply := s.Apply
	if s.ApplyAll != nil {
		apply = func(ctx context.Context, tx pgx.Tx, f Fact) error {
			if s.Before != nil {
				if err := s.Before(ctx, tx); err != nil {
					return err
				}
			}
			return s.ApplyAll(ctx, tx, []Fact{f})
		}
	}
	if apply != nil {
		return db.Tx(ctx, func(ctx context.Context, tx pgx.Tx) error {
			ctx, f, err := r.letter(ctx, tx, deadLetterSQL+" FOR UPDATE", a.Org, letter) // two people press the button at once
			if err != nil {
				return err
			}
			if err := apply(ctx, tx, f); err != nil {
				return err
			}
			return deleteLetter(ctx, tx, a.Org, letter)
		})
	}
	var f Fact
	hctx := ctx
	err = db.Read(ctx, func(ctx context.Context, tx pgx.Tx) (err error) {
		hctx, f, err = r.letter(ctx, tx, deadLetterSQL, a.Org, letter)
		return err
	})
	if err != nil {
		return err
	}
	if err := s.Handle(hctx, f); err != nil {
		return err
	}
	return db.Tx(ctx, func(ctx context.Context, tx pgx.Tx) error { return deleteLetter(ctx, tx, a.Org, letter) })
}

// letter reads a dead letter's fact and returns ctx on its event's causal chain.
func (r *reader) letter(ctx context.Context, tx pgx.Tx, q string, org, id tandem.ID) (context.Context, Fact, error) {
	var m bus.Msg
	err := tx.QueryRow(ctx, q, pgx.StrictNamedArgs{"org": org, "id": id, "consumer": r.s.Name}).Scan(&m.ID, &m.Subject, &m.Body)
	if pg.NoRows(err) {
		return ctx, Fact{}, tandem.Errorf(tandem.NotFound, "There is no such failed message.")
	}
	if err != nil {
		return ctx, Fact{}, fmt.Errorf("read the dead letter: %w", err)
	}
	f, err := decode(m)
	if err != nil {
		return ctx, f, err
	}
	ctx, _, err = r.look(ctx, tx, lookSQL, f)
	return ctx, f, err
}

func deleteLetter(ctx context.Context, tx pgx.Tx, org, id tandem.ID) error {
	_, err := tx.Exec(ctx, "DELETE FROM dead_letters WHERE org_id = $1 AND id = $2", org, id)
	return wrap(err, "delete the dead letter")
}
