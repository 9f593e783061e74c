//go:build prove

package scale

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"regexp"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tandemhq/tandem/internal/proof"
	"github.com/tandemhq/tandem/internal/prove"
)

const (
	processes = 3
	crowd     = 16 // visitors who write at the same time
	perPhase  = 10 * time.Second
	enough    = 1000 // turns, many times what the workers of one process take before others have their turn
	takeovers = 4    // every so many conversations a person takes over
)

// load is a crowd of visitors, each with one message and an id of its own, and a person who takes some of them over.
type load struct {
	urls   []string
	widget string
	person string // API key
	random *rand.Rand

	mu       sync.Mutex
	sent     []prove.Sent
	failures []string
	taken    atomic.Int64
	wg       sync.WaitGroup
	end      context.CancelFunc
}

func startLoad(urls []string, widget, person string, random *rand.Rand) *load {
	l := &load{urls: urls, widget: widget, person: person, random: random}
	ctx, end := context.WithCancel(context.Background())
	l.end = end
	for range crowd {
		l.wg.Go(func() {
			for ctx.Err() == nil {
				l.visit()
			}
		})
	}
	l.wg.Go(func() { l.takeOver(ctx) })
	return l
}

// stop lets every message that was begun be accepted.
func (l *load) stop() {
	l.end()
	l.wg.Wait()
}

func (l *load) fail(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.failures = append(l.failures, fmt.Sprintf(format, args...))
}

func (l *load) shuffled() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	urls := make([]string, len(l.urls))
	for i, j := range l.random.Perm(len(urls)) {
		urls[i] = l.urls[j]
	}
	return urls
}

// visit is one visitor's whole life. It is finished once begun, or nobody would know whether it has to be there.
func (l *load) visit() {
	ctx, cancel := context.WithTimeout(context.Background(), 2*prove.Patience)
	defer cancel()
	l.mu.Lock()
	from := fmt.Sprintf("10.%d.%d.%d", l.random.IntN(256), l.random.IntN(256), l.random.IntN(256))
	l.mu.Unlock()
	v := &visitor{urls: l.shuffled(), chat: "/chat/" + l.widget, from: from}
	if err := v.open(ctx); err != nil {
		l.fail("open a chat: %v", err)
		return
	}
	id, message, err := v.write(ctx, "Hello, is there a free trial?")
	if err != nil {
		l.fail("write: %v", err)
		return
	}
	l.mu.Lock()
	l.sent = append(l.sent, prove.Sent{ID: id, Who: v.token, Chat: true, Message: message})
	l.mu.Unlock()
}

// takeOver is a person who takes over some of the conversations in which an AI member works.
func (l *load) takeOver(ctx context.Context) {
	for ctx.Err() == nil {
		for _, url := range l.shuffled() {
			var page struct{ Items []struct{ ID string } }
			status, err := ask(ctx, http.MethodGet, url+"/api/v1/conversations?view=ai&limit=20", "", &page, "X-API-Key", l.person)
			if err != nil || status != http.StatusOK {
				continue
			}
			for i, c := range page.Items {
				if i%takeovers != 0 {
					continue
				}
				status, err := ask(ctx, http.MethodPost, url+"/api/v1/conversations/"+c.ID+"/takeover", `{"reason":"I know this customer"}`, nil, "X-API-Key", l.person)
				if err == nil && status == http.StatusOK {
					l.taken.Add(1)
				}
			}
		}
		select {
		case <-ctx.Done():
		case <-time.After(50 * time.Millisecond):
		}
	}
}

var turnsLine = regexp.MustCompile(`tandem_facts_total\{consumer="agents",outcome="done"\} (\d+)`)

// turns is how many facts the AI members of a process have worked off since it started.
func turns(t *testing.T, url string) int {
	t.Helper()
	res, err := client.Get(url + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	if m := turnsLine.FindSubmatch(b); m != nil {
		n, _ = strconv.Atoi(string(m[1])) // digits
	}
	return n
}

// Three processes, all alike, under load: the work is spread over them; one of them and one NATS node are killed, and
// come back.
func TestOneOfEachIsKilled(t *testing.T) {
	random := proof.Rand(t)
	site, nats := newSite(t)
	began := time.Now()
	alike := []*prove.Process{site.Serve(), site.ServeBeside(), site.ServeBeside()}
	conn := site.DB(t)
	site.WatchDispatches()
	var urls []string
	for _, p := range alike {
		urls = append(urls, p.URL)
	}
	l := startLoad(urls, site.WidgetKey, site.APIKey, random)
	pause := func() { <-time.After(perPhase) }
	spread := make([]int, processes)
	all := 0
	prove.Until(t, prove.Patience, "enough turns to see how they are spread", func() bool {
		all = 0
		for i, p := range alike {
			spread[i] = turns(t, p.URL)
			all += spread[i]
		}
		return all >= enough
	})
	for i, n := range spread {
		if n*10 < all {
			t.Errorf("process %d has worked off %d of %d turns", i, n, all)
		}
	}

	victim, node := random.IntN(processes), random.IntN(len(nats.Nodes))
	alike[victim].Kill()
	pause()
	nats.Nodes[node].Kill()
	pause()
	nats.Start(node)
	if victim == 0 {
		alike[victim] = site.Serve()
	} else {
		alike[victim] = site.ServeBeside()
	}
	pause()
	l.stop()

	stopped := time.Now()
	var b prove.Books
	prove.Until(t, 2*prove.Patience, "everybody is answered", func() bool {
		var err error
		if b, err = prove.ReadBooks(t.Context(), conn); err != nil {
			t.Fatal(err)
		}
		return b.Drained()
	})
	drained := time.Since(stopped)
	v := prove.Check(l.sent, b, nil)
	answers, twice := map[string]int{}, 0
	for _, m := range b.Messages {
		if m.Sender == "ai" && m.Status != "cancelled" {
			if answers[m.Conversation]++; answers[m.Conversation] == 2 {
				twice++ // to the one message there is
			}
		}
	}
	if wrong := v.Wrong(); len(wrong)+twice+len(l.failures) > 0 || v.Accepted == 0 || v.Stored != v.Accepted {
		t.Errorf("%d accepted, %d stored, %v, %d answered twice, %v", v.Accepted, v.Stored, wrong, twice, l.failures)
	}
	if len(b.Takeovers) == 0 || len(b.Dispatches) == 0 {
		t.Error("no takeover or no dispatch was noted: the test looks at nothing")
	}
	if l.taken.Load() == 0 {
		t.Error("nobody has taken over anything: the test looks at nothing")
	}
	proof.Figure(t, "SCALE", "three processes alike, process %d and NATS node %d killed under load: %d messages, %d lost, %d doubled, %d takeovers, %d talk-overs, %d unknown; turns before the kill %v; all answered %.1f s after the load; %.0f s",
		victim, node, v.Accepted, len(v.Lost), len(v.DoubledRows)+twice, l.taken.Load(), len(v.AfterTakeover), len(v.Unknown), spread, drained.Seconds(), time.Since(began).Seconds())
}
