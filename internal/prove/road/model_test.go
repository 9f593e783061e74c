//go:build prove

package road

import (
	"fmt"
	"regexp"
	"testing"
	"time"

	"github.com/tandemhq/tandem/internal/proof"
	"github.com/tandemhq/tandem/internal/prove"
	"github.com/tandemhq/tandem/internal/prove/oracle"
)

// AI-10 through the wire: a model that hangs, cuts, floods, stammers or refuses. Whoever wrote gets one reply or one
// line that says that a colleague takes over, within 120 s and a little, and never reads what went wrong.
func TestModelFaults(t *testing.T) {
	t.Parallel()
	proof.Seed(t)
	s, world := answered(t, prove.SiteOptions{})
	s.Serve()
	began := time.Now()
	deeds := []string{"[hang]", "[cut]", "[flood 20000]", "[flood 64]", "[garbage]", "[empty]", "[429]", "[500]", "[401]", "[tool nothing_like_this]", "[handoff]"}
	const each = 3
	at := map[string]string{} // conversation -> what its model does
	for i := range each {
		for n, deed := range deeds {
			id := fmt.Sprintf("m%d-%d", n, i)
			at[write(t, s, id, id, deed+" [#"+id+"]").Conversation.ID] = deed
		}
	}
	raw := regexp.MustCompile(`(?i)rate limit|stack|panic|api key|sk-proof|10\.0\.0\.7|internal error|choices|deadline|json|timeout|EOF|status \d|http|la la la la la la la`)
	got := map[string][]oracle.Entry{}
	var slowest time.Duration
	slow := ""
	for last := int64(0); len(got) < len(at) && time.Since(began) < 150*time.Second; time.Sleep(100 * time.Millisecond) {
		seen, err := world.Journal(t.Context(), last, oracle.Webhook, oracle.Took)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range seen {
			last = e.N
			if len(got[e.Thread]) == 0 {
				if took := e.At.Sub(began); took > slowest {
					slowest, slow = took, at[e.Thread]
				}
			}
			got[e.Thread] = append(got[e.Thread], e)
		}
	}
	conn := s.DB(t)
	compare(t, conn, nil, world)
	replies, handoffs := 0, 0
	for conv, deed := range at {
		lines := got[conv]
		if len(lines) != 1 {
			t.Errorf("%s: %d lines reached the contact, want one", deed, len(lines))
			continue
		}
		if raw.MatchString(lines[0].Text) && deed != "[flood 64]" {
			t.Errorf("%s: the contact read %.200q", deed, lines[0].Text)
		}
		if oracle.Named(lines[0].Text) != "" {
			replies++
		} else {
			handoffs++
		}
	}
	if waiting := count(t, conn, `SELECT count(*) FROM conversations WHERE handoff_id IS NOT NULL`); waiting != handoffs {
		t.Errorf("%d conversations wait for a person and %d contacts were told so", waiting, handoffs)
	}
	if slowest > 125*time.Second {
		proof.Missed(t, "AI-10", "%s kept a contact waiting for %.0f s", slow, slowest.Seconds())
	}
	proof.Figure(t, "AI-10", "%d conversations, %d faults of a model server: %d replies, %d handoffs with a line, 0 silent, 0 raw errors; the slowest (%s) after %.1f s",
		len(at), len(deeds), replies, handoffs, slow, slowest.Seconds())
}
