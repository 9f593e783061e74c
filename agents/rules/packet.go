package rules

import (
	"fmt"
	"slices"
	"strings"

	"github.com/tandemhq/tandem/agents/llm"
)

// handOff ends the turn with a handoff, whose line to the customer starts with what could be answered.
func (t *turn) handOff(r handoffRule, answers []string) ([]llm.Call, error) {
	if !t.offers("request_handoff") {
		return t.say(sayNoOne, 0.4, nil)
	}
	line := r.line
	if t.facts.OutOfHours {
		line += sayHours
	}
	t.call("request_handoff", map[string]any{
		"reason": r.reason, "summary": t.summary(r), "asked": t.allAsked(), "tried": t.tried(answers), "promised": []string{"A colleague continues in this conversation."},
		"next_step": r.next, "customer_line": t.line(answers, line),
	})
	return t.calls, nil
}

// line puts answers in front of the handoff line as far as the tool's limit allows; the line itself
// is always whole.
func (t *turn) line(answers []string, line string) string {
	most := t.tools["request_handoff"].Properties["customer_line"].MaxLength
	for n := len(answers); n >= 0; n-- {
		text := t.opening(join(append(slices.Clone(answers[:n]), line)))
		if most <= 0 || len(text) <= most {
			return text
		}
	}
	return line
}

// summary tells a colleague in a few sentences whom they take over and why.
func (t *turn) summary(r handoffRule) string {
	who := t.facts.ContactName
	if who == "" {
		who = "The customer"
	}
	var b strings.Builder
	said := cut(strings.Join(strings.Fields(t.text), " "), 300)
	fmt.Fprintf(&b, "%s wrote: %q", cut(who, 80), said)
	if !strings.ContainsAny(said[max(0, len(said)-1):], ".!?") {
		b.WriteByte('.')
	}
	found := t.findings()
	for _, field := range llm.BANTFields {
		if k := t.known(field, found); k.Value != "" {
			fmt.Fprintf(&b, " %s%s: %s.", strings.ToUpper(field[:1]), field[1:], strings.TrimRight(cut(k.Value, 200), ". "))
		}
	}
	fmt.Fprintf(&b, " Reason for the handoff: %s.", strings.ReplaceAll(r.reason, "_", " "))
	return b.String()
}

func (t *turn) allAsked() []string {
	out := []string{}
	for _, s := range append(slices.Clone(t.past), t.parts...) {
		if isQuestion(s) && !slices.Contains(out, cut(s, 200)) {
			out = append(out, cut(s, 200))
		}
	}
	return out[max(0, len(out)-8):]
}

// tried lists the documents that were quoted, and whether a search found nothing.
func (t *turn) tried(answers []string) []string {
	out := []string{}
	prefix, _, _ := strings.Cut(saySource, "%s")
	for _, text := range append(slices.Clone(t.ours), answers...) {
		for _, after := range strings.Split(text, prefix)[1:] {
			title, _, _ := strings.Cut(after, ")")
			if line := "Answered from: " + cut(title, 120); !slices.Contains(out, line) {
				out = append(out, line)
			}
		}
	}
	if _, searched := t.done("search_knowledge"); searched && len(answers) == 0 {
		out = append(out, "Searched the knowledge base without an answer.")
	}
	return out
}
