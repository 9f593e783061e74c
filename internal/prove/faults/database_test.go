//go:build prove && linux

package faults

import (
	"math"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tandemhq/tandem/internal/proof"
	"github.com/tandemhq/tandem/internal/prove"
)

// REL-5: PostgreSQL is killed 20 times, then hangs for 20 s, then is away for a minute, under load. Tandem stays, comes
// back by itself, and leaves nothing behind: neither in the database nor in its own memory.
func TestDatabaseAway(t *testing.T) {
	needRoot(t)
	took(t)
	r := proof.Rand(t)
	s := newStage(t, prove.SiteOptions{})
	s.serve()
	s.load(60)
	time.Sleep(2 * time.Second) // until everything that is needed under load has been opened
	before := s.goroutines()

	const kills = 20
	var back []time.Duration
	for range kills {
		time.Sleep(200*time.Millisecond + time.Duration(r.IntN(800))*time.Millisecond)
		s.killPostgres()
		back = append(back, s.recovers(time.Now()))
	}
	slowest := percentile(back, 100)
	t.Logf("%d kills survived, back within %s", kills, slowest)

	s.signalPostgres(syscall.SIGSTOP)
	hung := time.Now()
	prove.Until(t, 5*time.Second, "not ready while PostgreSQL hangs", func() bool { return !s.p.Ready() })
	time.Sleep(20*time.Second - time.Since(hung))
	s.signalPostgres(syscall.SIGCONT)
	thawed := s.recovers(time.Now())

	t.Logf("hung for 20 s, back %s after", thawed)
	away := s.keepAway(time.Minute)
	returned := s.recovers(away)

	t.Logf("away for a minute, back %s after", returned)
	settled := s.settle()
	v := s.verdict()
	after := math.Inf(1)
	for began := time.Now(); time.Since(began) < 30*time.Second && math.Abs(after-before) > 5; time.Sleep(time.Second) {
		after = s.goroutines()
	}
	held(t, len(v.Wrong()) == 0 && max(slowest, thawed, returned) <= 10*time.Second && after-before <= 5, "REL-5",
		"PostgreSQL killed %d times (back within %.1f s, median %.1f), hung 20 s (back %.1f s after), away 60 s (back %.1f s after): %s; goroutines %.0f before and %.0f after, drained in %.1f s",
		kills, slowest.Seconds(), percentile(back, 50).Seconds(), thawed.Seconds(), returned.Seconds(), figure(v, s.driver), before, after, settled.Seconds())
	if !s.p.Running() {
		t.Error("Tandem has ended")
	}
}

// goroutines is how many there are once nothing comes in over HTTP but this question.
func (s *stage) goroutines() float64 {
	s.t.Helper()
	n, err := s.metric("go_goroutines")
	if err != nil {
		s.t.Fatal(err)
	}
	return n
}

// recovers returns how long after since a message is accepted again and Tandem says that it is ready.
func (s *stage) recovers(since time.Time) time.Duration {
	s.t.Helper()
	accepted := func() bool {
		sent := s.driver.Accepted()
		return len(sent) > 0 && sent[len(sent)-1].At.After(since)
	}
	prove.Until(s.t, prove.Patience, "messages are accepted again", func() bool { return accepted() && s.p.Ready() })
	return time.Since(since)
}

// keepAway kills PostgreSQL and every one that Tandem starts in its place, for the given time, and returns when that
// was over.
func (s *stage) keepAway(d time.Duration) time.Time {
	s.t.Helper()
	for began := time.Now(); time.Since(began) < d; time.Sleep(20 * time.Millisecond) {
		if pid := s.postmaster(); pid != 0 {
			for _, p := range family(pid) {
				_ = syscall.Kill(p, syscall.SIGKILL)
			}
		}
	}
	return time.Now()
}

// A process that stands still for 20 s under load, as on a machine that is suspended or swaps, goes on where it was.
func TestFrozenProcess(t *testing.T) {
	took(t)
	s := newStage(t, prove.SiteOptions{})
	s.serve()
	s.load(100)
	time.Sleep(3 * time.Second)
	s.p.Stop()
	time.Sleep(20 * time.Second)
	s.p.Cont()
	back := s.recovers(time.Now())
	settled := s.settle()
	v := s.verdict()
	if strings.Contains(s.p.Stderr(), "panic") {
		t.Errorf("a panic in the log: %s", s.p.Stderr())
	}
	held(t, len(v.Wrong()) == 0, "REL-6", "one process frozen for 20 s under load: goes on %.1f s after; %s; drained in %.1f s", back.Seconds(), figure(v, s.driver), settled.Seconds())
}
