// Package ingest measures how leads come in: committed ones per second against what PostgreSQL can store at best, and
// whether each is there exactly once afterwards, also when the process is killed again and again.
package ingest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"time"

	"github.com/tandemhq/tandem/internal/bench"
)

const (
	limitKind = "limit" // one statement, no HTTP
	knownKind = "known" // leads of contacts who have written before
	firstKind = "first" // first leads of new contacts
)

type cell struct {
	kind    string
	clients int
}

// Run measures G1, G2 and G18.
func Run(ctx context.Context, e *bench.Env) ([]bench.Row, error) {
	limit, err := bench.NewLimit(ctx, e)
	if err != nil {
		return nil, err
	}
	defer limit.Close()
	w, err := bench.NewWorld(ctx, e, "ingest", bench.Inhabitants{Orgs: bench.Orgs, Contacts: bench.Contacts})
	if err != nil {
		return nil, err
	}
	defer w.Close()
	e.Log("%d contacts in %d organizations are there", bench.Contacts, bench.Orgs)
	rows, err := speed(ctx, e, limit, w)
	if err != nil {
		return nil, err
	}
	killed, err := kills(ctx, e, w)
	return append(rows, killed...), err
}

func cells() []cell {
	var list []cell
	for _, c := range []int{1, 16, 64, 256} {
		list = append(list, cell{limitKind, c}, cell{knownKind, c})
	}
	return append(list, cell{firstKind, 1}, cell{firstKind, 64})
}

func speed(ctx context.Context, e *bench.Env, limit *bench.Limit, w *bench.World) ([]bench.Row, error) {
	t, err := e.Start(ctx, bench.Launch{Database: w.Database})
	if err != nil {
		return nil, err
	}
	defer t.Kill()
	if err := warm(ctx, e, w, t); err != nil {
		return nil, err
	}
	list := cells()
	samples := map[cell][]bench.Sample{}
	var counted, drained int
	var draining time.Duration
	var wrong []error
	err = e.Cells(len(list), func(rep, i int) error {
		c := list[i]
		if c.kind == limitKind {
			s := limitCell(ctx, e, limit, c.clients)
			if s.Failed > 0 {
				return fmt.Errorf("%d statements of the limit failed: %w", s.Failed, s.Err)
			}
			samples[c] = append(samples[c], s)
			e.Log("%d  limit c=%-3d        %6.0f/s  p50 %6.2f  p99 %6.2f ms", rep+1, c.clients, s.Rate, bench.Millis(s.P50), bench.Millis(s.P99))
			return nil
		}
		began := time.Now()
		s, senders := load(ctx, e, w, t.URL, c)
		samples[c] = append(samples[c], s)
		took, err := t.Quiet(ctx, w.Pool)
		if err != nil {
			return err
		}
		accepted, open := bench.Journal(senders)
		f, err := bench.Count(ctx, w.Pool, began, accepted)
		if err != nil {
			return err
		}
		if err := f.Check(open); err != nil {
			wrong = append(wrong, fmt.Errorf("%s leads, %d clients, repetition %d: %w", c.kind, c.clients, rep+1, err))
		}
		counted, drained, draining = counted+f.Accepted, drained+f.Messages, draining+took
		note := ""
		if s.Failed > 0 {
			note = fmt.Sprintf(" %d failed, first: %v", s.Failed, s.Err)
			wrong = append(wrong, fmt.Errorf("%s leads, %d clients, repetition %d: %d failed: %w", c.kind, c.clients, rep+1, s.Failed, s.Err))
		}
		e.Log("%d  tandem %s c=%-3d %6.0f/s  p50 %6.2f  p99 %6.2f ms; told %.1f s later%s", rep+1, c.kind, c.clients, s.Rate, bench.Millis(s.P50), bench.Millis(s.P99), took.Seconds(), note)
		return nil
	})
	if err != nil {
		return nil, err
	}
	if err := t.Stop(); err != nil {
		return nil, err
	}
	rows := judge(samples)
	effects := bench.Row{
		Goal: "G1", Name: "what was accepted is there once, with its fact and counters", Want: "0 differences", Got: strconv.Itoa(len(wrong)) + " differences",
		Note: fmt.Sprintf("%d leads counted; the bus had all of them %.1f s after the last on average", counted, draining.Seconds()/float64(max(1, len(list)-4)*e.Reps)), Held: len(wrong) == 0,
	}
	if len(wrong) > 0 {
		effects.Note += ": " + errors.Join(wrong...).Error()
	}
	return append(rows, effects), nil
}

// warm takes some leads before anything is measured, and has them counted: the server plans for tables that hold
// something, as it does a minute after the first messages of a new installation.
func warm(ctx context.Context, e *bench.Env, w *bench.World, t *bench.Tandem) error {
	if _, senders := load(ctx, e, w, t.URL, cell{knownKind, 64}); len(senders) == 0 {
		return errors.New("nothing was sent to warm up")
	}
	if _, err := t.Quiet(ctx, w.Pool); err != nil {
		return err
	}
	return e.Cluster.Settle(ctx, w.Database.Name)
}

func limitCell(ctx context.Context, e *bench.Env, limit *bench.Limit, clients int) bench.Sample {
	rs := make([]*rand.Rand, clients)
	for i := range rs {
		rs[i] = e.Rand("limit " + strconv.Itoa(i))
	}
	return bench.Closed(ctx, clients, e.Cell, func(ctx context.Context, w int) error {
		return limit.Ingest(ctx, 1+rs[w].IntN(bench.Contacts))
	})
}

func load(ctx context.Context, e *bench.Env, w *bench.World, url string, c cell) (bench.Sample, []*bench.Sender) {
	list := w.Senders(e, url, c.clients)
	sample := bench.Closed(ctx, c.clients, e.Cell, func(ctx context.Context, n int) error {
		s := list[n]
		l := s.Known(1 + s.R.IntN(bench.Contacts))
		if c.kind == firstKind {
			l = s.First()
		}
		_, err := s.Send(ctx, l)
		return err
	})
	for _, s := range list {
		s.Close()
	}
	return sample, list
}

// judge makes the rows of G1 and G2.
func judge(samples map[cell][]bench.Sample) []bench.Row {
	var rows []bench.Row
	rate := func(c cell) []float64 { return each(samples[c], func(s bench.Sample) float64 { return s.Rate }) }
	p99 := func(c cell) []float64 {
		return each(samples[c], func(s bench.Sample) float64 { return bench.Millis(s.P99) })
	}
	for _, g := range []struct {
		clients int
		want    float64
	}{{1, 0.5}, {16, 0.6}, {64, 0.8}, {256, 1.2}} {
		limit, got := rate(cell{limitKind, g.clients}), rate(cell{knownKind, g.clients})
		rows = append(rows, bench.AtLeast("G1", fmt.Sprintf("committed leads per second ÷ limit, %d clients", g.clients), g.want,
			bench.Ratios(got, limit), limit, fmt.Sprintf("%.0f/s, limit %.0f/s", bench.Median(got), bench.Median(limit))))
	}
	for _, clients := range []int{16, 64} {
		limit, got := p99(cell{limitKind, clients}), p99(cell{knownKind, clients})
		rows = append(rows, bench.AtMost("G2", fmt.Sprintf("p99 of a lead ÷ p99 of the limit, %d clients", clients), 2,
			bench.Ratios(got, limit), rate(cell{limitKind, clients}), fmt.Sprintf("%.1f ms, limit %.1f ms", bench.Median(got), bench.Median(limit))))
	}
	for _, clients := range []int{1, 64} {
		limit, got := rate(cell{limitKind, clients}), rate(cell{firstKind, clients})
		r := bench.AtLeast("G1", fmt.Sprintf("first leads of new contacts per second ÷ limit, %d clients", clients), 0,
			bench.Ratios(got, limit), limit, fmt.Sprintf("%.0f/s; no goal is set, the limit makes no contact and no lead", bench.Median(got)))
		r.Want = "–"
		rows = append(rows, r)
	}
	return rows
}

func each(list []bench.Sample, of func(bench.Sample) float64) []float64 {
	out := make([]float64, len(list))
	for i, s := range list {
		out[i] = of(s)
	}
	return out
}
