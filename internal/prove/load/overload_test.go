//go:build prove

package load

import (
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/tandemhq/tandem/internal/proof"
	"github.com/tandemhq/tandem/internal/prove"
)

// REL-11: five times what the machine can do. What is refused is refused as such, what is accepted is there, the
// backlog is known and goes away, and memory is bounded.
func TestOverload(t *testing.T) {
	const (
		overload = 5
		lasting  = 60 * time.Second
		atOnce   = 4000 // connections of the flood
	)
	site := prove.NewSite(t, prove.SiteOptions{})
	p := site.Serve("--inbound-per-minute", "100000000")
	g := newGun(site.URL, site.APIKey, 500)
	g.closed(t.Context(), 64, 3*time.Second) // everybody is known
	capacity := g.closed(t.Context(), 64, 5*time.Second)

	conn := site.DB(t)
	worst, stop, watching := 0.0, make(chan struct{}), sync.WaitGroup{}
	watching.Go(func() { // the metric against the table
		for {
			select {
			case <-stop:
				return
			case <-time.After(2 * time.Second):
			}
			var before, after float64
			const oldest = `SELECT coalesce(extract(epoch FROM now() - min(created_at)), 0)::float8 FROM outbox WHERE published_at IS NULL`
			if conn.QueryRow(t.Context(), oldest).Scan(&before) != nil {
				continue
			}
			shown := metric(t, site.URL, "tandem_outbox_oldest_seconds")
			if conn.QueryRow(t.Context(), oldest).Scan(&after) != nil {
				continue
			}
			worst = max(worst, min(max(before-shown, shown-before), max(after-shown, shown-after)))
		}
	})
	shots, unsent := g.open(t.Context(), overload*capacity, lasting, atOnce)
	ended := time.Now()
	close(stop)
	watching.Wait()
	_, most := memory(t, p.PID())
	status, accepted := sum(shots)
	for code, n := range status {
		if code/100 != 2 && code != http.StatusTooManyRequests && code != http.StatusServiceUnavailable && code != 0 {
			t.Errorf("%d answers with status %d", n, code)
		}
	}
	var bare int
	for _, s := range shots {
		if (s.status == http.StatusServiceUnavailable || s.status == http.StatusTooManyRequests) && s.retry == "" {
			bare++
		}
	}
	if bare > 0 {
		t.Errorf("%d refusals do not say when to come again", bare)
	}
	prove.Until(t, 2*time.Minute, "the backlog is gone", func() bool { return metric(t, site.URL, "tandem_outbox_rows") == 0 })
	drained := time.Since(ended)
	var ids []string
	for _, s := range shots {
		if s.status/100 == 2 {
			ids = append(ids, s.id)
		}
	}
	var kept, twice int
	if err := conn.QueryRow(t.Context(), `SELECT count(*), count(*) - count(DISTINCT external_id) FROM inbound i JOIN messages m ON m.org_id = i.org_id AND m.id = i.message_id
		WHERE external_id = ANY($1)`, ids).Scan(&kept, &twice); err != nil {
		t.Fatal(err)
	}
	if len(ids) == 0 || kept != len(ids) || twice != 0 {
		t.Errorf("%d accepted, %d kept, %d twice", len(ids), kept, twice)
	}
	report := proof.Figure
	p99 := at(accepted, .99)
	if p99 > 2*time.Second || most > 512 || worst > 1 {
		report = proof.Missed
	}
	report(t, "REL-11", "%.0f leads/s meant, %d times the %.0f/s that are possible, for %s: statuses %v, %d not sent for want of one of %d connections; accepted p50 %s, p99 %s; memory at most %d MB; oldest fact shown within %.1f s; drained in %.1f s; %d accepted, %d kept, %d twice",
		overload*capacity, overload, capacity, lasting, status, unsent, atOnce, at(accepted, .5).Round(time.Millisecond), p99.Round(time.Millisecond), most, worst, drained.Seconds(), len(ids), kept, twice)
}

// REL-11, the second half: an organization that floods does not slow its neighbor down to more than twice its p99. The
// limits are those of every installation.
func TestNoisyNeighbor(t *testing.T) {
	const (
		calmRate = 20
		calmFor  = 15 * time.Second
		noise    = 2000 // a second, 20 times what one key may send
	)
	site := prove.NewSite(t, prove.SiteOptions{})
	site.Serve("--inbound-per-minute", "6000")
	calm := newGun(site.URL, site.Neighbor("Calm", "calm@example.com"), 200)
	loud := newGun(site.URL, site.APIKey, 500)
	calm.open(t.Context(), calmRate, 12*time.Second, 500) // everybody is known
	alone, _ := calm.open(t.Context(), calmRate, calmFor, 500)
	var noisy []shot
	var wg sync.WaitGroup
	wg.Go(func() { noisy, _ = loud.open(t.Context(), noise, calmFor+2*time.Second, 1000) })
	<-time.After(time.Second)
	beside, _ := calm.open(t.Context(), calmRate, calmFor, 500)
	wg.Wait()

	quiet, before := sum(alone)
	status, after := sum(beside)
	flood, _ := sum(noisy)
	if quiet[http.StatusCreated] != len(alone) || status[http.StatusCreated] != len(beside) {
		t.Errorf("the calm neighbor was answered %v, and %v beside the flood", quiet, status)
	}
	for code, n := range flood {
		if code/100 != 2 && code != http.StatusTooManyRequests && code != http.StatusServiceUnavailable && code != 0 {
			t.Errorf("the flood got %d answers with status %d", n, code)
		}
	}
	report, ratio := proof.Figure, float64(at(after, .99))/float64(at(before, .99))
	if ratio > 2 {
		report = proof.Missed
	}
	report(t, "REL-11", "a neighbor's p50 and p99 alone %s and %s, beside a flood of %d/s %s and %s (p99 %.1f times); the flood was answered %v",
		at(before, .5).Round(100*time.Microsecond), at(before, .99).Round(100*time.Microsecond), noise, at(after, .5).Round(100*time.Microsecond), at(after, .99).Round(100*time.Microsecond), ratio, flood)
}
