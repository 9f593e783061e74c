//go:build prove

// Package load proves how Tandem behaves under a steady load and under more than it can do.
package load

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/internal/prove"
)

func TestMain(m *testing.M) {
	code := m.Run()
	prove.CleanUp()
	os.Exit(code)
}

// shot is one request of an open loop.
type shot struct {
	id     string
	meant  time.Time     // when it was to be sent
	took   time.Duration // from meant to the end of the answer
	status int           // 0: no answer
	retry  string        // Retry-After
}

// gun posts leads to one organization, those of a few hundred contacts over and over.
type gun struct {
	url, key string
	contacts int
	client   *http.Client
}

func newGun(url, key string, contacts int) *gun {
	return &gun{url: url, key: key, contacts: contacts, client: &http.Client{
		Timeout: 15 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 4096},
	}}
}

func (g *gun) send(ctx context.Context, i int, meant time.Time) shot {
	s := shot{id: string(tandem.NewID()), meant: meant}
	body, _ := json.Marshal(map[string]any{ // plain maps always encode
		"title": "Load", "message": "Hello, this is message " + s.id + strings.Repeat(". We need a price.", 40), "external_id": s.id,
		"contact": map[string]string{"name": "Somebody", "email": fmt.Sprintf("contact%d@example.com", i%g.contacts)},
	})
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, g.url+"/api/v1/inbound/lead", bytes.NewReader(body))
	if err != nil {
		return s
	}
	req.Header.Set("X-API-Key", g.key)
	req.Header.Set("Content-Type", "application/json")
	res, err := g.client.Do(req)
	if err == nil {
		_, err = io.Copy(io.Discard, res.Body)
		res.Body.Close()
	}
	if err == nil {
		s.status, s.retry = res.StatusCode, res.Header.Get("Retry-After")
	}
	s.took = time.Since(meant)
	return s
}

// open sends rate leads a second for the given time, whether or not the earlier ones have been answered, but never more
// than most at once: what finds no room is not sent at all and counted.
func (g *gun) open(ctx context.Context, rate float64, lasting time.Duration, most int) (shots []shot, unsent int) {
	var mu sync.Mutex
	var wg sync.WaitGroup
	slots := make(chan struct{}, most)
	began := time.Now()
	for i := 0; ; i++ {
		meant := began.Add(time.Duration(float64(i) / rate * float64(time.Second)))
		if meant.Sub(began) > lasting || ctx.Err() != nil {
			break
		}
		if wait := time.Until(meant); wait > 0 {
			<-time.After(wait)
		}
		select {
		case slots <- struct{}{}:
		default:
			unsent++
			continue
		}
		wg.Go(func() {
			s := g.send(ctx, i, meant)
			<-slots
			mu.Lock()
			shots = append(shots, s)
			mu.Unlock()
		})
	}
	wg.Wait()
	return shots, unsent
}

// closed has so many callers send one lead after the other.
func (g *gun) closed(ctx context.Context, callers int, lasting time.Duration) (perSecond float64) {
	ctx, cancel := context.WithTimeout(ctx, lasting)
	defer cancel()
	var mu sync.Mutex
	var wg sync.WaitGroup
	n := 0
	for c := range callers {
		wg.Go(func() {
			for i := c; ctx.Err() == nil; i += callers {
				if s := g.send(ctx, i, time.Now()); s.status/100 == 2 {
					mu.Lock()
					n++
					mu.Unlock()
				}
			}
		})
	}
	wg.Wait()
	return float64(n) / lasting.Seconds()
}

// sum tells how shots ended: how many by status, and the times of those accepted, sorted.
func sum(shots []shot) (byStatus map[int]int, accepted []time.Duration) {
	byStatus = map[int]int{}
	for _, s := range shots {
		byStatus[s.status]++
		if s.status/100 == 2 {
			accepted = append(accepted, s.took)
		}
	}
	slices.Sort(accepted)
	return byStatus, accepted
}

// at is a quantile of sorted times.
func at(sorted []time.Duration, q float64) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[min(len(sorted)-1, int(q*float64(len(sorted))))]
}

// memory is the resident memory of a process, and the most there ever was, in MB.
func memory(t *testing.T, pid int) (now, most int) {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Skipf("memory cannot be read here: %v", err)
	}
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		if len(f) < 2 {
			continue
		}
		kb, _ := strconv.Atoi(f[1]) // other lines are other things
		switch f[0] {
		case "VmRSS:":
			now = kb >> 10
		case "VmHWM:":
			most = kb >> 10
		}
	}
	return now, most
}

// metric reads one figure of /metrics.
func metric(t *testing.T, url, name string) float64 {
	t.Helper()
	res, err := http.Get(url + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) == 2 && f[0] == name {
			v, err := strconv.ParseFloat(f[1], 64)
			if err != nil {
				t.Fatal(err)
			}
			return v
		}
	}
	t.Fatalf("/metrics has no %s", name)
	return 0
}
