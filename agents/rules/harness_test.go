package rules

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tandemhq/tandem/agents/llm"
)

// The knowledge base of a made-up company that sells shift scheduling software.
var library = []passage{
	{Title: "Pricing", Chunk: "c-price", Text: "# Plans\nThe Team plan costs 4 euros per employee and month, billed yearly. The Business plan costs 7 euros per employee and month and adds time tracking. Every plan starts with a free trial of 30 days, no card needed."},
	{Title: "Security", Chunk: "c-sec", Text: "All data is stored in Frankfurt, Germany, and is encrypted in transit and at rest. Lantern Shifts is certified to ISO 27001. Backups are kept for 35 days."},
	{Title: "Integrations", Chunk: "c-int", Text: "Lantern Shifts connects to Google Calendar, Outlook and Slack. Payroll files can be exported for DATEV, Gusto and ADP. There is a REST API on the Business plan."},
	{Title: "Shift swaps", Chunk: "c-swap", Text: "Employees can offer a shift in the mobile app and a colleague can take it over. A manager approves each swap before it counts. Rest times are checked automatically."},
	{Title: "Onboarding", Chunk: "c-onb", Text: "Most customers are live within two weeks. An onboarding specialist imports your staff list from a spreadsheet. Training takes one hour and is held by video."},
	{Title: "Support", Chunk: "c-sup", Text: "Support is available by chat and e-mail from 7 am to 8 pm on weekdays. The Business plan adds a phone hotline."},
}

// harness plays the parts around the model: it keeps the conversation, runs the tools and writes
// down what they did, as a turn does.
type harness struct {
	t     *testing.T
	facts llm.Facts
	tools []llm.ToolSpec
	msgs  []llm.Message

	stage   string
	handoff map[string]any
	notes   []string
	sources []string
}

func newHarness(t *testing.T) *harness {
	h := &harness{t: t, facts: llm.Facts{
		Now: time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC), OrgName: "Lantern", AgentName: "Juno", ContactName: "Maria Lopez", Currency: "USD",
		StageID: "s1", Qualification: map[string]llm.QualField{},
		Stages: []llm.Stage{{ID: "s1", Name: "New", Kind: "open"}, {ID: "s2", Name: "Contacted", Kind: "open"}, {ID: "s3", Name: "Qualified", Kind: "open"}, {ID: "s4", Name: "Won", Kind: "won"}, {ID: "s5", Name: "Lost", Kind: "lost"}},
	}}
	for name, schema := range map[string]string{
		"search_knowledge":  `{"query":{"type":"string","maxLength":500},"limit":{"type":"integer"}}`,
		"set_qualification": `{"field":{"type":"string","enum":["budget","authority","need","timeline"]},"value":{"type":"string","maxLength":500},"confidence":{"type":"number"},"quote":{"type":"string","maxLength":1000}}`,
		"set_lead_fields":   `{"title":{"type":"string"}}`,
		"move_stage":        `{"stage":{"type":"string"}}`,
		"add_note":          `{"text":{"type":"string","maxLength":2000}}`,
		"reply":             `{"text":{"type":"string","maxLength":4000},"confidence":{"type":"number"},"sources":{"type":"array","maxItems":10}}`,
		"request_handoff":   `{"reason":{"type":"string","enum":["customer_asked","missing_knowledge","unsupported_request","policy","tool_failure","qualified_lead","sentiment","high_value"]},"summary":{"type":"string","maxLength":2000},"asked":{"type":"array"},"tried":{"type":"array"},"promised":{"type":"array"},"next_step":{"type":"string","maxLength":500},"customer_line":{"type":"string","maxLength":500}}`,
	} {
		h.tools = append(h.tools, llm.ToolSpec{Name: name, Schema: json.RawMessage(`{"type":"object","additionalProperties":false,"properties":` + schema + `}`)})
	}
	return h
}

// say plays one turn: the customer's messages, then the model until it replies or hands off.
// It returns what the customer reads.
func (h *harness) say(texts ...string) string {
	h.t.Helper()
	for _, text := range texts {
		h.msgs = append(h.msgs, llm.Message{Role: llm.User, From: llm.FromContact, Text: text})
	}
	work, facts := slices.Clone(h.msgs), h.facts // a turn's facts are read once, when it begins
	h.sources = nil
	calls := 0
	for range 5 {
		resp, err := Model{}.Next(h.t.Context(), llm.Request{Messages: work, Tools: h.tools, Facts: facts})
		if err != nil {
			h.t.Fatalf("%v after %q", err, texts)
		}
		work = append(work, llm.Message{Role: llm.Assistant, Text: resp.Text, Calls: resp.Calls})
		for i, c := range resp.Calls {
			if calls++; calls > 8 {
				h.t.Fatalf("more than 8 tool calls for %q", texts)
			}
			line, ended, result := h.run(c, texts)
			if ended {
				if i != len(resp.Calls)-1 {
					h.t.Fatalf("calls after the end of the turn: %v", resp.Calls)
				}
				h.msgs = append(h.msgs, llm.Message{Role: llm.Assistant, Text: line})
				h.facts.Greeted = true
				return line
			}
			work = append(work, llm.Message{Role: llm.Tool, CallID: c.ID, Name: c.Name, Text: result})
		}
	}
	h.t.Fatalf("the turn does not end after %q", texts)
	return ""
}

func (h *harness) run(c llm.Call, texts []string) (line string, ended bool, result string) {
	h.t.Helper()
	var a map[string]any
	if err := json.Unmarshal(c.Args, &a); err != nil {
		h.t.Fatalf("arguments of %s: %v", c.Name, err)
	}
	str := func(k string) string { s, _ := a[k].(string); return s }
	switch c.Name {
	case "search_knowledge":
		out, _ := json.Marshal(map[string]any{"results": search(str("query"))})
		return "", false, string(out)
	case "set_qualification":
		field, value, quote := str("field"), str("value"), str("quote")
		if !strings.Contains(letters(strings.Join(texts, " ")), letters(quote)) {
			h.t.Errorf("quote %q is not what the customer wrote", quote)
		}
		confidence, _ := a["confidence"].(float64)
		h.facts.Qualification = cloneWith(h.facts.Qualification, field, llm.QualField{Value: value, Confidence: confidence})
	case "move_stage":
		h.stage = str("stage")
		for _, s := range h.facts.Stages {
			if s.Name == h.stage {
				h.facts.StageID = s.ID
			}
		}
	case "add_note":
		h.notes = append(h.notes, str("text"))
	case "reply":
		for _, s := range a["sources"].([]any) {
			h.sources = append(h.sources, s.(string))
		}
		if a["confidence"].(float64) < 0.35 {
			h.facts.Unanswered++
		}
		return str("text"), true, ""
	case "request_handoff":
		if h.handoff != nil {
			h.t.Errorf("a second handoff: %v", a)
		}
		h.handoff = a
		h.facts.OpenHandoff = true
		for _, k := range []string{"reason", "summary", "next_step", "customer_line"} {
			if str(k) == "" {
				h.t.Errorf("the handoff has no %s: %v", k, a)
			}
		}
		return str("customer_line"), true, ""
	default:
		h.t.Fatalf("unknown tool %s", c.Name)
	}
	return "", false, `{"ok":true}`
}

func cloneWith(m map[string]llm.QualField, k string, v llm.QualField) map[string]llm.QualField {
	out := map[string]llm.QualField{k: v}
	for n, f := range m {
		if n != k {
			out[n] = f
		}
	}
	return out
}

func letters(s string) string { return strings.Join(llm.Words(s), " ") }

// search ranks the library with the built-in embedder, as a knowledge base without a key does.
func search(query string) []passage {
	texts := []string{query}
	for _, p := range library {
		texts = append(texts, p.Title+" "+p.Text)
	}
	v, _ := llm.HashedNgrams{}.Embed(context.Background(), texts)
	out := slices.Clone(library)
	for i := range out {
		for j := range v[0] {
			out[i].Score += float64(v[0][j] * v[i+1][j])
		}
	}
	slices.SortFunc(out, func(a, b passage) int { return int((b.Score - a.Score) * 1e6) })
	return out[:4]
}

func (h *harness) known() string {
	var out []string
	for _, f := range []string{"need", "authority", "timeline", "budget"} {
		if q := h.facts.Qualification[f]; q.Value != "" {
			out = append(out, fmt.Sprintf("%s=%s(%.1f)", f, q.Value, q.Confidence))
		}
	}
	return strings.Join(out, " | ")
}
