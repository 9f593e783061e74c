package oracle

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"time"
)

// The points at which a provider can fail.
const (
	Before          = "before"           // before it has taken anything: the connection ends
	Middle          = "middle"           // in the middle of the message, or of the model's answer: the connection ends
	AfterTaking     = "after-taking"     // it has taken the message and says nothing: the connection ends
	BeforeAnswering = "before-answering" // it has taken the message and says so after Delay
	Reset           = "reset"            // at once, with an RST
	Slow            = "slow"             // it takes Delay to begin
)

var points = []string{Before, Middle, AfterTaking, BeforeAnswering, Reset, Slow}

// Fault orders that a share of a provider's calls fails.
type Fault struct {
	Provider string  `json:"provider"`
	Point    string  `json:"point"`
	Rate     float64 `json:"rate"`     // 0 to 1
	Seed     uint64  `json:"seed"`     // decides which calls, in the order in which they come
	DelayMS  int     `json:"delay_ms"` // for slow and before-answering
}

type faults struct {
	j  *Journal
	mu sync.Mutex
	on []*ordered
}

type ordered struct {
	Fault
	rng *rand.Rand
}

func newFaults(j *Journal) *faults { return &faults{j: j} }

func (f *faults) set(o Fault) error {
	if !slices.Contains(points, o.Point) || o.Rate < 0 || o.Rate > 1 || o.Provider == "" {
		return fmt.Errorf("a fault needs a provider, a rate from 0 to 1 and one of the points %v", points)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.on = append(f.on, &ordered{o, rand.New(rand.NewPCG(o.Seed, o.Seed))})
	return nil
}

func (f *faults) clear() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.on = nil
}

// roll decides once per call which fault, if any, it meets. Faults of one provider share the dice: rates add up.
func (f *faults) roll(provider string) *fate {
	f.mu.Lock()
	defer f.mu.Unlock()
	x := -1.0
	for _, o := range f.on {
		if o.Provider != provider {
			continue
		}
		if x < 0 {
			x = o.rng.Float64()
		}
		if x -= o.Rate; x < 0 {
			return &fate{f: f, Fault: o.Fault}
		}
	}
	return &fate{f: f}
}

// fate is what one call meets; the zero Fault is none.
type fate struct {
	f *faults
	Fault
}

// at tells whether the call fails at this point, and journals it.
func (t *fate) at(point, key string) bool {
	if t.Point != point {
		return false
	}
	t.f.j.add(Entry{Provider: t.Provider, Kind: Failed, Key: key, Text: point})
	return true
}

func (t *fate) delay() time.Duration { return time.Duration(t.DelayMS) * time.Millisecond }

// begin handles the points before a message is taken; false: the connection is gone.
func (t *fate) begin(ctx context.Context, w http.ResponseWriter, r *http.Request) bool {
	switch {
	case t.at(Reset, ""):
		hangUp(w, true)
		return false
	case t.at(Before, ""):
		hangUp(w, false)
		return false
	case t.at(Middle, ""):
		_, _ = r.Body.Read(make([]byte, max(1, r.ContentLength/2))) // half of it, and then no more
		hangUp(w, true)
		return false
	case t.at(Slow, ""):
		sleep(ctx, r.Context(), t.delay())
	}
	return true
}

// taken handles the points after a message was taken; false: the connection is gone.
func (t *fate) taken(ctx context.Context, w http.ResponseWriter, r *http.Request, key string) bool {
	switch {
	case t.at(AfterTaking, key):
		hangUp(w, true)
		return false
	case t.at(BeforeAnswering, key):
		sleep(ctx, r.Context(), t.delay())
	}
	return true
}

// hangUp ends the connection without an answer.
func hangUp(w http.ResponseWriter, rst bool) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	if rst {
		reset(conn)
		return
	}
	_ = conn.Close()
}
