// Package soak lets Tandem take leads at half of the machine's limit for minutes: long enough to see whether memory, the
// database's garbage or the bus grow without end.
package soak

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/tandemhq/tandem/internal/bench"
)

const (
	goal       = "G1" // at rest under load, and not only in a sprint
	share      = 0.5  // of the limit
	clients    = 64
	looks      = 30 // at memory, garbage and stream during the run
	mostSlope  = 8  // MB of memory per minute in the second half
	mostStream = 2.0
	p99Goal    = time.Second
	catchUp    = 2 * time.Minute // for what is not told yet when the last lead is in
	long       = 2 * time.Minute // below it memory still finds its size, and its growth is shown but not judged
)

// Run takes five minutes, six seconds when quick, or what [bench.Env] says.
func Run(ctx context.Context, e *bench.Env) ([]bench.Row, error) {
	limit, err := bench.NewLimit(ctx, e)
	if err != nil {
		return nil, err
	}
	defer limit.Close()
	rs := make([]*rand.Rand, clients)
	for i := range rs {
		rs[i] = e.Rand("soak limit " + strconv.Itoa(i))
	}
	most := bench.Closed(ctx, clients, e.Cell, func(ctx context.Context, w int) error {
		return limit.Ingest(ctx, 1+rs[w].IntN(bench.Contacts))
	})
	if most.Failed > 0 {
		return nil, fmt.Errorf("the limit: %w", most.Err)
	}
	contacts := bench.Size(e, bench.Contacts/10, bench.Contacts)
	w, err := bench.NewWorld(ctx, e, "soak", bench.Inhabitants{Orgs: bench.Orgs, Contacts: contacts})
	if err != nil {
		return nil, err
	}
	defer w.Close()
	t, err := e.Start(ctx, bench.Launch{Database: w.Database})
	if err != nil {
		return nil, err
	}
	defer t.Kill()
	s := &soak{e: e, w: w, t: t, contacts: contacts, rate: share * most.Rate, during: e.Soak}
	if s.during <= 0 {
		s.during = bench.Size(e, 6*time.Second, 5*time.Minute)
	}
	rows, err := s.run(ctx)
	if err != nil {
		return nil, err
	}
	return rows, t.Stop()
}

type soak struct {
	e        *bench.Env
	contacts int
	w        *bench.World
	t        *bench.Tandem
	rate     float64
	during   time.Duration
	seen     []look
	err      error
}

// look is the state at one moment.
type look struct {
	at       time.Duration
	rss      int64 // bytes
	dead     int64 // rows of all tables that wait for vacuum
	live     int64
	vacuums  int64
	waiting  int64 // outbox rows not yet on the bus
	bus      int64 // bytes of the bus's directory
	database int64 // bytes
}

func (s *soak) run(ctx context.Context) ([]bench.Row, error) {
	free := make(chan *bench.Sender, 512)
	var all []*bench.Sender
	for _, x := range s.w.Senders(s.e, s.t.URL, cap(free)) {
		free <- x
		all = append(all, x)
	}
	began := time.Now()
	lctx, stop := context.WithCancel(ctx)
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		s.watch(lctx, began)
	}()
	s.e.Log("limit %.0f per second, %.0f leads per second for %s", s.rate/share, s.rate, s.during)
	got := bench.Open(ctx, s.rate, s.during, func(ctx context.Context, _ int, _ time.Time) error {
		x := <-free
		defer func() { free <- x }()
		_, err := x.Send(ctx, x.Known(1+x.R.IntN(s.contacts)))
		return err
	})
	stop()
	<-watched
	if s.err != nil {
		return nil, s.err
	}
	took, quiet, err := s.t.QuietWithin(ctx, s.w.Pool, catchUp)
	if err != nil {
		return nil, err
	}
	for _, x := range all {
		x.Close()
	}
	accepted, open := bench.Journal(all)
	f, err := bench.Count(ctx, s.w.Pool, began, accepted)
	if err != nil {
		return nil, err
	}
	wrong := f.Check(open)
	if !quiet {
		wrong = errors.Join(wrong, fmt.Errorf("not everything was told %s after the last lead", catchUp))
	}
	return s.judge(got, f, wrong, took), nil
}

// watch looks until ctx ends.
func (s *soak) watch(ctx context.Context, began time.Time) {
	tick := time.NewTicker(s.during / looks)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		l, err := s.look(context.WithoutCancel(ctx), began)
		if err != nil {
			s.err = err
			return
		}
		s.seen = append(s.seen, l)
		if len(s.seen)%5 == 0 {
			s.e.Log("   after %.0f s: memory %d MB, %d dead of %d rows, %d vacuums, %d waiting, bus %d MB, database %d MB", l.at.Seconds(),
				l.rss>>20, l.dead, l.live, l.vacuums, l.waiting, l.bus>>20, l.database>>20)
		}
	}
}

func (s *soak) look(ctx context.Context, began time.Time) (look, error) {
	l := look{at: time.Since(began)}
	var err error
	if l.rss, err = s.t.RSS(); err != nil {
		return l, err
	}
	if l.bus, err = sizeOf(filepath.Join(s.t.Data, "nats")); err != nil {
		return l, err
	}
	return l, garbage(ctx, s.w.Pool, &l)
}

func garbage(ctx context.Context, pool *pgxpool.Pool, l *look) error {
	err := pool.QueryRow(ctx, `SELECT coalesce(sum(n_dead_tup), 0)::bigint, coalesce(sum(n_live_tup), 0)::bigint, coalesce(sum(autovacuum_count), 0)::bigint,
		(SELECT count(*) FROM outbox WHERE published_at IS NULL), pg_database_size(current_database()) FROM pg_stat_user_tables`).
		Scan(&l.dead, &l.live, &l.vacuums, &l.waiting, &l.database)
	if err != nil {
		return fmt.Errorf("look at the database: %w", err)
	}
	return nil
}

// sizeOf is what the files below a directory hold, some of which may vanish while we look.
func sizeOf(dir string) (n int64, err error) {
	err = filepath.WalkDir(dir, func(_ string, d os.DirEntry, err error) error {
		if err != nil {
			if os.IsNotExist(err) {
				return nil
			}
			return err
		}
		if info, err := d.Info(); err == nil && info.Mode().IsRegular() {
			n += info.Size()
		}
		return nil
	})
	return n, err
}

func (s *soak) judge(got bench.Sample, f bench.Effects, wrong error, quiet time.Duration) []bench.Row {
	minutes := fmt.Sprintf("%.0f s at half of the limit", s.during.Seconds())
	if len(s.seen) == 0 {
		return []bench.Row{{Goal: goal, Name: minutes, Got: "nothing was seen"}}
	}
	last := s.seen[len(s.seen)-1]
	half := s.seen[len(s.seen)/2:]
	growth := slope(half)
	kept := bench.Row{
		Goal: goal, Name: minutes + ": leads taken", Want: "all, 0 differences", Got: fmt.Sprintf("%d of %d", got.N, got.N+got.Failed),
		Note: fmt.Sprintf("%.0f/s kept of %.0f/s intended; the bus had all %.1f s after the end", got.Rate, s.rate, quiet.Seconds()), Held: got.Failed == 0 && wrong == nil,
	}
	if got.Err != nil {
		kept.Note += ": " + got.Err.Error()
	}
	if wrong != nil {
		kept.Note += ": " + wrong.Error()
	}
	p99 := bench.Within(goal, minutes+": p99 from the intended time", p99Goal, []time.Duration{got.P99}, fmt.Sprintf("p50 %.1f ms", bench.Millis(got.P50)))
	memory := bench.Row{
		Goal: goal, Name: minutes + ": memory growth in the second half", Want: fmt.Sprintf("≤ %d MB/min", mostSlope), Got: fmt.Sprintf("%.1f MB/min", growth),
		Note: fmt.Sprintf("%d MB at the end", last.rss>>20), Held: growth <= mostSlope,
	}
	if s.during < long {
		memory.Want, memory.Held = "–", true
		memory.Note += fmt.Sprintf("; not judged in less than %s", long)
	}
	dead := 0.0
	if last.live > 0 {
		dead = float64(last.dead) / float64(last.live)
	}
	vacuum := bench.Row{
		Goal: goal, Name: minutes + ": rows that wait for vacuum ÷ rows", Want: "≤ 0.5", Got: fmt.Sprintf("%.2f", dead),
		Note: fmt.Sprintf("%d dead, %d autovacuums, database %d MB", last.dead, last.vacuums, last.database>>20), Held: dead <= 0.5,
	}
	perLead := 0.0
	if f.Messages > 0 {
		perLead = float64(last.bus) / float64(f.Messages) / 1024
	}
	stream := bench.Row{
		Goal: goal, Name: minutes + ": the bus's files per lead", Want: fmt.Sprintf("≤ %g KB", mostStream), Got: fmt.Sprintf("%.2f KB", perLead),
		Note: fmt.Sprintf("%d MB in all", last.bus>>20), Held: perLead <= mostStream,
	}
	return []bench.Row{kept, p99, memory, vacuum, stream}
}

// slope is by how many MB per minute memory grows over the looks: the straight line that fits best.
func slope(seen []look) float64 {
	if len(seen) < 2 {
		return 0
	}
	var mx, my float64
	for _, l := range seen {
		mx += l.at.Minutes()
		my += float64(l.rss) / (1 << 20)
	}
	mx, my = mx/float64(len(seen)), my/float64(len(seen))
	var xy, xx float64
	for _, l := range seen {
		dx := l.at.Minutes() - mx
		xy += dx * (float64(l.rss)/(1<<20) - my)
		xx += dx * dx
	}
	if xx == 0 {
		return 0
	}
	return xy / xx
}
