package list

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/url"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/internal/bench"
)

// kind is a kind of record whose list is measured.
type kind struct {
	path    string
	filters map[string]url.Values // name of the question -> what is asked besides; each fills a page in both databases
	bare    string                // the first page past Tandem: the same rows with all values that are in their JSON
}

var kinds = []kind{
	{
		path: "/contacts",
		filters: map[string]url.Values{
			"with a tag of 1 in 40": {"filter[tags]": {"vip"}},
			"since a time":          {"filter[created_at][gte]": {"2024-07-01T00:00:00Z"}, "sort": {"created_at"}},
			"by name":               {"sort": {"name"}},
		},
		bare: `SELECT id, name, first_name, last_name, email, phone, company, account_id, tags, custom, created_at, updated_at, version
FROM contacts WHERE org_id = $1 AND archived_at IS NULL ORDER BY created_at DESC, id DESC LIMIT 50`,
	},
	{
		path: "/leads",
		filters: map[string]url.Values{
			"on a stage":             {"filter[stage_id]": {"{stage}"}},
			"with a tag, or a value": {"where": {`{"or":[{"field":"tags","value":"b2b"},{"field":"value","op":"gte","value":"900000"}]}`}},
			"by value":               {"filter[value][gte]": {"1000"}, "sort": {"-value"}},
		},
		bare: `SELECT l.id, l.title, l.contact_id, l.board_id, l.source, l.priority, l.temperature, l.tags, l.custom, l.lost_reason, l.stage_changed_at,
	l.created_at, l.updated_at, l.version, c.name, c.company, s.id, s.name, s.kind, m.id, m.kind, m.name, l.value_minor, l.currency
FROM (SELECT * FROM leads WHERE org_id = $1 AND archived_at IS NULL ORDER BY created_at DESC, id DESC LIMIT 50) l
JOIN contacts c ON c.org_id = l.org_id AND c.id = l.contact_id
JOIN stages s ON s.org_id = l.org_id AND s.id = l.stage_id
LEFT JOIN members m ON m.org_id = l.org_id AND m.id = l.assignee_id
ORDER BY l.created_at DESC, l.id DESC`,
	},
}

// recordCell is one question about one kind of record.
type recordCell struct {
	path, question string
	large          bool
	workers        int
}

const (
	firstPage  = "first page"
	atDepth    = "page at random depth"
	besideBare = "first page in turns with plain SQL"
	plainSQL   = "plain SQL"
)

// recordSpeed measures the lists of contacts and leads as speed does that of conversations.
func recordSpeed(ctx context.Context, e *bench.Env, small, large *target) ([]bench.Row, error) {
	var cells []recordCell
	for _, k := range kinds {
		cells = append(cells, recordCell{k.path, besideBare, true, 1})
		for _, q := range k.questions() {
			for _, workers := range []int{1, 16} {
				if workers == 1 || q == firstPage {
					cells = append(cells, recordCell{k.path, q, false, workers}, recordCell{k.path, q, true, workers})
				}
			}
		}
	}
	for _, t := range []*target{small, large} {
		if err := t.findRecords(ctx, e); err != nil {
			return nil, err
		}
	}
	raw, err := newBare(ctx, large.dataset)
	if err != nil {
		return nil, err
	}
	defer raw.pool.Close()
	samples := map[recordCell][]bench.Sample{}
	err = e.Cells(len(cells), func(_, i int) error {
		c := cells[i]
		k := kindOf(c.path)
		t := small
		if c.large {
			t = large
		}
		if c.question == besideBare {
			list, err := inTurns(ctx, e.Cell, t.recordOp(e, k, firstPage), func(ctx context.Context, _ int) error { return raw.values(ctx, k.bare) })
			for j, s := range list {
				c.question = []string{besideBare, plainSQL}[j]
				samples[c] = append(samples[c], s)
			}
			return err
		}
		s := bench.Closed(ctx, c.workers, e.Cell, t.recordOp(e, k, c.question))
		if s.Failed > 0 {
			return fmt.Errorf("%s%s of %d conversations: %d failed: %w", c.path, c.question, t.conversations, s.Failed, s.Err)
		}
		samples[c] = append(samples[c], s)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return judgeRecords(cells, samples, large.conversations), nil
}

func kindOf(path string) kind {
	for _, k := range kinds {
		if k.path == path {
			return k
		}
	}
	return kind{}
}

// questions are those of a kind, in an order that does not change.
func (k kind) questions() []string {
	return append([]string{firstPage, atDepth}, slices.Sorted(maps.Keys(k.filters))...)
}

// findRecords reads cursors from all over both lists, and what the filters name.
func (t *target) findRecords(ctx context.Context, e *bench.Env) error {
	pool, err := t.Cluster.Pool(ctx, t.Name, 1)
	if err != nil {
		return err
	}
	defer pool.Close()
	if err := pool.QueryRow(ctx, `SELECT stage_id FROM leads WHERE org_id = $1 AND NOT closed LIMIT 1`, t.org).Scan(&t.stage); err != nil {
		return fmt.Errorf("find a stage: %w", err)
	}
	r := e.Rand("depths of records")
	t.recordDepths = map[string][]string{}
	for _, k := range kinds {
		rows, err := pool.Query(ctx, `SELECT created_at AS at, id FROM `+k.path[1:]+` WHERE org_id = $1 ORDER BY 1, 2`, t.org)
		if err != nil {
			return fmt.Errorf("read depths: %w", err)
		}
		all, err := pgx.CollectRows(rows, pgx.RowToStructByPos[struct {
			At time.Time
			ID tandem.ID
		}])
		if err != nil {
			return fmt.Errorf("read depths: %w", err)
		}
		for range 1000 { // none of the last 100, so that every page is full
			at := all[100+r.IntN(len(all)-100)]
			t.recordDepths[k.path] = append(t.recordDepths[k.path], tandem.EncodeCursor("-created_at", at.At.UTC().Format(time.RFC3339Nano), string(at.ID)))
		}
	}
	return nil
}

// recordOp asks a question, as up to mostWorkers workers, and fails when the page is not full.
func (t *target) recordOp(e *bench.Env, k kind, question string) bench.Op {
	r := e.Rand(k.path + question)
	lanes := make([]lane, mostWorkers)
	for i := range lanes {
		lanes[i].r = rand.New(rand.NewPCG(r.Uint64(), r.Uint64()))
	}
	query := url.Values{}
	for name, values := range k.filters[question] {
		v := values[0]
		switch v {
		case "{stage}":
			v = string(t.stage)
		}
		query.Set(name, v)
	}
	encoded := query.Encode()
	return func(ctx context.Context, w int) error {
		l, asked := &lanes[w], encoded
		if question == atDepth {
			depths := t.recordDepths[k.path]
			asked = "cursor=" + depths[l.r.IntN(len(depths))]
		}
		if err := t.get(ctx, k.path+"?"+asked, &l.body); err != nil {
			return err
		}
		if n := bytes.Count(l.body.Bytes(), []byte(`"version":`)); n != pageSize {
			return fmt.Errorf("%s?%s: %d records on the page, not %d", k.path, asked, n, pageSize)
		}
		return nil
	}
}

// values reads a page and every value of it.
func (l *rawList) values(ctx context.Context, sql string) error {
	rows, err := l.pool.Query(ctx, sql, l.org)
	if err != nil {
		return fmt.Errorf("plain page: %w", err)
	}
	lines, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) ([]any, error) { return row.Values() })
	if err != nil {
		return fmt.Errorf("plain page: %w", err)
	}
	if len(lines) != pageSize {
		return fmt.Errorf("plain page: %d rows, not %d", len(lines), pageSize)
	}
	return nil
}

func judgeRecords(cells []recordCell, samples map[recordCell][]bench.Sample, conversations int) []bench.Row {
	of := func(c recordCell, figure func(bench.Sample) float64) (list []float64) {
		for _, s := range samples[c] {
			list = append(list, figure(s))
		}
		return list
	}
	p50 := func(s bench.Sample) float64 { return bench.Millis(s.P50) }
	p99 := func(s bench.Sample) float64 { return bench.Millis(s.P99) }
	size := fmt.Sprintf("%d k", conversations/1000)
	var rows []bench.Row
	for _, l := range cells {
		if !l.large {
			continue
		}
		if l.question == besideBare {
			plain := l
			plain.question = plainSQL
			http, b := of(l, p50), of(plain, p50)
			rows = append(rows, bench.AtMost("G7", l.path[1:]+": first page over HTTP ÷ plain SQL for the same rows and columns, p50, "+size+", c=1", wantBare,
				bench.Ratios(http, b), b, fmt.Sprintf("%.2f ms, plain %.2f ms", bench.Median(http), bench.Median(b))))
			continue
		}
		s := l
		s.large = false
		row := bench.AtMost("G6", fmt.Sprintf("%s: %s, p99, %s ÷ 10 k, c=%d", l.path[1:], l.question, size, l.workers), wantGrowth,
			bench.Ratios(of(l, p99), of(s, p99)), of(s, p99),
			fmt.Sprintf("p50/p99 %.1f/%.1f ms, at 10 k %.1f/%.1f ms", bench.Median(of(l, p50)), bench.Median(of(l, p99)), bench.Median(of(s, p50)), bench.Median(of(s, p99))))
		row.Noisy = row.Noisy || bench.IsNoisy(of(l, p99))
		rows = append(rows, row)
	}
	return rows
}
