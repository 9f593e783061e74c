// Package list measures the lists of an organization with 500,000 conversations among 1,000,000, as many contacts and a
// fifth as many leads, against one with 5,000 among 10,000 and against the bare query.
package list

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/tandemhq/tandem/internal/bench"
)

// EnvCache names the directory that keeps the databases between runs; without it they are in tandem-bench-lists below
// the system's temporary directory, and take about 4 GB.
const EnvCache = "TANDEM_BENCH_CACHE"

// Run measures pages and counts of both databases in one run: G6, G7 and G9 of docs/performance.md.
func Run(ctx context.Context, e *bench.Env) (_ []bench.Row, err error) {
	c, err := cache(ctx)
	if err != nil {
		return nil, err
	}
	defer func() {
		sctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
		defer cancel()
		err = errors.Join(err, c.Stop(sctx))
	}()
	small, err := begin(ctx, e, c, 10_000)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, small.end()) }()
	large, err := begin(ctx, e, c, bench.Size(e, 100_000, 1_000_000))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, large.end()) }()
	rows, err := speed(ctx, e, small, large)
	if err != nil {
		return nil, err
	}
	every, err := large.sweep(ctx)
	if err != nil {
		return nil, err
	}
	records, err := recordSpeed(ctx, e, small, large)
	return append(append(rows, every), records...), err
}

// cache starts the cluster that outlives the run: making the rows takes longer than measuring.
func cache(ctx context.Context) (*bench.Cluster, error) {
	dir := os.Getenv(EnvCache)
	if dir == "" {
		dir = filepath.Join(os.TempDir(), "tandem-bench-lists")
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("make the directory of the lists' databases: %w", err)
	}
	return bench.StartCluster(ctx, dir)
}

// begin opens a database and starts a Tandem on it.
func begin(ctx context.Context, e *bench.Env, c *bench.Cluster, conversations int) (*target, error) {
	d, err := open(ctx, e, c, conversations)
	if err != nil {
		return nil, err
	}
	t, err := start(ctx, e, d)
	if err != nil {
		d.Close()
	}
	return t, err
}

// what a cell asks for.
const (
	first  = iota // the first page of the open conversations
	depth         // a page of them at a random depth
	counts        // the numbers on the tabs
	beside        // the first page, in turns with bare and short
	bare          // the first page, past Tandem: one statement as the superuser
	short         // a fifth of it, likewise
)

var names = map[int]string{first: "first page", depth: "page at random depth", counts: "tab counts"}

type cell struct {
	what    int
	large   bool
	workers int
}

func speed(ctx context.Context, e *bench.Env, small, large *target) ([]bench.Row, error) {
	raw, err := newBare(ctx, large.dataset)
	if err != nil {
		return nil, err
	}
	defer raw.pool.Close()
	cells := []cell{{beside, true, 1}}
	for _, what := range []int{first, depth, counts} { // in this order: what is shuffled hangs on the seed alone
		for _, workers := range []int{1, 16} {
			cells = append(cells, cell{what, false, workers}, cell{what, true, workers})
		}
	}
	samples := map[cell][]bench.Sample{}
	err = e.Cells(len(cells), func(_, i int) error {
		c := cells[i]
		t := small
		if c.large {
			t = large
		}
		if c.what == beside {
			which := []int{beside, bare, short}
			list, err := inTurns(ctx, e.Cell, t.op(e, first), raw.op(bare), raw.op(short))
			for i, s := range list {
				c.what = which[i]
				samples[c] = append(samples[c], s)
			}
			return err
		}
		s := bench.Closed(ctx, c.workers, e.Cell, t.op(e, c.what))
		if s.Failed > 0 {
			return fmt.Errorf("%s of %d conversations: %d failed: %w", names[c.what], t.conversations, s.Failed, s.Err)
		}
		samples[c] = append(samples[c], s)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return judge(samples, large.conversations), nil
}

const (
	wantGrowth = 1.5 // G6
	wantBare   = 5   // G7
	wantCounts = 2   // G9
)

func judge(samples map[cell][]bench.Sample, conversations int) []bench.Row {
	p50 := func(s bench.Sample) float64 { return bench.Millis(s.P50) }
	p99 := func(s bench.Sample) float64 { return bench.Millis(s.P99) }
	of := func(c cell, figure func(bench.Sample) float64) (list []float64) {
		for _, s := range samples[c] {
			list = append(list, figure(s))
		}
		return list
	}
	size := fmt.Sprintf("%d k", conversations/1000)
	var rows []bench.Row
	for _, what := range []int{first, depth, counts} {
		goal, want := "G6", wantGrowth
		if what == counts {
			goal, want = "G9", wantCounts
		}
		for _, workers := range []int{1, 16} {
			l, s := cell{what, true, workers}, cell{what, false, workers}
			row := bench.AtMost(goal, fmt.Sprintf("%s, p99, %s ÷ 10 k, c=%d", names[what], size, workers), want,
				bench.Ratios(of(l, p99), of(s, p99)), of(s, p99),
				fmt.Sprintf("p50/p99 %.1f/%.1f ms, at 10 k %.1f/%.1f ms", bench.Median(of(l, p50)), bench.Median(of(l, p99)), bench.Median(of(s, p50)), bench.Median(of(s, p99))))
			// One program on two databases: where either of the two jumps by itself, the machine did something else.
			row.Noisy = row.Noisy || bench.IsNoisy(of(l, p99))
			rows = append(rows, row)
		}
	}
	l := of(cell{beside, true, 1}, p50)
	for _, plain := range []struct {
		what int
		name string
	}{{bare, "plain SQL for the same rows and columns"}, {short, "plain SQL for 8 columns of 41"}} {
		b := of(cell{plain.what, true, 1}, p50)
		rows = append(rows, bench.AtMost("G7", "first page over HTTP ÷ "+plain.name+", p50, "+size+", c=1", wantBare, bench.Ratios(l, b), b,
			fmt.Sprintf("%.2f ms, plain %.2f ms", bench.Median(l), bench.Median(b))))
	}
	return rows
}
