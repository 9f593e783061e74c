package rules

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/tandemhq/tandem/agents/llm"
)

// A turn may make eight calls. Two questions are looked up, one when there is much to record, so
// that a note and the answer, or a second try of it, still fit.
const (
	maxLookups = 2
	maxBefore  = 6 // calls before the last step beyond which no note is written
)

// Model is the built-in model. The zero value is ready; it keeps nothing between calls.
type Model struct{}

// Name returns "rules".
func (Model) Name() string { return llm.Rules }

// Next takes one step of a turn: first the facts and lookups, then the answer. It fails only when
// ctx has ended, or when neither reply nor request_handoff works.
func (Model) Next(ctx context.Context, req llm.Request) (llm.Response, error) {
	if err := ctx.Err(); err != nil {
		return llm.Response{}, &llm.Error{Code: llm.CodeCanceled, Err: err}
	}
	t := &turn{view: look(req)}
	calls, err := t.next()
	if err != nil {
		return llm.Response{}, err
	}
	r := llm.Response{Calls: calls, Stop: llm.StopDone, Model: llm.Rules, Confidence: t.confidence}
	if len(calls) > 0 {
		r.Stop = llm.StopTools
	}
	return r, nil
}

// turn is one step in the making.
type turn struct {
	*view
	calls      []llm.Call
	confidence float64
}

func (t *turn) call(tool string, args map[string]any) {
	s := t.tools[tool]
	t.calls = append(t.calls, llm.Call{ID: fmt.Sprintf("rules_%d", len(t.steps)+len(t.calls)+1), Name: tool, Args: s.fit(args)})
}

func (t *turn) next() ([]llm.Call, error) {
	reply, replied := t.done("reply")
	handoff, handed := t.done("request_handoff")
	if replied && !reply.failed || handed && !handoff.failed {
		return nil, nil // the turn has ended
	}
	switch {
	case replied && handed:
		return nil, &llm.Error{Code: llm.CodeEmpty, Err: fmt.Errorf("neither reply nor request_handoff worked")}
	case replied:
		return t.handOff(toolFailure, nil)
	case handed:
		return t.say(sayNoOne, 0.4, nil)
	}
	if t.text == "" { // nothing of the customer is unanswered
		if len(t.ours) > 0 || t.facts.Greeted {
			return t.say(sayBack, 0.5, nil)
		}
		return t.say(t.opening(sayHowCanHelp), 0.5, nil)
	}
	found := t.findings()
	if len(t.steps) == 0 {
		if rule := t.rule(); rule != nil && t.mayHandOff() {
			t.record(found)
			return t.handOff(*rule, nil)
		}
		questions := t.questions()
		most := maxLookups
		if len(found) > 2 {
			most = 1
		}
		questions = questions[:min(len(questions), most)]
		if t.offers("search_knowledge") {
			for _, q := range questions {
				t.call("search_knowledge", map[string]any{"query": cut(q, 300)})
			}
		}
		t.record(found)
		if len(t.calls) > 0 {
			return t.calls, nil
		}
	}
	return t.finish(found)
}

// rule returns the handoff rule that the customer's words trigger.
func (t *turn) rule() *handoffRule {
	// Rules go by their own order over all sentences: a wish for a person goes first.
	first := len(handoffRules)
	for _, s := range t.parts {
		if i := handoffAt(s); i < first {
			first = i
		}
	}
	if first < len(handoffRules) {
		return &handoffRules[first]
	}
	if t.foreign() {
		return &foreignLanguage
	}
	return nil
}

func (t *turn) mayHandOff() bool { return !t.facts.OpenHandoff && t.offers("request_handoff") }

// questions are the customer's sentences that a document could answer.
func (t *turn) questions() []string {
	var out []string
	for _, s := range t.parts {
		if isQuestion(s) && len(terms(s)) > 0 && !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	return out
}

// record asks for the calls that write down what was found.
func (t *turn) record(found []finding) {
	if t.offers("set_qualification") {
		for _, f := range found {
			t.call("set_qualification", map[string]any{"field": f.field, "value": f.value, "confidence": f.confidence, "quote": f.quote})
		}
	}
	if n := t.teamSize(); n > 0 && t.tools["set_lead_fields"].has("team_size") {
		t.call("set_lead_fields", map[string]any{"team_size": n})
	}
	if _, ok := t.target(found); ok && t.tools["set_lead_fields"].has("temperature") {
		t.call("set_lead_fields", map[string]any{"temperature": "hot"}) // all four are known, and they talk to us now
	}
	if stage, ok := t.target(found); ok && t.offers("move_stage") {
		t.call("move_stage", map[string]any{"stage": t.stageWord(stage)})
	}
}

// known is what is known of a field once found is written down.
func (t *turn) known(field string, found []finding) llm.QualField {
	for _, f := range found {
		if f.field == field {
			return llm.QualField{Value: f.value, Confidence: f.confidence}
		}
	}
	return t.facts.Qualification[field]
}

// qualified reports whether all four fields are known well enough.
func (t *turn) qualified(found []finding) bool {
	for _, field := range llm.BANTFields {
		if k := t.known(field, found); k.Value == "" || k.Confidence < sureEnough && !k.Locked {
			return false
		}
	}
	return true
}

// target is the stage a qualified lead belongs in, unless it is there or further on already.
func (t *turn) target(found []finding) (llm.Stage, bool) {
	if !t.qualified(found) {
		return llm.Stage{}, false
	}
	goal, here := -1, -1
	for i, s := range t.facts.Stages {
		if s.ID != "" && s.ID == t.facts.StageID {
			here = i
		}
		if goal < 0 && s.Kind != "won" && s.Kind != "lost" && qualifiedStage.MatchString(s.Name) && !notQualified.MatchString(s.Name) {
			goal = i
		}
	}
	if goal < 0 || here >= goal {
		return llm.Stage{}, false
	}
	return t.facts.Stages[goal], true
}

// stageWord names the stage as the tool wants it: by id only if its schema lists ids.
func (t *turn) stageWord(s llm.Stage) string {
	if slices.Contains(t.tools["move_stage"].Properties["stage"].Enum, s.ID) {
		return s.ID
	}
	return s.Name
}

// finish ends the turn, now that lookups and records are done.
func (t *turn) finish(found []finding) ([]llm.Call, error) {
	var parts []string
	var chunks, open []string
	quality, broken := 0.0, false
	answered := 0
	asked := t.questions()
	for _, q := range asked {
		f, ok, bad := t.lookup(q)
		broken = broken || bad
		if !ok {
			open = append(open, q)
			continue
		}
		answered++
		if text := f.String(); !slices.Contains(parts, text) {
			parts = append(parts, text)
		}
		chunks = append(chunks, f.chunks...)
		quality = max(quality, f.quality)
	}
	answers := slices.Clone(parts)
	t.confidence = 0.8
	if answered > 0 {
		t.confidence = 0.5 + 0.45*quality
	}
	if t.mayHandOff() {
		switch {
		case broken && answered == 0:
			return t.handOff(toolFailure, answers)
		case len(open) > 0 && t.misses+len(open) >= missAtMost:
			return t.handOff(missingKnowledge, answers)
		case t.valuable(found):
			return t.handOff(highValue, answers)
		case t.becameQualified(found):
			return t.handOff(qualifiedLead, answers)
		}
	}
	if len(open) > 0 {
		miss := sayMissPart
		if answered == 0 {
			miss, t.confidence = sayMiss, 0.2
		}
		if t.offers("add_note") && len(t.steps) < maxBefore {
			t.call("add_note", map[string]any{"text": "No answer in the knowledge base to: " + cut(strings.Join(open, " "), 500)})
			miss += sayMissNoted
		}
		parts = append(parts, miss)
	}
	if ack := t.acknowledge(found); ack != "" {
		parts = append([]string{ack}, parts...)
	}
	return t.say(t.opening(t.close(parts, found, len(asked) > 0)), t.confidence, chunks)
}

// lookup answers one question from this turn's search results; bad says that the search failed.
func (t *turn) lookup(question string) (f found, ok, bad bool) {
	var all []passage
	for _, s := range t.steps {
		if s.call.Name != "search_knowledge" {
			continue
		}
		bad = bad || s.failed
		all = append(all, passages(s.result)...) // what one question found may answer the other
	}
	f, ok = answer(question, all)
	return f, ok, bad && !ok
}

func (t *turn) becameQualified(found []finding) bool {
	if !t.qualified(found) {
		return false
	}
	if _, ok := t.target(found); ok || len(found) > 0 {
		return true
	}
	_, moved := t.done("move_stage")
	return moved
}

func (t *turn) valuable(found []finding) bool {
	if t.facts.HighValue <= 0 {
		return false
	}
	for _, f := range found {
		if f.field == llm.Budget && f.minor >= t.facts.HighValue {
			return true
		}
	}
	return !t.facts.Greeted && t.facts.LeadValue >= t.facts.HighValue
}

// say ends the turn with a reply, or with plain text where no reply tool is offered.
func (t *turn) say(text string, confidence float64, chunks []string) ([]llm.Call, error) {
	t.confidence = confidence
	if !t.offers("reply") {
		if t.mayHandOff() {
			return t.handOff(toolFailure, nil)
		}
		return nil, &llm.Error{Code: llm.CodeInput, Err: fmt.Errorf("the turn offers neither reply nor request_handoff")}
	}
	slices.Sort(chunks)
	t.call("reply", map[string]any{"text": text, "confidence": round(confidence), "sources": slices.Compact(chunks)})
	return t.calls, nil
}
