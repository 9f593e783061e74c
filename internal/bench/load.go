package bench

import (
	"context"
	"sync"
	"time"
)

// Op does one operation as worker w.
type Op func(ctx context.Context, w int) error

const (
	warm        = 200 * time.Millisecond
	mostFailed  = 50 // of one worker, before it gives up
	opTimeout   = 20 * time.Second
	openWaiting = 4096 // operations of an open loop that may be under way
)

// Closed has workers that each do one operation after the other: what comes out is capacity. It warms up for a moment,
// then measures for the given time. Operations that end after it count as long as they began in it.
func Closed(ctx context.Context, workers int, during time.Duration, op Op) Sample {
	type lane struct {
		took   []time.Duration
		failed int
		err    error
	}
	lanes := make([]lane, workers)
	var wg sync.WaitGroup
	from := time.Now().Add(warm)
	until := from.Add(during)
	for w := range workers {
		wg.Go(func() {
			l := &lanes[w]
			for ctx.Err() == nil {
				began := time.Now()
				if !began.Before(until) {
					return
				}
				octx, cancel := context.WithTimeout(ctx, opTimeout)
				err := op(octx, w)
				cancel()
				switch {
				case err != nil:
					if l.failed++; l.err == nil {
						l.err = err
					}
					if l.failed > mostFailed {
						return
					}
				case !began.Before(from):
					l.took = append(l.took, time.Since(began))
				}
			}
		})
	}
	wg.Wait()
	took := time.Since(from)
	var all []time.Duration
	var s Sample
	for _, l := range lanes {
		all = append(all, l.took...)
		s.Failed += l.failed
		if s.Err == nil {
			s.Err = l.err
		}
	}
	s.N, s.Rate, s.P50, s.P99 = len(all), float64(len(all))/took.Seconds(), Percentile(all, 0.5), Percentile(all, 0.99)
	return s
}

// Open begins rate operations a second whether the earlier ones have ended or not, for the given time: what comes out is
// latency. do gets its number and when it should have begun, from which its time counts; it runs in a goroutine of its
// own. Open returns when all have ended. Operations beyond a bound of waiting ones are not begun but counted as failed.
func Open(ctx context.Context, rate float64, during time.Duration, do func(ctx context.Context, n int, intended time.Time) error) Sample {
	var mu sync.Mutex
	var took []time.Duration
	var s Sample
	note := func(d time.Duration, err error) {
		mu.Lock()
		defer mu.Unlock()
		if err != nil {
			if s.Failed++; s.Err == nil {
				s.Err = err
			}
			return
		}
		took = append(took, d)
	}
	room := make(chan struct{}, openWaiting)
	var wg sync.WaitGroup
	began := time.Now()
	every := time.Duration(float64(time.Second) / rate)
	for n := 0; time.Duration(n)*every < during && ctx.Err() == nil; n++ {
		intended := began.Add(time.Duration(n) * every)
		time.Sleep(time.Until(intended))
		select {
		case room <- struct{}{}:
		default:
			note(0, errTooMany)
			continue
		}
		wg.Go(func() {
			defer func() { <-room }()
			octx, cancel := context.WithTimeout(ctx, opTimeout)
			defer cancel()
			err := do(octx, n, intended)
			note(time.Since(intended), err)
		})
	}
	wg.Wait()
	s.N, s.Rate = len(took), float64(len(took))/time.Since(began).Seconds()
	s.P50, s.P99 = Percentile(took, 0.5), Percentile(took, 0.99)
	return s
}

type loadError string

func (e loadError) Error() string { return string(e) }

const errTooMany = loadError("more operations were under way than the generator can hold")
