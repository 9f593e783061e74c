package crm

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/internal/events"
	"github.com/tandemhq/tandem/internal/pg"
	"github.com/tandemhq/tandem/internal/record"
)

// Stage is one column of a board.
type Stage struct {
	ID           tandem.ID `json:"id" db:"id"`
	BoardID      tandem.ID `json:"board_id" db:"board_id"`
	Name         string    `json:"name" db:"name" example:"Proposal" doc:"Each name once per board."`
	Position     int       `json:"position" db:"position" minimum:"1" doc:"Its place on the board, from 1; the others make room. The last when left out."`
	Kind         string    `json:"kind" db:"kind" enum:"open,won,lost" doc:"What a record on it is; open when left out."`
	ExitCriteria []string  `json:"exit_criteria" db:"exit_criteria" nullable:"false" maxItems:"20" doc:"What must be true before a record leaves it."`
	Probability  *int      `json:"probability" db:"probability" nullable:"false" minimum:"0" maximum:"100" doc:"How probable it is, in percent, that a deal on it is won: 100 on a won stage, 0 on a lost one, and on an open one 0 when left out."`
	Color        *string   `json:"color" db:"color" example:"#2f6fed" doc:"As #rrggbb; null for none."`
	LeadCount    int       `json:"lead_count" db:"-" doc:"Leads on it; 1000 means that many or more."`
	DealCount    int       `json:"deal_count" db:"-" doc:"Deals on it; 1000 means that many or more."`
	CreatedAt    time.Time `json:"created_at" db:"created_at"`
	UpdatedAt    time.Time `json:"updated_at" db:"updated_at"`
	Version      int64     `json:"version" db:"version"`
}

// BoardStage is a stage of a board to be made.
type BoardStage struct {
	Name         string   `json:"name"`
	Kind         string   `json:"kind,omitempty" enum:"open,won,lost" doc:"Open when left out."`
	ExitCriteria []string `json:"exit_criteria,omitempty" maxItems:"20"`
	Probability  *int     `json:"probability,omitempty" minimum:"0" maximum:"100"`
	Color        *string  `json:"color,omitempty"`
}

// UnmarshalJSON refuses members that a new stage does not have, which would be lost without a word.
func (n *BoardStage) UnmarshalJSON(b []byte) error {
	type plain BoardStage
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	return d.Decode((*plain)(n))
}

func (n BoardStage) stage() Stage {
	return Stage{Name: n.Name, Kind: n.Kind, ExitCriteria: n.ExitCriteria, Probability: n.Probability, Color: n.Color}
}

// percent is a probability.
func percent(n int) *int { return &n }

// dealStages are those of a new board for deals.
var dealStages = []BoardStage{
	{Name: "Qualified", Probability: percent(20)},
	{Name: "Proposal", Probability: percent(40)},
	{Name: "Negotiation", Probability: percent(70)},
	{Name: "Won", Kind: "won"},
	{Name: "Lost", Kind: "lost"},
}

type stages struct{ record.Set[Stage] }

// Stages is the set of stages. Only people change them: for AI members that is Forbidden.
var Stages = stages{record.Set[Stage]{
	Noun: "stage", Table: "stages",
	Fields: []record.Field{
		{Name: "board_id", Type: record.ID, Filter: true, Once: true, Needed: true},
		{Name: "name", Filter: true, Write: true, Needed: true},
		{Name: "position", Type: record.Int, Filter: true, Write: true, Sort: "stages.position"},
		{Name: "kind", Filter: true, Write: true},
		{Name: "exit_criteria", Write: true},
		{Name: "probability", Type: record.Int, Filter: true, Write: true},
		{Name: "color", Write: true},
		{Name: "created_at", Type: record.Time, Filter: true},
		{Name: "updated_at", Type: record.Time, Filter: true},
	},
	Archivable: true, Label: "name", Category: "crm", Check: checkStage,
}}

const (
	maxStages    = 100
	maxCriteria  = 20
	maxCriterion = 300 // characters
)

func checkStage(s *Stage) error {
	var wrong []tandem.FieldError
	refuse := func(field, message string) {
		wrong = append(wrong, tandem.FieldError{Field: field, Message: message})
	}
	if s.Name = clean(s.Name, 120); s.Name == "" {
		refuse("name", "A stage needs a name.")
	}
	s.Kind = cmp.Or(s.Kind, "open")
	sure, closes := map[string]int{"won": 100, "lost": 0}[s.Kind]
	if !closes && s.Kind != "open" {
		refuse("kind", "Choose open, won or lost.")
	}
	switch {
	case s.Probability == nil:
		s.Probability = &sure
	case closes && *s.Probability != sure:
		refuse("probability", "A won stage has the probability 100, a lost one 0.")
	case *s.Probability < 0 || *s.Probability > 100:
		refuse("probability", "A probability is a percentage from 0 to 100.")
	}
	if s.ExitCriteria != nil {
		kept := []string{}
		for _, c := range s.ExitCriteria {
			if c = clean(c, maxCriterion+1); len([]rune(c)) > maxCriterion {
				refuse("exit_criteria", "Each of them has at most 300 characters.")
			} else if c != "" {
				kept = append(kept, c)
			}
		}
		if s.ExitCriteria = kept; len(kept) > maxCriteria {
			refuse("exit_criteria", "There may be at most 20.")
		}
	}
	if s.Color != nil {
		c := strings.ToLower(strings.TrimSpace(*s.Color))
		if s.Color = &c; !colorForm.MatchString(c) {
			refuse("color", "Write a color such as #2f6fed, or null for none.")
		}
	}
	if len(wrong) > 0 {
		return tandem.InvalidFields(wrong...)
	}
	return nil
}

// checkStages refuses stages that together make no board.
func checkStages(list []Stage) error {
	var wrong []tandem.FieldError
	open, names := 0, map[string]bool{}
	for i := range list {
		for _, w := range tandem.FieldErrors(checkStage(&list[i])) {
			wrong = append(wrong, tandem.FieldError{Field: fmt.Sprintf("stages[%d].%s", i, w.Field), Message: w.Message})
		}
		if names[list[i].Name] {
			wrong = append(wrong, tandem.FieldError{Field: fmt.Sprintf("stages[%d].name", i), Message: "Each stage needs a name of its own."})
		}
		if names[list[i].Name] = true; list[i].Kind == "open" {
			open++
		}
	}
	if open == 0 || len(list) > maxStages {
		wrong = append(wrong, tandem.FieldError{Field: "stages", Message: "A board needs 1 to 100 stages, one of them open."})
	}
	if len(wrong) > 0 {
		return tandem.InvalidFields(wrong...)
	}
	return nil
}

// Create adds a stage to a board, at its position or as the last; those behind it make room.
func (s stages) Create(ctx context.Context, tx pgx.Tx, st Stage) (Stage, error) {
	a, err := s.mayChange(ctx)
	if err != nil {
		return st, err
	}
	if st.Position < 0 {
		return st, tandem.InvalidFields(tandem.FieldError{Field: "position", Message: "Positions count from 1."})
	}
	others, err := s.takeTurns(ctx, tx, a.Org, st.BoardID, st.ID)
	if err != nil {
		return st, err
	}
	if len(others) >= maxStages {
		return st, tandem.Errorf(tandem.Conflict, "A board has at most 100 stages.")
	}
	if st.Position == 0 || st.Position > len(others) {
		st.Position = len(others) + 1
	}
	st.ID = cmp.Or(st.ID, tandem.NewID())
	if _, err := s.place(ctx, tx, a.Org, st, st.Position); err != nil {
		return st, err
	}
	if _, err := s.Set.Create(ctx, tx, st); err != nil {
		return st, err
	}
	return s.whole(ctx, tx, st.ID)
}

// Patch changes a stage as record.Set does, and its position: those between the old and the new one move up or down, without
// a fact or a version of their own. The kind of a stage that records are on, or of the last open stage, stays what it is
// (Conflict).
func (s stages) Patch(ctx context.Context, tx pgx.Tx, id tandem.ID, raw json.RawMessage, version *int64) (Stage, error) {
	a, err := s.mayChange(ctx)
	if err != nil {
		return Stage{}, err
	}
	old, others, err := s.hold(ctx, tx, a.Org, id)
	if err != nil {
		return old, err
	}
	rest, own, err := apart(raw, "position")
	if err != nil {
		return old, err
	}
	at := old.Position
	if part := own["position"]; part != nil && (json.Unmarshal(part, &at) != nil || at < 1 || string(part) == "null") {
		return old, tandem.InvalidFields(tandem.FieldError{Field: "position", Message: "Give a whole number; positions count from 1."})
	}
	var asked map[string]json.RawMessage
	var kind string
	if json.Unmarshal(rest, &asked) == nil && json.Unmarshal(asked["kind"], &kind) == nil && kind != old.Kind {
		if err := s.spare(ctx, tx, a.Org, old, others); err != nil {
			return old, err
		}
		if asked["probability"] == nil { // what the kind says
			asked["probability"] = json.RawMessage("null")
			if rest, err = json.Marshal(asked); err != nil {
				return old, fmt.Errorf("change stage: %w", err)
			}
		}
	}
	st, err := s.Set.Patch(ctx, tx, id, rest, version)
	if err != nil {
		return st, err
	}
	if at = min(at, len(others)+1); at != old.Position {
		if moved, err := s.place(ctx, tx, a.Org, st, at); err != nil || !moved {
			return st, err
		}
		if _, err := events.Emit(ctx, tx, tandem.Event{
			Noun: s.Noun, Verb: "updated", Record: id, Category: s.Category, Severity: "info",
			Description: a.Name + " moved the stage " + st.Name + " on its board", Changes: []tandem.Change{{Field: "position", Old: old.Position, New: at}},
		}); err != nil {
			return st, fmt.Errorf("stage updated: %w", err)
		}
	}
	return s.whole(ctx, tx, id)
}

// Archive hides a stage. One that records are on is Conflict, and so is the last open stage of its board.
func (s stages) Archive(ctx context.Context, tx pgx.Tx, id tandem.ID, version *int64) error {
	a, err := s.mayChange(ctx)
	if err != nil {
		return err
	}
	st, others, err := s.hold(ctx, tx, a.Org, id)
	if err != nil {
		return err
	}
	if err := s.spare(ctx, tx, a.Org, st, others); err != nil {
		return err
	}
	if err := s.Set.Archive(ctx, tx, id, version); err != nil {
		return err
	}
	_, err = s.place(ctx, tx, a.Org, st, len(others)+1)
	return err
}

// Restore brings an archived stage back, as the last of its board.
func (s stages) Restore(ctx context.Context, tx pgx.Tx, id tandem.ID) (Stage, error) {
	a, err := s.mayChange(ctx)
	if err != nil {
		return Stage{}, err
	}
	const sqlBoardOf = `SELECT board_id, archived_at IS NOT NULL FROM stages WHERE org_id = @org AND id = @id`
	st, archived := Stage{ID: id}, false
	if _, err := tandem.ParseID(string(id)); err == nil {
		err := tx.QueryRow(ctx, sqlBoardOf, pgx.StrictNamedArgs{"org": a.Org, "id": id}).Scan(&st.BoardID, &archived)
		if err != nil && !pg.NoRows(err) {
			return st, fmt.Errorf("restore stage: %w", err)
		}
	}
	if archived {
		others, err := s.takeTurns(ctx, tx, a.Org, st.BoardID, id)
		if err != nil {
			return st, err
		}
		if _, err := s.place(ctx, tx, a.Org, st, len(others)+1); err != nil {
			return st, err
		}
	}
	if _, err := s.Set.Restore(ctx, tx, id); err != nil {
		return st, err
	}
	return s.whole(ctx, tx, id)
}

// takeTurns lets those who change the stages of one board wait for each other, and returns its stages but the one with id.
func (s stages) takeTurns(ctx context.Context, tx pgx.Tx, org, board, id tandem.ID) ([]Stage, error) {
	none := tandem.InvalidFields(tandem.FieldError{Field: "board_id", Message: "There is no such board."})
	if _, err := tandem.ParseID(string(board)); err != nil {
		return nil, none
	}
	const sqlTurn = `SELECT FROM boards WHERE org_id = @org AND id = @board AND archived_at IS NULL FOR NO KEY UPDATE`
	tag, err := tx.Exec(ctx, sqlTurn, pgx.StrictNamedArgs{"org": org, "board": board})
	if err != nil {
		return nil, fmt.Errorf("lock the stage's board: %w", err)
	}
	if tag.RowsAffected() == 0 {
		return nil, none
	}
	const sqlSiblings = `
SELECT id, board_id, name, position, kind, exit_criteria, probability, color, created_at, updated_at, version
FROM stages WHERE org_id = @org AND board_id = @board AND archived_at IS NULL ORDER BY position`
	rows, err := tx.Query(ctx, sqlSiblings, pgx.StrictNamedArgs{"org": org, "board": board})
	if err != nil {
		return nil, fmt.Errorf("list the board's stages: %w", err)
	}
	all, err := pgx.CollectRows(rows, pgx.RowToStructByName[Stage])
	if err != nil {
		return nil, fmt.Errorf("list the board's stages: %w", err)
	}
	return slices.DeleteFunc(all, func(x Stage) bool { return x.ID == id }), nil
}

// hold locks a stage and its board for a change, and returns it with the other stages.
func (s stages) hold(ctx context.Context, tx pgx.Tx, org, id tandem.ID) (Stage, []Stage, error) {
	st, err := s.Load(ctx, tx, id, false)
	if err != nil {
		return st, nil, err
	}
	others, err := s.takeTurns(ctx, tx, org, st.BoardID, id)
	if err != nil {
		return st, nil, tandem.Wrap(tandem.Conflict, err, "The board of this stage is archived. Restore it first.")
	}
	st, err = s.Load(ctx, tx, id, true)
	return st, others, err
}

// spare refuses to take a stage away that records are on, or that is the only open one.
func (s stages) spare(ctx context.Context, tx pgx.Tx, org tandem.ID, st Stage, others []Stage) error {
	if st.Kind == "open" && !slices.ContainsFunc(others, func(x Stage) bool { return x.Kind == "open" }) {
		return tandem.Errorf(tandem.Conflict, "A board needs an open stage, and this is the only one. Add another first.")
	}
	// Whoever opens or moves something here holds the row: it is counted below, or waits and finds the stage changed.
	const sqlHold = `SELECT FROM stages WHERE org_id = @org AND id = @id FOR UPDATE`
	if _, err := tx.Exec(ctx, sqlHold, pgx.StrictNamedArgs{"org": org, "id": st.ID}); err != nil {
		return fmt.Errorf("lock stage: %w", err)
	}
	one := []Stage{st}
	if err := withCounts(ctx, tx, one); err != nil {
		return err
	}
	if one[0].LeadCount+one[0].DealCount > 0 {
		return tandem.Errorf(tandem.Conflict, "There are records on this stage: %s. Move them to another one first.", howMany(one[0].LeadCount, one[0].DealCount))
	}
	return nil
}

// howMany says how many records are in the way.
func howMany(leads, deals int) string {
	var parts []string
	for i, n := range []int{leads, deals} {
		word := []string{"lead", "deal"}[i]
		switch {
		case n == 1:
			parts = append(parts, "1 "+word)
		case n >= 1000:
			parts = append(parts, "1,000 "+word+"s or more")
		case n > 1:
			parts = append(parts, fmt.Sprintf("%d %ss", n, word))
		}
	}
	return strings.Join(parts, " and ")
}

// One statement numbers all stages of the board anew, those that are archived behind the others: the constraint on positions
// looks when it is over.
const sqlPlace = `
WITH others AS (
	SELECT id, row_number() OVER (ORDER BY archived_at IS NOT NULL, position) AS n
	FROM stages WHERE org_id = @org AND board_id = @board AND id <> @id
)
UPDATE stages s SET position = p.n,
	version = CASE WHEN s.id = @id THEN s.version + 1 ELSE s.version END, updated_at = CASE WHEN s.id = @id THEN now() ELSE s.updated_at END
FROM (SELECT id, n + CASE WHEN n >= @at THEN 1 ELSE 0 END AS n FROM others UNION ALL SELECT @id, @at) p
WHERE s.org_id = @org AND s.board_id = @board AND s.id = p.id AND s.position <> p.n`

// place gives a stage, which need not be there yet, its position on its board and says whether anything has moved.
func (s stages) place(ctx context.Context, tx pgx.Tx, org tandem.ID, st Stage, at int) (bool, error) {
	tag, err := tx.Exec(ctx, sqlPlace, pgx.StrictNamedArgs{"org": org, "board": st.BoardID, "id": st.ID, "at": at})
	if err != nil {
		return false, fmt.Errorf("place stage: %w", err)
	}
	return tag.RowsAffected() > 0, nil
}

// List returns one page of stages with what is on them.
func (s stages) List(ctx context.Context, tx pgx.Tx, q tandem.Query) (tandem.Page[Stage], error) {
	p, err := s.Set.List(ctx, tx, q)
	if err != nil {
		return p, err
	}
	return p, withCounts(ctx, tx, p.Items)
}

// Get returns one stage with what is on it.
func (s stages) Get(ctx context.Context, tx pgx.Tx, id tandem.ID) (Stage, error) {
	if _, err := s.May(ctx, "read"); err != nil {
		return Stage{}, err
	}
	return s.whole(ctx, tx, id)
}

// whole loads a stage with what is on it.
func (s stages) whole(ctx context.Context, tx pgx.Tx, id tandem.ID) (Stage, error) {
	st, err := s.Load(ctx, tx, id, false)
	if err != nil {
		return st, err
	}
	one := []Stage{st}
	err = withCounts(ctx, tx, one)
	return one[0], err
}

// mayChange is May for a change, which people alone may make.
func (s stages) mayChange(ctx context.Context) (tandem.Actor, error) {
	a, err := s.May(ctx, "write")
	if err == nil && byMachine(a) {
		return a, tandem.Errorf(tandem.Forbidden, "Only people change the stages of a board.")
	}
	return a, err
}

// The counts stop at 1,000: what a column's head shows, at a price that does not grow.
const sqlOnStages = `
SELECT s.id, l.n AS leads, d.n AS deals
FROM unnest(@stages::uuid[]) s (id)
CROSS JOIN LATERAL (SELECT count(*)::int AS n FROM (
	SELECT FROM leads WHERE leads.org_id = @org AND leads.stage_id = s.id AND leads.archived_at IS NULL LIMIT 1000) few) l
CROSS JOIN LATERAL (SELECT count(*)::int AS n FROM (
	SELECT FROM deals WHERE deals.org_id = @org AND deals.stage_id = s.id AND deals.archived_at IS NULL LIMIT 1000) few) d`

// withCounts fills in how much is on each stage, with one query for all.
func withCounts(ctx context.Context, tx pgx.Tx, list []Stage) error {
	a, err := tandem.ActorFrom(ctx)
	if err != nil {
		return err
	}
	ids, at := make([]tandem.ID, len(list)), map[tandem.ID]int{}
	for i := range list {
		ids[i], at[list[i].ID] = list[i].ID, i
	}
	rows, err := tx.Query(ctx, sqlOnStages, pgx.StrictNamedArgs{"org": a.Org, "stages": ids})
	if err != nil {
		return fmt.Errorf("count what is on stages: %w", err)
	}
	var id tandem.ID
	var leads, deals int
	if _, err := pgx.ForEachRow(rows, []any{&id, &leads, &deals}, func() error {
		list[at[id]].LeadCount, list[at[id]].DealCount = leads, deals
		return nil
	}); err != nil {
		return fmt.Errorf("count what is on stages: %w", err)
	}
	return nil
}
