package live

import (
	"context"
	"fmt"
	"time"

	"github.com/tandemhq/tandem/internal/bench"
)

const (
	readers   = 1000
	perSecond = 50
	contacts  = 2000
	frameGoal = 50 * time.Millisecond
	// arriveWithin is when a frame counts as lost.
	arriveWithin = 10 * time.Second
)

// Run measures G13 and G14.
func Run(ctx context.Context, e *bench.Env) ([]bench.Row, error) {
	memory, err := idle(ctx, e)
	if err != nil {
		return nil, err
	}
	var rows []bench.Row
	for _, orgs := range []int{20, 1} {
		row, err := frames(ctx, e, orgs)
		if err != nil {
			return nil, err
		}
		rows = append(rows, row)
	}
	return append(rows, memory), nil
}

// frames has readers of all organizations alike while leads come in, and measures from each message to each frame.
func frames(ctx context.Context, e *bench.Env, orgs int) (bench.Row, error) {
	row := bench.Row{}
	w, err := bench.NewWorld(ctx, e, fmt.Sprintf("live_%d", orgs), bench.Inhabitants{Orgs: orgs, Contacts: contacts})
	if err != nil {
		return row, err
	}
	defer w.Close()
	t, err := e.Start(ctx, bench.Launch{Database: w.Database})
	if err != nil {
		return row, err
	}
	defer t.Kill()
	a, err := join(ctx, t.URL+"/api/v1/live", readers, func(n int) string { return w.Orgs[n%orgs].Key })
	if err != nil {
		return row, err
	}
	defer a.leave()
	free := make(chan *bench.Sender, 64)
	for _, s := range w.Senders(e, t.URL, cap(free)) {
		free <- s
		defer s.Close()
	}
	during := bench.Size(e, 2*time.Second, 4*time.Second)
	var p50, p99 []time.Duration
	count := 0
	for rep := range bench.Size(e, 2, e.Reps) + 1 {
		first := count
		s := bench.Open(ctx, perSecond, during, func(ctx context.Context, n int, _ time.Time) error {
			sender := <-free
			defer func() { free <- sender }()
			_, err := sender.Send(ctx, sender.Known(1+(first+n)%contacts))
			return err
		})
		if s.Failed > 0 {
			return row, fmt.Errorf("%d leads were not taken: %w", s.Failed, s.Err)
		}
		count += s.N
		want := s.N * readers / orgs
		for deadline := time.Now().Add(arriveWithin); a.count() < want && time.Now().Before(deadline); {
			time.Sleep(10 * time.Millisecond)
		}
		took, resyncs, ended := a.take()
		if len(took) != want || resyncs > 0 || ended > 0 {
			return row, fmt.Errorf("%d of %d frames arrived, %d readers had to start over, %d streams ended: %s", len(took), want, resyncs, ended, t.Output())
		}
		if rep == 0 {
			continue // it warmed up
		}
		p50, p99 = append(p50, bench.Percentile(took, 0.5)), append(p99, bench.Percentile(took, 0.99))
		e.Log("%d  message to frame, %d readers in %d organizations: p50 %.1f  p99 %.1f ms", rep, readers, orgs, bench.Millis(p50[rep-1]), bench.Millis(p99[rep-1]))
	}
	mid := bench.Within("", "", 0, p50, "")
	row = bench.Within("G13", fmt.Sprintf("message to frame at %d readers in %s, %d/s, p99", readers, places(orgs), perSecond), frameGoal, p99,
		fmt.Sprintf("p50 %s; %d frames per second; none missing", mid.Got, perSecond*readers/orgs))
	return row, t.Stop()
}

func places(orgs int) string {
	if orgs == 1 {
		return "one organization"
	}
	return fmt.Sprintf("%d organizations", orgs)
}

// idle measures what a reader to whom nothing happens costs, of fresh processes.
func idle(ctx context.Context, e *bench.Env) (bench.Row, error) {
	w, err := bench.NewWorld(ctx, e, "idle", bench.Inhabitants{Orgs: 1, Contacts: 1})
	if err != nil {
		return bench.Row{}, err
	}
	defer w.Close()
	var ours, bare []float64
	for range bench.Size(e, 1, 3) {
		b, err := bareMemory(ctx, readers)
		if err != nil {
			return bench.Row{}, err
		}
		t, err := e.Start(ctx, bench.Launch{Database: w.Database})
		if err != nil {
			return bench.Row{}, err
		}
		o, err := perReader(ctx, t.URL+"/api/v1/live", t.PID, readers, func(int) string { return w.Orgs[0].Key })
		if err != nil {
			t.Kill()
			return bench.Row{}, err
		}
		if err := t.Stop(); err != nil {
			return bench.Row{}, err
		}
		ours, bare = append(ours, o), append(bare, b)
	}
	return bench.AtMost("G14", "memory per idle reader ÷ bare net/http handler", 1.5, bench.Ratios(ours, bare), bare,
		fmt.Sprintf("%.1f KB, bare %.1f KB", bench.Median(ours)/1024, bench.Median(bare)/1024)), nil
}
