package rules

import (
	"math"
	"slices"
	"strings"

	"github.com/tandemhq/tandem/agents/llm"
)

// finding is a qualification field read from the customer's words.
type finding struct {
	field      string
	value      string
	confidence float64
	quote      string // the sentence it came from
	minor      int64  // for budget: the upper end in minor units
	echo       string // what may be repeated to the customer, in our own words
}

// findings reads all four fields, and drops what is already known as well or locked.
func (v *view) findings() []finding {
	var out []finding
	for _, f := range []finding{v.need(), v.authority(), v.timeline(), v.budget()} {
		if f.value == "" {
			continue
		}
		old := v.facts.Qualification[f.field]
		switch {
		case old.Locked, strings.EqualFold(old.Value, f.value):
			continue
		case old.Value == "", v.asked == f.field, f.confidence >= old.Confidence && f.confidence >= sureEnough:
		default:
			continue
		}
		out = append(out, f)
	}
	return out
}

// topics are the words by which a sentence names a field.
var topics = map[string]*pattern{
	llm.Budget:    rx(`\b(?:budget|money|price|costs?|spend)\b`),
	llm.Timeline:  rx(`\b(?:timeline|timing|time ?frame|dates?|deadline|when|start)\b`),
	llm.Authority: rx(`\b(?:decisions?|decides?|who|boss)\b`),
}

// aboutOther reports a sentence that names another field and not this one.
func (v *view) aboutOther(s, field string) bool {
	if re := topics[field]; re != nil && re.MatchString(s) {
		return false
	}
	for other, re := range topics {
		if other != field && re.MatchString(s) {
			return true
		}
	}
	return false
}

// answersElse reports a short sentence that is an answer to another question than what is needed.
func (v *view) answersElse(s string) bool {
	n := len(strings.Fields(s))
	money := slices.ContainsFunc(amounts(s, v.facts.Currency, true), func(a amount) bool { return !a.Bare || a.Per != "" })
	return money ||
		n <= 12 && whoDecides(s).Confidence > 0 || n <= 6 && len(whens(s, v.now)) > 0
}

var plainNo = rx(`^\W*(?:no|nope|not really|none|nothing)\W*$`)

// unknown is what a field becomes when the customer was asked and does not know.
func (v *view) unknown(field, value string) finding {
	if v.asked != field || v.facts.Qualification[field].Value != "" {
		return finding{}
	}
	for _, s := range v.claims {
		if plainNo.MatchString(s) || dontKnowRE.MatchString(s) && !v.aboutOther(s, field) {
			return finding{field: field, value: value, confidence: unknownAnswer, quote: cut(s, 200)}
		}
	}
	return finding{}
}

func (v *view) budget() finding {
	asked := v.asked == llm.Budget
	for _, s := range v.claims {
		talks := budgetRE.MatchString(s) || strings.ContainsAny(s, "$€£") && !isQuestion(s)
		if !asked && (!talks || notBudgetRE.MatchString(s)) || isQuestion(s) && !strings.Contains(strings.ToLower(s), "budget") {
			continue
		}
		for _, a := range amounts(s, v.facts.Currency, true) {
			if a.Bare && !asked && a.Per == "" && !strings.Contains(strings.ToLower(s[a.From:a.To]), "k") {
				continue // a number alone is money only in answer to our question
			}
			if a.Bare && (a.High < 100 || a.High < 2100 && a.High > 1990) {
				continue // a count or a year
			}
			if a.Bare && len(headcounts(s)) > 0 && strings.Contains(headcounts(s)[0].String(), comma(int64(a.High))) {
				continue // the same number of people
			}
			confidence := 0.8
			if asked {
				confidence = 0.9
			}
			if a.Bare {
				confidence -= 0.1
			}
			return finding{
				field: llm.Budget, value: a.String(), confidence: confidence, quote: cut(s, 200),
				minor: int64(math.Round(a.High * 100)), echo: "a budget of " + a.String(),
			}
		}
		if noBudgetRE.MatchString(s) && v.facts.Qualification[llm.Budget].Value == "" {
			return finding{field: llm.Budget, value: "No budget set yet", confidence: unknownAnswer, quote: cut(s, 200)}
		}
	}
	return v.unknown(llm.Budget, "No budget set yet")
}

func (v *view) timeline() finding {
	asked := v.asked == llm.Timeline
	for _, s := range v.claims {
		if !asked && (!timelineRE.MatchString(s) || notTimelineRE.MatchString(s)) {
			continue
		}
		for _, w := range whens(s, v.now) {
			if w.Weak && !asked {
				continue
			}
			if w.None {
				if v.facts.Qualification[llm.Timeline].Value != "" {
					continue
				}
				return finding{field: llm.Timeline, value: "No fixed date", confidence: unknownAnswer, quote: cut(s, 200)}
			}
			confidence := 0.8
			if asked {
				confidence = 0.9
			}
			return finding{field: llm.Timeline, value: w.Text, confidence: confidence, quote: cut(s, 200), echo: "the timing: " + w.Text}
		}
	}
	return v.unknown(llm.Timeline, "Not decided yet")
}

var (
	aloneRE = rx(`^\W*no\W*$|^\W*(?:(?:it'?s |that'?s |no,? |only |just )*(?:only |just )?(?:me|myself|i do|nobody(?: else)?|no ?one(?: else)?|none|i decide)|i am the only one)\b`)
	othRE   = rx(`^\W*(?:(?:yes|yeah|well|also|and),? )*(?:it'?s |that'?s |that would be |probably |only |me and |myself and )*` + othersRE + endRE)
)

func (v *view) authority() finding {
	old := v.facts.Qualification[llm.Authority].Value
	for _, s := range v.claims {
		a := whoDecides(s)
		if v.asked == llm.Authority && a.Decides == "" && !isQuestion(s) {
			if aloneRE.MatchString(s) {
				a.Decides, a.Confidence = "decides alone", 0.85
			} else if m := othRE.FindStringSubmatch(s); m != nil && len(strings.Fields(s)) <= 12 {
				if who := otherName(m[1]); who != "" {
					a.Decides, a.Confidence = "decides together with "+who, 0.8
				}
			}
		}
		if a.Confidence == 0 {
			continue
		}
		if a.Decides == "" {
			// A decision may be in the sentence after the role.
			for _, t := range v.claims {
				if b := whoDecides(t); b.Decides != "" {
					a.Decides, a.Confidence = b.Decides, max(a.Confidence, b.Confidence)
					break
				}
			}
		}
		if a.Role == "" && old != "" && !strings.Contains(old, "decide") && !strings.Contains(old, "approval") && !strings.Contains(old, "known") {
			a.Role = old // the role was given earlier
		}
		if a.Decides == "" && old != "" {
			return finding{} // a role again adds nothing
		}
		return finding{field: llm.Authority, value: cut(a.String(), 200), confidence: a.Confidence, quote: cut(s, 200)}
	}
	return v.unknown(llm.Authority, "Not known yet who decides")
}

var (
	wishRE  = rx(`\b(?:need|looking for|want|problem|struggl\w+|would like|replace)\b`)
	helloRE = rx(`^(?:(?:hi|hello|hey|dear \w+|good (?:morning|afternoon|evening|day))(?: there| all| team)?[,!. ]+)+`)
)

func (v *view) need() finding {
	old := v.facts.Qualification[llm.Need]
	size := ""
	if h := headcounts(strings.Join(v.claims, "\n")); len(h) > 0 {
		size = h[0].String()
	}
	var found []string
	confidence := 0.0
	for _, s := range v.claims {
		question := isQuestion(s)
		switch {
		case notNeedRE.MatchString(s) || handoffFor(s) != nil:
		case needRE.MatchString(s) && (!question || wishRE.MatchString(s)):
			found, confidence = append(found, s), max(confidence, 0.8)
		case !question && interestRE.MatchString(s):
			found, confidence = append(found, s), max(confidence, 0.6)
		case v.asked == llm.Need && !question && len(strings.Fields(s)) >= 3 && !dontKnowRE.MatchString(s) && !thanksRE.MatchString(s) && !v.answersElse(s):
			found, confidence = append(found, s), max(confidence, 0.75)
		}
	}
	if len(found) == 0 || old.Value != "" && v.asked != llm.Need {
		if size == "" || old.Value == "" || strings.Contains(old.Value, " people") {
			return finding{}
		}
		// The need is known; the size of the team completes it.
		for _, s := range v.claims {
			if len(headcounts(s)) > 0 && !isQuestion(s) {
				return finding{field: llm.Need, value: cut(old.Value, 240) + " (" + size + ")", confidence: max(old.Confidence, sureEnough), quote: cut(s, 200), echo: "that you are " + size}
			}
		}
		return finding{}
	}
	quote := cut(found[0], 200) // evidence is one sentence, word for word
	value := cut(helloRE.ReplaceAllString(strings.Join(found[:min(2, len(found))], " "), ""), 240)
	if size != "" && len(headcounts(value)) == 0 {
		value += " (" + size + ")"
	}
	return finding{field: llm.Need, value: value, confidence: confidence, quote: quote}
}

// teamSize returns the customer's head count as a number, 0 when not said.
func (v *view) teamSize() int {
	for _, s := range v.claims {
		if h := headcounts(s); len(h) > 0 && !isQuestion(s) {
			return h[0].High
		}
	}
	return 0
}

// handoffFor returns the first handoff rule that a sentence triggers.
func handoffFor(sentence string) *handoffRule {
	if i := handoffAt(sentence); i < len(handoffRules) {
		return &handoffRules[i]
	}
	return nil
}

// handoffAt is that rule's place, or their number when there is none.
func handoffAt(sentence string) int {
	for i, r := range handoffRules {
		if r.re.MatchString(sentence) && (r.not == nil || !r.not.MatchString(sentence)) {
			return i
		}
	}
	return len(handoffRules)
}
