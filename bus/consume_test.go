package bus

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tandemhq/tandem"
)

// tally counts what a consumer did with each message.
type tally struct {
	mu      sync.Mutex
	handled map[string]int
	dead    map[string]string
}

func newTally() *tally { return &tally{handled: map[string]int{}, dead: map[string]string{}} }

func (y *tally) note(m Msg) int {
	y.mu.Lock()
	defer y.mu.Unlock()
	y.handled[string(m.Body)]++
	return y.handled[string(m.Body)]
}

func (y *tally) bury(_ context.Context, m Msg, cause error) error {
	y.mu.Lock()
	defer y.mu.Unlock()
	y.dead[string(m.Body)] = cause.Error()
	return nil
}

func (y *tally) count(body string) (handled int, dead bool) {
	y.mu.Lock()
	defer y.mu.Unlock()
	_, dead = y.dead[body]
	return y.handled[body], dead
}

func TestVerdicts(t *testing.T) {
	t.Parallel()
	b := open(t, t.TempDir())
	y := newTally()
	refusals := 0 // of Dead, for one message
	background(t, func(ctx context.Context) error {
		return b.Consume(ctx, Consumer{
			Name: "c", Subjects: []string{"ev.>"}, Workers: 4, MaxDeliver: 3, Backoff: time.Millisecond,
			Handle: func(_ context.Context, m Msg) error {
				n := y.note(m)
				switch string(m.Body) {
				case "invalid":
					return tandem.Errorf(tandem.Invalid, "Never right.")
				case "internal", "dead refused":
					return errors.New("a bug")
				case "panic":
					panic("a bug")
				case "conflict once":
					if n == 1 {
						return tandem.Errorf(tandem.Conflict, "Somebody was first.")
					}
				case "unavailable 6 times": // more often than MaxDeliver
					if n <= 6 {
						return tandem.Errorf(tandem.Unavailable, "Away.")
					}
				case "unavailable 4 times, then a bug twice":
					if n <= 4 {
						return tandem.Errorf(tandem.Unavailable, "Away.")
					} else if n <= 6 {
						return errors.New("a bug")
					}
				case "throttled once":
					if n == 1 {
						return &tandem.Error{Kind: tandem.Throttled, Msg: "Slower.", RetryAfter: 300 * time.Millisecond}
					}
				}
				return nil
			},
			Dead: func(ctx context.Context, m Msg, cause error) error {
				if string(m.Body) == "dead refused" {
					if refusals++; refusals < 3 {
						return errors.New("the database is away")
					}
				}
				return y.bury(ctx, m, cause)
			},
		})
	})
	want := map[string]struct {
		handled int
		dead    bool
	}{
		"fine": {1, false}, "invalid": {1, true}, "internal": {3, true}, "panic": {3, true}, "conflict once": {2, false},
		"throttled once": {2, false}, "unavailable 6 times": {7, false}, "unavailable 4 times, then a bug twice": {7, false}, "dead refused": {5, true},
	}
	began := time.Now()
	for body := range want {
		publish(t, b, "ev.o.x", body)
	}
	for body, w := range want {
		eventually(t, body, func() bool {
			handled, dead := y.count(body)
			return handled >= w.handled && dead == w.dead
		})
	}
	if time.Since(began) < 300*time.Millisecond {
		t.Error("RetryAfter was not kept")
	}
	// All is settled: nothing comes again.
	eventually(t, "everything acknowledged", func() bool { return outstanding(t, b, "c") == 0 })
	for body, w := range want {
		if handled, _ := y.count(body); handled != w.handled {
			t.Errorf("%s: handled %d times, want %d", body, handled, w.handled)
		}
	}
}

// outstanding is how many messages the server still has to deliver or has no answer for.
func outstanding(t *testing.T, b *Bus, consumer string) int {
	t.Helper()
	c, err := b.js.Consumer(t.Context(), streamName, consumer)
	if err != nil {
		return -1
	}
	in := c.CachedInfo()
	return in.NumAckPending + int(in.NumPending)
}

func TestLongHandlerKeepsItsMessage(t *testing.T) {
	t.Parallel()
	b := open(t, t.TempDir())
	var runs atomic.Int32
	release := make(chan struct{})
	const wait = 300 * time.Millisecond
	background(t, func(ctx context.Context) error {
		return b.Consume(ctx, Consumer{
			Name: "c", Subjects: []string{"ev.>"}, Workers: 2, AckWait: wait, Dead: newTally().bury,
			Handle: func(context.Context, Msg) error { runs.Add(1); <-release; return nil },
		})
	})
	publish(t, b, "ev.o.x", "long")
	<-time.After(4 * wait) // the length of the handling is what is tested
	close(release)
	eventually(t, "acknowledged", func() bool { return outstanding(t, b, "c") == 0 })
	if n := runs.Load(); n != 1 {
		t.Errorf("handled %d times", n)
	}
}

func TestStopWaitsForHandlers(t *testing.T) {
	t.Parallel()
	b := open(t, t.TempDir())
	begun, ended := make(chan struct{}), make(chan struct{})
	ctx, cancel := context.WithCancel(t.Context())
	returned := make(chan error, 1)
	go func() {
		returned <- b.Consume(ctx, Consumer{
			Name: "c", Subjects: []string{"ev.>"}, Dead: newTally().bury, Grace: 100 * time.Millisecond,
			Handle: func(ctx context.Context, _ Msg) error {
				close(begun)
				<-ctx.Done() // cancelled only after the grace
				close(ended)
				return ctx.Err()
			},
		})
	}()
	publish(t, b, "ev.o.x", "x")
	<-begun
	cancel()
	began := time.Now()
	if err := <-returned; err != nil {
		t.Error(err)
	}
	select {
	case <-ended:
	default:
		t.Error("Consume returned before its handler")
	}
	if d := time.Since(began); d < 100*time.Millisecond {
		t.Errorf("the handler had %v instead of its grace", d)
	}
	// The message was not the handler's fault, so it comes again.
	y := newTally()
	background(t, func(ctx context.Context) error {
		return b.Consume(ctx, Consumer{Name: "c", Subjects: []string{"ev.>"}, Dead: y.bury, Handle: func(_ context.Context, m Msg) error { y.note(m); return nil }})
	})
	eventually(t, "handled after the restart", func() bool { n, _ := y.count("x"); return n == 1 })
}

// TestRestartUnderLoad kills the embedded server again and again under a publisher, a consumer
// and a listener. What was acknowledged arrives, and all three go on.
func TestRestartUnderLoad(t *testing.T) {
	t.Parallel()
	b := open(t, t.TempDir())
	background(t, b.Run)
	y := newTally()
	background(t, func(ctx context.Context) error {
		return b.Consume(ctx, Consumer{
			Name: "c", Subjects: []string{"ev.>"}, Workers: 4, AckWait: time.Second, Dead: y.bury,
			Handle: func(_ context.Context, m Msg) error { y.note(m); return nil },
		})
	})
	var heard, missed atomic.Int64
	stop, err := b.Listen("ev.>", func(subject string, _ []byte) {
		if subject == "" {
			missed.Add(1)
			return
		}
		heard.Add(1)
	})
	if err != nil {
		t.Fatal(err)
	}
	defer stop()

	const kills = 5
	down := make(chan time.Duration, kills)
	go func() {
		defer close(down)
		for range kills {
			time.Sleep(time.Duration(50+rand.IntN(100)) * time.Millisecond) // load between the kills
			n, began := b.Restarts(), time.Now()
			b.mu.Lock()
			srv := b.srv
			b.mu.Unlock()
			srv.Shutdown()
			for b.Restarts() == n && time.Since(began) < patience {
				time.Sleep(time.Millisecond)
			}
			down <- time.Since(began)
		}
	}()
	acked := 0
	var longest time.Duration
	for over := false; !over || acked < 3000; acked++ {
		began := time.Now()
		for {
			_, err := b.Publish(t.Context(), "ev.o.x", tandem.ID(fmt.Sprint("m", acked)), []byte(fmt.Sprint(acked)))
			if err == nil {
				break
			}
			if tandem.KindOf(err) != tandem.Unavailable || time.Since(began) > patience {
				t.Fatal(err)
			}
		}
		longest = max(longest, time.Since(began))
		select {
		case d, ok := <-down:
			if over = !ok; ok {
				t.Logf("figure: server killed and replaced in %v", d)
			}
		default:
		}
	}
	for i := range acked {
		eventually(t, fmt.Sprintf("message %d of %d", i, acked), func() bool { n, _ := y.count(fmt.Sprint(i)); return n > 0 })
	}
	again := 0
	for i := range acked {
		n, dead := y.count(fmt.Sprint(i))
		again += n - 1
		if dead {
			t.Errorf("message %d is dead", i)
		}
	}
	if missed.Load() < kills {
		t.Errorf("the listener was told %d times of %d that it may have missed something", missed.Load(), kills)
	}
	before := heard.Load()
	publish(t, b, "ev.o.x", "last")
	eventually(t, "the listener hears again", func() bool { return heard.Load() > before })
	eventually(t, "healthy", func() bool { return b.Healthy() == nil })
	t.Logf("figure: %d restarts under %d publishes: 0 lost, %d delivered again, longest publish %v", b.Restarts(), acked, again, longest)
}

func TestStreamDeletedWhileRunning(t *testing.T) {
	t.Parallel()
	b := open(t, t.TempDir())
	background(t, b.Run)
	y := newTally()
	background(t, func(ctx context.Context) error {
		return b.Consume(ctx, Consumer{Name: "c", Subjects: []string{"ev.>"}, Dead: y.bury, Handle: func(_ context.Context, m Msg) error { y.note(m); return nil }})
	})
	_, before := publish(t, b, "ev.o.x", "one")
	eventually(t, "one", func() bool { n, _ := y.count("one"); return n == 1 })
	if err := b.js.DeleteStream(t.Context(), streamName); err != nil {
		t.Fatal(err)
	}
	_, after := publish(t, b, "ev.o.x", "two") // Publish waits for the watchdog
	if after.Seq > 3 {                         // behind a probe or two
		t.Errorf("ack %+v", after)
	}
	st, err := b.State(t.Context())
	if err != nil || st.Epoch.Equal(before.Epoch) {
		t.Errorf("epoch unchanged: %+v, %v", st, err)
	}
	eventually(t, "two", func() bool { n, _ := y.count("two"); return n == 1 })
}
