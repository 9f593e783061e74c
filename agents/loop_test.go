package agents

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/tandemhq/tandem/team"
)

func TestMachineRounds(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	// say is one message: who wrote it, seconds after the one before, and the text.
	type say struct {
		who   string
		after float64
		text  string
	}
	long := func(n int) string { return fmt.Sprintf("%d ", n) + strings.Repeat(string(rune('a'+n))+"bc def ", 15) }
	talk := func(n int, after float64, text func(i int) string) (out []say) {
		out = append(out, say{"contact", 0, "Hello there"})
		for i := range n {
			out = append(out, say{"ai", 1, fmt.Sprintf("Our answer number %d.", i)}, say{"contact", after, text(i)})
		}
		return out
	}
	for _, k := range []struct {
		name string
		said []say
		want int
	}{
		{"nothing", nil, 0},
		{"one question", []say{{"contact", 0, "Hi"}}, 0},
		{"a person types", talk(5, 20, long), 0},
		{"a person answers yes", talk(5, 2, func(int) string { return "Yes." }), 0},
		{"a person is quick and brief", talk(5, 2, func(i int) string { return fmt.Sprintf("I want %d of them, and soon", i) }), 0},
		{"a person pastes once", append(talk(2, 20, long), say{"ai", 1, "And?"}, say{"contact", 1, long(9)}), 0},
		{"answers at once, at length", talk(3, 1, long), 3},
		{"goes on", talk(6, 1, long), 6},
		{"two fast rounds are not enough", talk(2, 1, long), 0},
		{"the same words", talk(3, 3600, func(int) string { return "I am out of the office." }), 3},
		{"the same words, longer", talk(4, 3600, func(int) string { return "I am  OUT of the office!" }), 4},
		{"the same words but for a number", talk(4, 600, func(i int) string {
			return fmt.Sprintf("Thank you for your message. Your ticket is number %d. We answer within two working days. Please do not reply to this message, nobody reads it.", i)
		}), 4},
		{"our own words come back", []say{{"contact", 0, "Hi"}, {"ai", 1, "How can we help you?"}, {"contact", 100, "How can we help you?"}, {"ai", 1, "Which plan is it?"}, {"contact", 99, "Which plan is it?"}}, 2},
		{"a person of ours came between", append(talk(4, 1, long), say{"human", 5, "I take over."}, say{"contact", 1, long(9)}), 0},
		{"a handoff came between", append(talk(4, 1, long), say{"line", 5, "A colleague takes over."}, say{"contact", 1, long(9)}), 0},
		{"then a person writes", append(talk(4, 1, long), say{"ai", 1, "And?"}, say{"contact", 60, "Sorry, let me look that up first for you."}), 0},
	} {
		var said []heard
		now := at
		for _, s := range k.said {
			now = now.Add(time.Duration(s.after * float64(time.Second)))
			h := heard{Direction: "outbound", SenderKind: s.who, Text: s.text, At: now}
			if s.who == "contact" {
				h.Direction = "inbound"
			}
			if s.who == "line" {
				h.SenderKind, h.Handoff = "ai", true
			}
			said = append([]heard{h}, said...)
		}
		if got := machineRounds(said); got != k.want {
			t.Errorf("%s: %d rounds, want %d", k.name, got, k.want)
		}
	}
}

// TestBudgetHasLimits: a profile may ask for less time than a customer is promised, and for no more.
func TestBudgetHasLimits(t *testing.T) {
	t.Parallel()
	for asked, want := range map[int]time.Duration{0: 110 * time.Second, -5: 110 * time.Second, 30: 30 * time.Second, 100_000: 110 * time.Second} {
		if got := newBudget(team.Budget{Seconds: asked}).time(); got != want {
			t.Errorf("%d seconds asked for: a turn takes %v, want %v", asked, got, want)
		}
	}
	b := newBudget(team.Budget{})
	if b.ToolCalls != 8 || b.Tokens != 32_000 || b.MessagesInRow != 3 || b.MessagesPerHour != 6 || b.MachineRounds != 3 || b.CostMicrosPerDay <= 0 || b.TokensPerDay <= 0 {
		t.Errorf("defaults %+v", b.Budget)
	}
}
