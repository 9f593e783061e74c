package crm

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/internal/events"
	"github.com/tandemhq/tandem/internal/pg"
	"github.com/tandemhq/tandem/internal/record"
)

// Board is a row of stages that leads or deals move along.
type Board struct {
	ID        tandem.ID `json:"id" db:"id"`
	Name      string    `json:"name" db:"name" example:"Partners" doc:"Each name once."`
	Kind      string    `json:"kind" db:"kind" enum:"lead,deal" doc:"What moves along it; lead when left out. It stays what it is."`
	IsDefault bool      `json:"is_default" db:"is_default" doc:"Whether leads, or deals, begin here when nobody names a board. One board of each kind does: setting it takes it from the other."`
	Stages    []Stage   `json:"stages" db:"-" nullable:"false" doc:"In their order. A new board has the usual ones when they are left out."`
	CreatedAt time.Time `json:"created_at" db:"created_at"`
	UpdatedAt time.Time `json:"updated_at" db:"updated_at"`
	Version   int64     `json:"version" db:"version"`
}

type boards struct{ record.Set[Board] }

// Boards is the set of boards. Only people change them: for AI members that is Forbidden.
var Boards = boards{record.Set[Board]{
	Noun: "board", Table: "boards",
	Fields: []record.Field{
		{Name: "name", Filter: true, Write: true, Needed: true, Sort: "lower(boards.name)"},
		{Name: "kind", Filter: true, Once: true},
		{Name: "is_default", Type: record.Bool, Filter: true, Write: true},
		{Name: "created_at", Type: record.Time, Filter: true},
		{Name: "updated_at", Type: record.Time, Filter: true},
	},
	Search:     []string{"boards.name"},
	Archivable: true, Label: "name", Category: "crm", Check: checkBoard,
}}

func checkBoard(b *Board) error {
	var wrong []tandem.FieldError
	if b.Name = clean(b.Name, 120); b.Name == "" {
		wrong = append(wrong, tandem.FieldError{Field: "name", Message: "A board needs a name."})
	}
	if b.Kind = cmp.Or(b.Kind, "lead"); b.Kind != "lead" && b.Kind != "deal" {
		wrong = append(wrong, tandem.FieldError{Field: "kind", Message: "Choose lead or deal."})
	}
	if len(wrong) > 0 {
		return tandem.InvalidFields(wrong...)
	}
	return nil
}

// Info describes the set, with what New takes besides the columns.
func (s boards) Info() record.Info {
	i := s.Set.Info()
	i.Fields = append(slices.Clone(i.Fields), record.Field{Name: "stages", Once: true})
	return i
}

// Parts implements parted.
func (s boards) Parts() map[string]reflect.Type {
	return map[string]reflect.Type{"stages": reflect.TypeFor[[]BoardStage]()}
}

// New reads a board to be made, with its stages or the usual ones.
func (s boards) New(raw json.RawMessage) (Board, error) {
	rest, own, err := apart(raw, "stages")
	if err != nil {
		return Board{}, err
	}
	b, err := s.Set.New(rest)
	wrong := tandem.FieldErrors(err)
	if err != nil && len(wrong) == 0 {
		return b, err
	}
	if part := own["stages"]; part != nil {
		var list []BoardStage
		if json.Unmarshal(part, &list) != nil {
			wrong = append(wrong, tandem.FieldError{Field: "stages", Message: "Give a list of stages, each with name, kind, exit_criteria, probability and color."})
		}
		if list != nil {
			b.Stages = []Stage{}
		}
		for _, n := range list {
			b.Stages = append(b.Stages, n.stage())
		}
	}
	if len(wrong) > 0 {
		return b, tandem.InvalidFields(wrong...)
	}
	return b, nil
}

// Create makes a board with its stages in their order, or with the usual ones. The first board of its kind is the default,
// whatever it says.
func (s boards) Create(ctx context.Context, tx pgx.Tx, b Board) (Board, error) {
	a, err := s.mayChange(ctx)
	if err != nil {
		return b, err
	}
	if err := checkBoard(&b); err != nil {
		return b, err
	}
	if b.Stages == nil {
		b.Stages = usualStages(b.Kind)
	}
	if err := checkStages(b.Stages); err != nil {
		return b, err
	}
	b.ID = cmp.Or(b.ID, tandem.NewID())
	if err := s.takeTurns(ctx, tx, a.Org, b.Kind); err != nil {
		return b, err
	}
	if !b.IsDefault {
		const sqlFirst = `SELECT NOT EXISTS (SELECT FROM boards WHERE org_id = @org AND kind = @kind AND is_default)`
		if err := tx.QueryRow(ctx, sqlFirst, pgx.StrictNamedArgs{"org": a.Org, "kind": b.Kind}).Scan(&b.IsDefault); err != nil {
			return b, fmt.Errorf("look for the default board: %w", err)
		}
	} else if err := s.depose(ctx, tx, a, b); err != nil {
		return b, err
	}
	made, err := s.Set.Create(ctx, tx, b)
	if err != nil {
		return made, err
	}
	for i, st := range b.Stages {
		st.BoardID, st.Position = made.ID, i+1
		if _, err := Stages.Set.Create(ctx, tx, st); err != nil {
			return made, err
		}
	}
	return s.whole(ctx, tx, made.ID)
}

// Patch changes a board as record.Set does. What becomes the default takes that from the board that was; the default cannot
// be made none (Conflict).
func (s boards) Patch(ctx context.Context, tx pgx.Tx, id tandem.ID, raw json.RawMessage, version *int64) (Board, error) {
	a, err := s.mayChange(ctx)
	if err != nil {
		return Board{}, err
	}
	var asked map[string]json.RawMessage
	_ = json.Unmarshal(raw, &asked) // what cannot be read, the set refuses
	var first bool
	if part := asked["is_default"]; part != nil && json.Unmarshal(part, &first) == nil {
		old, err := s.Load(ctx, tx, id, false)
		if err != nil {
			return old, err
		}
		if err := s.takeTurns(ctx, tx, a.Org, old.Kind); err != nil {
			return old, err
		}
		if old, err = s.Load(ctx, tx, id, true); err != nil {
			return old, err
		}
		switch {
		case first && !old.IsDefault:
			err = s.depose(ctx, tx, a, old)
		case !first && old.IsDefault:
			err = tandem.Errorf(tandem.Conflict, "There is always a default board. Make another one the default instead.")
		}
		if err != nil {
			return old, err
		}
	}
	if _, err := s.Set.Patch(ctx, tx, id, raw, version); err != nil {
		return Board{}, err
	}
	return s.whole(ctx, tx, id)
}

// takeTurns lets those who choose the default board of a kind wait for each other, in the order of the boards' ids.
func (s boards) takeTurns(ctx context.Context, tx pgx.Tx, org tandem.ID, kind string) error {
	const sqlTurn = `SELECT id FROM boards WHERE org_id = @org AND kind = @kind ORDER BY id FOR NO KEY UPDATE`
	if _, err := tx.Exec(ctx, sqlTurn, pgx.StrictNamedArgs{"org": org, "kind": kind}); err != nil {
		return fmt.Errorf("lock the boards: %w", err)
	}
	return nil
}

// depose takes from another board that it is the default, for b.
func (s boards) depose(ctx context.Context, tx pgx.Tx, a tandem.Actor, b Board) error {
	const sqlDepose = `
UPDATE boards SET is_default = false, updated_at = now(), version = version + 1
WHERE org_id = @org AND kind = @kind AND is_default AND id <> @id RETURNING id`
	var was tandem.ID
	err := tx.QueryRow(ctx, sqlDepose, pgx.StrictNamedArgs{"org": a.Org, "kind": b.Kind, "id": b.ID}).Scan(&was)
	if pg.NoRows(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("change the default board: %w", err)
	}
	_, err = events.Emit(ctx, tx, tandem.Event{
		Noun: s.Noun, Verb: "updated", Record: was, Category: s.Category, Severity: "info",
		Description: a.Name + " made " + b.Name + " the default board instead of this one", Changes: []tandem.Change{{Field: "is_default", Old: true, New: false}},
	})
	if err != nil {
		return fmt.Errorf("board updated: %w", err)
	}
	return nil
}

// Archive hides a board with its stages. The default board is Conflict, and so is one with open leads or deals, or one on
// which a channel opens its leads.
func (s boards) Archive(ctx context.Context, tx pgx.Tx, id tandem.ID, version *int64) error {
	a, err := s.mayChange(ctx)
	if err != nil {
		return err
	}
	if _, err := s.Load(ctx, tx, id, false); err != nil {
		return err
	}
	// Whoever opens or moves something here holds the row: it is counted below, or waits and finds the board archived.
	const sqlHold = `SELECT FROM boards WHERE org_id = @org AND id = @id FOR UPDATE`
	if _, err := tx.Exec(ctx, sqlHold, pgx.StrictNamedArgs{"org": a.Org, "id": id}); err != nil {
		return fmt.Errorf("lock board: %w", err)
	}
	b, err := s.Load(ctx, tx, id, true)
	if err != nil {
		return err
	}
	if b.IsDefault {
		return tandem.Errorf(tandem.Conflict, "This is the default board. Make another one the default first.")
	}
	const sqlOpen = `
SELECT (SELECT count(*) FROM (SELECT FROM leads WHERE org_id = @org AND board_id = @id AND NOT closed AND archived_at IS NULL LIMIT 1000) few),
       (SELECT count(*) FROM (SELECT FROM deals WHERE org_id = @org AND board_id = @id AND NOT closed AND archived_at IS NULL LIMIT 1000) few),
       coalesce((SELECT name FROM channels WHERE org_id = @org AND board_id = @id ORDER BY id LIMIT 1), '')`
	var leads, deals int
	var channel string
	if err := tx.QueryRow(ctx, sqlOpen, pgx.StrictNamedArgs{"org": a.Org, "id": id}).Scan(&leads, &deals, &channel); err != nil {
		return fmt.Errorf("count what is open on the board: %w", err)
	}
	switch {
	case leads+deals > 0:
		return tandem.Errorf(tandem.Conflict, "There are open records on this board: %s. Close them first.", howMany(leads, deals))
	case channel != "":
		return tandem.Errorf(tandem.Conflict, "The channel %s opens its leads on this board. Give it another board first.", channel)
	}
	return s.Set.Archive(ctx, tx, id, version)
}

// Restore brings an archived board back, with the stages it had.
func (s boards) Restore(ctx context.Context, tx pgx.Tx, id tandem.ID) (Board, error) {
	if _, err := s.mayChange(ctx); err != nil {
		return Board{}, err
	}
	if _, err := s.Set.Restore(ctx, tx, id); err != nil {
		return Board{}, err
	}
	return s.whole(ctx, tx, id)
}

// List returns one page of boards with their stages.
func (s boards) List(ctx context.Context, tx pgx.Tx, q tandem.Query) (tandem.Page[Board], error) {
	p, err := s.Set.List(ctx, tx, q)
	if err != nil {
		return p, err
	}
	return p, withStages(ctx, tx, p.Items)
}

// Get returns one board with its stages.
func (s boards) Get(ctx context.Context, tx pgx.Tx, id tandem.ID) (Board, error) {
	if _, err := s.May(ctx, "read"); err != nil {
		return Board{}, err
	}
	return s.whole(ctx, tx, id)
}

// whole loads a board with its stages.
func (s boards) whole(ctx context.Context, tx pgx.Tx, id tandem.ID) (Board, error) {
	b, err := s.Load(ctx, tx, id, false)
	if err != nil {
		return b, err
	}
	one := []Board{b}
	err = withStages(ctx, tx, one)
	return one[0], err
}

// mayChange is May for a change, which people alone may make.
func (s boards) mayChange(ctx context.Context) (tandem.Actor, error) {
	a, err := s.May(ctx, "write")
	if err == nil && byMachine(a) {
		return a, tandem.Errorf(tandem.Forbidden, "Only people change boards.")
	}
	return a, err
}

// withStages fills in the stages of all boards, with one query for them and one for what is on them.
func withStages(ctx context.Context, tx pgx.Tx, list []Board) error {
	a, err := tandem.ActorFrom(ctx)
	if err != nil {
		return err
	}
	ids, at := make([]tandem.ID, len(list)), map[tandem.ID]int{}
	for i := range list {
		ids[i], at[list[i].ID], list[i].Stages = list[i].ID, i, []Stage{}
	}
	const sqlBoardStages = `
SELECT id, board_id, name, position, kind, exit_criteria, probability, color, created_at, updated_at, version
FROM stages WHERE org_id = @org AND board_id = ANY(@boards::uuid[]) AND archived_at IS NULL`
	rows, err := tx.Query(ctx, sqlBoardStages, pgx.StrictNamedArgs{"org": a.Org, "boards": ids})
	if err != nil {
		return fmt.Errorf("list the boards' stages: %w", err)
	}
	all, err := pgx.CollectRows(rows, pgx.RowToStructByName[Stage])
	if err != nil {
		return fmt.Errorf("list the boards' stages: %w", err)
	}
	if err := withCounts(ctx, tx, all); err != nil {
		return err
	}
	slices.SortFunc(all, func(a, b Stage) int { return a.Position - b.Position })
	for _, s := range all {
		b := &list[at[s.BoardID]]
		b.Stages = append(b.Stages, s)
	}
	return nil
}

// usualStages are those of a new board that names none.
func usualStages(kind string) []Stage {
	list := []BoardStage{{Name: "New"}, {Name: "Contacted"}, {Name: "Qualified"}, {Name: "Won", Kind: "won"}, {Name: "Lost", Kind: "lost"}}
	if kind == "deal" {
		list = dealStages
	}
	all := make([]Stage, len(list))
	for i, n := range list {
		all[i] = n.stage()
	}
	return all
}

// SeedBoard makes a board for leads with its stages in the order given; the first board of an organization becomes its
// default. It needs at least one open stage, or it is Invalid; a name that is taken is Conflict.
func SeedBoard(ctx context.Context, tx pgx.Tx, name string, list []BoardStage) (Board, error) {
	b := Board{Name: name, Kind: "lead", Stages: []Stage{}}
	for _, n := range list {
		b.Stages = append(b.Stages, n.stage())
	}
	return Boards.Create(ctx, tx, b)
}

// SeedDealBoard makes the board for deals that an organization begins with; the migration that made boards records gave the
// same to those before.
func SeedDealBoard(ctx context.Context, tx pgx.Tx) (Board, error) {
	return Boards.Create(ctx, tx, Board{Name: "Deals", Kind: "deal"})
}
