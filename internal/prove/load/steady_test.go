//go:build prove

package load

import (
	"bufio"
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tandemhq/tandem/internal/proof"
	"github.com/tandemhq/tandem/internal/prove"
)

// screen is a member's live view: when each conversation's messages were told, in order.
type screen struct {
	mu   sync.Mutex
	seen map[string]time.Time // message id -> when its frame had arrived
	end  context.CancelFunc
	done chan struct{}
}

func watch(t *testing.T, url, key string) *screen {
	t.Helper()
	ctx, end := context.WithCancel(context.Background())
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/api/v1/live", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("X-API-Key", key)
	res, err := http.DefaultClient.Do(req)
	if err != nil || res.StatusCode != http.StatusOK {
		t.Fatalf("open the live stream: %v", err)
	}
	s := &screen{seen: map[string]time.Time{}, end: end, done: make(chan struct{})}
	go func() {
		defer close(s.done)
		defer res.Body.Close()
		lines := bufio.NewReaderSize(res.Body, 1<<20)
		for {
			line, err := lines.ReadString('\n')
			if err != nil {
				return
			}
			data, ok := strings.CutPrefix(line, "data: ")
			if !ok || !strings.Contains(data, `"received"`) {
				continue
			}
			var f struct {
				Noun, Verb string
				Record     string `json:"record_id"`
			}
			if json.Unmarshal([]byte(data), &f) == nil && f.Noun == "message" {
				s.mu.Lock()
				if _, twice := s.seen[f.Record]; !twice {
					s.seen[f.Record] = time.Now()
				}
				s.mu.Unlock()
			}
		}
	}()
	return s
}

func (s *screen) close() {
	s.end()
	<-s.done
}

// REL-19 at a length that fits into one run: 200 messages a second of 200 contacts, with an AI member on the channel and
// a person who watches; then 500 a second.
func TestSteadyLoadAndBurst(t *testing.T) {
	const (
		rate, steady = 200, 60 * time.Second
		burst, peak  = 500, 60 * time.Second
		atOnce       = 2000
	)
	site := prove.NewSite(t, prove.SiteOptions{})
	site.Serve()
	conn := site.DB(t)
	if _, err := conn.Exec(t.Context(), `UPDATE channels SET ai_member_id = $1 WHERE id = $2`, site.Ava, site.Form); err != nil {
		t.Fatal(err)
	}
	g := newGun(site.URL, site.APIKey, 200)
	g.open(t.Context(), 20, 10*time.Second, atOnce) // the contacts, and the AI member's first answers
	view := watch(t, site.URL, site.APIKey)
	shots, unsent := g.open(t.Context(), rate, steady, atOnce)
	status, accepted := sum(shots)
	if status[http.StatusCreated] != len(shots) || unsent > 0 {
		t.Errorf("answered %v, %d not sent", status, unsent)
	}
	received := map[string]string{} // our id -> the message's
	rows, err := conn.Query(t.Context(), `SELECT external_id, message_id::text FROM inbound WHERE state = 'applied'`)
	if err != nil {
		t.Fatal(err)
	}
	for rows.Next() {
		var ours, message string
		if err := rows.Scan(&ours, &message); err != nil {
			t.Fatal(err)
		}
		received[ours] = message
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	shown := func() int {
		view.mu.Lock()
		defer view.mu.Unlock()
		return len(view.seen)
	}
	prove.Until(t, prove.Patience, "every message is on the screen", func() bool { return shown() >= len(accepted) })
	view.close()
	var delay []time.Duration
	for _, s := range shots {
		if s.status/100 != 2 {
			continue
		}
		seen, ok := view.seen[received[s.id]]
		if !ok {
			t.Fatalf("the message %s was never on the screen", s.id)
		}
		delay = append(delay, seen.Sub(s.meant))
	}
	slices.Sort(delay)
	report := proof.Figure
	if at(accepted, .99) > 100*time.Millisecond || at(delay, .99) > 500*time.Millisecond {
		report = proof.Missed
	}
	report(t, "REL-19", "%d messages/s for %s (promised for 30 minutes): %d accepted, p50 %s, p99 %s; on a member's screen p50 %s, p99 %s; 0 errors", rate, steady,
		len(accepted), at(accepted, .5).Round(time.Millisecond), at(accepted, .99).Round(time.Millisecond), at(delay, .5).Round(time.Millisecond), at(delay, .99).Round(time.Millisecond))

	shots, unsent = g.open(t.Context(), burst, peak, atOnce)
	ended := time.Now()
	if status, accepted = sum(shots); status[http.StatusCreated] != len(shots) || unsent > 0 {
		t.Errorf("the burst was answered %v, %d not sent", status, unsent)
	}
	prove.Until(t, 2*prove.Patience, "the backlog is gone", func() bool { return metric(t, site.URL, "tandem_outbox_rows") == 0 })
	drained := time.Since(ended)
	report = proof.Figure
	if drained > time.Minute {
		report = proof.Missed
	}
	report(t, "REL-19", "%d messages/s for %s: %d accepted, p99 %s, drained in %.1f s", burst, peak, len(accepted), at(accepted, .99).Round(time.Millisecond), drained.Seconds())
}
