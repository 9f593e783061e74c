package crm

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/internal/events"
	"github.com/tandemhq/tandem/internal/pg"
)

// Board is a row of stages that leads move along.
type Board struct {
	ID        tandem.ID `json:"id" db:"id"`
	Name      string    `json:"name" db:"name"`
	Kind      string    `json:"kind" db:"kind" enum:"lead,deal"`
	IsDefault bool      `json:"is_default" db:"is_default"` // where a lead opens when nobody names a board
	Stages    []Stage   `json:"stages" db:"-" nullable:"false"`
}

// Stage is one column of a board.
type Stage struct {
	ID        tandem.ID `json:"id" db:"id"`
	BoardID   tandem.ID `json:"board_id" db:"board_id"`
	Name      string    `json:"name" db:"name"`
	Position  int       `json:"position" db:"position"`
	Kind      string    `json:"kind" db:"kind" enum:"open,won,lost"`
	LeadCount int       `json:"lead_count" db:"lead_count"` // 1000 means that many or more
}

// NewStage is a stage of a board to be made.
type NewStage struct {
	Name string
	Kind string // open, won or lost; empty means open
}

type (
	boards struct{}
	stages struct{}
)

var (
	// Boards lists and gets boards with their stages.
	Boards boards
	// Stages lists and gets stages.
	Stages stages
)

const (
	sqlBoards = `SELECT b.id, b.name, b.kind, b.is_default FROM boards b WHERE b.org_id = @org`
	// The count stops at 1,000: what a column's head shows, at a price that does not grow. Only the stages that are
	// shown are counted: the page is cut first.
	sqlStages = `
SELECT s.id, s.board_id, s.name, s.position, s.kind, n.lead_count
FROM (SELECT id, board_id, name, position, kind FROM stages WHERE org_id = @org%s ORDER BY board_id, position%s) s
CROSS JOIN LATERAL (
	SELECT count(*)::int AS lead_count FROM (
		SELECT FROM leads l WHERE l.org_id = @org AND l.stage_id = s.id AND l.archived_at IS NULL LIMIT 1000) few) n
ORDER BY s.board_id, s.position`
	sqlAddBoard = `
INSERT INTO boards (org_id, id, name, is_default)
VALUES (@org, @id, @name, NOT EXISTS (SELECT FROM boards WHERE org_id = @org AND kind = 'lead' AND is_default))`
	sqlAddStage = `INSERT INTO stages (org_id, id, board_id, name, position, kind) VALUES (@org, @id, @board, @name, @position, @kind)`
)

// mayReadBoards asks for the permission that boards, stages and leads share.
func mayReadBoards(ctx context.Context) (tandem.Actor, error) { return Leads.May(ctx, "read") }

// List returns one page of boards with their stages, oldest first. It knows no filters.
func (boards) List(ctx context.Context, tx pgx.Tx, q tandem.Query) (p tandem.Page[Board], err error) {
	a, err := mayReadBoards(ctx)
	if err != nil {
		return p, err
	}
	if err := onlyFilters(q); err != nil {
		return p, err
	}
	sql, args := sqlBoards, pgx.StrictNamedArgs{"org": a.Org}
	if q.Cursor != "" {
		key, err := tandem.DecodeCursor(q.Cursor, 1)
		if err != nil {
			return p, err
		}
		if args["after"], err = tandem.ParseID(key[0]); err != nil {
			return p, badCursor()
		}
		sql += " AND b.id > @after"
	}
	rows, err := tx.Query(ctx, sql+" ORDER BY b.id LIMIT "+limitOf(q.Size()), args)
	if err != nil {
		return p, fmt.Errorf("list boards: %w", err)
	}
	items, err := pgx.CollectRows(rows, pgx.RowToStructByName[Board])
	if err != nil {
		return p, fmt.Errorf("list boards: %w", err)
	}
	p = tandem.PageOf(items, q.Size(), func(b Board) []string { return []string{string(b.ID)} })
	return p, withStages(ctx, tx, a.Org, p.Items)
}

// limitOf writes how many rows a page reads, as a number in the text: a plan that is made once for every limit expects to
// read a tenth of the table, and counts the leads of stages that no page shows.
func limitOf(size int) string { return strconv.Itoa(size + 1) }

// Get returns one board with its stages.
func (boards) Get(ctx context.Context, tx pgx.Tx, id tandem.ID) (Board, error) {
	a, err := mayReadBoards(ctx)
	if err != nil {
		return Board{}, err
	}
	return boardWhere(ctx, tx, a.Org, " AND b.id = @id", id)
}

// Default returns the board on which leads open when nobody names another.
func (boards) Default(ctx context.Context, tx pgx.Tx) (Board, error) {
	a, err := tandem.ActorFrom(ctx)
	if err != nil {
		return Board{}, err
	}
	return boardWhere(ctx, tx, a.Org, " AND b.kind = 'lead' AND b.is_default", "")
}

func boardWhere(ctx context.Context, tx pgx.Tx, org tandem.ID, cond string, id tandem.ID) (b Board, err error) {
	none := tandem.Errorf(tandem.NotFound, "There is no such board.")
	args := pgx.StrictNamedArgs{"org": org}
	if strings.Contains(cond, "@id") {
		if _, err := tandem.ParseID(string(id)); err != nil {
			return b, none
		}
		args["id"] = id
	}
	rows, err := tx.Query(ctx, sqlBoards+cond, args)
	if err != nil {
		return b, fmt.Errorf("get board: %w", err)
	}
	b, err = pgx.CollectExactlyOneRow(rows, pgx.RowToStructByName[Board])
	switch {
	case pg.NoRows(err):
		return b, none
	case err != nil:
		return b, fmt.Errorf("get board: %w", err)
	}
	one := []Board{b}
	err = withStages(ctx, tx, org, one)
	return one[0], err
}

// withStages fills in the stages of all boards with one query.
func withStages(ctx context.Context, tx pgx.Tx, org tandem.ID, list []Board) error {
	ids, at := make([]tandem.ID, len(list)), map[tandem.ID]int{}
	for i := range list {
		ids[i], at[list[i].ID], list[i].Stages = list[i].ID, i, []Stage{}
	}
	rows, err := tx.Query(ctx, fmt.Sprintf(sqlStages, " AND board_id = ANY(@boards::uuid[])", ""), pgx.StrictNamedArgs{"org": org, "boards": ids})
	if err != nil {
		return fmt.Errorf("list stages: %w", err)
	}
	all, err := pgx.CollectRows(rows, pgx.RowToStructByName[Stage])
	if err != nil {
		return fmt.Errorf("list stages: %w", err)
	}
	for _, s := range all {
		b := &list[at[s.BoardID]]
		b.Stages = append(b.Stages, s)
	}
	return nil
}

// List returns one page of stages in the order of their boards and positions; the filter is board_id.
func (stages) List(ctx context.Context, tx pgx.Tx, q tandem.Query) (p tandem.Page[Stage], err error) {
	a, err := mayReadBoards(ctx)
	if err != nil {
		return p, err
	}
	if err := onlyFilters(q, "board_id"); err != nil {
		return p, err
	}
	where, args := "", pgx.StrictNamedArgs{"org": a.Org}
	if text := q.Filter["board_id"]; text != "" {
		if args["board"], err = tandem.ParseID(text); err != nil {
			return p, tandem.InvalidFields(tandem.FieldError{Field: "board_id", Message: "This must be an id."})
		}
		where += " AND board_id = @board"
	}
	if q.Cursor != "" {
		key, err := tandem.DecodeCursor(q.Cursor, 2)
		if err != nil {
			return p, err
		}
		board, berr := tandem.ParseID(key[0])
		position, perr := strconv.ParseInt(key[1], 10, 32)
		if berr != nil || perr != nil {
			return p, badCursor()
		}
		where += " AND (board_id, position) > (@after, @position)"
		args["after"], args["position"] = board, position
	}
	rows, err := tx.Query(ctx, fmt.Sprintf(sqlStages, where, " LIMIT "+limitOf(q.Size())), args)
	if err != nil {
		return p, fmt.Errorf("list stages: %w", err)
	}
	items, err := pgx.CollectRows(rows, pgx.RowToStructByName[Stage])
	if err != nil {
		return p, fmt.Errorf("list stages: %w", err)
	}
	return tandem.PageOf(items, q.Size(), func(s Stage) []string { return []string{string(s.BoardID), strconv.Itoa(s.Position)} }), nil
}

// Get returns one stage.
func (stages) Get(ctx context.Context, tx pgx.Tx, id tandem.ID) (Stage, error) {
	a, err := mayReadBoards(ctx)
	if err != nil {
		return Stage{}, err
	}
	return stageByID(ctx, tx, a.Org, id)
}

func stageByID(ctx context.Context, tx pgx.Tx, org, id tandem.ID) (s Stage, err error) {
	none := tandem.Errorf(tandem.NotFound, "There is no such stage.")
	if _, err := tandem.ParseID(string(id)); err != nil {
		return s, none
	}
	rows, err := tx.Query(ctx, fmt.Sprintf(sqlStages, " AND id = @id", ""), pgx.StrictNamedArgs{"org": org, "id": id})
	if err != nil {
		return s, fmt.Errorf("get stage: %w", err)
	}
	s, err = pgx.CollectExactlyOneRow(rows, pgx.RowToStructByName[Stage])
	switch {
	case pg.NoRows(err):
		return s, none
	case err != nil:
		return s, fmt.Errorf("get stage: %w", err)
	}
	return s, nil
}

// SeedBoard makes a board with its stages in the order given; the first board of an
// organization becomes its default. It needs at least one open stage, or it is Invalid; a
// name that is taken is Conflict.
func SeedBoard(ctx context.Context, tx pgx.Tx, name string, list []NewStage) (Board, error) {
	a, err := Leads.May(ctx, "write")
	if err != nil {
		return Board{}, err
	}
	if byMachine(a) {
		return Board{}, tandem.Errorf(tandem.Forbidden, "Only people make boards.")
	}
	name = clean(name, 120)
	var wrong []tandem.FieldError
	if name == "" {
		wrong = append(wrong, tandem.FieldError{Field: "name", Message: "A board needs a name."})
	}
	open, names := 0, map[string]bool{}
	for i, s := range list {
		list[i].Name = clean(s.Name, 120)
		if s.Kind == "" {
			list[i].Kind = "open"
		}
		switch list[i].Kind {
		case "open":
			open++
		case "won", "lost":
		default:
			wrong = append(wrong, tandem.FieldError{Field: "stages", Message: "A stage is open, won or lost."})
		}
		if list[i].Name == "" || names[list[i].Name] {
			wrong = append(wrong, tandem.FieldError{Field: "stages", Message: "Each stage needs a name of its own."})
		}
		names[list[i].Name] = true
	}
	if open == 0 || len(list) > 100 {
		wrong = append(wrong, tandem.FieldError{Field: "stages", Message: "A board needs 1 to 100 stages, one of them open."})
	}
	if len(wrong) > 0 {
		return Board{}, tandem.InvalidFields(wrong...)
	}
	id := tandem.NewID()
	if _, err := tx.Exec(ctx, sqlAddBoard, pgx.StrictNamedArgs{"org": a.Org, "id": id, "name": name}); err != nil {
		if pg.IsUnique(err, "") {
			return Board{}, tandem.Wrap(tandem.Conflict, err, "There is already a board called %s.", name)
		}
		return Board{}, fmt.Errorf("add board: %w", err)
	}
	for i, s := range list {
		if _, err := tx.Exec(ctx, sqlAddStage, pgx.StrictNamedArgs{
			"org": a.Org, "id": tandem.NewID(), "board": id, "name": s.Name, "position": i + 1, "kind": s.Kind,
		}); err != nil {
			return Board{}, fmt.Errorf("add stage: %w", err)
		}
	}
	if _, err := events.Emit(ctx, tx, tandem.Event{
		Noun: "board", Verb: "created", Record: id, Category: "crm", Severity: "info", Description: a.Name + " made the board " + name,
	}); err != nil {
		return Board{}, fmt.Errorf("add board: %w", err)
	}
	return boardWhere(ctx, tx, a.Org, " AND b.id = @id", id)
}

// onlyFilters refuses filters and searches that a list does not know.
func onlyFilters(q tandem.Query, names ...string) error {
	var wrong []tandem.FieldError
next:
	for f, v := range q.Filter {
		for _, n := range names {
			if f == n {
				continue next
			}
		}
		if v != "" {
			wrong = append(wrong, tandem.FieldError{Field: f, Message: "A list of this kind cannot be filtered by this field."})
		}
	}
	if q.Search != "" {
		wrong = append(wrong, tandem.FieldError{Field: "search", Message: "This list cannot be searched."})
	}
	if len(wrong) > 0 {
		return tandem.InvalidFields(wrong...)
	}
	return nil
}

func badCursor() error {
	return tandem.InvalidFields(tandem.FieldError{Field: "cursor", Message: "This is not a cursor of this list. Leave it out to start at the beginning."})
}
