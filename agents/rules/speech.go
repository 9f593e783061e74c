package rules

import (
	"fmt"
	"slices"
	"strings"
	"unicode"

	"github.com/tandemhq/tandem/agents/llm"
)

// acknowledge says what was noted, in our own words only.
func (t *turn) acknowledge(found []finding) string {
	var noted []string
	for _, f := range found {
		if f.confidence < sureEnough {
			continue
		}
		if f.echo != "" {
			noted = append(noted, f.echo)
		} else {
			noted = append(noted, nouns[f.field])
		}
	}
	switch {
	case len(noted) == 0:
		return ""
	case len(noted) == 1 && found[0].field == llm.Need && found[0].echo == "":
		return sayThanks
	}
	return fmt.Sprintf(sayNoted, list(noted))
}

// close adds what the customer is asked next, or a friendly end.
func (t *turn) close(parts []string, found []finding, asked bool) string {
	switch {
	case t.identity():
		parts = append([]string{sayIdentity}, parts...)
	case len(parts) == 0 && len(found) == 0 && t.unclear():
		return sayUnclear
	case len(parts) == 0 && len(found) == 0 && (thanksRE.MatchString(t.text) || goodbyeRE.MatchString(t.text) && len(strings.Fields(t.text)) <= 8):
		if t.facts.OpenHandoff {
			return sayWaiting
		}
		return sayWelcome
	}
	if t.facts.OpenHandoff {
		return join(append(parts, sayWaiting))
	}
	if next := t.nextQuestion(found); next != "" {
		if len(parts) == 0 && t.facts.Greeted && !t.justGreeting() {
			parts = append(parts, "Thank you.")
		}
		return join(append(parts, next))
	}
	if len(parts) == 0 {
		if t.justGreeting() {
			return sayHowCanHelp
		}
		return "Thank you. " + sayAnythin
	}
	if !asked {
		parts = append(parts, sayAnythin)
	}
	return join(parts)
}

func (t *turn) identity() bool {
	return slices.ContainsFunc(t.parts, identityRE.MatchString)
}

// unclear reports a question without a word to look up: "What?".
func (t *turn) unclear() bool {
	return slices.ContainsFunc(t.parts, func(s string) bool { return isQuestion(s) && len(terms(s)) == 0 })
}

func (t *turn) justGreeting() bool {
	return greetingRE.MatchString(t.text) || smallTalk.MatchString(t.text)
}

// nextQuestion asks for the first field that is missing, then for one that is unsure.
func (t *turn) nextQuestion(found []finding) string {
	for _, unsure := range []bool{false, true} {
		for _, field := range llm.BANTFields {
			k := t.known(field, found)
			if unsure != (k.Value != "") || unsure && (k.Confidence >= sureEnough || k.Locked || k.Confidence <= unknownAnswer || t.counts[field] > 1) {
				continue
			}
			if q := t.question(field); q != "" {
				return q
			}
		}
	}
	return ""
}

// opening puts the greeting in front of the first thing we say in a conversation.
func (t *turn) opening(text string) string {
	if t.facts.Greeted || len(t.ours) > 0 {
		return text
	}
	name, org, who := "", "", sayAssistant
	if n := firstName(t.facts.ContactName); n != "" {
		name = " " + n
	}
	if t.facts.OrgName != "" {
		org = " to " + t.facts.OrgName
	}
	if t.facts.AgentName != "" {
		who = t.facts.AgentName + ", " + sayAssistant
	}
	return join([]string{fmt.Sprintf(sayHello, name, org, who), text})
}

// firstName returns a given name that is safe to greet with, or "".
func firstName(full string) string {
	words := strings.Fields(full)
	if len(words) == 0 || len(words) > 5 {
		return ""
	}
	n := words[0]
	if len(n) < 2 || len(n) > 24 || strings.ContainsFunc(n, func(r rune) bool { return !unicode.IsLetter(r) && r != '-' && r != '\'' }) {
		return ""
	}
	return n
}

func join(parts []string) string {
	return strings.Join(slices.DeleteFunc(parts, func(s string) bool { return s == "" }), "\n\n")
}

// list writes "a, b and c".
func list(s []string) string {
	if len(s) < 2 {
		return strings.Join(s, "")
	}
	return strings.Join(s[:len(s)-1], ", ") + " and " + s[len(s)-1]
}

func round(f float64) float64 { return float64(int(f*100+0.5)) / 100 }
