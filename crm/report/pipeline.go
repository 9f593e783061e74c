package report

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/crm"
	"github.com/tandemhq/tandem/internal/pg"
)

// Pipeline is the records on a board: the open ones as they are now, and those that were won and lost in the period and
// still are.
type Pipeline struct {
	BoardID   tandem.ID    `json:"board_id"`
	BoardName string       `json:"board_name"`
	Kind      string       `json:"kind" enum:"lead,deal" doc:"What moves along the board."`
	Stages    []StageWorth `json:"stages" nullable:"false" doc:"In the order of the board."`
	Open      Worth        `json:"open" doc:"All open records."`
	Won       Worth        `json:"won"`
	Lost      Worth        `json:"lost"`
}

// StageWorth is the records of one stage.
type StageWorth struct {
	ID   tandem.ID `json:"id"`
	Name string    `json:"name"`
	Kind string    `json:"kind" enum:"open,won,lost"`
	Worth
}

// Worth is a number of records and what they are worth, by currency.
type Worth struct {
	Count  int64       `json:"count"`
	Values []crm.Money `json:"values" nullable:"false" doc:"One for each currency; records without a value are in none."`
}

// sheet is where the records of a kind of board are, in words of this file only.
type sheet struct {
	table  string
	value  string // the column of what a record is worth
	source string // the column that says where a record comes from; empty: none
}

// sheets has each kind of board. A table of records needs the columns board_id, stage_id, currency, closed,
// stage_changed_at and archived_at, and indexes such as leads_pipeline and leads_closed.
var sheets = map[string]sheet{
	"lead": {table: "leads", value: "value_minor", source: "source"},
	"deal": {table: "deals", value: "amount_minor"},
}

const (
	boardSQL = `
	SELECT b.id, b.name, b.kind FROM boards b
	WHERE b.org_id = @org AND b.archived_at IS NULL AND CASE WHEN @board::uuid IS NULL THEN b.kind = 'lead' AND b.is_default ELSE b.id = @board END`

	reportStagesSQL = `SELECT id, name, kind FROM stages WHERE org_id = @org AND board_id = @board AND archived_at IS NULL ORDER BY position`

	// What is worth more than fits counts as the most that does.
	worthColumns = `coalesce(r.currency, '') AS currency, count(*) AS n, least(coalesce(sum(r.{value}), 0), 9223372036854775807)::bigint AS minor`

	openSQL = `SELECT r.stage_id, ` + worthColumns + `
	FROM {table} r WHERE r.org_id = @org AND r.board_id = @board AND NOT r.closed AND r.archived_at IS NULL GROUP BY 1, 2`

	closedSQL = `SELECT r.stage_id, ` + worthColumns + `
	FROM {table} r WHERE r.org_id = @org AND r.board_id = @board AND r.closed AND r.archived_at IS NULL AND r.stage_changed_at >= @first AND r.stage_changed_at < @end
	GROUP BY 1, 2`

	sourcesSQL = `
	SELECT r.{source} AS source, count(*) FILTER (WHERE r.stage_id = ANY(@won::uuid[])) AS won, count(*) FILTER (WHERE r.stage_id = ANY(@lost::uuid[])) AS lost
	FROM {table} r WHERE r.org_id = @org AND r.board_id = @board AND r.closed AND r.archived_at IS NULL AND r.stage_changed_at >= @first AND r.stage_changed_at < @end
	GROUP BY 1`
)

func (s sheet) sql(q string) string {
	return strings.NewReplacer("{table}", s.table, "{value}", s.value, "{source}", s.source).Replace(q)
}

// boardOf finds the board that is asked for, with its stages.
func boardOf(ctx context.Context, tx pgx.Tx, org, board tandem.ID) (p Pipeline, err error) {
	none := tandem.Errorf(tandem.NotFound, "There is no such board.")
	if board != "" {
		if board, err = tandem.ParseID(string(board)); err != nil {
			return p, none
		}
	}
	err = tx.QueryRow(ctx, boardSQL, pgx.StrictNamedArgs{"org": org, "board": board.Ptr()}).Scan(&p.BoardID, &p.BoardName, &p.Kind)
	if pg.NoRows(err) {
		if board != "" {
			return p, none
		}
		p.Kind, p.Stages = "lead", []StageWorth{} // an organization that has no board yet
		return p, nil
	}
	if err != nil {
		return p, fmt.Errorf("find the board: %w", err)
	}
	rows, err := tx.Query(ctx, reportStagesSQL, pgx.StrictNamedArgs{"org": org, "board": p.BoardID})
	if err != nil {
		return p, fmt.Errorf("read stages: %w", err)
	}
	p.Stages, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (s StageWorth, err error) {
		s.Values = []crm.Money{}
		return s, row.Scan(&s.ID, &s.Name, &s.Kind)
	})
	if err != nil {
		return p, fmt.Errorf("read stages: %w", err)
	}
	return p, nil
}

// queue asks for the board's records, and counts those that were closed by their source.
func (p *Pipeline) queue(b *pgx.Batch, org tandem.ID, span period, closed map[string]SourceFigures) {
	s, ok := sheets[p.Kind]
	if !ok || p.BoardID == "" {
		return
	}
	stages := map[tandem.ID]*StageWorth{}
	won, lost := []tandem.ID{}, []tandem.ID{}
	for i := range p.Stages {
		st := &p.Stages[i]
		stages[st.ID] = st
		switch st.Kind {
		case "won":
			won = append(won, st.ID)
		case "lost":
			lost = append(lost, st.ID)
		}
	}
	collect := func(rows pgx.Rows) error {
		var stage tandem.ID
		var currency string
		var n, minor int64
		_, err := pgx.ForEachRow(rows, []any{&stage, &currency, &n, &minor}, func() error {
			if st := stages[stage]; st != nil {
				st.add(n, minor, currency)
			}
			return nil
		})
		return err
	}
	during := pgx.StrictNamedArgs{"org": org, "board": p.BoardID, "first": span.first, "end": span.end}
	b.Queue(s.sql(openSQL), pgx.StrictNamedArgs{"org": org, "board": p.BoardID}).Query(collect)
	b.Queue(s.sql(closedSQL), during).Query(collect)
	if s.source == "" {
		return
	}
	b.Queue(s.sql(sourcesSQL), pgx.StrictNamedArgs{"org": org, "board": p.BoardID, "first": span.first, "end": span.end, "won": won, "lost": lost}).Query(func(rows pgx.Rows) error {
		var name string
		var one SourceFigures
		_, err := pgx.ForEachRow(rows, []any{&name, &one.Won, &one.Lost}, func() error {
			closed[name] = one
			return nil
		})
		return err
	})
}

func (w *Worth) add(n, minor int64, currency string) {
	w.Count += n
	if currency == "" {
		return
	}
	i := slices.IndexFunc(w.Values, func(a crm.Money) bool { return a.Currency == currency })
	if i < 0 {
		w.Values = append(w.Values, crm.Money{Currency: currency})
		i = len(w.Values) - 1
	}
	w.Values[i].Minor += minor
}

// addUp sums the stages of each kind.
func (p *Pipeline) addUp() {
	for _, w := range []*Worth{&p.Open, &p.Won, &p.Lost} {
		w.Values = []crm.Money{}
	}
	for i := range p.Stages {
		st := &p.Stages[i]
		slices.SortFunc(st.Values, func(x, y crm.Money) int { return strings.Compare(x.Currency, y.Currency) })
		to := map[string]*Worth{"open": &p.Open, "won": &p.Won, "lost": &p.Lost}[st.Kind]
		to.Count += st.Count
		for _, a := range st.Values {
			to.add(0, a.Minor, a.Currency)
		}
	}
}
