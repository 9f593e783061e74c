package inbox

import (
	"fmt"
	"testing"
	"time"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/channels"
	"github.com/tandemhq/tandem/internal/proof"
)

func waits(org string, n int, at time.Time) *delivery {
	return &delivery{in: channels.Inbound{Org: tandem.ID(org), ID: channels.ExternalID(fmt.Sprint(org, n))}, at: at}
}

// One organization floods the queue: it fills its own lane only, and every other one's message
// is in the next batch, whatever the flood. Of one organization's messages none overtakes.
func TestQueueTakesTurns(t *testing.T) {
	t.Parallel()
	const most, inLane, batch, share = 100, 50, 20, 8
	q, now := newQueue(), time.Now()
	refused := 0
	for n := range 200 {
		if !q.put(waits("noisy", n, now.Add(time.Duration(n))), BatchOptions{Queue: most, Lane: inLane, Patience: time.Minute}) {
			refused++
		}
	}
	if refused != 150 {
		t.Fatalf("%d messages refused, want all above %d", refused, inLane)
	}
	var taken []string
	rounds := 0
	for ; ; rounds++ {
		quiet := fmt.Sprint("quiet", rounds%7)
		if rounds < 5 && !q.put(waits(quiet, rounds, now), BatchOptions{Queue: most, Lane: inLane, Patience: time.Minute}) {
			t.Fatalf("%s was refused for the flood of another", quiet)
		}
		got := q.take(batch, share)
		if len(got) == 0 {
			break
		}
		noisy, met, last := 0, false, tandem.ID("")
		seen := map[tandem.ID]bool{}
		for _, d := range got {
			if d.in.Org != last && seen[d.in.Org] {
				t.Error("messages of one organization do not stand together")
			}
			last, seen[d.in.Org] = d.in.Org, true
			if d.in.Org == "noisy" {
				noisy++
				taken = append(taken, string(d.in.ID))
			}
			met = met || string(d.in.Org) == quiet
		}
		if noisy > share || len(got) > batch || rounds < 5 && !met {
			t.Errorf("round %d: %d of %d are the noisy one's, the quiet one is there: %v", rounds, noisy, len(got), met)
		}
	}
	for n, id := range taken {
		if id != fmt.Sprint("noisy", n) {
			t.Fatalf("place %d holds %s", n, id)
		}
	}
	if n, since := q.waiting(); n != 0 || !since.IsZero() || len(taken) != inLane || len(q.lanes) != 0 || len(q.turn) != 0 {
		t.Errorf("%d left since %v, %d taken", n, since, len(taken))
	}
	proof.Figure(t, "REL-11", "a flood of %d messages: %d refused, its lane holds %d, and each of 5 other organizations is in the next batch", 200, refused, inLane)
}

// The backlog says since when the oldest message waits, also while it is being written.
func TestQueueKnowsItsOldest(t *testing.T) {
	t.Parallel()
	q, now := newQueue(), time.Now()
	for n := range 6 {
		q.put(waits(fmt.Sprint("org", n%2), n, now.Add(time.Duration(n)*time.Second)), BatchOptions{Queue: 10, Lane: 10, Patience: time.Minute})
	}
	for _, want := range []struct {
		waiting int
		since   time.Duration // of the oldest after the next take
	}{{4, 0}, {2, 2 * time.Second}, {0, 4 * time.Second}} {
		q.take(2, 1)
		n, since := q.waiting()
		if n != want.waiting || !since.Equal(now.Add(want.since)) {
			t.Errorf("%d wait since %v, want %d since %v", n, since.Sub(now), want.waiting, want.since)
		}
	}
	q.take(2, 1)
	if n, since := q.waiting(); n != 0 || !since.IsZero() {
		t.Errorf("%d wait since %v", n, since)
	}
	q.put(waits("a", 1, now), BatchOptions{Queue: 1, Lane: 1, Patience: time.Minute})
	if q.put(waits("b", 1, now), BatchOptions{Queue: 1, Lane: 1, Patience: time.Minute}) {
		t.Error("more than fits was taken")
	}
}

// Whose first message has waited for too long is told so at once, and nobody else.
func TestQueueRefusesWhatWouldWaitTooLong(t *testing.T) {
	t.Parallel()
	q, now := newQueue(), time.Now()
	put := func(org string, n int, after time.Duration) bool {
		o := BatchOptions{Queue: 100, Lane: 100, Patience: time.Second}
		at := now.Add(after)
		may := q.room(tandem.ID(org), at, o)
		if got := q.put(waits(org, n, at), o); got != may {
			t.Errorf("room says %v and put %v", may, got)
		}
		return may
	}
	if !put("slow", 1, 0) || !put("slow", 2, time.Second) {
		t.Error("refused although nobody has waited for longer than patience")
	}
	if put("slow", 3, time.Second+1) {
		t.Error("a third message was taken behind one that has waited for too long")
	}
	if !put("other", 1, time.Minute) {
		t.Error("another organization's message was refused")
	}
	q.take(1, 1)
	if !put("slow", 3, 2*time.Second) {
		t.Error("refused although the first message is gone and the second has waited for a second")
	}
}
