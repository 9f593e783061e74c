package crm

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem"
)

// StageStay is how long a lead or a deal was on a stage.
type StageStay struct {
	ID        tandem.ID         `json:"-" db:"id"`
	Stage     LeadStage         `json:"stage" db:"stage"`
	EnteredAt time.Time         `json:"entered_at" db:"entered_at"`
	LeftAt    *time.Time        `json:"left_at" db:"left_at" doc:"Null while it is there."`
	Seconds   int64             `json:"seconds" db:"seconds" doc:"How long it was there, so far."`
	Actor     *tandem.MemberRef `json:"actor" db:"actor" doc:"The member who put it there; null when Tandem itself did."`
}

const (
	// Whoever began earlier may have waited for whoever put it there: time does not run backwards.
	sqlLeave = `
UPDATE stage_history SET left_at = greatest(now(), entered_at)
WHERE org_id = @org AND noun = @noun AND record_id = @record AND left_at IS NULL RETURNING left_at`
	sqlFirstStay = `
INSERT INTO stage_history (org_id, id, noun, record_id, stage_id, entered_at, left_at)
VALUES (@org, @id, @noun, @record, @stage, @since, greatest(now(), @since)) RETURNING left_at`
	sqlEnter = `
INSERT INTO stage_history (org_id, id, noun, record_id, stage_id, entered_at, actor_id)
VALUES (@org, @id, @noun, @record, @stage, coalesce(@at, now()), @actor)`
	sqlStays = `
SELECT h.id, h.entered_at, h.left_at, floor(extract(epoch FROM coalesce(h.left_at, greatest(now(), h.entered_at)) - h.entered_at))::bigint AS seconds,
	jsonb_build_object('id', s.id, 'name', s.name, 'kind', s.kind) AS stage,
	CASE WHEN m.id IS NOT NULL THEN jsonb_build_object('id', m.id, 'kind', m.kind, 'name', m.name) END AS actor
FROM stage_history h
JOIN stages s ON s.org_id = h.org_id AND s.id = h.stage_id
LEFT JOIN members m ON m.org_id = h.org_id AND m.id = h.actor_id
WHERE h.org_id = @org AND h.noun = @noun AND h.record_id = @record`
)

// enter notes that a new record is on a stage.
func enter(ctx context.Context, tx pgx.Tx, a tandem.Actor, noun string, id, stage tandem.ID, at *time.Time) error {
	if _, err := tx.Exec(ctx, sqlEnter, pgx.StrictNamedArgs{
		"org": a.Org, "id": tandem.NewID(), "noun": noun, "record": id, "stage": stage, "at": at, "actor": a.Member.Ptr(),
	}); err != nil {
		return fmt.Errorf("note the stage of a %s: %w", noun, err)
	}
	return nil
}

// pass notes that a record, whose row the caller holds, goes from a stage, where it has been since then, to another. What was
// never moved has no history yet: a lead is opened without any.
func pass(ctx context.Context, tx pgx.Tx, a tandem.Actor, noun string, id, from tandem.ID, since time.Time, to tandem.ID) error {
	left, err := stayOver(ctx, tx, sqlLeave, pgx.StrictNamedArgs{"org": a.Org, "noun": noun, "record": id})
	if err == nil && left == nil {
		left, err = stayOver(ctx, tx, sqlFirstStay, pgx.StrictNamedArgs{
			"org": a.Org, "id": tandem.NewID(), "noun": noun, "record": id, "stage": from, "since": since,
		})
	}
	if err != nil {
		return fmt.Errorf("note the stage of a %s: %w", noun, err)
	}
	return enter(ctx, tx, a, noun, id, to, left)
}

// stayOver runs what ends a stay and returns when that is, or nil when there was none.
func stayOver(ctx context.Context, tx pgx.Tx, sql string, args pgx.StrictNamedArgs) (*time.Time, error) {
	rows, _ := tx.Query(ctx, sql, args) // CollectRows tells its error
	ends, err := pgx.CollectRows(rows, pgx.RowTo[time.Time])
	if err != nil || len(ends) == 0 {
		return nil, err
	}
	return &ends[0], nil
}

// stays returns one page of a record's history, the first stage first.
func stays(ctx context.Context, tx pgx.Tx, org tandem.ID, noun string, id tandem.ID, q tandem.Query) (p tandem.Page[StageStay], err error) {
	sql, args := sqlStays, pgx.StrictNamedArgs{"org": org, "noun": noun, "record": id}
	if q.Cursor != "" {
		key, err := tandem.DecodeCursor(q.Cursor, 2)
		if err != nil {
			return p, err
		}
		at, aerr := time.Parse(time.RFC3339Nano, key[0])
		after, ierr := tandem.ParseID(key[1])
		if aerr != nil || ierr != nil {
			return p, tandem.InvalidFields(tandem.FieldError{Field: "cursor", Message: "This is not a cursor of this list. Leave it out to start at the beginning."})
		}
		sql += " AND (h.entered_at, h.id) > (@at, @after)"
		args["at"], args["after"] = at, after
	}
	rows, err := tx.Query(ctx, sql+" ORDER BY h.entered_at, h.id LIMIT "+strconv.Itoa(q.Size()+1), args)
	if err != nil {
		return p, fmt.Errorf("list the stages of a %s: %w", noun, err)
	}
	items, err := pgx.CollectRows(rows, pgx.RowToStructByName[StageStay])
	if err != nil {
		return p, fmt.Errorf("list the stages of a %s: %w", noun, err)
	}
	return tandem.PageOf(items, q.Size(), func(s StageStay) []string {
		return []string{s.EnteredAt.UTC().Format(time.RFC3339Nano), string(s.ID)}
	}), nil
}

// Stages returns one page of the stages that a lead has been on, the first one first. A lead that was never moved has been on
// its stage since it was opened.
func (s leads) Stages(ctx context.Context, tx pgx.Tx, id tandem.ID, q tandem.Query) (p tandem.Page[StageStay], err error) {
	a, err := s.May(ctx, "read")
	if err != nil {
		return p, err
	}
	l, err := s.Load(ctx, tx, id, false)
	if err != nil {
		return p, err
	}
	if p, err = stays(ctx, tx, a.Org, s.Noun, id, q); err != nil || len(p.Items) > 0 || q.Cursor != "" {
		return p, err
	}
	now, err := clock(ctx, tx)
	p.Items = []StageStay{{Stage: l.Stage, EnteredAt: l.StageChangedAt, Seconds: max(0, int64(now.Sub(l.StageChangedAt)/time.Second))}}
	return p, err
}

// Stages returns one page of the stages that a deal has been on, the first one first.
func (s deals) Stages(ctx context.Context, tx pgx.Tx, id tandem.ID, q tandem.Query) (p tandem.Page[StageStay], err error) {
	a, err := s.May(ctx, "read")
	if err != nil {
		return p, err
	}
	if _, err := s.Load(ctx, tx, id, false); err != nil {
		return p, err
	}
	return stays(ctx, tx, a.Org, s.Noun, id, q)
}
