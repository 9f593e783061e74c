package crm

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/internal/pg"
)

// target is a stage that something may move to.
type target struct {
	Board       tandem.ID `db:"board_id"`
	ID          tandem.ID `db:"id"`
	Name        string    `db:"name"`
	Kind        string    `db:"kind"`
	Probability int       `db:"probability"`
}

func (t target) closes() bool { return t.Kind != "open" }

// Both rows are held against being archived or changed until the move is over.
const sqlTarget = `
SELECT s.board_id, s.id, s.name, s.kind, s.probability
FROM stages s JOIN boards b ON b.org_id = s.org_id AND b.id = s.board_id
WHERE s.org_id = @org AND s.board_id = @board AND s.id = @stage AND s.archived_at IS NULL AND b.archived_at IS NULL
FOR KEY SHARE OF s, b`

// targetOn returns a stage of the board that a record, called word, may move to; another is Invalid.
func targetOn(ctx context.Context, tx pgx.Tx, org, board, stage tandem.ID, word string) (t target, err error) {
	none := tandem.InvalidFields(tandem.FieldError{Field: "stage_id", Message: "This is not a stage of the " + word + "'s board."})
	if _, err := tandem.ParseID(string(stage)); err != nil {
		return t, none
	}
	rows, err := tx.Query(ctx, sqlTarget, pgx.StrictNamedArgs{"org": org, "board": board, "stage": stage})
	if err != nil {
		return t, fmt.Errorf("find stage: %w", err)
	}
	t, err = pgx.CollectExactlyOneRow(rows, pgx.RowToStructByName[target])
	if pg.NoRows(err) {
		return t, none
	}
	if err != nil {
		return t, fmt.Errorf("find stage: %w", err)
	}
	return t, nil
}

// Only the board and the stage that come out are locked, as the record's foreign keys will lock them anyway.
const sqlEntry = `
SELECT b.id AS board_id, s.id, s.name, s.kind, s.probability
FROM boards b JOIN LATERAL (
	SELECT s.id, s.name, s.kind, s.probability FROM stages s
	WHERE s.org_id = b.org_id AND s.board_id = b.id AND s.kind = 'open' AND s.archived_at IS NULL ORDER BY s.position LIMIT 1 FOR KEY SHARE) s ON true
WHERE b.org_id = @org AND b.kind = @kind AND b.archived_at IS NULL AND CASE
	WHEN @board::uuid IS NOT NULL THEN b.id = @board::uuid
	WHEN @name <> '' THEN lower(b.name) = lower(@name)
	ELSE b.is_default END
ORDER BY b.id LIMIT 1 FOR KEY SHARE OF b`

// entry returns the first open stage of the board of a kind that has this id, or else this name, or else is the default.
// No such board is NotFound.
func entry(ctx context.Context, tx pgx.Tx, org tandem.ID, kind string, board tandem.ID, name string) (t target, err error) {
	none := tandem.Errorf(tandem.NotFound, "There is no such board with an open stage.")
	if _, err := tandem.ParseID(string(board)); err != nil && board != "" {
		return t, none
	}
	rows, err := tx.Query(ctx, sqlEntry, pgx.StrictNamedArgs{"org": org, "kind": kind, "board": board.Ptr(), "name": name})
	if err != nil {
		return t, fmt.Errorf("find board: %w", err)
	}
	t, err = pgx.CollectExactlyOneRow(rows, pgx.RowToStructByName[target])
	if pg.NoRows(err) {
		return t, none
	}
	if err != nil {
		return t, fmt.Errorf("find board: %w", err)
	}
	return t, nil
}

// stillThere is Conflict when a restored record, called word, would come back to a stage that is archived, or that is of
// another kind by now.
func stillThere(ctx context.Context, tx pgx.Tx, word string, board, stage tandem.ID, closed bool) error {
	a, err := tandem.ActorFrom(ctx)
	if err != nil {
		return err
	}
	t, err := targetOn(ctx, tx, a.Org, board, stage, word)
	if tandem.KindOf(err) == tandem.Invalid || err == nil && t.closes() != closed {
		return tandem.Errorf(tandem.Conflict, "The stage of this %s is archived, or no longer what it was. Restore it first.", word)
	}
	return err
}
